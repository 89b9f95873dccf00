"""A function of one task, worked out for many tasks in lanes."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest.lanes.function_text import function_text
from metaest.lanes.memory import aligned
from metaest.lanes.native import compiled, kind_of_machine
from metaest.lanes.trace import graph_of

__all__ = ["LaneFunction"]


class LaneFunction:
    """A function of tensors, for many tasks at once.

    Parameters
    ----------
    function : callable
        From tensors of one task to a list of tensors.
    examples : sequence of Tensor
        Of one task; their shapes and precision are those of every call.
    shared : sequence of bool
        Which arguments are the same for all tasks.

    Raises
    ------
    UnsupportedError
        When the function holds an operation that lanes do not know.
    UnavailableError
        When LLVM is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from metaest.lanes import LaneFunction
    >>> slope, x = torch.tensor(2.0), torch.zeros(3)
    >>> line = LaneFunction(lambda slope, x: [slope * x], [slope, x], shared=[True, False])
    >>> [y] = line([np.float32(2.0), np.ones((5, 3), dtype="float32")], 5)
    >>> y.shape, y[0, 0]
    ((5, 3), 2.0)
    """

    def __init__(
        self, function: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], shared: Sequence[bool]
    ) -> None:
        program, self.shapes = graph_of(function, examples, shared)
        self.dtype = np.dtype(str(examples[0].dtype).removeprefix("torch."))
        kind = kind_of_machine(8 * self.dtype.itemsize)
        text, size = function_text(program, kind)
        pointers = len(program.inputs) + len(program.outputs) + 2
        self._call = compiled(text, "many", [ctypes.c_void_p] * pointers + [ctypes.c_int64])
        self._constants = np.array(program.constants or [0.0], dtype=self.dtype)
        self._memory = threading.local()
        self._size = size
        self.shared = list(shared)

    def __call__(self, arguments: Sequence[Any], n_tasks: int) -> list[NDArray[Any]]:
        """Work it out.

        Parameters
        ----------
        arguments : sequence of array-like
            Those of each task with one more axis in front.
        n_tasks : int, at least 1

        Returns
        -------
        list of ndarray, each of shape (n_tasks, ...)
        """
        given = [np.ascontiguousarray(own, dtype=self.dtype) for own in arguments]
        results = [np.empty((n_tasks, math.prod(shape)), dtype=self.dtype) for shape in self.shapes]
        if not hasattr(self._memory, "arena"):  # of each thread its own
            self._memory.arena = aligned(self._size, self.dtype)
        arrays = (*given, *results, self._constants, self._memory.arena)
        self._call(*(own.ctypes.data for own in arrays), n_tasks)
        return [own.reshape(n_tasks, *shape) for own, shape in zip(results, self.shapes, strict=True)]
