"""The curve and the noise of single rows, with their derivatives, in machine code: a row in each lane of a vector.

The program depends on the equation, the transforms and the noise, and not on how many rows a task has: one serves all
tasks, however long they are, and all fits of an equation.
"""

from __future__ import annotations

import copy
import ctypes
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import HierarchicalModel, Observations
from metaest.jit.codegen.groups import over_groups
from metaest.jit.codegen.task import task_text
from metaest.jit.codegen.vector_math import definitions
from metaest.jit.codegen.writer import Writer
from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import OPERATIONS_PER_CALL, Program
from metaest.jit.llvm.compile import aligned, compile_function, native_vector
from metaest.jit.row_functions import Answers, asked, called_by, with_columns
from metaest.jit.trace.graph import program_of

__all__ = ["CompiledRows", "RowData"]

Array = NDArray[np.float64]

# programs without noise
PLAIN = ("values", "asked")


@dataclass(frozen=True, eq=False)
class RowData:
    """Rows, one after the other.

    Parameters
    ----------
    X : ndarray of shape (features, rows)
    y : ndarray of shape (1, rows)
    weight : ndarray of shape (1, rows) or None
    """

    X: Array
    y: Array
    weight: Array | None = None

    @cached_property
    def places(self) -> list[int]:
        """Where X and y lie in memory."""
        return [self.X.ctypes.data, self.y.ctypes.data]

    @cached_property
    def weights(self) -> Array:
        """The weights of all rows, ones where none are given."""
        return np.ones(self.y.shape) if self.weight is None else self.weight

    @cached_property
    def place_of_weights(self) -> int:
        """Where they lie in memory."""
        return self.weights.ctypes.data

    def cut(self, first: int, last: int) -> RowData:
        """Return the rows from one number up to another."""
        weight = None if self.weight is None else np.ascontiguousarray(self.weight[:, first:last])
        return RowData(np.ascontiguousarray(self.X[:, first:last]), np.ascontiguousarray(self.y[:, first:last]), weight)

    def take(self, rows: NDArray[np.intp]) -> RowData:
        """Return some of the rows, by number."""
        weight = None if self.weight is None else np.ascontiguousarray(self.weight[:, rows])
        return RowData(np.ascontiguousarray(self.X[:, rows]), np.ascontiguousarray(self.y[:, rows]), weight)


class CompiledRows:
    """Programs of rows.

    Parameters
    ----------
    model : HierarchicalModel
        A model whose rows do not depend on one another.
    phi : Tensor of shape (constants,)
        Unconstrained constants at which the equation can be evaluated.
    x : Tensor of shape (features,)
        A row at which it can.
    weighted : bool
        Whether rows have weights.

    Attributes
    ----------
    noise : Noise
        The noise that they hold, apart from its smallest curve.
    weighted : bool
        Whether they take the weights of rows; rows without any then weigh one.
    programs : dict of str to Program
        ``values``, ``losses``, ``first`` and ``second``; ``asked`` in place of ``losses`` with row functions.
    answers : Answers
        The row functions that the equation calls.

    Raises
    ------
    UnsupportedError
        When the equation holds an operation that cannot be compiled.
    UnavailableError
        When LLVM is not installed.
    """

    def __init__(self, model: HierarchicalModel, phi: Tensor, x: Tensor, *, weighted: bool) -> None:
        if model.equation.mode != "rows":
            raise UnsupportedError("the equation's rows see each other")
        self.noise, self.weighted = model.noise, weighted
        self.answers = Answers(called_by(model, phi, x))
        self._asked = self.answers.shape
        programs = self.programs = _programs(model, phi, x, len(self.answers), weighted=weighted)
        vector = native_vector(64)
        called = {name: program for name, program in programs.items() if name != "losses"}
        text, size = _text(called, vector, weighted=weighted)
        self._lanes = vector.lanes
        self._size = size * vector.lanes
        self._calls, self._numbers, self._at_once = {}, {}, {}
        for name, program in called.items():
            given, shared = (2, 1) if name in PLAIN else (3 + weighted, 2)
            pointers = [ctypes.c_void_p] * (given + 1 + shared + 1)
            self._calls[name] = compile_function(text, name, pointers + [ctypes.c_int64] * 2)
            self._numbers[name] = program.outputs[0].size
            self._at_once[name] = vector.lanes * max(1, OPERATIONS_PER_CALL // max(1, program.operations()))
        self._constants = np.array([c for program in called.values() for c in program.constants] or [0.0])
        self._constants_place = self._constants.ctypes.data
        self._memory = threading.local()

    def with_answers(self, answers: Answers) -> CompiledRows | None:
        """Return the same programs with the row functions of another fit; None where they were made for others."""
        if answers.shape != self._asked:
            return None
        if not len(answers):
            return self
        other = copy.copy(self)
        other.answers = answers
        return other

    def without_answers(self) -> CompiledRows:
        """Return the programs alone, to be kept: what row functions hold, such as tables, ends with their fit."""
        if not len(self.answers):
            return self
        other = copy.copy(self)
        other.answers = Answers(())
        return other

    def values(self, phi: Array, data: RowData) -> Array:
        """Return the curve at each row, of shape (rows,), at constants of shape (constants, rows)."""
        [values] = self._call("values", phi, self._answered(phi, data, 1), None)
        return np.asarray(values)

    def first(self, phi: Array, noise: Array, data: RowData) -> Array:
        """Return loss, its slope in the curve, weight, curve, and the curve's slopes, of shape (4 + p, rows).

        `noise` holds the logarithms of the noise constants, and the smallest size of the curve.
        """
        return self._call("first", phi, self._answered(phi, data, 2), noise)

    def second(self, phi: Array, noise: Array, data: RowData) -> Array:
        """Return what `first` does, and second derivatives.

        They are those of the loss and of the weight in the curve (2), the derivatives of loss, slope and weight in each
        noise constant (3 each), and the curve's second derivatives in the constants, the lower half by rows.
        """
        return self._call("second", phi, self._answered(phi, data, 3), noise)

    def _answered(self, phi: Array, data: RowData, n_orders: int) -> RowData:
        """Return rows with what row functions answer at them as further columns."""
        if not len(self.answers):
            return data
        questions = self._call("asked", phi, data, None)
        return replace(data, X=np.concatenate([data.X, self.answers.columns(questions, data, n_orders)]))

    def _call(self, name: str, phi: Array, data: RowData, noise: Array | None) -> Array:
        n = phi.shape[1]
        most = self._at_once[name]
        if n > most:  # Ctrl-C is heard between calls
            parts = [self._call(name, phi[:, i : i + most], data.cut(i, i + most), noise) for i in range(0, n, most)]
            return np.concatenate(parts, axis=1)
        if n < self._lanes:
            few = np.minimum(np.arange(self._lanes), n - 1)
            return self._call(name, phi[:, few], data.take(few), noise)[:, :n]
        memory = self._memory
        if not hasattr(memory, "arena"):  # of each thread its own
            memory.arena = aligned(self._size, np.dtype(np.float64))
            memory.place = memory.arena.ctypes.data
        result = np.empty((self._numbers[name], n))
        phi = np.ascontiguousarray(phi)
        given = data.places if noise is not None else data.places[:1]
        given = [*given, data.place_of_weights] if self.weighted and noise is not None else given
        # torch tells where an array lies in a fifth of the time of numpy's ctypes
        at, to = torch.from_numpy(phi).data_ptr(), torch.from_numpy(result).data_ptr()
        shared = [] if noise is None else [torch.from_numpy(noise).data_ptr()]
        self._calls[name](at, *given, to, *shared, self._constants_place, memory.place, n, 0)
        return result


def _programs(model: HierarchicalModel, at: Tensor, x: Tensor, n_called: int, *, weighted: bool) -> dict[str, Program]:
    """Trace the programs of one row, which calls so many row functions."""
    p, noise, features = len(model.equation.names), model.noise, len(x)

    def curve(phi: Tensor, X: Tensor) -> tuple[list[Tensor], Tensor]:
        leaves = [each.detach().requires_grad_() for each in phi]
        theta = model.transforms.constrain(torch.stack(leaves))
        return leaves, with_columns(lambda X: model.equation(list(theta), X.T), X, features, n_called)

    def values(phi: Tensor, X: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            return [curve(phi, X)[1][None]]

    def terms(f: Tensor, constants: Tensor, X: Tensor, y: Tensor, weight: list[Tensor]) -> tuple[Tensor, ...]:
        rows = Observations(X[:features].T, y, torch.ones_like(y), True, weight[0] if weight else None)
        log_sigma, delta = constants[:-1], constants[-1]
        # the smallest curve differs between data sets: a number of the call, and not of the program
        given = replace(noise, delta=delta).terms(  # type: ignore[arg-type]
            f[None], y, log_sigma, noise.accuracy(rows)
        )
        return given.loss[0], given.slope[0], given.weight.expand_as(y)[0]

    def losses(phi: Tensor, X: Tensor, y: Tensor, *rest: Tensor) -> list[Tensor]:
        *weight, constants = rest
        with torch.enable_grad():
            f = curve(phi, X)[1]
        return [terms(f.detach(), constants, X, y, weight)[0][None]]

    def first(phi: Tensor, X: Tensor, y: Tensor, *rest: Tensor) -> list[Tensor]:
        *weight, constants = rest
        with torch.enable_grad():
            leaves, f = curve(phi, X)
            slopes = _gradient(f, leaves)
        loss, slope, information = terms(f.detach(), constants, X, y, weight)
        return [torch.stack([loss, slope, information, f, *slopes])]

    def second(phi: Tensor, X: Tensor, y: Tensor, *rest: Tensor) -> list[Tensor]:
        *weight, constants = rest
        with torch.enable_grad():
            leaves, f = curve(phi, X)
            slopes = _gradient(f, leaves, again=True)
            bends = [bend for k in range(p) for bend in _gradient(slopes[k], leaves[: k + 1], again=True)]
            height, sigma = f.detach().requires_grad_(), [each.detach().requires_grad_() for each in constants[:-1]]
            loss, slope, information = terms(height, torch.stack([*sigma, constants[-1]]), X, y, weight)
            along = [_gradient(each, [height, *sigma], again=True) for each in (loss, slope, information)]
        rest_of = [along[1][0], along[2][0]]
        for k in range(noise.n_constants):
            rest_of += [part[1 + k].expand_as(f) for part in along]
        return [torch.stack([loss, slope, information, f, *slopes, *rest_of, *bends])]

    number = [torch.full((1, 1), value, dtype=torch.float64) for value in (0.7, 1.3)]
    given = [at.detach().double()[:, None], x.detach().double()[:, None]]

    def with_answers(orders: int) -> list[Tensor]:
        return [given[0], torch.cat([given[1], torch.ones(orders * n_called, 1, dtype=torch.float64)])]

    more = [number[0], *([number[1]] if weighted else []), torch.zeros(noise.n_constants + 1, dtype=torch.float64)]
    alone = [False] * (len(given) + len(more) - 1) + [True]
    programs = {
        "values": program_of(values, with_answers(1), [False, False]),
        "first": program_of(first, [*with_answers(2), *more], alone),
        "second": program_of(second, [*with_answers(3), *more], alone),
    }
    if n_called:
        return {**programs, "asked": program_of(asked(model), given, [False, False])}
    return {**programs, "losses": program_of(losses, [*given, *more], alone)}


def _gradient(value: Tensor, leaves: list[Tensor], *, again: bool = False) -> list[Tensor]:
    """Return the derivatives of a row in each of some numbers of it; zeros where it does not depend on one."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    parts: Any = torch.autograd.grad(value.sum(), leaves, create_graph=again, retain_graph=True, materialize_grads=True)
    return list(parts)


def _text(programs: dict[str, Program], vector: Any, *, weighted: bool) -> tuple[str, int]:
    """Write a function of each program as ``over_groups`` has it; return the vectors of their arena."""
    texts, arena, start = [], 0, 0
    tasks = {name: task_text(program, vector, f"{name}_of_row") for name, program in programs.items()}
    offset = max(task.arena for task in tasks.values())
    for name, program in programs.items():
        sizes = [buffer.size for buffer in program.inputs]
        names = ["phi", "X"] if name in PLAIN else ["phi", "X", "y", *(["weight"] if weighted else [])]
        shared = ["constants"] if name in PLAIN else ["sigma", "constants"]
        w = Writer(vector, block="body")
        constants = w.put(f"getelementptr inbounds {vector.scalar}, ptr %constants, i64 {start}")
        given = [*(f"%{each}_v" for each in names), *([] if name in PLAIN else ["%sigma"]), "%result_v", constants]
        w.do(f"call void @{name}_of_row({', '.join(f'ptr {each}' for each in (*given, '%arena'))})")
        w.do("br label %scattered")
        text, size = over_groups(
            name, dict(zip(names, sizes, strict=False)), {"result": program.outputs[0].size}, shared,
            "\n".join(w.lines), vector, offset,
        )  # fmt: skip
        texts += [tasks[name].text, text]
        arena, start = max(arena, size), start + len(program.constants)
    return definitions(vector) + "declare i64 @llvm.umin.i64(i64, i64)\n" + "\n".join(texts), arena
