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

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import require_flag, require_level, whether_guarded
from metaest.estimators.columns import Columns
from metaest.estimators.inputs import as_tasks, check_targets
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.scoring import r2_around, r2_of_outputs, row_weights
from metaest.estimators.seen_tasks import SeenTasks
from metaest.exceptions import CoverageWarning, TaskError, quiet, warn
from metaest.functional.progress import progress
from metaest.tasks import TaskSet
from metaest.tasks.split import MAX_DEFAULT_SUPPORT, check_split

__all__ = [
    "Calibration",
    "ConformalInterval",
    "IntervalMixin",
    "Scores",
    "calibration_sizes",
    "conformal_interval",
    "one_by_one",
    "refuse_seen",
    "rows_of_supports",
    "scores_of",
]

# relative rounding of a product such as 0.9 * 20, which is 18.000000000000004 in floating point
ROUNDING = 1e-12
_logger = logging.getLogger("metaest.calibrate")


class ConformalInterval(tuple[NDArray[Any], NDArray[Any]]):
    """The ends of a conformal interval for every row; it unpacks as ``lower, upper``.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Infinite where the level cannot be promised.
    level : float
    simultaneous : bool
        Whether `level` is the probability that all observations of a task lie inside, or that a single one does.
    n_tasks : int
        Number of calibration tasks T.
    greatest_level : float
        T / (T + 1), the greatest level that T tasks can promise.
    """

    level: float
    simultaneous: bool
    n_tasks: int
    greatest_level: float

    def __new__(
        cls, lower: NDArray[Any], upper: NDArray[Any], level: float, simultaneous: bool, n_tasks: int
    ) -> "ConformalInterval":
        """Make the pair of lower and upper ends, with its level."""
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
    """Distances of observations of the calibration tasks from their predictions.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_targets)
        Distances in units of the predicted scale.
    task : ndarray of int, shape (n_rows,)
        Number of the task of each row.
    n_tasks : int
        Number of calibration tasks.
    """

    values: NDArray[np.float64]
    task: NDArray[np.intp]
    n_tasks: int

    def quantile(self, level: float, simultaneous: bool) -> NDArray[np.float64]:
        """Return the score that covers at this level for each target; infinite where none can be promised."""
        if simultaneous:
            greatest = np.full((self.n_tasks, self.values.shape[1]), -np.inf)
            np.maximum.at(greatest, self.task, self.values)
            rank = math.ceil((self.n_tasks + 1) * level * (1 - ROUNDING))
            if rank > self.n_tasks:
                return np.full(self.values.shape[1], np.inf)
            return np.asarray(np.sort(greatest, axis=0)[rank - 1])
        weight = 1 / np.bincount(self.task, minlength=self.n_tasks)[self.task] / (self.n_tasks + 1)
        order = np.argsort(self.values, axis=0, kind="stable")
        below = np.cumsum(weight[order], axis=0)
        reached = below >= level * (1 - ROUNDING)
        first = reached.argmax(axis=0)
        columns = np.arange(self.values.shape[1])
        score = self.values[order[first, columns], columns]
        return np.asarray(np.where(reached.any(axis=0), score, np.inf))


@dataclass(frozen=True)
class Calibration:
    """Scores of the calibration tasks, from which intervals of every level are made.

    Attributes
    ----------
    scores : dict of int to Scores
        Scores by number of support rows.
    by_support : Scores or None
        Scores of calibration tasks that carry their own support; None where they carry none.
    support_sizes : frozenset of int
        Numbers of rows of these supports.
    guarded : bool
        Whether adaptations were judged by a guard.
    """

    scores: dict[int, Scores]
    by_support: Scores | None
    support_sizes: frozenset[int]
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
                f"greatest level they can promise is {math.floor(1e4 * greatest) / 1e4:g} (T / (T + 1)).",
                CoverageWarning,
            )
        half = (q if mean.ndim > 1 else q[0]) * scale
        return ConformalInterval(mean - half, mean + half, level, simultaneous, scores.n_tasks)

    def _scores(self, size: int, guarded: bool) -> Scores:
        if size and guarded != self.guarded:
            task, others = ("with", "without") if guarded else ("without", "with")
            raise ValueError(
                f"the task was adapted {task} guard, the calibration tasks {others}; call calibrate(tasks, "
                f"guard={guarded})."
            )
        if size in self.scores:
            return self.scores[size]
        if self.by_support is None:
            raise ValueError(
                f"the task was adapted on {size} rows, the calibration tasks on {_listed(sorted(self.scores))}; call "
                f"calibrate(tasks, support_size={size})."
            )
        if size not in self.support_sizes:
            warn(
                f"the task was adapted on {size} rows, the calibration tasks on {_listed(sorted(self.support_sizes))}: "
                "the level is promised only for supports of these sizes.",
                CoverageWarning,
            )
        return self.by_support


class IntervalMixin(ABC):
    """Few-shot score, and calibration of conformal intervals, for regressors that adapt to tasks.

    A subclass has ``adapt`` and says how it predicts: :meth:`_query_predictions` and :meth:`_center_and_scale`. Its
    fit sets the attributes that are declared here.
    """

    support_size: Any
    split: str
    verbose: bool
    n_features_in_: int
    n_outputs_: int
    _single_target: Any
    _seed: int
    _y_mean: NDArray[Any]
    _seen: SeenTasks | None  # None where rows are objects, which have no hashes
    _conformal: Calibration | None
    # whether adapt judges its adaptations unless told otherwise
    guard_by_default = False
    # whether the adaptation uses weights of rows
    _weighs = False

    @abstractmethod
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> Any:
        """Return a predictor adapted to one task."""

    @abstractmethod
    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """Return truth and prediction of the query rows, and their row numbers in the TaskSet."""

    @abstractmethod
    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions without adaptation, and the scale of their errors."""

    @property
    def _guards(self) -> bool:
        """Whether adaptations are guarded unless told otherwise; not where nothing could teach a guard."""
        return self.guard_by_default

    @property
    def _output_column(self) -> int | None:
        """The column with the output of each row, where there are several."""
        return None

    def _prepared(self, tasks: TaskSet) -> TaskSet:
        """Return the tasks as the model reads them."""
        return tasks

    def _adapted(self, supports: TaskSet, guard: bool, gap: int) -> Sequence[Any]:
        """Return one predictor a task, adapted to all of its rows."""
        return one_by_one(self, supports, guard, gap)

    @in_plain_modes
    def score(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> float:
        r"""Few-shot R2: adapt on the support of each task, score the prediction of its query.

        .. math:: R^2 = 1 - \sum_t \sum_{i \in \mathrm{query}_t} (y_i - \hat y_i)^2 \Big/
                  \sum_t \sum_{i \in \mathrm{query}_t} (y_i - \bar y)^2

        over the query rows of all tasks together, with the mean :math:`\bar y` of the training targets, so that it
        is defined for a single row.

        Adaptations are not guarded; the scorers of :mod:`metaest.scorers` take ``guard=True``.

        Parameters
        ----------
        X, y, groups : as in `fit`
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows in the sums; the adaptation of an equation weighs its support rows by them as well.

        Returns
        -------
        float
            The mean over targets where there are several. Of an equation with several outputs the mean over outputs,
            with :math:`\bar y` of the query rows of each.
        """
        check_is_fitted(self)
        weights = {"weighs": True, "sample_weight": sample_weight} if self._weighs else {}
        columns = Columns(self)
        tasks = as_tasks(X, y, groups, **weights, object_rows=columns.objects)
        columns.check(X if y is not None else tasks, tasks.X.shape[1:], "score")
        check_targets(tasks.y, self._single_target, self.n_outputs_, "score")
        weight = np.ones(len(tasks.X)) if tasks.sample_weight is None else tasks.sample_weight
        if sample_weight is not None and not self._weighs:
            weight = row_weights(sample_weight, groups, len(tasks.X))
        truth, prediction, rows = self._query_predictions(tasks, np.random.default_rng(self._seed))
        if (column := self._output_column) is not None:
            return r2_of_outputs(truth, prediction, tasks.X[rows, column], weight[rows])
        center = getattr(self, "_y_mean", truth.mean(axis=0))  # a population without training tasks has none
        return r2_around(truth, prediction, center, weight[rows])

    @in_plain_modes
    def calibrate(self, tasks: Any, support_size: Any = None, *, guard: bool | None = None, gap: int = 0) -> Self:
        """Learn the width of conformal intervals from tasks that the model was not fitted on.

        Every task counts once, however many rows it has. The model is adapted to the support of each task (the one the
        task carries, or `support_size` rows), and the task's other rows are scored; without a support, all rows are.
        Call it before ``adapt``: a predictor keeps the calibration that the model had when it was made.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        support_size : int, range, (smallest, largest) or None, default=None
            Numbers of support rows; there is one calibration for each. None takes the estimator's `support_size`; where
            that is None too, half the rows of the shortest task, at most 10.
        guard : bool, optional
            Whether a guard judges the adaptations; None takes the default of ``adapt``.
        gap : int, default=0
            Rows left out between support and scored rows, where rows are in order of time; also the gap of the guard.

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When a task was in the fit (all or half of its rows, in any order), cannot be used, or has too few rows.
        ValueError
            When a setting has another value.

        Examples
        --------
        >>> from metaest import MAMLRegressor
        >>> from metaest_datasets import make_sinusoids
        >>> tasks = make_sinusoids(100, random_state=0)
        >>> model = MAMLRegressor(max_iter=100, random_state=0).fit(tasks[:60])
        >>> wave = model.calibrate(tasks[60:99], support_size=5).adapt(tasks[99].X[:5], tasks[99].y[:5])
        >>> wave.predict_interval(tasks[99].X[5:], level=0.9)
        ConformalInterval(level=0.9 for one observation, 15 rows, 39 calibration tasks)
        """
        check_is_fitted(self)
        guarded = whether_guarded(guard, gap, self._guards)
        columns = Columns(self)
        tasks = self._prepared(as_tasks(tasks, weighs=self._weighs, object_rows=columns.objects))
        columns.check(tasks, tasks.X.shape[1:], "calibrate")
        check_targets(tasks.y, self._single_target, self.n_outputs_, "calibrate")
        refuse_seen(self._seen, tasks, "calibrate")
        if any(task.support is not None for task in tasks):
            calibration = _calibrated_by_supports(self, tasks, guarded, gap)
        else:
            calibration = _calibrated_by_sizes(self, tasks, support_size, guarded, gap)
        self._conformal = calibration  # the last thing that an interrupt can meet
        return self


class Calibrated(Protocol):
    """A model before adaptation, or an adapted predictor, with what `calibrate` learned."""

    @property
    def _conformal(self) -> Calibration | None:
        """The calibration; None where there was none."""

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions and the scale of their errors."""


def conformal_interval(
    predictor: Calibrated,
    X: Any,
    level: Any,
    simultaneous: Any,
    *,
    size: int = 0,
    guarded: bool = False,
    sample_weight: Any = None,
) -> ConformalInterval:
    """Return the conformal interval of rows of one task.

    Parameters
    ----------
    predictor : Calibrated
    X : array-like of shape (n_rows, n_features)
    level : float
    simultaneous : bool
    size : int, default=0
        Rows the task was adapted on.
    guarded : bool, default=False
        Whether the adaptation was judged by a guard.
    sample_weight : array-like of shape (n_rows,), optional

    Raises
    ------
    ValueError
        When there is no calibration for such a task, or a setting makes no sense.
    """
    require_level(level)
    require_flag(simultaneous, "simultaneous")
    calibration = predictor._conformal
    if calibration is None:
        raise ValueError(
            "a conformal interval needs tasks that the model was not fitted on: call model.calibrate(tasks), then "
            "adapt."
        )
    mean, scale = predictor._center_and_scale(X, sample_weight)
    return calibration.interval(mean, scale, size, guarded, level, simultaneous)


def one_by_one(model: IntervalMixin, supports: TaskSet, guard: bool, gap: int) -> list[Any]:
    """Adapt a model to all rows of each task, one task after the other, and return the predictors."""
    predictors = []
    for task in progress(supports, bool(model.verbose), "calibration tasks", "task"):
        weight = {} if task.sample_weight is None else {"sample_weight": task.sample_weight}
        predictors.append(model.adapt(task.X, task.y, guard=guard, gap=gap, **weight))
    return predictors


def refuse_seen(seen: SeenTasks | None, tasks: TaskSet, where: str) -> None:
    """Raise where a task that is to judge the model was in its fit."""
    i = None if seen is None else seen.first_seen(tasks)
    if i is not None:
        raise TaskError(
            f"{where}: task {tasks[i].name!r} was in the fit, in whole or in part; its errors are smaller than "
            "those of a new task. Pass tasks that were held out of the fit."
        )


def _calibrated_by_supports(model: IntervalMixin, tasks: TaskSet, guarded: bool, gap: int) -> Calibration:
    """Return the scores of tasks that carry their own support."""
    supports = [np.asarray(task.support) for task in tasks if task.support is not None]
    if len(supports) < len(tasks):
        raise TaskError("calibrate: some tasks carry their own support and some do not.")
    queries = [np.setdiff1d(np.arange(len(t)), s) for t, s in zip(tasks, supports, strict=True)]
    before = scores_of(model, tasks, [s[:0] for s in supports], queries, False, 0)
    adapted = scores_of(model, tasks, supports, queries, guarded, gap)
    _logger.info("calibrated by the supports of %d tasks%s", len(tasks), " with the guard" * guarded)
    return Calibration({0: before}, adapted, frozenset(map(len, supports)), guarded)


def _calibrated_by_sizes(
    model: IntervalMixin, tasks: TaskSet, support_size: Any, guarded: bool, gap: int
) -> Calibration:
    """Return the scores of tasks at each number of support rows."""
    rng = np.random.default_rng(model._seed)
    ordered = model.split == "first"
    orders = [np.arange(n) if ordered else rng.permutation(n) for n in tasks.sizes]
    scores = {}
    for size in calibration_sizes(model, tasks, support_size):
        able = [i for i, order in enumerate(orders) if len(order) > size + (gap if ordered else 0)]
        if not able:
            raise TaskError(f"calibrate: no task has more than {size} rows, so that none is left to score.")
        supports = [orders[i][:size] for i in able]
        queries = [orders[i][size + (gap if ordered and size else 0) :] for i in able]
        scores[size] = scores_of(model, TaskSet([tasks[i] for i in able]), supports, queries, guarded, gap)
    for size, of_size in scores.items():
        _logger.info("calibrated at %d support rows by %d tasks", size, of_size.n_tasks)
    return Calibration(scores, None, frozenset(), guarded)


def calibration_sizes(model: IntervalMixin, tasks: TaskSet, support_size: Any) -> list[int]:
    """Return the numbers of support rows to calibrate at; 0 is always one."""
    bounds = check_split(model.support_size if support_size is None else support_size, model.split)
    if bounds is None:
        half = max(1, min(int(tasks.sizes.min()) // 2, MAX_DEFAULT_SUPPORT))
        bounds = half, half
    return sorted({0, *range(bounds[0], bounds[1] + 1)})


def scores_of(
    model: IntervalMixin,
    tasks: TaskSet,
    supports: list[NDArray[np.intp]],
    queries: list[NDArray[np.intp]],
    guard: bool,
    gap: int,
) -> Scores:
    """Adapt to the support of every task, and return the scores of its query rows."""
    scored = [i for i, query in enumerate(queries) if len(query)]
    if not scored:
        raise TaskError("calibrate: no task has a row left to score.")
    predictors: list[Any] = [model] * len(scored)
    adapting = [number for number, i in enumerate(scored) if len(supports[i])]
    values, owner = [], []
    with quiet(Warning):
        if adapting:
            chosen = [scored[number] for number in adapting]
            rows = rows_of_supports(tasks, chosen, [supports[i] for i in chosen])
            for number, predictor in zip(adapting, model._adapted(rows, guard, gap), strict=True):
                predictors[number] = predictor
        for number, (i, predictor) in enumerate(zip(scored, predictors, strict=True)):
            task, query = tasks[i], queries[i]
            weight = None if task.sample_weight is None else np.asarray(task.sample_weight)[query]
            mean, scale = predictor._center_and_scale(task.X[query], weight)
            truth = task.y[query].astype(np.float64).reshape(mean.shape)
            values.append((np.abs(truth - mean) / scale).reshape(len(query), -1))
            owner.append(np.full(len(query), number))
    return Scores(np.concatenate(values), np.concatenate(owner), len(scored))


def rows_of_supports(tasks: TaskSet, chosen: list[int], supports: list[NDArray[np.intp]]) -> TaskSet:
    """Return chosen tasks with their support rows alone."""
    parts = [(tasks[i], support) for i, support in zip(chosen, supports, strict=True)]
    weights = None
    if tasks.sample_weight is not None:
        weights = np.concatenate([np.asarray(task.sample_weight)[s] for task, s in parts])
    return TaskSet.from_checked(
        np.concatenate([task.X[s] for task, s in parts]),
        np.concatenate([task.y[s] for task, s in parts]),
        np.cumsum([0] + [len(s) for _, s in parts]),
        tasks.names[chosen],
        feature_names=tasks.feature_names,
        target_names=tasks.target_names,
        sample_weight=weights,
        level_labels=tasks.level_labels,
    )


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes)) if len(sizes) < 7 else f"{sizes[0]} to {sizes[-1]}"
