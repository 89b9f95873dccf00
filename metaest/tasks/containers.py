"""Containers of polars, pyarrow and torch as those of pandas and numpy."""

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from metaest.exceptions import TaskError

__all__ = ["plain"]

_NATIVE = (np.ndarray, np.generic, pd.Series, pd.DataFrame, pd.Index, list, tuple, float, int, str, type(None))


def plain(values: Any, where: str = "values") -> Any:
    """Return a container of polars, pyarrow or torch as one of pandas or numpy; anything else is returned as it is.

    Parameters
    ----------
    values : object
    where : str
        How the error message begins.

    Returns
    -------
    object
        Missing values stay missing; dates keep their time zone.

    Raises
    ------
    TaskError
        When a frame is lazy, or a tensor is sparse or requires a gradient.
    """
    if isinstance(values, _NATIVE):
        return values
    if hasattr(values, "detach") and hasattr(values, "layout"):
        return _array_of(values, where)
    if hasattr(values, "to_pylist") and not hasattr(values, "chunks"):
        import pyarrow  # type: ignore[import-untyped]

        values = pyarrow.chunked_array([values]) if isinstance(values, pyarrow.Array) else values
    native = nw.from_native(values, allow_series=True, pass_through=True)
    if isinstance(native, nw.LazyFrame):
        raise TaskError(f"{where}: the frame is lazy; use collect().")
    if isinstance(native, nw.Series):
        return _as_series(native)
    if isinstance(native, nw.DataFrame):
        return pd.DataFrame({name: _as_series(native[name]) for name in native.columns})
    return values


def _array_of(tensor: Any, where: str) -> np.ndarray[Any, Any]:
    if str(tensor.layout) != "torch.strided":
        raise TaskError(f"{where}: a sparse tensor was passed; use to_dense().")
    if tensor.requires_grad:
        raise TaskError(f"{where}: a tensor that requires a gradient was passed; use detach().")
    if tensor.is_floating_point():
        tensor = tensor.double()  # numpy has no bfloat16
    array: np.ndarray[Any, Any] = tensor.cpu().resolve_conj().numpy()
    return array


def _as_series(column: Any) -> "pd.Series[Any]":
    dtype, name = column.dtype, column.name or None
    if dtype.is_numeric() and dtype != nw.Decimal:
        return pd.Series(column.to_numpy(), name=name)
    if dtype == nw.Boolean:
        return pd.Series(column.to_list(), dtype="boolean", name=name)
    if dtype == nw.Categorical or dtype == nw.Enum:
        return pd.Series(column.to_list(), dtype="category", name=name)
    if dtype == nw.Datetime or dtype == nw.Duration or dtype == nw.Date:
        stored = pd.Series(column.to_numpy(), name=name)
        zone = getattr(dtype, "time_zone", None)
        if zone is not None and stored.dtype.kind == "M" and stored.dt.tz is None:
            return stored.dt.tz_localize("UTC").dt.tz_convert(zone)
        return stored
    return pd.Series(column.to_list(), dtype=object, name=name)
