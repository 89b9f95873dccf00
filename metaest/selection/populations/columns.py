"""PartColumns: which columns of X each part of an average reads, and X as each part takes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.equations.checks import arranged
from metaest.estimators.inputs import as_rows, is_empty
from metaest.exceptions import TaskError
from metaest.tasks import TaskSet
from metaest.tasks.reading import column_names_of, rows_of
from metaest.tasks.support import SupportRows

__all__ = ["PartColumns", "chosen_columns"]


@dataclass(frozen=True)
class PartColumns:
    """The columns of X that the parts of an average read.

    Attributes
    ----------
    parts : tuple of str
        Names of the parts.
    reads : tuple of (tuple of str), or None
        The columns that each part reads, in its order; None where the parts were fitted without names of columns, and
        all read X as it is.
    columns : tuple of str
        All of them, each once: the order of the columns of an array. Empty where they have no names.
    n : int
        Their number.
    """

    parts: tuple[str, ...]
    reads: tuple[tuple[str, ...], ...] | None
    columns: tuple[str, ...]
    n: int

    @classmethod
    def of(cls, fitted_on: Mapping[str, tuple[Any, int]], given: Sequence[str] | None = None) -> "PartColumns":
        """Return the columns of parts.

        Parameters
        ----------
        fitted_on : dict of str to (sequence of str or None, int)
            Names and number of the columns that each part was fitted on, by the name of the part.
        given : sequence of str, optional
            Columns of the tasks, whose order is taken; by default that of the parts.

        Raises
        ------
        ValueError
            When some parts have names of columns and others not, or numbers of columns without names differ.
        """
        parts, first = tuple(fitted_on), next(iter(fitted_on))
        unnamed = [name for name, (names, _) in fitted_on.items() if names is None]
        if len(unnamed) == len(parts):
            for name, (_, n) in fitted_on.items():
                if n != fitted_on[first][1]:
                    raise ValueError(
                        f"estimators: {first!r} was fitted on {fitted_on[first][1]} columns without names, {name!r} "
                        f"on {n}; fit them on data frames, so that each finds its columns."
                    )
            return cls(parts, None, (), fitted_on[first][1])
        if unnamed:
            other = next(name for name in parts if name not in unnamed)
            raise ValueError(
                f"estimators: {unnamed[0]!r} was fitted on columns without names, and {other!r} on "
                f"{list(fitted_on[other][0])}; fit both on data frames."
            )
        reads = tuple(tuple(names) for names, _ in fitted_on.values())
        every = dict.fromkeys(column for names in reads for column in names)
        ordered = [column for column in given or () if column in every]
        columns = (*ordered, *(column for column in every if column not in ordered))
        return cls(parts, reads, columns, len(columns))

    def rows(self, X: Any, where: str) -> tuple[NDArray[Any], tuple[str, ...]]:
        """Return the rows of X in the order of `columns`, with further columns after them, and the names of all.

        Raises
        ------
        TaskError
            When X lacks a column that a part reads; the message names both.
        """
        X = rows_of(X, where, "X") if X is not None else X
        if is_empty(X):
            return np.empty((0, self.n)), self.columns
        rows, _, names = as_rows(X, None, where)
        if rows.ndim != 2:
            raise TaskError(f"{where}: rows of X have shape {rows.shape[1:]}; columns are wanted.")
        if self.reads is None or names is None:
            self._require_width(rows.shape[1], where)
            return rows, self.columns
        order = self._order(names, where)
        return rows[:, order], tuple(names[j] for j in order)

    def split(self, X: Any, where: str) -> list[Any]:
        """Return the rows of X as each part takes them."""
        if self.reads is None:
            return [X for _ in self.parts]
        rows, names = self.rows(X, where)
        if not len(rows):  # what is empty has a form of its own
            return [X if column_names_of(X) is None else [] for _ in self.parts]
        return self.split_rows(rows, names)

    def split_rows(self, rows: NDArray[Any], names: tuple[str, ...]) -> list[Any]:
        """Return rows with these columns as each part takes them."""
        if self.reads is None:
            return [rows for _ in self.parts]
        return [pd.DataFrame(rows[:, chosen], columns=[names[j] for j in chosen]) for chosen in self._of_parts(names)]

    def arranged(self, tasks: TaskSet, where: str) -> TaskSet:
        """Return tasks with their columns in the order of `columns`, and further ones after them.

        Raises
        ------
        TaskError
            When they lack a column that a part reads.
        """
        if tasks.X.ndim != 2:
            raise TaskError(f"{where}: rows of X have shape {tasks.X.shape[1:]}; columns are wanted.")
        if self.reads is None or tasks.feature_names is None:
            self._require_width(tasks.X.shape[1], where)
            return tasks
        return chosen_columns(tasks, self._order(tasks.feature_names, where), tasks.feature_names)

    def split_tasks(self, tasks: TaskSet, where: str) -> list[TaskSet]:
        """Return tasks as each part takes them."""
        tasks = self.arranged(tasks, where)
        if self.reads is None:
            return [tasks for _ in self.parts]
        names = tasks.feature_names or self.columns
        return [chosen_columns(tasks, chosen, names) for chosen in self._of_parts(names)]

    def completed(self, X: Any, equations: Sequence[Any], where: str) -> Any:
        """Return X with the columns that the parts do without, since they read others in their place.

        An equation may read columns of a data frame that its fit did not have, such as numbered doses in place of one
        (see `arranged`); what it makes of them has the columns of its fit.

        Parameters
        ----------
        X : array-like or data frame
        equations : sequence of callable
            Of the parts, in their order.
        where : str
            How an error message begins.
        """
        X = rows_of(X, where, "X") if X is not None else X
        for wanted, equation in zip(self.reads or (), equations, strict=self.reads is not None):
            names = column_names_of(X) or ()
            lacking = [column for column in wanted if column not in names]
            if not names or not lacking:
                continue
            rows, further = arranged(
                wanted, equation, X[[c for c in names if c in wanted or c not in self.columns]], where
            )
            if further is not None:
                X = X.assign(**{column: rows[column] for column in lacking})
        return X

    def split_covariates(self, given: Any) -> list[Any]:
        """Return the covariates of a task without rows for each part, which takes those among its columns.

        Raises
        ------
        TaskError
            When one is no column of any part.
        """
        if self.reads is None or not isinstance(given, Mapping):
            return [given for _ in self.parts]
        for label in given:
            if label not in self.columns:
                raise TaskError(
                    f"adapt: covariates has {label!r}, which no part of the average reads; they read "
                    f"{list(self.columns)}."
                )
        return [{label: value for label, value in given.items() if label in names} for names in self.reads]

    def _require_width(self, width: int, where: str) -> None:
        """Raise a TaskError where columns without names are not as many as the parts read."""
        if width != self.n:
            named = f": {list(self.columns)}, in this order; a data frame may have them in any" * bool(self.columns)
            raise TaskError(
                f"{where}: X has {width} columns without names, and the parts of the average read {self.n}{named}."
            )

    def _order(self, names: Sequence[str], where: str) -> list[int]:
        """Return the numbers of columns in the order of `columns`, and of further ones after them."""
        for part, wanted in zip(self.parts, self.reads or (), strict=True):
            lacking = next((column for column in wanted if column not in names), None)
            if lacking is not None:
                raise TaskError(
                    f"{where}: X lacks the column {lacking!r}, which the part {part!r} reads; X has {list(names)}."
                )
        place = {name: j for j, name in enumerate(names)}
        further = [j for j, name in enumerate(names) if name not in self.columns]
        return [place[column] for column in self.columns] + further

    def _of_parts(self, names: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the columns of each part: those of its fit, and those that no part was fitted on."""
        place = {name: j for j, name in enumerate(names)}
        further = [j for j, name in enumerate(names) if name not in self.columns]
        return [[*(place[column] for column in wanted), *further] for wanted in self.reads or ()]


def chosen_columns(tasks: TaskSet, chosen: Sequence[int], names: Sequence[str]) -> TaskSet:
    """Return tasks with some of their columns, by number, in this order."""
    support = SupportRows([tasks.support_of(i) for i in range(len(tasks))]) if tasks.carries_support else None
    return TaskSet.from_checked(
        np.ascontiguousarray(tasks.X[:, list(chosen)]),
        tasks.y,
        tasks.offsets,
        tasks.names,
        feature_names=tuple(names[j] for j in chosen),
        target_names=tasks.target_names,
        support=support,
        sample_weight=tasks.sample_weight,
    )
