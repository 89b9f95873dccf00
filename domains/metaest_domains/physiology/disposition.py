r"""Concentrations of linear compartments after one dose, in closed form.

A bolus of one unit into the central compartment gives :math:`\sum_i A_i e^{-\lambda_i t}`; first-order absorption and
infusion convolve this with their input. Times count from the dose; before it concentrations are 0.
"""

import torch
from torch import Tensor

__all__ = ["absorbed", "between", "bolus", "infused", "one_compartment", "two_compartments"]

Exponentials = list[tuple[Tensor, Tensor]]


def one_compartment(clearance: Tensor, volume: Tensor) -> Exponentials:
    """Return coefficients and rates of one compartment."""
    return [(1 / volume, clearance / volume)]


def two_compartments(clearance: Tensor, volume: Tensor, exchange: Tensor, peripheral: Tensor) -> Exponentials:
    """Return coefficients and rates of two compartments, the slower one last.

    Parameters
    ----------
    clearance, exchange : Tensor
        Volumes per unit of time.
    volume, peripheral : Tensor
        Volumes of the central and of the other compartment.
    """
    out = clearance / volume
    there = exchange / volume
    back = exchange / peripheral
    total = out + there + back
    # the difference of the rates as a sum of squares: nothing cancels when the rates are close to each other
    apart = ((out + there - back).square() + 4 * there * back).sqrt()
    fast = 0.5 * (total + apart)
    slow = out * back / fast
    return [((fast - back) / apart / volume, fast), ((back - slow) / apart / volume, slow)]


def bolus(t: Tensor, parts: Exponentials) -> Tensor:
    """Return the concentration after a bolus of one unit."""
    since = t.clamp(min=0)
    value = sum(a * torch.exp(-rate * since) for a, rate in parts)
    return torch.where(t >= 0, value, torch.zeros_like(t))


def infused(t: Tensor, duration: Tensor, parts: Exponentials) -> Tensor:
    """Return the concentration after an infusion of one unit at a constant rate; durations are above 0."""
    during = torch.minimum(t.clamp(min=0), duration)
    after = (t - duration).clamp(min=0)
    return sum(  # type: ignore[return-value]
        -a / rate * torch.expm1(-rate * during) / duration * torch.exp(-rate * after) for a, rate in parts
    )


def absorbed(t: Tensor, rate_in: Tensor, parts: Exponentials) -> Tensor:
    r"""Return the concentration after one unit that is absorbed at a first-order rate.

    The difference of the exponentials, divided by the difference of their rates, is evaluated as
    :math:`e^{-\min(k, \lambda) t} (1 - e^{-|k - \lambda| t}) / |k - \lambda|`, which tends to :math:`t e^{-k t}`.
    """
    since = t.clamp(min=0)
    return sum(a * rate_in * between(since, rate, rate_in) for a, rate in parts)  # type: ignore[return-value]


def between(t: Tensor, rate: Tensor, other: Tensor) -> Tensor:
    """Return the difference of two exponentials divided by the difference of their rates, without cancellation."""
    apart = (other - rate).abs()
    near = apart * t < 1e-6
    safe = torch.where(near, torch.ones_like(apart * t), apart.expand_as(apart * t))
    shape = torch.where(near, t * (1 - 0.5 * apart * t), -torch.expm1(-safe * t) / safe)
    return torch.exp(-torch.minimum(rate, other) * t) * shape
