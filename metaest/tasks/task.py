"""One task: the few observations of one patient, one alloy, one asset."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.arrays import as_features, as_target, require_finite
from metaest.tasks.object_rows import holds_objects
from metaest.tasks.reading import is_missing, rows_of
from metaest.tasks.record import ReadOnly, read_only, set_fields
from metaest.tasks.weights import as_weights, require_weights

__all__ = ["Task", "check_support", "describe_rows"]


def describe_rows(X: NDArray[Any]) -> str:
    """Return the kind of the rows of X in a word or two, for messages."""
    if holds_objects(X):
        return f"rows of type {type(X[0]).__name__}"
    if X.ndim == 2:
        return f"{X.shape[1]} feature{'s' * (X.shape[1] != 1)}"
    return f"images of {' x '.join(map(str, X.shape[1:]))}" if X.ndim == 4 else f"rows of shape {X.shape[1:]}"


def check_support(support: Any, n_rows: int, where: str) -> NDArray[np.intp]:
    """Return support row numbers as an array, or raise an error that begins with `where`."""
    given = rows_of(support, where, "support")
    try:
        rows = np.asarray(given)
    except ValueError as error:
        raise TaskError(f"{where}: support must be a list of row numbers ({error}).") from error
    if rows.size == 0:
        return np.empty(0, dtype=np.intp)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TaskError(
            f"{where}: support must be a list of row numbers, got {rows.dtype} of shape {rows.shape}"
            + ("; use numpy.flatnonzero(mask) for a mask." if rows.dtype.kind == "b" else ".")
        )
    outside = rows[(rows < 0) | (rows >= n_rows)]
    if outside.size:
        raise TaskError(f"{where}: support names row {outside[0]}, but the task has rows 0 to {n_rows - 1}.")
    unique, counts = np.unique(rows, return_counts=True)
    if counts.max() > 1:
        raise TaskError(f"{where}: support names row {unique[counts > 1][0]} more than once.")
    return rows.astype(np.intp)


def _check_name(name: Any) -> None:
    """Raise a TaskError where a name cannot be looked up: it is missing, or changeable."""
    if name is not None and is_missing(name):
        raise TaskError(f"task {name!r}: a missing value was passed as its name; give the task a name.")
    try:
        hash(name)
    except TypeError as error:
        raise TaskError(
            f"task {name!r}: a {type(name).__name__} cannot name a task; a text, a number or a tuple can."
        ) from error


@dataclass(frozen=True, eq=False)
class Task(ReadOnly):
    """One task: a name, its rows, and which of them are the support.

    Parameters
    ----------
    name : hashable
        What errors and summaries call the task.
    X : array-like or data frame of shape (n_rows, n_features), or images of shape (n_rows, channels, height, width)
        Finite numbers. Column names of a data frame are remembered. The values are copied, and read-only from then on.
        Rows that are objects of another type pass as :class:`metaest.tasks.ObjectRows`.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Finite numbers; or labels, which are words or numbers.
    support : sequence of int, optional
        Row numbers an estimator adapts on; the other rows are the query. None leaves the choice to the estimator's
        ``support_size`` and ``split``.
    sample_weight : array-like of shape (n_rows,), optional
        Known accuracy of the rows, as 1/variance up to a factor that all tasks share; at least 0. Only equations weigh
        rows; other estimators refuse tasks with weights.

    Attributes
    ----------
    feature_names, target_names : tuple of str or None
        Column names, where X or y had them.
    level_labels : dict of str to tuple, or None
        By columns, what 0, 1, 2, ... stand for where labels were words, as in the TaskSet that the task is of.

    Raises
    ------
    TaskError
        When the task has no rows, X and y differ in length, a value is missing, infinite or not a number, labels are
        of several types, or the support names a row the task does not have.

    Examples
    --------
    >>> from metaest import Task
    >>> Task("patient 3", X=[[0.5], [2.0], [9.0]], y=[3.1, 7.4, 4.0], support=[0, 1])
    Task('patient 3', 3 rows, 1 feature, support rows [0, 1])
    """

    name: Hashable
    X: NDArray[Any]
    y: NDArray[Any]
    support: NDArray[np.intp] | Sequence[int] | None = None
    feature_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] | None = None
    sample_weight: NDArray[np.float64] | Sequence[float] | None = None
    level_labels: Mapping[str, tuple[Hashable, ...]] | None = None

    def __post_init__(self) -> None:
        where = f"task {self.name!r}"
        _check_name(self.name)
        X, feature_names = as_features(self.X, where)
        if len(X) == 0:
            raise TaskError(f"{where}: it has no rows; leave it out.")
        y, target_names = as_target(self.y, len(X), where)
        feature_names = feature_names if self.feature_names is None else tuple(self.feature_names)
        target_names = target_names if self.target_names is None else tuple(self.target_names)
        if feature_names is not None and holds_objects(X):
            raise TaskError(f"{where}: feature_names name columns of numbers, and its rows are objects.")
        if feature_names is not None and len(feature_names) != X.shape[1]:
            raise TaskError(f"{where}: {len(feature_names)} feature names for {X.shape[1]} columns.")
        require_finite(X, "X", feature_names, lambda row: (where, row))
        require_finite(y, "y", target_names, lambda row: (where, row))
        support = None if self.support is None else check_support(self.support, len(X), where)
        weight = None if self.sample_weight is None else as_weights(self.sample_weight, len(X), where)
        if weight is not None:
            require_weights(weight, lambda row: (where, row))
        set_fields(
            self,
            X=_copied(X),
            y=_copied(y),
            support=None if support is None else _copied(support),
            feature_names=feature_names,
            target_names=target_names,
            sample_weight=None if weight is None else _copied(weight),
        )

    @classmethod
    def from_checked(
        cls,
        name: Hashable,
        X: NDArray[Any],
        y: NDArray[Any],
        *,
        support: NDArray[np.intp] | None = None,
        feature_names: tuple[str, ...] | None = None,
        target_names: tuple[str, ...] | None = None,
        sample_weight: NDArray[np.float64] | None = None,
        level_labels: Mapping[str, tuple[Hashable, ...]] | None = None,
    ) -> "Task":
        """Make a task of arrays that were checked before, without copying them.

        Parameters
        ----------
        name, X, y, support, feature_names, target_names, sample_weight, level_labels
            As the attributes of a task.

        Returns
        -------
        Task
        """
        task = object.__new__(cls)
        set_fields(
            task,
            name=name,
            X=X,
            y=y,
            support=support,
            feature_names=feature_names,
            target_names=target_names,
            sample_weight=sample_weight,
            level_labels=level_labels,
        )
        return task

    def __len__(self) -> int:
        return len(self.X)

    def __float__(self) -> float:
        # what numpy calls where a transformer makes an array of tasks
        raise TypeError(
            "tasks were passed where rows of numbers are wanted: transformers such as StandardScaler take flat rows. "
            "Fit the pipeline on pipeline.fit(tasks.X, tasks.y, <last step>__groups=tasks.names.repeat(tasks.sizes)) "
            "with tasks a TaskSet, or leave the scaler out: metaest's networks standardise columns themselves."
        )

    def __repr__(self) -> str:
        rows = f"{len(self)} row{'s' * (len(self) != 1)}"
        features = describe_rows(self.X)
        support = "" if self.support is None else f", support rows {np.asarray(self.support).tolist()}"
        weighted = "" if self.sample_weight is None else ", weighted"
        return f"Task({self.name!r}, {rows}, {features}{support}{weighted})"


def _copied(values: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only copy of an array."""
    return read_only(np.array(values))
