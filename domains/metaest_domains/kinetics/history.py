r"""Integrals of a rate over a temperature history, differentiable in the constants of the rate.

A history is piecewise linear in time. Each piece is integrated by Gauss and Legendre's rule, and cut up beforehand so
that no part spans more than some kelvin: over those, Arrhenius' law is a smooth curve that the rule integrates to more
digits than any measurement has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["Histories", "ramp_integral"]

_RAMP_NODES, _NODES, _KELVIN = 64, 8, 25.0


def ramp_integral(time: Tensor, start: Tensor, rate: Tensor, k: Callable[[Tensor], Tensor]) -> Tensor:
    r"""Integral of :math:`k(T(s))` from 0 to t with :math:`T(s) = T_0 + r s`.

    Parameters
    ----------
    time, start, rate : Tensor of shape (n_rows,)
    k : callable
        Rate at temperatures of shape (n_rows, nodes).

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    node, weight = _rule(_RAMP_NODES, time)
    temperature = start[:, None] + rate[:, None] * time[:, None] * node
    return time * (k(temperature) * weight).sum(dim=1)


@dataclass(frozen=True, eq=False)
class Histories:
    """Piecewise linear temperature histories by number; the last temperature is held for ever.

    Attributes
    ----------
    numbers : Tensor of shape (histories,)
        Sorted.
    time, temperature : Tensor of shape (histories, points)
        Padded with points at infinity.
    """

    numbers: Tensor
    time: Tensor
    temperature: Tensor

    @classmethod
    def read(cls, histories: Mapping[int, tuple[ArrayLike, ArrayLike]]) -> "Histories":
        """Check and store histories: number -> (times from 0 on, temperatures in K).

        Raises
        ------
        ValueError
            When times do not rise from 0, or temperatures are no kelvin; the message names the history.
        """
        if not histories:
            raise ValueError("histories: there is none.")
        for number in histories:
            if not isinstance(number, (int, np.integer)):
                raise ValueError(f"histories: {number!r} is no whole number; X names a history by its number.")
        pieces = {number: _refined(number, *histories[number]) for number in sorted(histories)}
        most = max(len(t) for t, _ in pieces.values()) + 1
        time = np.full((len(pieces), most), np.inf)
        temperature = np.empty((len(pieces), most))
        for i, (t, T) in enumerate(pieces.values()):
            time[i, : len(t)] = t
            temperature[i] = np.concatenate([T, np.full(most - len(T), T[-1])])
        numbers = torch.tensor(list(pieces), dtype=torch.float64)
        return cls(numbers, torch.from_numpy(time), torch.from_numpy(temperature))

    def integral(self, time: Tensor, number: Tensor, k: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Integral of :math:`k(T(s))` from 0 to the time of each row, along the history of its number."""
        which = torch.searchsorted(self.numbers, number.contiguous()).clamp(max=len(self.numbers) - 1)
        t, T = self.time[which], self.temperature[which]
        end = torch.minimum(t[:, 1:], time[:, None])
        width = (end - t[:, :-1]).clamp(min=0.0)
        width = torch.where(torch.isfinite(t[:, :-1]), width, 0.0)
        # the temperature at the end of the part of each piece that has passed
        whole = torch.where(torch.isfinite(t[:, 1:]), t[:, 1:] - t[:, :-1], 1.0).clamp(min=1e-300)
        slope = torch.where(torch.isfinite(t[:, 1:]), (T[:, 1:] - T[:, :-1]) / whole, 0.0)
        node, weight = _rule(_NODES, time)
        temperature = T[:, :-1, None] + slope[:, :, None] * width[:, :, None] * node
        amount = (width[:, :, None] * weight).reshape(len(time), -1)
        return (k(temperature.reshape(len(time), -1)) * amount).sum(dim=1)

    def temperature_at(self, time: Any, number: Any) -> Any:
        """Return the temperature of each row, as an array."""
        found = np.empty(len(time))
        for i, own in enumerate(self.numbers.tolist()):
            rows = np.asarray(number) == own
            known = torch.isfinite(self.time[i])
            found[rows] = np.interp(time[rows], self.time[i, known], self.temperature[i, known])
        return found


def _refined(number: int, time: ArrayLike, temperature: ArrayLike) -> tuple[Any, Any]:
    t, T = np.asarray(time, dtype=np.float64), np.asarray(temperature, dtype=np.float64)
    if t.ndim != 1 or t.shape != T.shape or len(t) < 1 or not (np.isfinite(t).all() and np.isfinite(T).all()):
        raise ValueError(f"history {number}: times and temperatures must be two rows of as many finite numbers.")
    if t[0] != 0 or (np.diff(t) <= 0).any():
        raise ValueError(f"history {number}: times must rise from 0.")
    if (T < 200).any():
        raise ValueError(f"history {number}: temperatures in kelvin are wanted (these look like degrees Celsius).")
    cuts = [t[:1]]
    for i in range(len(t) - 1):
        parts = max(1, int(np.ceil(abs(T[i + 1] - T[i]) / _KELVIN)))
        cuts.append(np.linspace(t[i], t[i + 1], parts + 1)[1:])
    fine = np.concatenate(cuts)
    return fine, np.interp(fine, t, T)


def _rule(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return nodes and weights on [0, 1]."""
    node, weight = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy(0.5 * (node + 1)).to(like), torch.from_numpy(0.5 * weight).to(like)
