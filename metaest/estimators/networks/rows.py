"""Rows of tasks as tensors: numbers as they are, and objects by the function that the user gives for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.exceptions import TaskError

__all__ = ["CollateFn", "check_collated_settings", "rows_as_tensor"]

CollateFn = Callable[[list[Any]], Tensor]


def rows_as_tensor(
    X: NDArray[Any], collate_fn: CollateFn | None = None, place: Callable[[int], str] = "row {}".format
) -> Tensor:
    """Return rows as a tensor with the rows along its first axes; networks turn rows into tensors here alone.

    Parameters
    ----------
    X : ndarray of shape (rows, ...), or of object of shape (rows,) or (tasks, rows)
        A row that occurs several times is collated once.
    collate_fn : callable, optional
        A list of rows -> their tensor; without it X holds numbers.
    place : callable
        Row number -> how the message begins.

    Returns
    -------
    Tensor
        Of objects in float32 or float64.

    Raises
    ------
    TaskError
        When the function fails, or returns anything but a floating tensor of one entry a row.
    """
    if collate_fn is None:
        return torch.tensor(X)
    numbers: dict[int, int] = {}
    rows: list[Any] = []
    firsts: list[int] = []
    index = []
    for i, row in enumerate(X.ravel()):
        number = numbers.setdefault(id(row), len(rows))
        if number == len(rows):
            rows.append(row)
            firsts.append(i)
        index.append(number)
    try:
        tensor = collate_fn(rows)
    except Exception as error:
        where = place(firsts[_failing(collate_fn, rows)])
        raise TaskError(f"{where}: collate_fn raised {type(error).__name__}: {error}") from error
    _check_collated(tensor, len(rows), place(0))
    tensor = tensor.detach()
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    if len(rows) < len(index) or X.ndim != 1:
        tensor = tensor[torch.tensor(index, device=tensor.device)].reshape(*X.shape, *tensor.shape[1:])
    return tensor


def _failing(collate_fn: CollateFn, rows: list[Any]) -> int:
    """Return the number of the first row that cannot be collated with row 0; 0 where each can."""
    for number, row in enumerate(rows):
        try:
            collate_fn([rows[0], row])
        except Exception:
            return number
    return 0


def _check_collated(tensor: Any, n_rows: int, where: str) -> None:
    """Raise a TaskError where a collated value is no floating tensor of one entry a row."""
    wanted = f"a floating torch.Tensor of shape ({n_rows}, ...) is wanted for {n_rows} row{'s' * (n_rows != 1)}"
    if not isinstance(tensor, Tensor):
        raise TaskError(f"{where}: collate_fn returned {type(tensor).__name__}; {wanted}.")
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise TaskError(f"{where}: collate_fn returned a nested or sparse tensor; {wanted}.")
    if not tensor.is_floating_point():
        raise TaskError(f"{where}: collate_fn returned a tensor of {tensor.dtype}; {wanted}: call .float() on it.")
    if tensor.ndim < 2 or len(tensor) != n_rows or not tensor.numel():
        raise TaskError(f"{where}: collate_fn returned a tensor of shape {tuple(tensor.shape)}; {wanted}.")


def check_collated_settings(module: Any, standardize: Any, context_dim: int) -> None:
    """Raise a ValueError where settings do not go with rows that a function turns into tensors."""
    if module is None:
        raise ValueError("collate_fn needs module=, a network that takes the tensors it returns.")
    if not isinstance(standardize, (bool, np.bool_)):
        raise ValueError(
            f"standardize={standardize!r} names columns, and rows that collate_fn turns into tensors have none; with "
            "True the targets alone are standardised."
        )
    if context_dim:
        raise ValueError(f"context_dim={context_dim} adds columns to rows, and rows for collate_fn have none; set 0.")
