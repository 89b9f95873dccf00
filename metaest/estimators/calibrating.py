"""`calibrate`: what tasks the model has not seen say about its errors."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import whether_guarded
from metaest.estimators.conformal import Calibration, ConformalInterval, Scores, check_conformal
from metaest.estimators.inputs import as_tasks, check_columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted import check_targets
from metaest.estimators.seen import SeenTasks
from metaest.exceptions import TaskError, quiet
from metaest.functional.progress import progress
from metaest.tasks import TaskSet
from metaest.tasks.split import MAX_DEFAULT_SUPPORT, check_split

__all__ = ["Calibrating", "hashed"]

_logger = logging.getLogger("metaest.calibrate")


def hashed(names: Any) -> NDArray[np.uint64]:
    """Return a hash of each task's name."""
    digests = (hashlib.blake2b(str(name).encode(errors="replace"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


class Calibrating:
    """A mix-in for regressors: conformal intervals for tasks never seen."""

    support_size: Any
    split: str
    _seed: int
    n_outputs_: int
    _single_target: Any
    _seen: SeenTasks
    _conformal: Calibration | None
    # whether adapt judges unless told otherwise
    guard_by_default = False
    # whether rows may have weights
    _weighs = False

    @in_plain_modes
    def calibrate(self, tasks: Any, support_size: Any = None, *, guard: bool | None = None, gap: int = 0) -> Self:
        """Learn from tasks that the model was not fitted on how wide intervals for a new task must be.

        Every task counts once, however many rows it has. Each is adapted to as a new task will be, on its own support
        where it carries one, and scored on the rest; where nothing is adapted, on all of it. Adapt after this: a
        predictor keeps the calibration of the moment it was made.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        support_size : int, range, (smallest, largest) or None, default=None
            Rows to adapt on; one calibration for each. None takes the estimator's own; where that is None too, half the
            rows of the shortest task, at most 10.
        guard : bool, optional
            Whether adaptations are judged; None as ``adapt`` does by default.
        gap : int, default=0
            Rows left out after the support, where rows are in order of time; the guard leaves as many out.

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When a task was in the fit (in whole or by half of its rows, in any order), cannot be used, or has too few
            rows.
        ValueError
            When a setting makes no sense.

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
        guarded = whether_guarded(guard, gap, self.guard_by_default)
        tasks = self._prepared(as_tasks(tasks, weighs=self._weighs))
        check_columns(self, tasks, tasks.X.shape[1:], "calibrate")
        check_targets(tasks.y, self._single_target, self.n_outputs_, "calibrate")
        self._refuse_seen(tasks)
        own = [task.support for task in tasks]
        if any(support is not None for support in own):
            if any(support is None for support in own):
                raise TaskError("calibrate: some tasks carry their own support and some do not.")
            sizes = frozenset(len(support) for support in own if support is not None)
            supports = [np.asarray(support) for support in own]
            queries = [np.setdiff1d(np.arange(len(t)), s) for t, s in zip(tasks, supports, strict=True)]
            scores = {0: self._scores_of(tasks, [s[:0] for s in supports], queries, False, 0)}
            found = self._scores_of(tasks, supports, queries, guarded, gap)
            _logger.info("calibrated by the supports of %d tasks%s", len(tasks), " with the guard" * guarded)
            self._conformal = Calibration(scores, found, sizes, guarded)
            return self
        rng = np.random.default_rng(self._seed)
        ordered = self.split == "first"
        orders = [np.arange(n) if ordered else rng.permutation(n) for n in tasks.sizes]
        scores = {}
        for size in self._sizes(tasks, support_size):
            able = [i for i, order in enumerate(orders) if len(order) > size + (gap if ordered else 0)]
            if not able:
                raise TaskError(f"calibrate: no task has more than {size} rows, so that none is left to score.")
            supports = [orders[i][:size] for i in able]
            queries = [orders[i][size + (gap if ordered and size else 0) :] for i in able]
            some = TaskSet([tasks[i] for i in able])
            scores[size] = self._scores_of(some, supports, queries, guarded, gap)
        for size, of_size in scores.items():
            _logger.info("calibrated at %d support rows by %d tasks", size, of_size.n_tasks)
        self._conformal = Calibration(scores, None, frozenset(), guarded)  # the last thing that an interrupt can meet
        return self

    def _prepared(self, tasks: TaskSet) -> TaskSet:
        """Return the tasks as the model reads them."""
        return tasks

    def _conformal_interval(self, X: Any, level: float, simultaneous: bool, *weights: Any) -> ConformalInterval:
        """Return the interval of rows of a task of which nothing is known."""
        check_is_fitted(self)
        calibration = check_conformal(self._conformal, level, simultaneous)
        mean, scale = self._center_and_scale(X, *weights)
        return calibration.interval(mean, scale, 0, False, level, simultaneous)

    def _center_and_scale(self, X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions without adaptation, and the scale of their errors."""
        raise NotImplementedError

    def _adapt_all(self, supports: TaskSet, guard: bool, gap: int) -> Sequence[Any]:
        """Return one predictor a task."""
        adapt: Any = self.adapt  # type: ignore[attr-defined]
        predictors = []
        for task in progress(supports, getattr(self, "verbose", False), "calibration tasks", "task"):
            weight = {} if task.sample_weight is None else {"sample_weight": task.sample_weight}
            predictors.append(adapt(task.X, task.y, guard=guard, gap=gap, **weight))
        return predictors

    def _sizes(self, tasks: TaskSet, support_size: Any) -> list[int]:
        chosen = self.support_size if support_size is None else support_size
        bounds = check_split(chosen, self.split)
        if bounds is None:
            half = max(1, min(int(tasks.sizes.min()) // 2, MAX_DEFAULT_SUPPORT))
            bounds = half, half
        return sorted({0, *range(bounds[0], bounds[1] + 1)})

    def _refuse_seen(self, tasks: TaskSet) -> None:
        i = self._seen.first_seen(tasks)
        if i is not None:
            raise TaskError(
                f"calibrate: task {tasks[i].name!r} was in the fit, in whole or in part; its errors are smaller than "
                "those of a new task. Hold tasks out of the fit."
            )

    def _scores_of(
        self,
        tasks: TaskSet,
        supports: list[NDArray[np.intp]],
        queries: list[NDArray[np.intp]],
        guard: bool,
        gap: int,
    ) -> Scores:
        kept = [i for i, query in enumerate(queries) if len(query)]
        if not kept:
            raise TaskError("calibrate: no task has a row left to score.")
        values, owner = [], []
        predictors: list[Any] = [self] * len(kept)
        adapting = [number for number, i in enumerate(kept) if len(supports[i])]
        with quiet(Warning):
            if adapting:
                parts = [(tasks[kept[number]], supports[kept[number]]) for number in adapting]
                rows = TaskSet.from_checked(
                    np.concatenate([task.X[s] for task, s in parts]),
                    np.concatenate([task.y[s] for task, s in parts]),
                    np.cumsum([0] + [len(s) for _, s in parts]),
                    tasks.names[[kept[number] for number in adapting]],
                    feature_names=tasks.feature_names,
                    target_names=tasks.target_names,
                    sample_weight=None
                    if tasks.sample_weight is None
                    else np.concatenate([np.asarray(task.sample_weight)[s] for task, s in parts]),
                )
                for number, predictor in zip(adapting, self._adapt_all(rows, guard, gap), strict=True):
                    predictors[number] = predictor
            for number, (i, predictor) in enumerate(zip(kept, predictors, strict=True)):
                task, query = tasks[i], queries[i]
                weights = () if task.sample_weight is None else (np.asarray(task.sample_weight)[query],)
                mean, scale = predictor._center_and_scale(task.X[query], *weights)
                truth = task.y[query].astype(np.float64).reshape(mean.shape)
                values.append((np.abs(truth - mean) / scale).reshape(len(query), -1))
                owner.append(np.full(len(query), number))
        return Scores(np.concatenate(values), np.concatenate(owner), len(kept))
