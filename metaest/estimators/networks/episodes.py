"""From tasks to padded tensors: episodes of a meta-step, their random state, and how many fit into memory."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.networks.adaptation import Adaptation, Differentiated, Schedule
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.network import Network
from metaest.exceptions import DivergenceError, OvershootWarning, TaskError, warn
from metaest.functional import (
    BatchForward,
    Episodes,
    InnerSolver,
    ModuleForward,
    Params,
    Rows,
    looped,
    mapped,
    repeat_for_tasks,
    solve_damped,
)
from metaest.functional.generator import Stream, undrawn
from metaest.functional.outer import State
from metaest.jit import EpisodeDraws, EpisodeShapes
from metaest.tasks import Split, TaskSet
from metaest.tasks.object_rows import holds_objects

__all__ = [
    "LEAST_FOR_STATISTICS",
    "Batches",
    "CompilerDraws",
    "EpisodeSampler",
    "KeptWithDraws",
    "MetaDraws",
    "adapted_at_once",
    "batch_forward",
    "numbered_draws",
    "saved_bytes",
    "tasks_at_once",
]


# meta-steps that are drawn at once for the compiler
MOST_STEPS = 256


class CompilerDraws(NamedTuple):
    """What the compiler reads in place of episodes.

    Attributes
    ----------
    shapes : EpisodeShapes
        The shapes of all episodes.
    draw : callable
        A number of meta-steps -> their episodes.
    n_tasks : int
        Tasks a meta-step.
    most_at_once : int
        Meta-steps that may be drawn at once.
    """

    shapes: EpisodeShapes
    draw: Callable[[int], EpisodeDraws]
    n_tasks: int
    most_at_once: int = MOST_STEPS


# times that parameters of a task are in memory while it adapts: before and after a step, their gradient, the result
COPIES = 4
# tasks adapted at once
CHUNK = 256
# numbers in their rows: 160 MB in double precision
CHUNK_VALUES = 20_000_000
# support rows of which a standard deviation can be taken
LEAST_FOR_STATISTICS = 2


def batch_forward(network: Network, batching: str) -> BatchForward:
    """Return the batched forward pass of the recorded kind."""
    return mapped(network.forward) if batching == "vmap" else looped(network.forward)


class Batches(Iterator[NDArray[np.intp]]):
    """Task numbers of one meta-step after the other; every task comes once before any comes again.

    Parameters
    ----------
    n_tasks, size : int
        Tasks, and tasks a meta-step; all of them where there are fewer.
    rng : Generator

    Attributes
    ----------
    queue : ndarray of int
        Tasks left from the last round; with the state of `rng`, all that the next batches depend on.
    """

    def __init__(self, n_tasks: int, size: int, rng: np.random.Generator) -> None:
        self.n_tasks, self.size, self.rng = n_tasks, size, rng
        self.queue = np.empty(0, dtype=np.intp)

    def __next__(self) -> NDArray[np.intp]:
        """Return the next batch."""
        batch: NDArray[np.intp] = self.some(1)[0]
        return batch

    def some(self, most: int) -> NDArray[np.intp]:
        """Return the next batches, of shape (batches, tasks): as many as come without a draw after the first."""
        if self.size >= self.n_tasks:
            return np.broadcast_to(np.arange(self.n_tasks), (most, self.n_tasks))
        while len(self.queue) < self.size:
            # a task left from the last round may not meet itself in one batch
            fresh = self.rng.permutation(self.n_tasks)
            left = np.zeros(self.n_tasks, dtype=bool)
            left[self.queue] = True
            met = left[fresh]
            self.queue = np.concatenate([self.queue, fresh[~met], fresh[met]])
        count = min(most, len(self.queue) // self.size)
        batches, self.queue = self.queue[: count * self.size], self.queue[count * self.size :]
        return batches.reshape(count, self.size)


class EpisodeSampler(ABC):
    """Tasks, standardised, from which episodes are drawn; a subclass knows what their targets are.

    Parameters
    ----------
    network : Network
    tasks : TaskSet
    adaptation : Adaptation
    rng : Generator
    """

    def __init__(self, network: Network, tasks: TaskSet, adaptation: Adaptation, rng: np.random.Generator) -> None:
        self.network = network
        self.tasks = tasks
        self.adaptation = adaptation
        self.rng = rng
        network.require_codes(tasks)
        self._X = network.features(tasks.X, network.dtype, partial(row_of_task, tasks))

    @abstractmethod
    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Split the chosen tasks anew."""

    @abstractmethod
    def draws(self, batches: Batches) -> CompilerDraws:
        """Return what the compiler reads in place of `episodes`."""

    def batches(self, size: int) -> Batches:
        """Task numbers of one meta-step after the other; every task comes once before any comes again."""
        return Batches(len(self.tasks), size, self.rng)

    def rows(self, numbers: NDArray[np.intp], mask: NDArray[np.bool_], y: Tensor) -> Rows:
        """Gather rows of a batch of tasks."""
        index = torch.from_numpy(numbers).to(self._X.device)
        return Rows(self._X[index], y, torch.from_numpy(mask).to(self._X.device, self._X.dtype))

    def require_support(self, split: Split, chosen: NDArray[np.intp], *, training: bool) -> None:
        """Raise a TaskError when statistics are wanted of a support that has none."""
        if not (self.adaptation.normed and self.adaptation.steps) or (self.adaptation.per_step and not training):
            return
        counts = split.support_mask.sum(axis=1)
        if training and self.adaptation.whole_tasks:
            counts += split.query_mask.sum(axis=1)
        if counts.min() < LEAST_FOR_STATISTICS:
            name = self._name(int(chosen[int(np.argmin(counts))]))
            raise TaskError(
                f"task {name!r}: batch normalisation takes its statistics from support rows and needs "
                f"{LEAST_FOR_STATISTICS}, the task has {counts.min()}; set a larger support_size, or normalise by "
                "'layer' or 'group'."
            )

    def adapted_outputs(
        self, chosen: NDArray[np.intp], split: Split, support: Rows, meta: Params, forward: BatchForward
    ) -> tuple[Tensor, int]:
        """Adapt to the support of each task and evaluate its query rows.

        Returns
        -------
        Tensor of shape (n_query_rows, n_outputs)
            Of all tasks, one after the other.
        int
            How many tasks the rate was lowered for.
        """
        size = self.at_once(meta) or len(chosen)
        outputs, lowered = [], 0
        for first in range(0, len(chosen), size):
            place = slice(first, first + size)
            some = Rows(*(part[place] for part in support))
            output, count = self._some_outputs(chosen[place], split.part(place), some, meta, forward)
            outputs.append(output)
            lowered += count
        return torch.cat(outputs), lowered

    def _some_outputs(
        self, chosen: NDArray[np.intp], split: Split, support: Rows, meta: Params, forward: BatchForward
    ) -> tuple[Tensor, int]:
        solver, loss = self.adaptation.solver(meta), self.network.loss
        start = repeat_for_tasks(self.adaptation.start(meta, support), len(chosen))
        adapted, halvings = solve_damped(forward, loss, solver, start, self.adaptation.support(meta, support))
        X = self.network.scale_features(self.query_features(split.query))
        mask = torch.from_numpy(split.query_mask)
        with torch.no_grad():
            X = X if self.network.widens else X.to(self.network.dtype)
            widened = {name: value.to(X.dtype) for name, value in adapted.items()}
            output = self.adaptation.output(forward, widened, Rows(X, X, mask.to(X)))
        output = output.cpu()
        self._require_finite(output, mask, chosen, solver)
        return output[mask], int((halvings > 0).sum())

    def query_features(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return features of query rows in the dtype they are predicted in."""
        X = self.tasks.X[rows]
        return X if holds_objects(X) else X.astype(np.float64)

    def warn_of(self, overshot: int, meta: Params) -> None:
        """Tell for how many tasks the rate was lowered."""
        solver = self.adaptation.solver(meta)
        if overshot:
            warn(
                f"inner_lr={solver.describe_rate()} overshoots on {overshot} of {len(self.tasks)} tasks (their "
                "support loss rose); they were adapted at lower rates. They may be unlike the tasks of the fit.",
                OvershootWarning,
            )

    def chunks(self) -> Iterator[NDArray[np.intp]]:
        """Task numbers, some at a time, for which splits are drawn together: how many says which they are."""
        size = max(1, min(CHUNK, CHUNK_VALUES // int(self.tasks.sizes.max() * self._X[0].numel())))
        for first in range(0, len(self.tasks), size):
            yield np.arange(first, min(first + size, len(self.tasks)))

    def at_once(self, meta: Params) -> int | None:
        """Return how many tasks are adapted at once, so that memory is bounded."""
        largest = int(np.argmax(self.tasks.sizes))
        rows = self._X[self.tasks.offsets[largest] : self.tasks.offsets[largest + 1]]
        return adapted_at_once(
            self.adaptation.max_batch_bytes, self.network.forward, self.adaptation.zero_shot(meta), rows
        )

    def _name(self, task: int) -> Any:
        return self.tasks.name_of(task)

    def _require_finite(self, output: Tensor, mask: Tensor, chosen: NDArray[np.intp], solver: InnerSolver) -> None:
        finite = torch.isfinite(output).all(dim=-1) | ~mask
        if not bool(finite.all()):
            task = int(chosen[int(torch.nonzero(~finite.all(dim=1))[0])])
            raise DivergenceError(
                f"task {self._name(task)!r}: its predictions are non-finite {solver.describe()}; lower "
                "inner_lr, or check the units of X and y."
            )


def saved_bytes(evaluate: Callable[[], Any]) -> int:
    """Return the bytes that torch keeps, for the backward pass, of what is evaluated."""
    # the tensors are held until all are counted, so that none takes the place of another; detached, because a node of
    # the graph that holds its own result is a cycle through C++, which Python's collector cannot free
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        detached = tensor.detach()
        kept[tensor.untyped_storage().data_ptr()] = detached
        return detached

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        evaluate()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def tasks_at_once(max_batch_bytes: int | None, of_one: int) -> int | None:
    """Return how many tasks of so many bytes fit into the bound, at least one; None where there is no bound."""
    return None if max_batch_bytes is None else max(1, int(max_batch_bytes) // max(1, of_one))


def adapted_at_once(max_batch_bytes: int | None, forward: ModuleForward, params: Params, X: Tensor) -> int | None:
    """Return how many tasks are adapted, or predicted, at once.

    Parameters
    ----------
    max_batch_bytes : int or None
    forward : ModuleForward
    params : dict of Tensor
        Of one task.
    X : Tensor of shape (rows, ...)
        Rows of one task, as many as any has.
    """
    if max_batch_bytes is None:
        return None
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    n_bytes = sum(value.numel() * value.element_size() for value in params.values())
    with undrawn():  # a module may draw: what it draws here must not matter
        of_one = saved_bytes(lambda: forward(leaves, X))
    return tasks_at_once(max_batch_bytes, COPIES * n_bytes + of_one)


class MetaDraws:
    """Draws the episodes of one meta-step after the other, with the meta-gradient that each takes.

    Parameters
    ----------
    sampler : EpisodeSampler
    batches : Batches
    schedule : Schedule
    module : Module
        Its buffers may change.
    stream : Stream or None
        What a module of the user's draws from.
    """

    def __init__(
        self, sampler: EpisodeSampler, batches: Batches, schedule: Schedule, module: nn.Module, stream: Stream | None
    ) -> None:
        self.sampler, self.batches, self.schedule = sampler, batches, schedule
        self.module, self.stream = module, stream
        self.step = 0

    def __call__(self) -> tuple[Differentiated, Episodes]:
        """Return what the next step differentiates, and its episodes."""
        differentiated = self.schedule.at(self.step)
        self.step += 1
        return differentiated, self.sampler.episodes(next(self.batches))

    def state(self) -> State:
        """Return a copy of what the next draws depend on."""
        return {
            "step": self.step,
            "generator": self.sampler.rng.bit_generator.state,
            "queue": torch.tensor(self.batches.queue),
            "stream": None if self.stream is None else self.stream.state,
            "buffers": dict(self.module.named_buffers()),
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.step = state["step"]
        self.sampler.rng.bit_generator.state = state["generator"]
        self.batches.queue = state["queue"].numpy().astype(np.intp)
        if self.stream is not None:
            self.stream.state = state["stream"]
        for name, buffer in self.module.named_buffers():
            buffer.copy_(state["buffers"][name])


class KeptWithDraws:
    """A checkpoint of an outer loop that keeps the state of its draws as well.

    Parameters
    ----------
    checkpoint : Checkpoint
    kept : dict or None
        What was read from it.
    draws : MetaDraws
    further : dict
        Kept as it is.
    """

    def __init__(self, checkpoint: Checkpoint, kept: State | None, draws: MetaDraws, further: dict[str, Any]) -> None:
        self.checkpoint, self.kept, self.draws, self.further = checkpoint, kept, draws, further
        self.every = checkpoint.every

    def load(self) -> State | None:
        """Return the state of the loop, and set that of the draws."""
        if self.kept is None:
            return None
        self.draws.restore(self.kept["draws"])
        loop: State = self.kept["loop"]
        return loop

    def save(self, state: State) -> None:
        """Keep the state of the loop and of the draws."""
        self.checkpoint.save({"loop": state, "draws": self.draws.state(), **self.further})


def numbered_draws(split: Split, count: int, n_support: int, n_query: int, rows: tuple[Tensor, Tensor]) -> EpisodeDraws:
    """Return the rows of so many meta-steps, each padded to the same length."""

    def padded(numbers: NDArray[np.intp], length: int) -> NDArray[np.int32]:
        wide: NDArray[np.int32] = np.empty((count, len(numbers) // count, length), dtype=np.int32)
        flat = wide.reshape(-1, length)
        flat[:, : numbers.shape[1]] = numbers
        flat[:, numbers.shape[1] :] = numbers[:, :1]
        return wide

    def counts(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        rows: NDArray[np.int32] = mask.sum(axis=1, dtype=np.int32).reshape(count, -1)
        return rows

    return EpisodeDraws(
        padded(split.support, n_support),
        counts(split.support_mask),
        padded(split.query, n_query),
        counts(split.query_mask),
        rows,
    )
