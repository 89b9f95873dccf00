"""Many tasks, stored as flat arrays plus offsets, so that a million small tasks cost only their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError, filters_kept
from metaest.tasks.arrays import as_features, as_target, require_finite
from metaest.tasks.collect import as_names, as_pair, as_task, check_alike, column_names
from metaest.tasks.columns import Columns, name_list, refuse_codes, refuse_units, require_frame
from metaest.tasks.frozen import StaysReadOnly, read_only
from metaest.tasks.grouping import place_in_group, sort_by_group
from metaest.tasks.reading import MaskedError, rows_of
from metaest.tasks.summary import describe, summarise
from metaest.tasks.support import SupportRows
from metaest.tasks.task import Task
from metaest.tasks.weights import as_weights, require_weights

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TaskSet"]


_NO_OBSERVATION = (
    "such a row holds no observation; drop it, or read dose records by metaest_domains.physiology.read_patients"
)
_DOSE = (
    "such a row gives a dose; drop it, or read dose records by metaest_domains.physiology.read_patients; where the "
    "dose is a feature, name the column in features"
)
_CENSORED = (
    "the target is beyond a limit; write any number below a lower limit, pass that as limit= to EquationRegressor, and "
    "drop the column"
)
FRAME_COLUMNS = Columns(
    "TaskSet.from_frame",
    arguments={
        "task": "name of the task",
        "features": "columns of X",
        "target": "columns of y",
        "sample_weight": "weights of the rows",
    },
    reserved={
        "evid": _NO_OBSERVATION,
        "mdv": _NO_OBSERVATION,
        "amt": _DOSE,
        **dict.fromkeys(("cens", "blq", "bql", "bloq"), _CENSORED),
    },
)


class TaskSet(StaysReadOnly, Sequence[Task]):
    """A sequence of tasks with the same columns.

    Parameters
    ----------
    tasks : iterable of Task or of (X, y) pairs
        Pairs are named 0, 1, 2, ... by position.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features) or (n_rows, channels, height, width)
        The rows of all tasks, one task after the other; read-only.
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
    offsets : ndarray of shape (n_tasks + 1,)
        Task i holds rows ``offsets[i]`` to ``offsets[i + 1] - 1``.
    names : ndarray of shape (n_tasks,)
    feature_names, target_names : tuple of str or None
    sample_weight : ndarray of shape (n_rows,) or None
        Weights of the rows, 1/variance, where the tasks carry them.

    Raises
    ------
    TaskError
        When there are no tasks, two tasks share a name, or a task differs from the first one in its columns.

    Examples
    --------
    >>> from metaest import Task, TaskSet
    >>> tasks = TaskSet([Task("a", [[0.0], [1.0]], [1.0, 2.0]), Task("b", [[0.5]], [3.0])])
    >>> tasks
    TaskSet(2 tasks, 3 rows (1 to 2 a task), 1 feature, 1 target)
    >>> tasks[0]
    Task('a', 2 rows, 1 feature)
    >>> tasks[:1]
    TaskSet(1 task, 2 rows (2 a task), 1 feature, 1 target)
    """

    X: NDArray[Any]
    y: NDArray[Any]
    offsets: NDArray[np.intp]
    names: NDArray[Any]
    feature_names: tuple[str, ...] | None
    target_names: tuple[str, ...] | None
    sample_weight: NDArray[np.float64] | None

    def __init__(self, tasks: Iterable[Task | tuple[Any, Any]]) -> None:
        given: Any = tasks
        if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            raise TaskError(f"a sequence of tasks is wanted, got {type(tasks).__name__}.")
        members = [as_task(task, i) for i, task in enumerate(tasks)]
        if not members:
            raise TaskError("no tasks were given; at least one is needed.")
        first = members[0]
        for task in members[1:]:
            check_alike(first, task)
        self._store(
            np.concatenate([task.X for task in members]),
            np.concatenate([task.y for task in members]),
            np.cumsum([0] + [len(task) for task in members]),
            as_names([task.name for task in members]),
            first.feature_names,
            first.target_names,
            None
            if all(task.support is None for task in members)
            else SupportRows([None if task.support is None else np.asarray(task.support) for task in members]),
            None if first.sample_weight is None else np.concatenate([np.asarray(t.sample_weight) for t in members]),
        )
        self._check_names()

    def _store(
        self,
        X: NDArray[Any],
        y: NDArray[Any],
        offsets: NDArray[np.intp],
        names: NDArray[Any],
        feature_names: tuple[str, ...] | None,
        target_names: tuple[str, ...] | None,
        support: SupportRows | None = None,
        sample_weight: NDArray[np.float64] | None = None,
    ) -> None:
        self.X, self.y, self.offsets, self.names = X, y, offsets, names
        self.feature_names, self.target_names, self._support = feature_names, target_names, support
        self.sample_weight = sample_weight
        for array in (X, y, offsets, names, *([] if sample_weight is None else [sample_weight])):
            read_only(array)

    def _check_names(self) -> None:
        name, count = Counter(self.names.tolist()).most_common(1)[0]
        if count > 1:
            raise TaskError(f"task name {name!r} is used {count} times; names must be unique.")

    @classmethod
    def _build(cls, *parts: Any) -> TaskSet:
        tasks = cls.__new__(cls)
        tasks._store(*parts)
        return tasks

    def _with(self, **parts: Any) -> TaskSet:
        """Return the same tasks with other rows: X, y or sample_weight, in the same order."""
        now = {"X": self.X, "y": self.y, "sample_weight": self.sample_weight, **parts}
        names = self.feature_names, self.target_names
        return self._build(now["X"], now["y"], self.offsets, self.names, *names, self._support, now["sample_weight"])

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: Any,
        groups: Any,
        *,
        feature_names: Sequence[str] | None = None,
        target_names: Sequence[str] | None = None,
        sample_weight: Any = None,
    ) -> TaskSet:
        """Group flat rows into tasks.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        groups : array-like of shape (n_rows,)
            The task each row belongs to; equal labels need not stand together. Tasks keep the order in which their
            labels first appear, rows keep their order within a task.
        feature_names, target_names : sequence of str, optional
            Names for the columns; by default those of a data frame or series.
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows as :class:`Task` takes them.

        Returns
        -------
        TaskSet

        Examples
        --------
        >>> TaskSet.from_arrays([[0.0], [1.0], [2.0]], [5.0, 6.0, 7.0], groups=["b", "a", "b"]).names.tolist()
        ['b', 'a']
        """
        try:
            return cls._of_arrays(X, y, groups, feature_names, target_names, sample_weight)
        except MaskedError as error:
            given = {"X": X, "y": y, "sample_weight": sample_weight}.get(error.name)
            if given is None or getattr(given, "ndim", 1) == 0:  # groups themselves, or no rows at all
                raise
            raise error.within(*place_in_group(groups, error.row, len(given))) from None

    @classmethod
    def _of_arrays(
        cls,
        X: Any,
        y: Any,
        groups: Any,
        feature_names: Sequence[str] | None,
        target_names: Sequence[str] | None,
        sample_weight: Any,
    ) -> TaskSet:
        X_array, names_X = as_features(X, "X, y, groups")
        if len(X_array) == 0:
            raise TaskError("no tasks were given: Found array with 0 sample(s) while a minimum of 1 is required.")
        y_array, names_y = as_target(y, len(X_array), "X, y, groups")
        columns = column_names(feature_names, names_X, X_array.shape[1], "feature_names")
        targets = column_names(target_names, names_y, y_array[0].size, "target_names")
        names, order, offsets = sort_by_group(groups, len(X_array))

        def locate(row: int) -> tuple[str, int]:
            task = int(np.searchsorted(offsets, row, side="right")) - 1
            return f"task {names.tolist()[task]!r}", row - int(offsets[task])

        X_array, y_array = X_array[order], y_array[order]
        require_finite(X_array, "X", columns, locate)
        require_finite(y_array, "y", targets, locate)
        weight = None
        if sample_weight is not None:
            weight = as_weights(sample_weight, len(order), "X, y, groups")[order]
            require_weights(weight, locate)
        return cls._build(X_array, y_array, offsets, names, columns, targets, None, weight)

    @classmethod
    @filters_kept()
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        task: str,
        features: Sequence[str] | None = None,
        target: str | Sequence[str],
        sample_weight: str | None = None,
    ) -> TaskSet:
        """Read tasks from one tidy data frame.

        Parameters
        ----------
        frame : DataFrame
            One row an observation; of pandas, polars, pyarrow or another library that narwhals reads.
        task : str
            The column that names the task.
        features : list of str, optional
            Feature columns in the order they should have; None takes all others.
        target : str or list of str
            The column, or columns, to predict. A list of one column of words gives the same tasks as the column.
        sample_weight : str, optional
            The column of weights, as :class:`Task` takes them.

        Returns
        -------
        TaskSet

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"patient": [1, 1, 2], "hours": [0.0, 2.0, 1.0], "conc": [0.0, 8.1, 5.5]})
        >>> TaskSet.from_frame(frame, task="patient", features=["hours"], target="conc")
        TaskSet(2 tasks, 3 rows (1 to 2 a task), feature: hours, target: conc)
        """
        targets = [target] if isinstance(target, str) else name_list(target, "target")
        features = chosen = None if features is None else name_list(features, "features")
        frame = rows_of(frame, "TaskSet.from_frame", "frame")
        require_frame(frame, {"task": task, "target": targets, "sample_weight": sample_weight})
        if features is None:
            features = [name for name in frame.columns if name not in (task, sample_weight, *targets)]
        twice = [name for name in targets if name in features or name in (task, sample_weight)]
        if twice:
            raise TaskError(
                f"column {twice[0]!r} is named by target and by another argument as well; give it one role."
            )
        require_frame(frame, {"features": list(features)})
        refuse_units(frame, [*features, *targets])
        FRAME_COLUMNS.refuse_flags(frame, [task, sample_weight, *targets, *([] if chosen is None else features)])
        refuse_codes(frame, targets)
        y = frame[target] if isinstance(target, str) else frame[targets]
        weight = None if sample_weight is None else frame[sample_weight]
        return cls.from_arrays(frame[list(features)], y, frame[task], sample_weight=weight)

    @classmethod
    def from_mapping(cls, mapping: Mapping[Hashable, tuple[Any, Any]]) -> TaskSet:
        """Make a task of every ``name: (X, y)`` of a mapping.

        Parameters
        ----------
        mapping : mapping of hashable to (X, y)

        Returns
        -------
        TaskSet

        Examples
        --------
        >>> TaskSet.from_mapping({"a": ([[0.0], [1.0]], [1.0, 2.0]), "b": ([[0.5]], [3.0])}).names.tolist()
        ['a', 'b']
        """
        if not isinstance(mapping, Mapping):
            raise TaskError(f"a mapping of names to (X, y) is wanted, got {type(mapping).__name__}.")
        return cls(Task(name, *as_pair(pair, f"task {name!r}")) for name, pair in mapping.items())

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> TaskSet: ...
    def __getitem__(self, index: Any) -> Task | TaskSet:
        if isinstance(index, (int, np.integer)):
            i = self._place(index)
            rows = slice(self.offsets[i], self.offsets[i + 1])
            name = self.names[i : i + 1].tolist()[0]
            weight = None if self.sample_weight is None else self.sample_weight[rows]
            return Task._checked(
                name, self.X[rows], self.y[rows], self.support_of(i), self.feature_names, self.target_names, weight
            )
        chosen = self._chosen(index)
        if chosen.size == 0:
            raise TaskError("no tasks were selected; a TaskSet holds at least one.")
        sizes = self.sizes[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        rows_kept = np.repeat(self.offsets[chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return self._build(
            self.X[rows_kept],
            self.y[rows_kept],
            offsets,
            self.names[chosen],
            self.feature_names,
            self.target_names,
            None if self._support is None else self._support.take(chosen),
            None if self.sample_weight is None else self.sample_weight[rows_kept],
        )

    def _chosen(self, index: Any) -> NDArray[np.intp]:
        """Return the numbers of the tasks that a slice, a mask or a list of numbers selects."""
        try:
            given = index if isinstance(index, slice) else np.asarray(index)
            if not isinstance(given, slice) and given.ndim == 1 and given.size == 0:
                given = slice(0)  # an empty list has no dtype of its own
            chosen = np.arange(len(self))[given]
            if chosen.ndim == 1:
                return chosen
        except (TypeError, ValueError, IndexError, RuntimeError):
            pass
        raise IndexError(
            f"tasks are selected by a number, a slice, a mask or a list of numbers, of {len(self)} tasks; got "
            f"{index!r}."
        )

    def _place(self, index: Any) -> int:
        """Return the number of a task, counted from the end where it is negative."""
        if isinstance(index, np.timedelta64) or not isinstance(index, (int, np.integer)):
            raise TypeError(f"a task is selected by a whole number here; got {index!r}.")
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no task number {index}: the set has {len(self)} tasks.")
        return int(index) % len(self)

    def __iter__(self) -> Iterator[Task]:
        return (self[i] for i in range(len(self)))

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Number of rows of each task, of shape (n_tasks,)."""
        return np.diff(self.offsets)

    def support_of(self, i: int) -> NDArray[np.intp] | None:
        """Return the support rows task number `i` carries, or None."""
        i = self._place(i)
        return None if self._support is None else self._support.of(i)

    def task(self, name: Hashable) -> Task:
        """Return the task called `name`; a KeyError lists the names there are."""
        found = [i for i, other in enumerate(self.names.tolist()) if _equal(other, name)]
        if not found:
            raise KeyError(f"there is no task {name!r}; names begin {self.names[:10].tolist()}")
        return self[found[0]]

    def summary(self) -> pd.DataFrame:
        """Describe every task in one row.

        Returns
        -------
        DataFrame
            Indexed by task name: number of rows and of support rows (missing where the task carries none), mean and
            spread of each target (of words: number of classes, rows of the rarest), range of each feature or channel.

        Examples
        --------
        >>> print(TaskSet([([[0.0], [4.0]], [1.0, 2.0]), ([[0.5]], [3.0])]).summary().to_string())
              n_rows  n_support  y_mean  y_std  y_min  y_max  x0_min  x0_max
        task
        0          2       <NA>     1.5    0.5    1.0    2.0     0.0     4.0
        1          1       <NA>     3.0    0.0    3.0    3.0     0.5     0.5
        """
        return summarise(self)

    def __repr__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self[:20].summary().to_html(float_format='{:.4g}'.format)}"


def _equal(name: Any, other: Any) -> bool:
    """Whether two names are equal; arrays and missing values, whose comparison is no yes or no, are not."""
    equal = name == other
    return isinstance(equal, (bool, np.bool_)) and bool(equal)
