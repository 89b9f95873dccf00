"""The columns that an estimator was fitted on: what it remembers of them, and the check of rows against them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from metaest.estimators.inputs import as_rows, check_targets, is_empty
from metaest.exceptions import TaskError
from metaest.tasks import TaskSet
from metaest.tasks.arguments import is_whole
from metaest.tasks.object_rows import holds_objects
from metaest.tasks.reading import column_names_of, rows_of

__all__ = ["Columns", "Fitted", "chosen_columns", "takes_objects"]


class Fitted(Protocol):
    """A fitted estimator, or a predictor adapted from it, with the attributes that scikit-learn gives its own.

    Beside the number of columns these are ``feature_names_in_``, where the fit had named columns, and
    ``feature_shape_``, where rows may be images.
    """

    @property
    def n_features_in_(self) -> int | None:
        """Number of columns of the fit; None where rows are objects."""


@dataclass(frozen=True)
class Columns:
    """What a fitted estimator knows of its columns; the attributes are the estimator's, under scikit-learn's names.

    Parameters
    ----------
    fitted : estimator or adapted predictor
    """

    fitted: Fitted

    @property
    def names(self) -> NDArray[Any] | None:
        """The column names of the fit, where it had some."""
        return getattr(self.fitted, "feature_names_in_", None)

    @property
    def objects(self) -> bool:
        """Whether rows are objects for a collate_fn."""
        return takes_objects(self.fitted)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of a row: the number of columns, or the shape of an image."""
        shape: tuple[int | None, ...] = getattr(self.fitted, "feature_shape_", (self.fitted.n_features_in_,))
        return shape

    def remember_names(self, names: Any) -> None:
        """Set ``feature_names_in_``, or take it away where there are no names now."""
        self._set("feature_names_in_", None if names is None else np.array(names, dtype=object))

    def remember_range(self, X: NDArray[Any]) -> None:
        """Set ``feature_range_``, smallest and largest value of each column; take it away where there are images.

        Both are rounded outwards to two digits, so that they are no row's exact values.
        """
        if X.ndim != 2:
            self._set("feature_range_", None)
            return
        ends = ((X.min(axis=0), ROUND_FLOOR), (X.max(axis=0), ROUND_CEILING))
        rounded = [[_two_digits(float(value), way) for value in end] for end, way in ends]
        self._set("feature_range_", np.array(rounded))

    def remember_stated_range(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Set ``feature_range_`` to ranges stated for columns by their names, NaN for the others."""
        names = () if self.names is None else self.names
        self._set("feature_range_", np.array([ranges.get(name, (np.nan, np.nan)) for name in names]).reshape(-1, 2).T)

    def remember_shape(self, X: NDArray[Any]) -> None:
        """Set ``n_features_in_`` and ``feature_shape_``, the shape of a row; take them away where rows are objects."""
        objects = holds_objects(X)
        self._set("n_features_in_", None if objects else X.shape[1])
        self._set("feature_shape_", None if objects else X.shape[1:])

    def _set(self, name: str, value: Any) -> None:
        """Set an attribute of the estimator, or take it away."""
        if value is not None:
            setattr(self.fitted, name, value)
        elif hasattr(self.fitted, name):
            delattr(self.fitted, name)

    def check(self, X: Any, shape: tuple[int, ...], where: str) -> None:
        """Raise where columns differ from those of the fit.

        Arrays without names, such as ``task.X``, are taken in column order, also where the fit had names.

        Parameters
        ----------
        X : array-like, data frame or TaskSet
        shape : tuple of int
            Shape of a row of X: its number of columns, or the shape of an image.
        where : str
            Name of the calling method, which the error message adds to scikit-learn's.

        Raises
        ------
        TaskError
            When the number of columns, their names or their order differs.
        """
        if self.objects:
            return
        names = X.feature_names if isinstance(X, TaskSet) else column_names_of(X)
        name = type(self.fitted).__name__
        try:
            if names is not None and self.names is not None and list(names) == self.names.tolist():
                return
            if names is not None:
                header = pd.DataFrame(np.zeros((1, len(names))), columns=list(names))
                validate_data(self.fitted, header, reset=False, skip_check_array=True)
            elif shape != (wanted := self.shape):
                if len(shape) + len(wanted) > 2:
                    moved = len(shape) == 3 and (shape[2], *shape[:2]) == wanted
                    remedy = "; the channels come first: X.transpose(0, 3, 1, 2)" * moved
                    raise ValueError(f"rows of X have shape {shape}, but {name} is expecting {wanted}{remedy}")
                raise ValueError(f"X has {shape[0]} features, but {name} is expecting {wanted[0]} features as input")
        except ValueError as error:
            raise TaskError(f"{error} ({where})") from error

    def rows(self, X: Any, where: str) -> Any:
        """Return the rows of X, checked; error messages begin with `where`."""
        rows, _, _ = as_rows(X, None, where, object_rows=self.objects)
        self.check(X, rows.shape[1:], where)
        return rows

    def rows_with_targets(self, X: Any, y: Any, where: str, *, labels: bool = False) -> tuple[Any, Any]:
        """Return the rows of X and their targets, which may be labels, checked."""
        rows, target, _ = as_rows(X, y, where, labels=labels, object_rows=self.objects)
        self.check(X, rows.shape[1:], where)
        return rows, target

    def no_rows(self, X: Any, y: Any, where: str) -> NDArray[Any] | None:
        """Return an X without rows where neither X nor y has one, and None where there are rows."""
        if not (is_empty(X) and is_empty(y)):
            return None
        if self.objects:
            return np.empty(0, dtype=object)
        shape = np.shape(rows_of(X, where, "X"))
        if len(shape) > 1:
            self.check(X, shape[1:], where)
        return np.empty((0, *self.shape))  # type: ignore[arg-type]

    def support_rows(
        self, X: Any, y: Any, where: str, *, single_target: bool, n_outputs: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return rows and targets of one new task, checked; there may be none."""
        if y is None:
            raise TaskError(f"{where}: y is missing; the observed values of the task's rows are wanted.")
        X, y = X if self.objects else rows_of(X, where, "X"), rows_of(y, where, "y")
        rows = self.no_rows(X, y, where)
        if rows is not None:
            target = np.empty((0, n_outputs)) if len(np.shape(y)) < 2 else np.asarray(y, dtype=np.float64)
        else:
            rows, target = self.rows_with_targets(X, y, where)
        return rows, check_targets(target, single_target, n_outputs, where)


def chosen_columns(setting: Any, argument: str, names: Sequence[str] | None, n_columns: int) -> list[int]:
    """Return the numbers of columns that a setting names or numbers, in its order.

    Parameters
    ----------
    setting : sequence of str or int
    argument : str
        The name of the setting, with which error messages begin.
    names : sequence of str or None
        Names of the columns.
    n_columns : int

    Raises
    ------
    ValueError
        When a name or number does not belong to a column, or occurs twice.
    """
    chosen: list[int] = []
    for column in np.asarray(setting, dtype=object).ravel().tolist():
        by_number = is_whole(column)
        place = column if by_number else names.index(column) if names is not None and column in names else -1
        if not 0 <= place < n_columns:
            there_are = f"the columns are {list(names)}" if names is not None else f"X has {n_columns} unnamed columns"
            raise ValueError(
                f"{argument}: there is no column {column!r}; {there_are}, and numbers go from 0 to {n_columns - 1}."
            )
        if place in chosen:
            raise ValueError(f"{argument}: column {column!r} occurs twice.")
        chosen.append(int(place))
    return chosen


def takes_objects(model: Any) -> bool:
    """Tell whether the rows of a fitted model, or of a predictor adapted from it, are objects for a collate_fn."""
    return getattr(getattr(model, "_network", None), "collate_fn", None) is not None


def _two_digits(value: float, way: str) -> float:
    """Return a number rounded to two digits, upwards or downwards."""
    if not value:
        return 0.0
    exact = Decimal(repr(value))
    return float(exact.quantize(Decimal((0, (1,), exact.adjusted() - 1)), way))
