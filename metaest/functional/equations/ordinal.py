r"""Categories in an order, whose odds a curve shifts: proportional odds (McCullagh, 1980).

:doi:`10.1111/j.2517-6161.1980.tb01109.x`. A curve that is higher by one has odds of more than k that are e times as
large, for every k.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaest.functional.equations.noise import ALIKE, Accuracy, NoiseTerms
from metaest.functional.equations.observations import Observations
from metaest.functional.equations.outcome import Fault, Outcome, first_fault, not_counts

__all__ = ["Ordinal"]

# least and greatest distance between cut points
DISTANCES = (1e-6, 1e3)
# least distance where a search starts
LEAST_FIRST = 1e-3


@dataclass(frozen=True)
class Ordinal(Outcome):
    """A category 0 ... K - 1 in an order; the higher the curve, the higher the categories.

    The equation returns the log-odds of y > 0: the first cut point is 0, and the others are learned. The log-odds of
    y > k is the curve less the cut point k.
    """

    categories: int | None = field(default=None, kw_only=True)
    kind: Any = field(default="ordinal", init=False)

    @property
    def classes(self) -> int | None:
        """Number of categories."""
        return self.categories

    @property
    def what_curve_is(self) -> str:
        """The equation returns a log-odds."""
        return "the log-odds of y > 0"

    @property
    def n_constants(self) -> int:
        """Two less than categories: logarithms of the distances between cut points."""
        assert self.categories is not None
        return self.categories - 2

    @property
    def smallest(self) -> list[float]:
        """Lower bounds of the logarithms."""
        return [math.log(DISTANCES[0])] * self.n_constants

    @property
    def largest(self) -> list[float]:
        """Upper bounds of the same."""
        return [math.log(DISTANCES[1])] * self.n_constants

    def first(self, y: Tensor) -> Tensor:
        """Return the distances of cut points at which a constant curve has the shares of the categories."""
        below = torch.stack([(y <= k).double().mean() for k in range(self.n_constants + 1)])
        cuts = torch.logit(below.clamp(0.5 / len(y), 1 - 0.5 / len(y)))
        return cuts.diff().clamp(min=LEAST_FIRST).log()

    def cut_points(self, log_sigma: Tensor) -> Tensor:
        """Return the cut points, which rise from 0."""
        return torch.cat([log_sigma.new_zeros(1), log_sigma.exp().cumsum(0)])

    def shown(self, log_sigma: Tensor) -> dict[str, float]:
        """Return the cut points after the first."""
        return {f"cut_{k}": cut for k, cut in enumerate(self.cut_points(log_sigma).tolist()) if k}

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> NoiseTerms:
        """Return each observation's negative log-probability, its slope and its second derivative in f."""
        top = self.n_constants + 1
        cuts, k = self.cut_points(log_sigma), y.long().clamp(0, top)
        highest, lowest = k == top, k == 0
        upper = cuts[k.clamp(max=top - 1)] - f
        lower = cuts[(k - 1).clamp(min=0)] - f
        log_upper = torch.where(highest, 0.0, torch.nn.functional.logsigmoid(upper))
        log_lower = torch.where(lowest, 0.0, torch.nn.functional.logsigmoid(-lower))
        inner = ~highest & ~lowest
        apart = torch.where(inner, upper - lower, 1.0)
        between = torch.where(inner, torch.log(-torch.expm1(-apart)), 0.0)
        above, below = torch.sigmoid(-upper), torch.sigmoid(lower)
        above, below = torch.where(highest, 0.0, above), torch.where(lowest, 0.0, below)
        return NoiseTerms(-(log_upper + log_lower + between), above - below, above * (1 - above) + below * (1 - below))

    def probabilities(self, f: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
        """Return the probability of each category, of shape (categories, rows, tasks)."""
        up_to = torch.sigmoid(self.cut_points(log_sigma)[:, None, None] - f)
        edges = torch.cat([torch.zeros_like(f)[None], up_to, torch.ones_like(f)[None]])
        return edges.diff(dim=0)

    def predicted(self, f: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
        """Return the mean category."""
        return torch.sigmoid(f - self.cut_points(log_sigma)[:, None, None]).sum(dim=0)

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return categories."""
        location = f + torch.logit(torch.rand(f.shape, generator=generator, dtype=f.dtype))
        category = (location > self.cut_points(log_sigma)[:, None, None]).sum(dim=0).to(f)
        return torch.where(torch.isfinite(f), category, torch.nan)

    def fault(self, X: Tensor, y: Tensor) -> Fault | None:
        """Return the first row that is no category."""
        most = math.inf if self.categories is None else self.categories - 1
        return first_fault(
            not_counts(y) | (y > most),
            lambda row: f"y is {y[row]:g}",
            f"a category is wanted, {'0, 1, 2, ...' if self.categories is None else f'from 0 to {most}'}",
        )

    def degenerate(self, X: Tensor, y: Tensor) -> str:
        """Return a sentence where a category has no row: its cut points cannot be told apart."""
        empty = [k for k in range(self.categories or 0) if not bool((y == k).any())]
        if not empty:
            return ""
        return f"no row has the category {empty[0]}: the cut points around it are not told apart; number them anew"
