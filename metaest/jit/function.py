"""A function of one task, compiled and vectorised over many tasks."""

from __future__ import annotations

import ctypes
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest.jit.codegen.function import function_text
from metaest.jit.ir import OPERATIONS_PER_CALL
from metaest.jit.llvm.compile import aligned, compile_function, native_vector
from metaest.jit.trace.graph import graph_of

__all__ = ["CompiledFunction", "padded_rows"]


class CompiledFunction:
    """A function of tensors, for many tasks at once.

    Parameters
    ----------
    function : callable
        From tensors of one task to a list of tensors.
    examples : sequence of Tensor
        Of one task; their shapes and precision are those of every call.
    shared : sequence of bool
        True for arguments that are the same for all tasks.

    Raises
    ------
    UnsupportedError
        When the function holds an operation that cannot be compiled.
    UnavailableError
        When LLVM is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from metaest.jit import CompiledFunction
    >>> slope, x = torch.tensor(2.0), torch.zeros(3)
    >>> line = CompiledFunction(lambda slope, x: [slope * x], [slope, x], shared=[True, False])
    >>> [y] = line([np.float32(2.0), np.ones((5, 3), dtype="float32")], 5)
    >>> y.shape, float(y[0, 0])
    ((5, 3), 2.0)
    """

    def __init__(
        self, function: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], shared: Sequence[bool]
    ) -> None:
        program, self.shapes = graph_of(function, examples, shared)
        self.dtype = np.dtype(str(examples[0].dtype).removeprefix("torch."))
        vector = native_vector(8 * self.dtype.itemsize)
        text, size = function_text(program, vector)
        pointers = len(program.inputs) + len(program.outputs) + 2
        self._call = compile_function(text, "many", [ctypes.c_void_p] * pointers + [ctypes.c_int64])
        self._constants = np.array(program.constants or [0.0], dtype=self.dtype)
        self._ends = [*itertools.pairwise([0, *itertools.accumulate(math.prod(shape) for shape in self.shapes)])]
        self._shared = list(shared)
        self._memory = threading.local()
        self.fix([])
        self._size = size
        self._at_once = vector.lanes * max(1, OPERATIONS_PER_CALL // max(1, program.operations()))

    def __call__(self, arguments: Sequence[Any], n_tasks: int) -> list[NDArray[Any]]:
        """Evaluate the function for many tasks.

        Parameters
        ----------
        arguments : sequence of array-like
            Arguments that are not fixed; those that differ by task have the tasks on a first axis.
        n_tasks : int, at least 1

        Returns
        -------
        list of ndarray, each of shape (n_tasks, ...)
        """
        # numpy is slow at returning an address: all results go into one array
        given = [np.ascontiguousarray(argument, dtype=self.dtype) for argument in arguments]
        result = np.empty(n_tasks * self._ends[-1][1], dtype=self.dtype)
        memory = self._memory
        if not hasattr(memory, "arena"):  # of each thread its own
            memory.arena = aligned(self._size, self.dtype)
            memory.place = memory.arena.ctypes.data
        place, size = result.ctypes.data, self.dtype.itemsize
        shared = self._shared[len(self._fixed) :]
        starts = [array.ctypes.data for array in given]
        steps = [0 if one else array.nbytes // n_tasks for array, one in zip(given, shared, strict=True)]
        for first in range(0, n_tasks, self._at_once):
            count = min(self._at_once, n_tasks - first)
            places = [start + first * step for start, step in zip(starts, steps, strict=True)]
            out = [place + size * (n_tasks * low + first * (high - low)) for low, high in self._ends]
            self._call(*self._fixed_places, *places, *out, self._constants.ctypes.data, memory.place, count)
        return [
            result[n_tasks * low : n_tasks * high].reshape(n_tasks, *shape)
            for (low, high), shape in zip(self._ends, self.shapes, strict=True)
        ]

    def fix(self, arguments: Sequence[Any]) -> None:
        """Set the first arguments for all later calls, which then pass only the others."""
        self._fixed = [np.ascontiguousarray(argument, dtype=self.dtype) for argument in arguments]
        self._fixed_places = [argument.ctypes.data for argument in self._fixed]


def padded_rows(n: int) -> int:
    """Return the number of rows to which n rows are padded: one of few sizes, less than 1.5 n."""
    if n <= 6:
        return max(n, 1)
    size: int = 2 ** (n - 1).bit_length()
    return 3 * size // 4 if n <= 3 * size // 4 else size
