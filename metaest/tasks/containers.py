"""Containers of polars, pyarrow and torch as those of pandas and numpy."""

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from metaest.exceptions import TaskError

__all__ = ["hides", "plain", "spelled_out"]

_NATIVE = (np.ndarray, np.generic, pd.Series, pd.DataFrame, pd.Index, list, tuple, float, int, str, type(None))


def plain(values: Any, where: str = "values") -> Any:
    """Return a container of polars, pyarrow or torch as one of pandas or numpy; anything else is returned as it is.

    Parameters
    ----------
    values : object
    where : str
        How the error message begins: what the values are called.

    Returns
    -------
    object
        Missing values stay missing; dates keep their time zone.

    Raises
    ------
    TaskError
        When a frame is lazy, or a tensor is sparse, nested, quantized or complex, requires a gradient, or is without
        values.
    """
    if isinstance(values, _NATIVE):
        return values
    if isinstance(values, torch.Tensor):
        return _array_of(values, where)
    if hasattr(values, "to_pylist") and not hasattr(values, "chunks"):
        import pyarrow  # type: ignore[import-untyped]

        values = pyarrow.chunked_array([values]) if isinstance(values, pyarrow.Array) else values
    native = nw.from_native(values, allow_series=True, pass_through=True)
    if isinstance(native, nw.LazyFrame):
        raise TaskError(f"{where} is a lazy frame, whose rows are not there yet; use collect().")
    if isinstance(native, nw.Series):
        return _as_series(native)
    if isinstance(native, nw.DataFrame):
        return pd.DataFrame({name: _as_series(native[name]) for name in native.columns})
    return values


def hides(values: Any) -> bool:
    """Tell whether a list holds tensors or masked arrays at any depth: numpy would take the numbers that they hide."""
    kinds = set(map(type, values))
    if any(issubclass(kind, (np.ma.MaskedArray, torch.Tensor)) for kind in kinds):
        return True
    nested = any(issubclass(kind, (list, tuple)) for kind in kinds)
    return nested and any(hides(value) for value in values if isinstance(value, (list, tuple)))


def spelled_out(values: Any, where: str) -> Any:
    """Return a list with its masked values, at any depth, as None, and its tensors as arrays."""
    if isinstance(values, np.ma.MaskedArray):
        return values.tolist()
    if isinstance(values, torch.Tensor):
        return _array_of(values, where)
    if isinstance(values, (list, tuple)) and hides(values):
        return [spelled_out(value, where) for value in values]
    return values


def _array_of(values: torch.Tensor, where: str) -> NDArray[Any]:
    """Return the numbers of a tensor; a half-precision one is widened to float32."""
    begin = f"{where} is a torch tensor"
    if torch._C._functorch.is_functorch_wrapped_tensor(values):
        raise TaskError(f"{begin} inside torch.func (vmap, grad or another transform); call metaest outside of it.")
    if values.is_nested or values.layout != torch.strided:
        how = "nested" if values.is_nested else str(values.layout).removeprefix("torch.").replace("_", " ")
        dense = "to_padded_tensor(0)" if values.is_nested else "to_dense()"
        raise TaskError(f"{begin} ({how}), and a dense one is wanted; use {dense}.")
    if values.is_meta:
        raise TaskError(f"{begin} on the device 'meta', which holds no values.")
    if values.is_quantized:
        raise TaskError(f"{begin} of quantized numbers; use dequantize().")
    if values.is_complex():
        raise TaskError(f"{where} holds complex numbers, real ones are wanted. Complex data not supported.")
    if values.requires_grad:
        raise TaskError(f"{begin} that carries gradients, and none flow through metaest; use detach().")
    if values.is_floating_point() and values.dtype not in (torch.float64, torch.float32, torch.float16):
        values = values.float()
    return values.cpu().resolve_conj().resolve_neg().numpy()


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
