"""Answers of a mixture: means, standard deviations and quantiles of what its parts answer, each from its own rows."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.answers import BLOCK, interval_of_mixture, observations_of_draws
from metaest.estimators.equations.average import Part
from metaest.estimators.equations.draws import weighted_quantile
from metaest.exceptions import quiet

__all__ = ["Component", "interval_of_components"]

# steps of the search for the end of an interval, at most, and the error of the probability below it that ends it
STEPS = 60
ACCURACY = 1e-6


class Component(NamedTuple):
    """A part of a mixture with its weight, and the rows that are asked about as it reads them.

    Attributes
    ----------
    weight : float
    part : Part
    X : ndarray of shape (n_rows, n_features)
    row_weight : ndarray of shape (n_rows,), or None
        How accurate the observations are.
    """

    weight: float
    part: Part
    X: NDArray[Any]
    row_weight: NDArray[np.float64] | None


def interval_of_components(
    components: Sequence[Component], level: float, of: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of an interval that leave out equal probability of the mixture on both sides.

    The distribution function of the mixture is the weighted sum of those of the parts, so that its quantiles lie
    between theirs; from there they are found by Newton's method.
    """
    low, high = np.empty(len(components[0].X)), np.empty(len(components[0].X))
    for rows in _blocks(components):
        low[rows], high[rows] = _ends([_of_rows(one, rows) for one in components], level, of)
    return low, high


def _blocks(components: Sequence[Component]) -> Iterator[slice]:
    """Yield rows a bounded number at a time, unless an equation needs all of them at once."""
    n = len(components[0].X)
    by_rows = all(one.part.fitted.model.equation.mode == "rows" for one in components)
    size = BLOCK if by_rows else max(n, 1)
    return (slice(first, min(first + size, n)) for first in range(0, n, size))


def _of_rows(component: Component, rows: slice) -> Component:
    """Return a component for some of the rows."""
    weight = component.row_weight
    return component._replace(X=component.X[rows], row_weight=None if weight is None else weight[rows])


def _ends(components: Sequence[Component], level: float, of: str) -> NDArray[np.float64]:
    """Return the ends of an interval for rows, of shape (2, rows)."""
    each = np.stack([interval_of_mixture([one.part], one.X, level, of, one.row_weight) for one in components])
    if len(components) == 1:
        return np.asarray(each[0])
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    with quiet(Warning):  # the intervals of the parts have said it
        drawn = [observations_of_draws(one.part, one.X, of, one.row_weight) for one in components]
    shares = [one.weight * one.part.draws.weight / one.part.draws.weight.sum() for one in components]
    if of == "curve":
        curves = torch.cat([curves for curves, _ in drawn], dim=1)
        return np.asarray(weighted_quantile(curves, torch.cat(shares), tails).numpy())
    parts = [
        _Distribution(curves, sd, share, one.part.fitted.model.noise.logarithmic)
        for (curves, sd), share, one in zip(drawn, shares, components, strict=True)
    ]
    low, high = torch.from_numpy(each.min(axis=0)), torch.from_numpy(each.max(axis=0))
    # the ends of the parts are right to ACCURACY, and may bracket that of the mixture with no room to spare
    room = 1e-3 * (high - low) + 1e-12 * high.abs()
    return np.asarray(_quantiles(parts, low - room, high + room, tails).numpy())


class _Distribution(NamedTuple):
    """Draws of observations of rows: curves of shape (rows, draws) with their noise, on the scale of the noise."""

    curves: Tensor
    sd: Tensor
    share: Tensor
    logarithmic: bool

    def below(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return probability below values of shape (tails, rows), times the weight of the part, and its slope."""
        usable = torch.isfinite(self.curves) & torch.isfinite(self.sd)
        share = torch.where(usable, self.share, 0.0)
        share = share * (self.share.sum() / share.sum(dim=1, keepdim=True))
        value = torch.where(at > 0, at, torch.nan).log() if self.logarithmic else at
        sd = torch.where(usable, self.sd, 1.0).clamp(min=1e-300)  # no noise where a curve is zero
        z = (value[..., None] - torch.where(usable, self.curves, 0.0)) / sd
        slope = (share * (-0.5 * z.square()).exp() / sd).sum(dim=-1) / (2 * torch.pi) ** 0.5
        probability = (share * torch.special.ndtr(z)).sum(dim=-1)
        if self.logarithmic:  # nothing lies at or below zero
            return torch.where(at > 0, probability, 0.0), torch.where(at > 0, slope / at, 0.0)
        return probability, slope


def _quantiles(parts: Sequence[_Distribution], low: Tensor, high: Tensor, tails: Tensor) -> Tensor:
    """Return the quantiles of a mixture, of shape (tails, rows), from brackets of this shape."""
    ends = 0.5 * (low + high)
    for _ in range(STEPS):
        below = [part.below(ends) for part in parts]
        error = torch.stack([probability for probability, _ in below]).sum(dim=0) - tails[:, None]
        if bool((error.abs() < ACCURACY).all()):
            break
        low, high = torch.where(error < 0, ends, low), torch.where(error < 0, high, ends)
        step = ends - error / torch.stack([slope for _, slope in below]).sum(dim=0)
        ends = torch.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    return ends
