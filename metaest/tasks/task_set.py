"""Many tasks, stored as flat arrays plus offsets, so that a million small tasks cost only their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError, filters_kept
from metaest.tasks.arrays import as_features, as_target, require_finite
from metaest.tasks.collect import as_members, as_names, check_alike, column_names, same_name
from metaest.tasks.columns import name_list
from metaest.tasks.frames import read_columns
from metaest.tasks.grouping import place_in_group, sort_by_group
from metaest.tasks.object_rows import holds_objects
from metaest.tasks.reading import MaskedError
from metaest.tasks.record import ReadOnly, read_only
from metaest.tasks.summary import counted, describe_features, describe_targets, feature_columns, target_columns
from metaest.tasks.support import SupportRows
from metaest.tasks.task import Task
from metaest.tasks.weights import as_weights, require_weights

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TaskSet", "TasksLike"]

# whatever a set is made of
TasksLike = Iterable[Task | tuple[Any, Any]] | Mapping[Any, Task | tuple[Any, Any]]


class TaskSet(ReadOnly, Sequence[Task]):
    """A sequence of tasks with the same columns.

    Parameters
    ----------
    tasks : iterable of Task or of (X, y) pairs; mapping of name to (X, y) or Task
        Pairs are named 0, 1, 2, ... by position, those of a mapping by their keys, in its order.
    object_rows : bool, default=False
        Whether the X of every pair is a list of objects of a type of your own, such as graphs: see
        :class:`metaest.tasks.ObjectRows`.

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
    level_labels : dict of str to tuple, or None
        Of columns whose labels became numbers (``levels`` of :meth:`from_frame`): what 0, 1, 2, ... stand for.

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
    level_labels: Mapping[str, tuple[Hashable, ...]] | None = None

    def __init__(self, tasks: TasksLike, *, object_rows: bool = False) -> None:
        members = as_members(tasks, object_rows=object_rows)
        first = members[0]
        for task in members[1:]:
            check_alike(first, task)
        supports = [None if task.support is None else np.asarray(task.support) for task in members]
        self._store(
            X=np.concatenate([task.X for task in members]),
            y=np.concatenate([task.y for task in members]),
            offsets=np.cumsum([0] + [len(task) for task in members]),
            names=as_names([task.name for task in members]),
            feature_names=first.feature_names,
            target_names=first.target_names,
            support=None if all(rows is None for rows in supports) else SupportRows(supports),
            sample_weight=None
            if first.sample_weight is None
            else np.concatenate([np.asarray(task.sample_weight) for task in members]),
            level_labels=first.level_labels,
        )
        name, count = Counter(self.names.tolist()).most_common(1)[0]
        if count > 1:
            raise TaskError(f"task name {name!r} is used {count} times; names must be unique.")

    def _store(
        self,
        *,
        X: NDArray[Any],
        y: NDArray[Any],
        offsets: NDArray[np.intp],
        names: NDArray[Any],
        feature_names: tuple[str, ...] | None,
        target_names: tuple[str, ...] | None,
        support: SupportRows | None,
        sample_weight: NDArray[np.float64] | None,
        level_labels: Mapping[str, tuple[Hashable, ...]] | None = None,
    ) -> None:
        self.X, self.y, self.offsets, self.names = X, y, offsets, names
        self.feature_names, self.target_names, self._support = feature_names, target_names, support
        self.sample_weight = sample_weight
        if level_labels:
            self.level_labels = dict(level_labels)
        for array in (X, y, offsets, names, *([] if sample_weight is None else [sample_weight])):
            read_only(array)

    @classmethod
    def from_checked(
        cls,
        X: NDArray[Any],
        y: NDArray[Any],
        offsets: NDArray[np.intp],
        names: NDArray[Any],
        *,
        feature_names: tuple[str, ...] | None = None,
        target_names: tuple[str, ...] | None = None,
        support: SupportRows | None = None,
        sample_weight: NDArray[np.float64] | None = None,
        level_labels: Mapping[str, tuple[Hashable, ...]] | None = None,
    ) -> TaskSet:
        """Make a set of arrays that were checked before, without copying them; they become read-only.

        Parameters
        ----------
        X, y, offsets, names, feature_names, target_names, sample_weight, level_labels
            As the attributes of a set.
        support : SupportRows, optional
            Support rows that the tasks carry.

        Returns
        -------
        TaskSet
        """
        tasks = cls.__new__(cls)
        tasks._store(
            X=X,
            y=y,
            offsets=offsets,
            names=names,
            feature_names=feature_names,
            target_names=target_names,
            support=support,
            sample_weight=sample_weight,
            level_labels=level_labels,
        )
        return tasks

    def with_rows(self, *, y: NDArray[Any] | None = None, sample_weight: NDArray[np.float64] | None = None) -> TaskSet:
        """Return the same tasks with other targets or weights of the same rows; None keeps what there is.

        Parameters
        ----------
        y : ndarray of shape (n_rows,) or (n_rows, n_targets), optional
        sample_weight : ndarray of shape (n_rows,), optional

        Returns
        -------
        TaskSet
        """
        return self.from_checked(
            self.X,
            self.y if y is None else y,
            self.offsets,
            self.names,
            feature_names=self.feature_names,
            target_names=self.target_names,
            support=self._support,
            sample_weight=self.sample_weight if sample_weight is None else sample_weight,
            level_labels=self.level_labels,
        )

    def with_level_labels(self, labels: Mapping[str, tuple[Hashable, ...]]) -> TaskSet:
        """Return the same tasks with what the numbers in columns of levels stand for.

        Parameters
        ----------
        labels : dict of str to tuple
            By columns: the labels of 0, 1, 2, ...

        Returns
        -------
        TaskSet
        """
        tasks = self.with_rows()
        tasks.level_labels = dict(labels)
        return tasks

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
        columns = None
        if not holds_objects(X_array):
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
        return cls.from_checked(
            X_array, y_array, offsets, names, feature_names=columns, target_names=targets, sample_weight=weight
        )

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
        levels: Sequence[str] = (),
        output: str | None = None,
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
        levels : list of str, optional
            Columns that say to which unit within its task a row belongs, such as a visit or a batch (``levels`` of
            :class:`metaest.EquationRegressor`). They are among the features, or are added after them; labels that
            are no numbers become 0, 1, 2, ..., and `level_labels` says what these stand for.
        output : str, optional
            The column that says what was measured in a row, such as a concentration or an effect (``output`` of
            :class:`metaest.EquationRegressor`); labels that are no numbers become such numbers as well.

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
        coded = levels if output is None else [*name_list(levels, "levels"), output]
        X, y, groups, weight, labels = read_columns(frame, task, features, target, sample_weight, coded)
        tasks = cls.from_arrays(X, y, groups, sample_weight=weight)
        return tasks.with_level_labels(labels) if labels else tasks

    @classmethod
    def from_mapping(cls, mapping: Mapping[Any, Task | tuple[Any, Any]]) -> TaskSet:
        """Make a task of every ``name: (X, y)`` of a mapping; ``TaskSet(mapping)`` does the same.

        Parameters
        ----------
        mapping : mapping of name to (X, y) or Task

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
        return cls(mapping)

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
            return Task.from_checked(
                self.name_of(i),
                self.X[rows],
                self.y[rows],
                support=self.support_of(i),
                feature_names=self.feature_names,
                target_names=self.target_names,
                sample_weight=None if self.sample_weight is None else self.sample_weight[rows],
                level_labels=self.level_labels,
            )
        chosen = self._chosen(index)
        if chosen.size == 0:
            raise TaskError("no tasks were selected; a TaskSet holds at least one.")
        sizes = self.sizes[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        rows_kept = np.repeat(self.offsets[chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return self.from_checked(
            self.X[rows_kept],
            self.y[rows_kept],
            offsets,
            self.names[chosen],
            feature_names=self.feature_names,
            target_names=self.target_names,
            support=None if self._support is None else self._support.take(chosen),
            sample_weight=None if self.sample_weight is None else self.sample_weight[rows_kept],
            level_labels=self.level_labels,
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

    def name_of(self, i: int) -> Hashable:
        """Return the name of task number `i` as it was given; `names` may hold it as a number of numpy."""
        i = self._place(i)
        name: Hashable = self.names[i : i + 1].tolist()[0]
        return name

    def place_of(self, row: int) -> tuple[int, int]:
        """Return the number of the task that row `row` of `X` belongs to, and the number of the row within it."""
        i = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return i, int(row) - int(self.offsets[i])

    @property
    def carries_support(self) -> bool:
        """True where some tasks carry support rows."""
        return self._support is not None

    def support_of(self, i: int) -> NDArray[np.intp] | None:
        """Return the support rows task number `i` carries, or None."""
        i = self._place(i)
        return None if self._support is None else self._support.of(i)

    def task(self, name: Hashable) -> Task:
        """Return the task called `name`; a KeyError lists the names there are."""
        for i, other in enumerate(self.names.tolist()):
            if same_name(other, name):
                return self[i]
        raise KeyError(f"there is no task {name!r}; names begin {self.names[:10].tolist()}")

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
        import pandas as pd

        support = np.full(len(self), -1) if self._support is None else self._support.sizes
        n_support = pd.array(support, dtype="Int64")
        n_support[support < 0] = pd.NA
        columns = {
            "n_rows": self.sizes,
            "n_support": n_support,
            **target_columns(self.y, self.offsets, self.target_names),
            **feature_columns(self.X, self.offsets, self.feature_names),
        }
        return pd.DataFrame(columns, index=pd.Index(self.names, name="task", tupleize_cols=False))

    def __repr__(self) -> str:
        low, high = self.sizes.min(), self.sizes.max()
        rows = f"{counted(len(self.X), 'row')} ({low if low == high else f'{low} to {high}'} a task)"
        features = describe_features(self.X, self.feature_names)
        targets = describe_targets(self.y, self.target_names)
        return f"TaskSet({counted(len(self), 'task')}, {rows}, {features}, {targets})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self[:20].summary().to_html(float_format='{:.4g}'.format)}"
