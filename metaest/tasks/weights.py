"""Weights of rows (1/variance): checks of `sample_weight`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.reading import as_floats, rows_of
from metaest.tasks.times import time_kind

__all__ = ["as_weights", "require_weights"]


def as_weights(sample_weight: Any, n_rows: int, where: str, name: str = "sample_weight") -> NDArray[np.float64]:
    """Return weights as floats, one a row; values are checked by :func:`require_weights`.

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,)
        Taken by position, as y is; an index is not looked at.
    n_rows : int
    where : str
        How the error message begins.
    name : str, default="sample_weight"
        What the error message calls the numbers.

    Raises
    ------
    TaskError
        When they are not numbers, or of another shape.
    """
    begin = f"{where}: {name} cannot be read as numbers, one a row"
    values = rows_of(sample_weight, where, name)
    if isinstance(values, pd.Series):
        if isinstance(values.dtype, pd.CategoricalDtype) or time_kind(values):
            raise TaskError(f"{begin} (it holds {values.dtype}).")
        objects = values.dtype.kind not in "fiub"
        values = values.to_numpy(dtype=object) if objects else values.to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        given = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(f"{begin} (its entries have different lengths, or are no numbers).") from error
    weight: NDArray[np.float64]
    if given.dtype.kind in "OU":  # of a list, numpy makes words of the numbers among words
        given = np.asarray(values, dtype=object)
        weight = as_floats(given, begin, lambda column: f"column {column}")
    elif given.dtype.kind in "fiub":
        weight = np.array(given, dtype=np.float64)
    else:
        raise TaskError(f"{begin} (it holds {given.dtype}).")
    if weight.shape != (n_rows,):
        raise TaskError(f"{where}: {name} has shape {weight.shape}; one number a row, ({n_rows},), is wanted.")
    return weight


def require_weights(weight: NDArray[np.float64], locate: Callable[[int], tuple[str, int]]) -> None:
    """Raise a TaskError at the first weight that is missing, negative, infinite, or so small that 1/weight overflows.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
    locate : callable
        Row number of `weight` -> (how the message begins, row number within the task).
    """
    # 1 / weight must be finite, too
    bad = np.flatnonzero(~(np.isfinite(weight) & ((weight >= np.finfo(np.float64).tiny) | (weight == 0))))
    if len(bad):
        where, row = locate(int(bad[0]))
        raise TaskError(
            f"{where}: sample_weight is {weight[bad[0]]:g} in row {row}; a weight is 1 / variance: finite, and at "
            "least 0 (0 leaves the row out)."
        )
