r"""Intervals that hold for a task never seen, whatever the model is: split conformal prediction over tasks.

A score says how far an observation lies from its prediction, in units of the model's own uncertainty where it has one.
Tasks are exchangeable, rows of one task are not, so that each calibration task counts once: with T of them, the q of an
interval :math:`\hat y \pm q s` at a point is the smallest with

.. math:: \frac{1}{T + 1} \sum_t \frac{1}{n_t} \#\{i : \text{score}_{ti} \le q\} \ge \text{level}

(Lee, Barber, Willett, 2023, :doi:`10.48550/arXiv.2306.06342`), and for all rows of a task at once it is the
:math:`\lceil (T + 1)\,\text{level} \rceil`-th smallest of the tasks' greatest scores (Vovk, Gammerman, Shafer, 2005,
:doi:`10.1007/b106715`). Either holds at its level or above on average over tasks; no level above T / (T + 1) can be
promised.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.arguments import require_flag, require_level
from metaest.exceptions import CoverageWarning, warn

__all__ = ["Calibration", "ConformalInterval", "Scores", "check_conformal"]


class ConformalInterval(tuple[NDArray[Any], NDArray[Any]]):
    """The ends of a conformal interval for every row; it unpacks as ``lower, upper``.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Infinite where the level cannot be promised.
    level : float
    simultaneous : bool
        Whether the whole of a task's observations lies inside with that probability, or a single one does.
    n_tasks : int
        Calibration tasks behind it.
    greatest_level : float
        T / (T + 1), the greatest level so many tasks can promise.
    """

    level: float
    simultaneous: bool
    n_tasks: int
    greatest_level: float

    def __new__(
        cls, lower: NDArray[Any], upper: NDArray[Any], level: float, simultaneous: bool, n_tasks: int
    ) -> "ConformalInterval":
        """Make a pair that knows what it promises."""
        interval = super().__new__(cls, (lower, upper))
        interval.level, interval.simultaneous, interval.n_tasks = level, simultaneous, n_tasks
        interval.greatest_level = n_tasks / (n_tasks + 1)
        return interval

    def __getnewargs__(self) -> Any:
        return *self, self.level, self.simultaneous, self.n_tasks

    @property
    def lower(self) -> NDArray[Any]:
        """Lower ends."""
        return self[0]

    @property
    def upper(self) -> NDArray[Any]:
        """Upper ends."""
        return self[1]

    def __repr__(self) -> str:
        what = "all observations of a task" if self.simultaneous else "one observation"
        return (
            f"ConformalInterval(level={self.level:g} for {what}, {len(self[0])} rows, {self.n_tasks} calibration tasks)"
        )


class Scores(NamedTuple):
    """How far observations of the calibration tasks lie from their predictions.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_targets)
    task : ndarray of int, shape (n_rows,)
    n_tasks : int
    """

    values: NDArray[np.float64]
    task: NDArray[np.intp]
    n_tasks: int

    def quantile(self, level: float, simultaneous: bool) -> NDArray[np.float64]:
        """Return the score that covers at this level for each target; infinite where none can be promised."""
        if simultaneous:
            greatest = np.full((self.n_tasks, self.values.shape[1]), -np.inf)
            np.maximum.at(greatest, self.task, self.values)
            # a whisker off the product: 0.9 * 20 is 18.000000000000004 in floating point
            rank = math.ceil((self.n_tasks + 1) * level * (1 - 1e-12))
            if rank > self.n_tasks:
                return np.full(self.values.shape[1], np.inf)
            return np.asarray(np.sort(greatest, axis=0)[rank - 1])
        weight = 1 / np.bincount(self.task, minlength=self.n_tasks)[self.task] / (self.n_tasks + 1)
        order = np.argsort(self.values, axis=0, kind="stable")
        below = np.cumsum(weight[order], axis=0)
        reached = below >= level * (1 - 1e-12)
        first = reached.argmax(axis=0)
        columns = np.arange(self.values.shape[1])
        found = self.values[order[first, columns], columns]
        return np.asarray(np.where(reached.any(axis=0), found, np.inf))


@dataclass(frozen=True)
class Calibration:
    """Scores by number of support rows.

    Attributes
    ----------
    scores : dict of int to Scores
        By number of support rows.
    own : Scores or None
        Where calibration tasks carry their own support.
    own_sizes : frozenset of int
        The numbers of rows of these supports.
    guarded : bool
        Whether adaptations were judged by a guard.
    """

    scores: dict[int, Scores]
    own: Scores | None
    own_sizes: frozenset[int]
    guarded: bool

    def interval(
        self, mean: NDArray[Any], scale: NDArray[Any], size: int, guarded: bool, level: float, simultaneous: bool
    ) -> ConformalInterval:
        """Return the interval around predictions of a task adapted on `size` rows."""
        scores = self._scores(size, guarded)
        greatest = scores.n_tasks / (scores.n_tasks + 1)
        q = scores.quantile(level, simultaneous)
        if not np.isfinite(q).all():
            warn(
                f"{scores.n_tasks} calibration tasks cannot promise level {level:g}: the interval is infinite. The "
                f"greatest they can is {math.floor(1e4 * greatest) / 1e4:g} (T / (T + 1)).",
                CoverageWarning,
            )
        half = (q if mean.ndim > 1 else q[0]) * scale
        return ConformalInterval(mean - half, mean + half, level, simultaneous, scores.n_tasks)

    def _scores(self, size: int, guarded: bool) -> Scores:
        if size and guarded != self.guarded:
            this, that = ("with", "without") if guarded else ("without", "with")
            raise ValueError(
                f"the task was adapted {this} guard, the calibration tasks {that}; call calibrate(tasks, "
                f"guard={guarded})."
            )
        if size in self.scores:
            return self.scores[size]
        if self.own is None:
            known = sorted(self.scores)
            raise ValueError(
                f"the task was adapted on {size} rows, the calibration tasks on {_listed(known)}; call "
                f"calibrate(tasks, support_size={size})."
            )
        if size not in self.own_sizes:
            warn(
                f"the task was adapted on {size} rows, the calibration tasks on {_listed(sorted(self.own_sizes))}: the "
                "level is promised for supports like theirs.",
                CoverageWarning,
            )
        return self.own


def check_conformal(calibration: Calibration | None, level: Any, simultaneous: Any) -> Calibration:
    """Return the calibration, or raise a ValueError when there is none or a setting makes no sense."""
    require_level(level)
    require_flag(simultaneous, "simultaneous")
    if calibration is None:
        raise ValueError(
            "a conformal interval needs tasks that the model was not fitted on: call model.calibrate(tasks), then "
            "adapt."
        )
    return calibration


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes)) if len(sizes) < 7 else f"{sizes[0]} to {sizes[-1]}"
