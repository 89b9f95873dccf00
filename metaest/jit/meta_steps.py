"""Compiled meta-steps, which the outer loop calls in place of torch's autograd."""

from __future__ import annotations

import ctypes
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import Episodes, Params, Rows
from metaest.functional.outer import AdamW, EagerSteps, State, require_finite
from metaest.jit.codegen.meta_steps import BETA1, BETA2, EPSILON, EpisodeShapes, RowsShape, steps_text
from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import OPERATIONS_PER_CALL, Program
from metaest.jit.llvm.compile import aligned, compile_function, native_vector
from metaest.jit.sampling import EpisodeDraws
from metaest.jit.trace.graph import graph_of

__all__ = ["CompiledMetaSteps", "Stage", "trace_meta_loss"]

# most meta-steps in one call of machine code
AT_ONCE = 256
# most operations on vectors in one meta-step, some seconds: above, torch takes it, whose calls can be interrupted
MOST_OPERATIONS = 4_000_000_000
# largest difference of the first meta-gradient from torch's, relative to its norm, by bits of precision
TOLERANCE = {32: 1e-3, 64: 1e-7}
_logger = logging.getLogger("metaest.compile")


class Stage(NamedTuple):
    """Meta-steps that differentiate the same, one after the other.

    Attributes
    ----------
    program : Program
        Program of the meta-loss of one task and its gradient.
    steps : range
    weights : callable or None
        A step -> the weights of the losses after each inner step, where the program takes them.
    """

    program: Program
    steps: range
    weights: Callable[[int], Sequence[Any]] | None = None


class _Code(NamedTuple):
    """Machine code of a stage, and what it reads and writes beside the state.

    Attributes
    ----------
    call : callable
    constants, arena : ndarray
    """

    call: Callable[..., int]
    constants: NDArray[Any]
    arena: NDArray[Any]


def trace_meta_loss(
    losses: Callable[[Params, Episodes, Sequence[Tensor] | None], Tensor],
    params: Params,
    shapes: EpisodeShapes,
    n_weights: int = 0,
) -> Program:
    """Trace the meta-loss of one task and its gradient.

    Parameters
    ----------
    losses : callable
        Parameters, the episodes of one task and the weights of the losses after each inner step -> its loss, of shape
        (1,).
    params : dict of Tensor
    shapes : EpisodeShapes
    n_weights : int, default=0
        How many weights there are; with 0, None takes their place.

    Raises
    ------
    UnsupportedError
        When torch cannot trace it, or it holds an operation that cannot be compiled.
    """
    names, like = list(params), next(iter(params.values()))
    n_support = 2 + shapes.support.masked

    def step(*arguments: Tensor) -> list[Tensor]:
        task_params = {name: value.detach().requires_grad_() for name, value in zip(names, arguments, strict=False)}
        rest = arguments[len(names) :]
        support = _rows(rest[:n_support], shapes.support)
        query = _rows(rest[n_support:], shapes.query)
        weights = rest[-1].unbind() if n_weights else None
        with torch.enable_grad():
            loss = losses(task_params, Episodes(support, query), weights)
            gradients = torch.autograd.grad(loss.sum(), list(task_params.values()), materialize_grads=True)
        return [loss.detach(), *gradients]

    examples = [value.detach().clone() for value in params.values()]
    generator = torch.Generator().manual_seed(0)
    for side in (shapes.support, shapes.query):
        examples.append(torch.randn(side.rows, *shapes.features, generator=generator, dtype=torch.float32).to(like))
        examples.append(torch.randn(side.rows, shapes.targets, generator=generator, dtype=torch.float32).to(like))
        examples += [torch.ones(side.rows).to(like)] if side.masked else []
    shared = [True] * len(names) + [False] * (len(examples) - len(names))
    if n_weights:
        examples.append(torch.full((n_weights,), 1 / n_weights).to(like))
        shared.append(True)
    return graph_of(step, examples, shared)[0]


class CompiledMetaSteps:
    """Meta-steps in machine code, vectorised over tasks.

    Parameters
    ----------
    stages : sequence of Stage
        All meta-steps, in order.
    settings : AdamW
    params : dict of Tensor
        Initial parameters; not modified.
    shapes : EpisodeShapes
    draw : callable
        Function from a number of steps to their EpisodeDraws.
    losses : callable
        The same meta-loss in torch: parameters, and the number and the episodes of a meta-step -> one loss for each
        task. It checks the first step of each stage, and repeats steps that are not finite.
    most_memory : int, optional
        Most bytes of memory of one pass.
    most_at_once : int, optional
        Most meta-steps in one call.
    n_tasks : int, default=1
        Tasks in a meta-step: the more, the fewer steps in one call.

    Attributes
    ----------
    at_once : int
    instead : EagerSteps or None
        Steps by torch, after machine code and torch gave different meta-gradients.

    Raises
    ------
    UnsupportedError
        When a pass needs more memory.
    UnavailableError
        When LLVM is not installed.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        settings: AdamW,
        params: Params,
        shapes: EpisodeShapes,
        draw: Callable[[int], EpisodeDraws],
        losses: Callable[[Params, tuple[int, Episodes]], Tensor],
        most_memory: int | None = None,
        most_at_once: int = AT_ONCE,
        n_tasks: int = 1,
    ) -> None:
        self.settings = settings
        self.draw = draw
        self.losses = losses
        self.taken = 0
        self.stages = stages
        self.instead: EagerSteps[tuple[int, Episodes]] | None = None
        self._like = {name: value.detach().clone() for name, value in params.items()}
        number = np.dtype(str(next(iter(params.values())).dtype).removeprefix("torch."))
        vector = native_vector(8 * number.itemsize)
        self.lanes = vector.lanes
        work = max(1, *(stage.program.operations() for stage in stages)) * -(-n_tasks // vector.lanes)
        self.at_once = max(1, min(AT_ONCE, most_at_once, OPERATIONS_PER_CALL // work))
        if most_memory is not None and work > MOST_OPERATIONS:
            raise UnsupportedError("a meta-step is one call, which no interrupt would end for seconds")
        sizes = [value.numel() for value in params.values()]
        self._longest = (ctypes.c_float if vector.bits == 32 else ctypes.c_double)(
            math.inf if settings.max_grad_norm is None else settings.max_grad_norm
        )
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        self._codes: list[_Code] = []
        for program, steps, weights in stages:
            made = steps_text(program, vector, sizes, shapes, 0 if weights is None else len(weights(steps[0])))
            memory = made.arena * vector.lanes * number.itemsize
            if most_memory is not None and memory > most_memory:
                raise UnsupportedError(f"a pass works in {memory / 2**20:.0f} MB, more than a processor keeps at hand")
            call = compile_function(made.text, "steps", [pointer] * 16 + [count, count, type(self._longest)], count)
            constants = np.array(program.constants or [0.0], dtype=number)
            self._codes.append(_Code(call, constants, aligned(made.arena * vector.lanes, number)))
        self._theta = aligned(sum(sizes), number)
        self._theta[:] = np.concatenate([value.detach().cpu().numpy().reshape(-1) for value in params.values()])
        self._first, self._second, self._gradient = (aligned(sum(sizes), number) for _ in range(3))
        self._decay = aligned(sum(sizes), number)
        self._decay[:] = np.repeat([settings.decay(name) for name in params], sizes)
        self._losses = np.zeros(AT_ONCE, dtype=number)

    def advance(self, count: int) -> list[float]:
        """Take so many steps; return the meta-loss of each."""
        if self.instead is not None:
            return self.instead.advance(count)
        drawn = self.draw(count)
        losses: list[float] = []
        if self.taken == 0 and not self._agrees(drawn):
            self._give_up(drawn)
            return self.advance(count)
        while len(losses) < count:
            stage = self._stage()
            asked = min(count - len(losses), self.stages[stage].steps.stop - self.taken)
            done = self._run(stage, drawn, len(losses), asked)
            losses += self._losses[:done].tolist()
            self.taken += done
            if done < asked:  # a step was not finite: torch repeats it, or raises
                losses.append(self._eager_step(drawn.part(len(losses), 1)))
        return losses

    def _stage(self) -> int:
        """Return the number of the stage of the next step."""
        return next(i for i, stage in enumerate(self.stages) if self.taken < stage.steps.stop)

    def params(self) -> Params:
        """Return a copy of the parameters reached."""
        if self.instead is not None:
            return self.instead.params()
        return self._as_params(self._theta.copy())

    def state(self) -> State:
        """Return a copy of the state on which the next steps depend."""
        if self.instead is not None:
            return {"instead": self.instead.state()}
        flat = {"theta": self._theta, "first": self._first, "second": self._second}
        return {"taken": self.taken, **{name: torch.from_numpy(vector.copy()) for name, vector in flat.items()}}

    def restore(self, state: State) -> None:
        """Continue from what `state` returned."""
        if "instead" in state:
            self.instead = self._eager(deque())
            self.instead.restore(state["instead"])
            return
        self.taken = state["taken"]
        for name, vector in (("theta", self._theta), ("first", self._first), ("second", self._second)):
            vector[:] = state[name].numpy()

    def _run(self, stage: int, drawn: EpisodeDraws, first: int, count: int) -> int:
        """Take steps in machine code; return after how many it came to one that is not finite."""
        n_tasks = drawn.support.shape[1]
        groups = -(-n_tasks // self.lanes)
        X, y = (np.ascontiguousarray(tensor.detach().numpy()) for tensor in drawn.rows)
        padded = [_padded_to_lanes(rows, groups * self.lanes) for rows in drawn.part(first, count)[:4]]
        weights = aligned(groups * self.lanes, self._theta.dtype)
        weights[:n_tasks] = 1 / n_tasks
        numbers = range(self.taken, self.taken + count)
        steps, inner = np.array(numbers), self.stages[stage].weights
        rates = [self.settings.meta_lr * self.settings.rate(step) for step in numbers]
        schedule = np.column_stack([rates, 1 - BETA1 ** (steps + 1.0), 1 - BETA2 ** (steps + 1.0)])
        if inner is not None:
            schedule = np.column_stack([schedule, [inner(step) for step in numbers]])
        schedule = np.ascontiguousarray(schedule, dtype=self._theta.dtype)
        support, support_count, query, query_count = padded
        code = self._codes[stage]
        arrays = (self._theta, self._first, self._second, self._decay, self._gradient, X, y, support,
                  support_count, query, query_count, weights, schedule, self._losses, code.constants,
                  code.arena)  # fmt: skip
        return int(code.call(*(array.ctypes.data for array in arrays), count, groups, self._longest))

    def _agrees(self, drawn: EpisodeDraws) -> bool:
        """Tell whether the first meta-gradient of each stage, at the first weights, agrees with torch's."""
        try:
            for stage, (_, steps, _) in enumerate(self.stages):
                self.taken = steps[0]
                if not self._stage_agrees(stage, drawn):
                    return False
        finally:
            self.taken = 0
        return True

    def _stage_agrees(self, stage: int, drawn: EpisodeDraws) -> bool:
        before = [vector.copy() for vector in (self._theta, self._first, self._second)]
        done = self._run(stage, drawn, 0, 1)
        for vector, kept in zip((self._theta, self._first, self._second), before, strict=True):
            vector[:] = kept
        loss, gradient = self._in_torch(drawn.part(0, 1))
        if not done and not (math.isfinite(loss) and np.isfinite(gradient).all()):
            return True
        tolerance = TOLERANCE[8 * self._theta.itemsize]
        away = float(np.linalg.norm(self._gradient - gradient)) / max(float(np.linalg.norm(gradient)), 1e-12)
        return away <= tolerance and math.isclose(float(self._losses[0]), loss, rel_tol=tolerance)

    def _give_up(self, drawn: EpisodeDraws) -> None:
        """Leave the steps to torch, from the first one on."""
        _logger.warning(
            "meta-steps are not compiled: machine code and torch give different meta-gradients; the module may depend "
            "on more than its parameters and rows"
        )
        self.instead = self._eager(deque(drawn.part(step, 1) for step in range(len(drawn.support))))

    def _eager(self, left: deque[EpisodeDraws]) -> EagerSteps[tuple[int, Episodes]]:
        """Return the steps by torch, from draws that are left and then new ones."""

        def draw() -> tuple[int, Episodes]:
            return steps.taken - 1, self._episodes(left.popleft() if left else self.draw(1))

        steps = EagerSteps(self.settings, self.params(), draw, self.losses)
        return steps

    def _in_torch(self, drawn: EpisodeDraws) -> tuple[float, NDArray[Any]]:
        """Return loss and meta-gradient of one step, by torch."""
        params = {name: value.requires_grad_() for name, value in self.params().items()}
        losses = self.losses(params, (self.taken, self._episodes(drawn))).mean()
        gradients = torch.autograd.grad(losses, list(params.values()), materialize_grads=True)
        return float(losses.detach()), np.concatenate([gradient.detach().numpy().reshape(-1) for gradient in gradients])

    def _eager_step(self, drawn: EpisodeDraws) -> float:
        """Take one step by torch's gradient, or raise a DivergenceError."""
        loss, gradient = self._in_torch(drawn)
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
        require_finite(loss, norm, self.taken + 1)
        if self.settings.max_grad_norm is not None and norm > self.settings.max_grad_norm:
            gradient = gradient * (self.settings.max_grad_norm / norm)
        rate = self.settings.meta_lr * self.settings.rate(self.taken)
        self.taken += 1
        self._first += (1 - BETA1) * (gradient - self._first)
        self._second += (1 - BETA2) * (gradient**2 - self._second)
        below = np.sqrt(self._second / (1 - BETA2**self.taken)) + EPSILON
        self._theta *= 1 - rate * self._decay
        self._theta -= rate * (self._first / (1 - BETA1**self.taken)) / below
        return loss

    def _episodes(self, drawn: EpisodeDraws) -> Episodes:
        return Episodes(
            _side(drawn.rows, drawn.support[0], drawn.support_count[0]),
            _side(drawn.rows, drawn.query[0], drawn.query_count[0]),
        )

    def _as_params(self, flat: NDArray[Any]) -> Params:
        params, first = {}, 0
        for name, like in self._like.items():
            params[name] = torch.from_numpy(flat[first : first + like.numel()]).reshape(like.shape).clone()
            first += like.numel()
        return params


def _side(rows: tuple[Tensor, Tensor], numbers: NDArray[np.int32], count: NDArray[np.int32]) -> Rows:
    X, y = rows
    index = torch.from_numpy(numbers.astype(np.int64))
    mask = torch.from_numpy(np.arange(numbers.shape[1]) < count[:, None])
    return Rows(X[index], y[index], mask.to(X.dtype))


def _padded_to_lanes(rows: NDArray[np.int32], lanes: int) -> NDArray[np.int32]:
    """Pad the tasks of each step to whole groups of lanes, by repeating the last task."""
    if rows.shape[1] < lanes:
        rows = np.concatenate([rows, np.repeat(rows[:, -1:], lanes - rows.shape[1], axis=1)], axis=1)
    return np.ascontiguousarray(rows, dtype=np.int32)


def _rows(arguments: tuple[Tensor, ...], side: RowsShape) -> Rows:
    X, y = arguments[:2]
    mask = arguments[2] if side.masked else torch.ones(side.rows, dtype=X.dtype)
    return Rows(X[None], y[None], mask[None])
