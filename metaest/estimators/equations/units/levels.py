"""Units within tasks: the columns of X that say where a row belongs, and tasks taken apart into their units.

A level is a column of X, such as a visit or a batch; the outermost level is the task itself. The rows of an innermost
unit share their constants, so that it stands where a task stands without levels. Labels hold within the unit outside:
visit 1 of one patient is another unit than visit 1 of the next.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.columns import chosen_columns
from metaest.estimators.equations.settings import OUTERMOST, FitSettings
from metaest.exceptions import TaskError
from metaest.population.parameter import check_names
from metaest.tasks import TaskSet
from metaest.tasks.level_labels import coded, described, unlike
from metaest.tasks.reading import is_missing, rows_of

__all__ = ["LevelColumns", "UnitPlaces", "Units", "Variation", "require_label"]


class UnitPlaces(NamedTuple):
    """Where the units of some tasks lie.

    Attributes
    ----------
    paths : list of list of tuple
        By level, from the outermost inwards: of each unit its task's number and the numbers of its levels so far.
    parents : tuple of integer Tensor of shape (units,)
        As :class:`~metaest.functional.equations.levels.Tree` takes them.
    """

    paths: list[list[tuple[float, ...]]]
    parents: tuple[Tensor, ...]

    @classmethod
    def of(cls, innermost: Sequence[tuple[float, ...]]) -> UnitPlaces:
        """Return the places of innermost units, given in an order that keeps the units of a unit together."""
        paths: list[list[tuple[float, ...]]] = [list(innermost)]
        parents: list[Tensor] = []
        for length in reversed(range(1, len(innermost[0]))):
            outer = list(dict.fromkeys(path[:length] for path in paths[0]))
            number = {path: k for k, path in enumerate(outer)}
            parents.insert(0, torch.tensor([number[path[:length]] for path in paths[0]], dtype=torch.int64))
            paths.insert(0, outer)
        return cls(paths, tuple(parents))


class Units(NamedTuple):
    """Tasks taken apart into their innermost units.

    Attributes
    ----------
    tasks : TaskSet
        The units, named by their task and labels, without the columns of levels.
    places : UnitPlaces
    order : ndarray of shape (n_rows,)
        The rows of the tasks in the order of the units.
    """

    tasks: TaskSet
    places: UnitPlaces
    order: NDArray[np.intp]


@dataclass(frozen=True)
class Variation:
    """Which constants vary at each level, from the outermost inwards.

    Attributes
    ----------
    names : tuple of str
        Of the levels; the first is the task.
    random : tuple of tuple of int
        Constants that vary, by level.
    diagonal : tuple of bool
        Whether they vary independently, by level.
    """

    names: tuple[str, ...]
    random: tuple[tuple[int, ...], ...]
    diagonal: tuple[bool, ...]

    @classmethod
    def of(cls, settings: FitSettings, constants: Mapping[str, Any]) -> Variation:
        """Read the settings.

        Raises
        ------
        ValueError, TypeError
            When a level names no constant, or one that there is not.
        """
        names, table = list(constants), dict(constants)
        random = [check_names(settings.random, table, "random")]
        for level, given in (settings.levels or {}).items():
            chosen = check_names([given] if isinstance(given, str) else given, table, f"levels[{level!r}]")
            if not chosen:
                raise ValueError(f"levels: no constant varies at the level {level!r}; name one, or leave it out.")
            random.append(chosen)
        places = tuple(tuple(names.index(name) for name in chosen) for chosen in random)
        labels = (OUTERMOST, *map(str, settings.levels or {}))
        return cls(labels, places, tuple(settings.is_diagonal(label) for label in labels))

    @property
    def union(self) -> tuple[int, ...]:
        """Constants that vary at any level, in the order of the equation."""
        return tuple(sorted({k for chosen in self.random for k in chosen}))


@dataclass(frozen=True)
class LevelColumns:
    """The columns of X that hold levels, from the outer to the inner.

    Attributes
    ----------
    labels : tuple of str or int
        The user's names for the columns.
    columns : tuple of int
        Their numbers.
    books : tuple of tuple
        Of each column what 0, 1, 2, ... stand for; empty where the column holds numbers.
    """

    labels: tuple[Hashable, ...]
    columns: tuple[int, ...]
    books: tuple[tuple[Hashable, ...], ...]

    @classmethod
    def learn(cls, levels: Mapping[Any, Any], tasks: TaskSet) -> LevelColumns:
        """Find the columns.

        Raises
        ------
        ValueError
            When a column is unknown, or none is left for the equation.
        """
        n, told = tasks.X.shape[1], tasks.level_labels or {}
        columns = chosen_columns(list(levels), "levels", tasks.feature_names, n)
        if len(columns) == n:
            raise ValueError("levels: all columns of X are levels; the equation needs a column of its own.")
        return cls(tuple(levels), tuple(columns), tuple(tuple(told.get(level, ())) for level in levels))

    @property
    def labels_by_name(self) -> dict[Any, tuple[Hashable, ...]]:
        """What numbers stand for, by columns whose units have labels."""
        return {level: book for level, book in zip(self.labels, self.books, strict=True) if book}

    def rest(self, values: Sequence[Any]) -> list[Any]:
        """Return what belongs to the columns that are no levels."""
        return [value for j, value in enumerate(values) if j not in self.columns]

    def place_in_rest(self, column: int, argument: str) -> int:
        """Return the number of a column of X among those that are no levels."""
        if column in self.columns:
            raise ValueError(f"{argument}: column {column} is a level; another one is wanted.")
        return column - sum(other < column for other in self.columns)

    def label(self, level: int, code: float) -> Hashable:
        """Return the label of a unit of a level, counted from 0 for the outermost of the columns."""
        book = self.books[level]
        if book and code == int(code) and 0 <= code < len(book):
            return book[int(code)]
        return int(code) if code == int(code) else code

    def path_of(self, labels: Sequence[Any], where: str) -> tuple[float, ...]:
        """Return the numbers of labels, outer to inner."""
        if len(labels) != len(self.columns):
            raise ValueError(f"{where}: one label for each of {list(self.labels)} is wanted, got {tuple(labels)}.")
        codes = []
        for book, label in zip(self.books, labels, strict=True):
            if book and label in book:
                codes.append(float(book.index(label)))
            elif isinstance(label, (int, float, np.number)) and not book:
                codes.append(float(label))
            else:
                raise ValueError(f"{where}: there is no unit {tuple(labels)}.")
        return tuple(codes)

    def extended(self, X: Any, where: str) -> tuple[LevelColumns, Any]:
        """Return these columns with the labels of a data frame added, and its rows with numbers for labels.

        Anything else than a data frame of labels is returned as it is.
        """
        X = rows_of(X, where, "X") if X is not None else X
        if not isinstance(X, pd.DataFrame) or not len(X):
            return self, X
        given = [level for level in self.labels if level in X.columns]
        X, told = coded(X, given, where, dict(zip(self.labels, self.books, strict=True)))
        books = tuple(told.get(level, book) for level, book in zip(self.labels, self.books, strict=True))
        return replace(self, books=books), X

    def recoded(self, tasks: TaskSet) -> tuple[LevelColumns, TaskSet]:
        """Return these columns with the labels of tasks added, and the tasks with the numbers of these columns.

        Raises
        ------
        TaskError
            When a level has words in one and numbers in the other.
        """
        told = tasks.level_labels or {}
        books, X = list(self.books), tasks.X
        for place, (level, column) in enumerate(zip(self.labels, self.columns, strict=True)):
            theirs, mine = told.get(level, ()), list(self.books[place])  # type: ignore[call-overload]
            if tuple(theirs) == tuple(mine):
                continue
            if not theirs:
                self._check_without_labels(place, tasks)
                continue
            other = unlike(theirs, mine)
            if other is not None:
                raise TaskError(
                    f"the level {level!r} has the label {other[1]} in these tasks, and had {described(mine)} at the "
                    "fit; write it as those are."
                )
            if mine:
                mine += [label for label in theirs if label not in set(mine)]
                books[place] = tuple(mine)
            of_theirs: Any = [mine.index(label) for label in theirs] if mine else theirs
            X = X.astype(np.float64) if X is tasks.X else X
            X[:, column] = np.array(of_theirs, dtype=np.float64)[X[:, column].astype(np.intp)]
        if X is tasks.X:
            return self, tasks
        support = [tasks.support_of(i) for i in range(len(tasks))] if tasks.carries_support else None
        told_again: dict[Any, tuple[Hashable, ...]] = {**self._other_labels(tasks)}
        told_again |= dict(zip(self.labels, books, strict=True))
        again = TaskSet.from_checked(
            X,
            tasks.y,
            tasks.offsets,
            tasks.names,
            feature_names=tasks.feature_names,
            target_names=tasks.target_names,
            support=None if support is None else tasks._support,
            sample_weight=tasks.sample_weight,
            level_labels=told_again,
        )
        return replace(self, books=tuple(books)), again

    def _check_without_labels(self, place: int, tasks: TaskSet) -> None:
        """Refuse tasks whose columns have names, and whose level has numbers where the fit had words."""
        if tasks.feature_names is not None:
            level = self.labels[place]
            raise TaskError(
                f"the level {level!r} has numbers in these tasks, and had {described(self.books[place])} at the fit; "
                f"write them as those are, and read the tasks by TaskSet.from_frame(..., levels=[{level!r}])."
            )

    def _other_labels(self, tasks: TaskSet) -> dict[str, tuple[Hashable, ...]]:
        """Return what the numbers of other columns stand for, such as that of outputs."""
        return {name: labels for name, labels in (tasks.level_labels or {}).items() if name not in self.labels}

    def split(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return the numbers of the units of each row, (rows, levels), and the rows without them."""
        return X[:, list(self.columns)].astype(np.float64), np.delete(X, list(self.columns), axis=1)

    def units(self, tasks: TaskSet, where: str = "") -> Units:
        """Take tasks apart into their innermost units, sorted within each task.

        Raises
        ------
        TaskError
            When a column with labels holds a number that stands for none.
        """
        codes, X = self.split(tasks.X)
        self._check_codes(codes, tasks, where)
        owner = np.repeat(np.arange(len(tasks)), tasks.sizes)
        innermost, member = np.unique(np.column_stack([owner, codes]), axis=0, return_inverse=True)
        order = np.argsort(member.reshape(-1), kind="stable")
        paths = [tuple(path) for path in innermost.tolist()]
        names = np.empty(len(paths), dtype=object)
        for k, (task, *path) in enumerate(paths):
            names[k] = (tasks.name_of(int(task)), *(self.label(level, code) for level, code in enumerate(path)))
        columns = None if tasks.feature_names is None else tuple(self.rest(tasks.feature_names))
        units = TaskSet.from_checked(
            X[order],
            tasks.y[order],
            np.concatenate([[0], np.cumsum(np.bincount(member.reshape(-1), minlength=len(paths)))]),
            names,
            feature_names=columns,
            target_names=tasks.target_names,
            sample_weight=None if tasks.sample_weight is None else tasks.sample_weight[order],
            level_labels=self._other_labels(tasks) or None,
        )
        return Units(units, UnitPlaces.of(paths), order)

    def _check_codes(self, codes: NDArray[np.float64], tasks: TaskSet, where: str) -> None:
        """Raise a TaskError where a number stands for no label."""
        for level, book in enumerate(self.books):
            if not book:
                continue
            column = codes[:, level]
            bad = np.flatnonzero((column != np.floor(column)) | (column < 0) | (column >= len(book)))
            if len(bad):
                i, row = tasks.place_of(int(bad[0]))
                begin = f"{where}: " if where else ""
                raise TaskError(
                    f"{begin}task {tasks.name_of(i)!r}: the level {self.labels[level]!r} is {column[bad[0]]:g} in row "
                    f"{row}, but its labels have the numbers 0 to {len(book) - 1}; pass a data frame with the labels, "
                    "or tasks of TaskSet.from_frame(..., levels=)."
                )


def coded_rows(levels: Sequence[Any], X: Any) -> tuple[Any, dict[Any, tuple[Hashable, ...]]]:
    """Return flat rows with numbers for labels of these columns, and what they stand for; anything else as it is."""
    if not levels or not isinstance(X, pd.DataFrame):
        return X, {}
    return coded(X, [level for level in levels if level in X.columns], "fit")


def require_label(label: Any, words: bool, what: str) -> None:
    """Raise a ValueError where a value cannot be the label of a unit: of words and dates, or of numbers."""
    # a difference of times is one of numpy's whole numbers
    number = isinstance(label, (int, float, np.integer, np.floating)) and not isinstance(label, (bool, np.timedelta64))
    if words and isinstance(label, Hashable) and pd.api.types.is_scalar(label) and not is_missing(label):
        return
    if not words and number and np.isfinite(label):
        return
    wanted = "a word, a number or a date" if words else "a finite number, as in X,"
    raise ValueError(f"{what} is {label!r:.60}; {wanted} is wanted.")
