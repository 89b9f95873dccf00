"""Quantities computed from the constants of one task, with the uncertainty of these."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equation.posterior import Calibrated, Posterior
from metaest.estimators.equation.sampling import Draws, weighted_quantile

__all__ = ["Derived", "derived_from"]

NEVER, REACHED = 1e300, 1e290


class Derived(NamedTuple):
    """A quantity and the ends of its interval.

    Attributes
    ----------
    value, lower, upper : float or ndarray
    """

    value: Any
    lower: Any
    upper: Any


def derived_from(
    calibrated: Calibrated, posterior: Posterior, draws: Draws, function: Callable[..., Any], level: float
) -> Derived:
    """Compute `function` at the most probable constants and at the draws; see ``AdaptedEquation.derive``."""
    transforms = calibrated.model.transforms

    def compute(phi: Tensor) -> Tensor:
        theta = transforms.constrain(phi).numpy()
        with np.errstate(all="ignore"):
            value = np.asarray(function(**dict(zip(calibrated.names, theta, strict=True))), dtype=np.float64)
        if value.shape[-1:] != theta.shape[1:]:
            raise ValueError(
                f"derive: the function returned shape {value.shape} for constants of shape {theta.shape[1:]}; the same "
                "last axis is wanted."
            )
        return torch.from_numpy(value)

    value = compute(posterior.phi)[..., 0]
    drawn = compute(draws.phi)
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    # infinite is an answer (never), and counts
    drawn = torch.where(torch.isinf(drawn), drawn.sign() * NEVER, drawn)
    ends = weighted_quantile(drawn.reshape(-1, drawn.shape[-1]), draws.weight, tails).reshape(2, *value.shape)
    ends = torch.where(ends.abs() > REACHED, ends.sign() * torch.inf, ends)
    parts = (value, *ends)
    return Derived(*(float(part) if part.ndim == 0 else part.numpy() for part in parts))
