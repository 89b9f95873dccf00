"""The few-shot scorer: it adapts to some rows of every task and scores the task's other rows."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import _num_samples

from metaest.estimators.arguments import require_choice, require_flag, require_level
from metaest.estimators.columns import takes_objects
from metaest.estimators.inputs import as_tasks
from metaest.estimators.pipeline import adapt
from metaest.estimators.scoring import r2_around, r2_of_outputs
from metaest.exceptions import (
    DivergenceError,
    IdentifiabilityWarning,
    OvershootWarning,
    TaskError,
    UnlikelyTaskWarning,
    filters_kept,
    quiet,
)
from metaest.tasks import Task, TaskSet, labels_of
from metaest.tasks.arguments import is_whole
from metaest.tasks.arrays import as_target, require_finite, require_numbers
from metaest.tasks.grouping import sort_by_group
from metaest.tasks.object_rows import ObjectRows
from metaest.tasks.reading import rows_of

__all__ = ["FewShotScorer"]

_OF_CLASSES = ("few_shot_accuracy", "few_shot_log_loss")
_OF_UNITS = ("few_shot_rmse", "few_shot_mae")
_LOSSES = ("few_shot_rmse", "few_shot_mae", "few_shot_log_loss")


class _Part(NamedTuple):
    """One task: its rows as they were given, checked targets, and the row numbers of support and query."""

    name: Any
    X: Any
    y: Any
    target: NDArray[Any]
    support: NDArray[np.intp]
    query: NDArray[np.intp]
    weight: NDArray[np.float64] | None

    def weights(self, rows: NDArray[np.intp]) -> dict[str, Any]:
        """Return the weights of rows as a keyword, where the task carries some."""
        return {} if self.weight is None else {"sample_weight": self.weight[rows]}


@dataclass(eq=False, repr=False)
class FewShotScorer:
    """Scorer made by the functions of :mod:`metaest.scorers`; call it as ``scorer(estimator, X, y, groups=groups)``.

    Parameters
    ----------
    metric : str
        Name of the function of :mod:`metaest.scorers` that makes the scorer.
    shots, split, random_state, guard, gap
        As :func:`few_shot_r2` takes them.
    per_class : bool, default=True
        As :func:`few_shot_accuracy` takes it; used for classes only.
    level : float, default=0.9
        Level of the intervals; used by :func:`few_shot_coverage` only.
    method : str, optional
        Method of the intervals; used by :func:`few_shot_coverage` only.
    """

    metric: str
    shots: int
    split: str | None = None
    random_state: int = 0
    guard: bool | None = None
    gap: int = 0
    per_class: bool = True
    level: float = 0.9
    method: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("shots", 0), ("random_state", 0), ("gap", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                why = ", so that every candidate is scored on the same rows" if name == "random_state" else ""
                raise ValueError(
                    f"{self.metric}: {name} must be a whole number of at least {least}{why}, got {value!r}."
                )
        require_choice(self.split, f"{self.metric}: split", ["random", "first"], optional=True)
        require_choice(self.method, f"{self.metric}: method", ["posterior", "conformal"], optional=True)
        require_flag(self.guard, f"{self.metric}: guard", optional=True)
        require_flag(self.per_class, f"{self.metric}: per_class")
        require_level(self.level, f"{self.metric}: level")
        self._groups: Any = True

    def __call__(self, estimator: Any, X: Any, y: Any = None, *, groups: Any = None) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : fitted metaest estimator, or one inside a Pipeline, a TransformedTargetRegressor or a search
        X : TaskSet, sequence of Task or (X, y), dict of name to (X, y), or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets), optional
            With flat rows only.
        groups : array-like of shape (n_rows,), optional
            The task of each flat row.

        Returns
        -------
        float
            Higher is better; errors and losses have their sign changed.

        Raises
        ------
        TaskError
            When a task has too few rows or cannot be used, or flat rows come without groups.
        TypeError
            When the estimator cannot adapt, or predicts something else than this scorer measures.
        """
        if not isinstance(estimator, BaseEstimator):
            raise TypeError(f"{self.metric}: a fitted estimator is wanted, got {type(estimator).__name__}.")
        model, scaled = _innermost(estimator)
        self._check_kind(estimator, model)
        if scaled and getattr(model, "limit", None) is not None:
            raise TypeError(f"{self.metric}: limit={model.limit} is not on the scale of y inside a transformed target.")
        if self.metric in _OF_UNITS and getattr(model, "_output_column", None) is not None:
            raise TypeError(f"{self.metric}: rows of several outputs have several units; take few_shot_r2.")
        split = self.split or getattr(model, "split", None) or "random"
        rng = np.random.default_rng(self.random_state) if split == "random" else None
        parts = [
            self._part(*task, rng=rng, classes=self.metric in _OF_CLASSES)
            for task in _tasks(X, y, groups, self.metric, model)
        ]
        measure: Callable[..., float] = getattr(self, f"_{self.metric.removeprefix('few_shot_')}")
        with quiet(OvershootWarning, IdentifiabilityWarning, UnlikelyTaskWarning):  # else once for each task
            score = measure(model, scaled, parts, self._predictors(estimator, parts))
        return -score if self.metric in _LOSSES else score

    def _part(
        self, name: Any, X: Any, y: Any, given: Any, weight: Any, *, rng: np.random.Generator | None, classes: bool
    ) -> _Part:
        where = f"task {name!r}"
        target, names = as_target(y, _num_samples(X), where)
        target = labels_of(target, lambda row: where) if classes else require_numbers(target, where)
        require_finite(target, "y", names, lambda row: (where, row))
        order = np.arange(len(target)) if rng is None else rng.permutation(len(target))
        if given is not None:
            chosen = np.asarray(given, dtype=np.intp)
            if len(chosen) == len(target):
                raise TaskError(f"{where}: its support holds all {len(target)} rows; none is left to be scored.")
        elif classes and self.per_class:
            chosen = self._of_each_class(where, target, order)
        elif self.shots >= len(target):
            raise TaskError(
                f"{where}: it has {len(target)} rows, and shots={self.shots} leave none to be scored; lower shots, or "
                "leave the task out."
            )
        else:
            chosen = np.sort(order[: self.shots])
        return _Part(name, X, y, target, chosen, np.setdiff1d(np.arange(len(target)), chosen), weight)

    def _of_each_class(self, where: str, target: NDArray[Any], order: NDArray[np.intp]) -> NDArray[np.intp]:
        labels, counts = np.unique(target, return_counts=True)
        if counts.min() <= self.shots:
            i = int(np.argmin(counts))
            raise TaskError(
                f"{where}: class {labels.tolist()[i]!r} has {counts[i]} rows, and shots={self.shots} of each class "
                "leave none of it to be scored; lower shots, or count the rows of the task by per_class=False."
            )
        shuffled = target[order]
        return np.sort(np.concatenate([order[np.flatnonzero(shuffled == label)[: self.shots]] for label in labels]))

    def _predictors(self, estimator: Any, parts: list[_Part]) -> Iterator[tuple[_Part, Any]]:
        guarding = {} if self.guard is None and not self.gap else {"guard": self.guard, "gap": self.gap}
        model = _chosen(estimator)
        alike = not guarding and not getattr(model, "_guards", False)  # adapt_many has no guard
        if alike and hasattr(model, "adapt_many") and all(len(part.support) for part in parts):
            as_given: Callable[[Any], Any] = ObjectRows if takes_objects(model) else lambda rows: rows
            support = TaskSet(
                Task(
                    part.name,
                    as_given(_safe_indexing(part.X, part.support)),
                    _safe_indexing(part.y, part.support),
                    **part.weights(part.support),
                )
                for part in parts
            )
            yield from zip(parts, model.adapt_many(support), strict=True)
            return
        for part in parts:
            if not len(part.support):  # before adaptation
                yield part, estimator
                continue
            try:
                rows, target = (_safe_indexing(given, part.support) for given in (part.X, part.y))
                yield part, adapt(estimator, rows, target, **part.weights(part.support), **guarding)
            except (TaskError, DivergenceError) as error:
                raise type(error)(f"task {part.name!r}: {error}") from error

    def _predicted(self, model: Any, predictors: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return targets and predictions of all query rows, of shape (n_rows, n_targets)."""
        truth, prediction = [], []
        for part, predictor in predictors:
            target = part.target[part.query].astype(np.float64).reshape(len(part.query), -1)
            rows = _safe_indexing(part.X, part.query)
            values = np.asarray(predictor.predict(rows), dtype=np.float64).reshape(len(part.query), -1)
            recorded = _as_recorded(model, target, values, rows)
            truth.append(recorded[0])
            prediction.append(recorded[1])
        return np.concatenate(truth), np.concatenate(prediction)

    def _r2(self, model: Any, scaled: bool, parts: list[_Part], predictors: Any) -> float:
        predictors = list(predictors)
        truth, prediction = self._predicted(model, predictors)
        if getattr(model, "_output_column", None) is not None:
            outputs = [predictor._outputs_of(_safe_indexing(p.X, p.query)) for p, predictor in predictors]
            weight = _query_weight(parts)
            ones = np.ones(len(truth)) if weight is None else weight
            return r2_of_outputs(truth[:, 0], prediction[:, 0], np.concatenate(outputs), ones)
        center = truth.mean(axis=0) if scaled or not hasattr(model, "_y_mean") else model._y_mean
        weight = _query_weight(parts)
        return r2_around(truth, prediction, center, np.ones(len(truth)) if weight is None else weight)

    def _rmse(self, model: Any, scaled: bool, parts: list[_Part], predictors: Any) -> float:
        truth, prediction = self._predicted(model, predictors)
        size = max(np.abs(truth).max(initial=0), np.abs(prediction).max(initial=0))
        # divided by a power of two, large numbers can be squared and others keep their bits
        power = int(np.frexp(size)[1])
        with filters_kept():
            error = root_mean_squared_error(
                np.ldexp(truth, -power), np.ldexp(prediction, -power), sample_weight=_query_weight(parts)
            )
        return float(np.ldexp(error, power))

    def _mae(self, model: Any, scaled: bool, parts: list[_Part], predictors: Any) -> float:
        pair = self._predicted(model, predictors)
        with filters_kept():
            return float(mean_absolute_error(*pair, sample_weight=_query_weight(parts)))

    def _coverage(self, model: Any, scaled: bool, parts: list[_Part], predictors: Any) -> float:
        how = {} if self.method is None else {"method": self.method}
        inside = []
        for part, predictor in predictors:
            weights = part.weights(part.query)
            rows = _safe_indexing(part.X, part.query)
            ends = predictor.predict_interval(rows, level=self.level, **how, **weights)
            target = part.target[part.query].astype(np.float64)
            truth, lower = _as_recorded(model, target, np.reshape(ends[0], target.shape), rows)
            truth, upper = _as_recorded(model, target, np.reshape(ends[1], target.shape), rows)
            inside.append(((lower <= truth) & (truth <= upper)).reshape(-1))
        return float(np.concatenate(inside).mean())

    def _accuracy(self, model: Any, scaled: bool, parts: list[_Part], predictors: Any) -> float:
        right = [
            part.target[part.query] == predictor.predict(_safe_indexing(part.X, part.query))
            for part, predictor in predictors
        ]
        return float(np.concatenate(right).mean())

    def _log_loss(self, model: Any, scaled: bool, parts: list[_Part], predictors: Any) -> float:
        losses = []
        for part, predictor in predictors:
            probability = predictor.predict_proba(_safe_indexing(part.X, part.query))
            truth = part.target[part.query]
            place = truth[:, None] == np.asarray(predictor.classes_)
            if not place.any(axis=1).all():
                label = truth[int(np.argmin(place.any(axis=1)))].tolist()
                raise TaskError(
                    f"task {part.name!r}: class {label!r} has no support row, so its log loss is infinite; take "
                    "per_class=True, or give the task a support with every class."
                )
            smallest = np.finfo(probability.dtype).eps  # scikit-learn's bound on a probability of 0
            losses.append(-np.log(np.clip(probability, smallest, 1 - smallest)[place]))
        return float(np.concatenate(losses).mean())

    def _check_kind(self, estimator: Any, model: Any) -> None:
        name = type(model).__name__
        if is_classifier(estimator) and self.metric not in _OF_CLASSES:
            raise TypeError(f"{name} predicts classes; few_shot_accuracy or few_shot_log_loss measures it.")
        if is_regressor(estimator) and self.metric in _OF_CLASSES:
            raise TypeError(f"{name} predicts numbers; few_shot_r2, few_shot_rmse or few_shot_mae measures it.")
        if not is_classifier(estimator) and not is_regressor(estimator):
            raise TypeError(
                f"{self.metric} measures predictions, and {name} makes none; leave scoring unset: its "
                "score method adapts."
            )

    def set_score_request(self, *, groups: bool | str | None = True) -> "FewShotScorer":
        """Set whether, and by which name, groups are requested under metadata routing; by default they are.

        Parameters
        ----------
        groups : bool, str or None, default=True

        Returns
        -------
        self
        """
        self._groups = groups
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what is requested under metadata routing: groups.

        Returns
        -------
        MetadataRequest
        """
        request = MetadataRequest(owner=self)
        request.score.add_request(param="groups", alias=self._groups)
        return request

    def _accept_sample_weight(self) -> bool:
        # scikit-learn asks where several scorers are given and routing is off
        return False

    def __sklearn_clone__(self) -> "FewShotScorer":
        return deepcopy(self)

    def __repr__(self) -> str:
        plain = {name: field.default for name, field in type(self).__dataclass_fields__.items()}
        given = [f"shots={self.shots}"]
        for name in ("per_class", "level", "method", "split", "random_state", "guard", "gap"):
            if getattr(self, name) != plain[name]:
                given.append(f"{name}={getattr(self, name)!r}")
        if self.metric in _LOSSES:
            given.append("greater_is_better=False")
        return f"{self.metric}({', '.join(given)})"


def _query_weight(parts: list[_Part]) -> NDArray[np.float64] | None:
    """Return the weights of all query rows, where tasks carry some."""
    weights = [part.weight[part.query] for part in parts if part.weight is not None]
    return np.concatenate(weights) if weights else None


def _tasks(X: Any, y: Any, groups: Any, metric: str, model: Any) -> Iterator[tuple[Any, Any, Any, Any, Any]]:
    """Yield name, rows, targets, support and weights (or None) of every task; rows are of the kind that was given."""
    whole = getattr(model, "n_way", None) is not None
    objects = takes_objects(model)
    if y is None or (groups is None and whole) or (groups is not None and objects):
        settings: dict[str, Any] = {
            "labels": True,
            "alone": whole,
            "weighs": getattr(model, "_weighs", False),
            "object_rows": objects,
        }
        for task in as_tasks(X, y, groups, **settings):
            yield task.name, task.X, task.y, task.support, task.sample_weight
        return
    if groups is None:
        raise TaskError(
            f"{metric}: no groups were given, so that rows cannot be assigned to tasks. In cross_validate or "
            "GridSearchCV they reach a scorer under sklearn.set_config(enable_metadata_routing=True) only; pass tasks, "
            "or groups=."
        )
    X, y = rows_of(X, metric, "X"), rows_of(y, metric, "y")
    for name, values in (("X", X), ("y", y)):
        if not hasattr(values, "__len__") or getattr(values, "shape", None) == ():
            raise TaskError(f"{metric}: {name} is a {type(values).__name__}; one entry a row is wanted.")
    names, order, offsets = sort_by_group(groups, _num_samples(X))
    if _num_samples(y) != _num_samples(X):
        raise TaskError(f"{metric}: X has {_num_samples(X)} rows and y has {_num_samples(y)}.")
    for i, name in enumerate(names.tolist()):
        rows = order[offsets[i] : offsets[i + 1]]
        yield name, _safe_indexing(X, rows), _safe_indexing(y, rows), None, None


def _chosen(estimator: Any) -> Any:
    """Return the estimator that a search chose, or that is frozen."""
    while isinstance(estimator, FrozenEstimator) or hasattr(estimator, "best_estimator_"):
        estimator = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator.best_estimator_
    return estimator


def _innermost(estimator: Any) -> tuple[Any, bool]:
    """Return the model inside pipelines, searches and transformed targets, and whether its targets are transformed."""
    scaled = False
    while True:
        estimator = _chosen(estimator)
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, TransformedTargetRegressor) and hasattr(estimator, "regressor_"):
            estimator, scaled = estimator.regressor_, True
        else:
            return estimator, scaled


def _as_recorded(
    model: Any, truth: NDArray[Any], prediction: NDArray[Any], X: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return targets and predictions of rows X as the model's score method compares them: equal beyond a limit."""
    compare = getattr(model, "_as_recorded", None)
    return (truth, prediction) if compare is None else compare(truth, prediction, X)
