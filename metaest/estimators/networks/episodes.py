"""From tasks to padded tensors: the episodes of a meta-step, and the query predictions of a score."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.networks.adaptation import Plan
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.memory import adapted_at_once
from metaest.estimators.networks.network import Network, RegressionNetwork, within_range
from metaest.exceptions import DivergenceError, OvershootWarning, TaskError, warn
from metaest.functional import (
    BatchForward,
    Episodes,
    GradientDescent,
    Params,
    Rows,
    looped,
    mapped,
    repeat_for_tasks,
    solve_damped,
)
from metaest.functional.inner.damping import Solver
from metaest.functional.progress import progress
from metaest.tasks import Drawn, Split, TaskSet, draw_batches, order_rows, split_tasks

__all__ = ["LEAST_FOR_STATISTICS", "Batches", "RegressionSource", "Source", "batch_forward"]

# tasks adapted at once, and numbers in their rows
CHUNK, CHUNK_VALUES = 256, 20_000_000
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
        if self.size >= self.n_tasks:
            return np.arange(self.n_tasks)
        while len(self.queue) < self.size:
            # a task left from the last round may not meet itself in one batch
            fresh = self.rng.permutation(self.n_tasks)
            left = np.zeros(self.n_tasks, dtype=bool)
            left[self.queue] = True
            met = left[fresh]
            self.queue = np.concatenate([self.queue, fresh[~met], fresh[met]])
        batch, self.queue = self.queue[: self.size], self.queue[self.size :]
        return batch


class Source:
    """Tasks, standardised, from which episodes are drawn; a subclass knows what their targets are.

    Parameters
    ----------
    network : Network
    tasks : TaskSet
    plan : Plan
    rng : Generator
    """

    def __init__(self, network: Network, tasks: TaskSet, plan: Plan, rng: np.random.Generator) -> None:
        self.network = network
        self.tasks = tasks
        self.plan = plan
        self.rng = rng
        network.require_codes(tasks)
        self._X = within_range(network.scale_features(tasks.X), network.dtype, "X", partial(row_of_task, tasks))

    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Split the chosen tasks anew."""
        raise NotImplementedError

    def batches(self, size: int) -> Batches:
        """Task numbers of one meta-step after the other; every task comes once before any comes again."""
        return Batches(len(self.tasks), size, self.rng)

    def rows(self, numbers: NDArray[np.intp], mask: NDArray[np.bool_], y: Tensor) -> Rows:
        """Gather rows of a batch of tasks."""
        index = torch.from_numpy(numbers).to(self._X.device)
        return Rows(self._X[index], y, torch.from_numpy(mask).to(self._X.device, self._X.dtype))

    def require_support(self, split: Split, chosen: NDArray[np.intp], *, training: bool) -> None:
        """Raise a TaskError when statistics are wanted of a support that has none."""
        if not (self.plan.normed and self.plan.steps) or (self.plan.per_step and not training):
            return
        counts = split.support_mask.sum(axis=1)
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
            some = Rows(*(own[place] for own in support))
            output, count = self._some_outputs(chosen[place], split.part(place), some, meta, forward)
            outputs.append(output)
            lowered += count
        return torch.cat(outputs), lowered

    def _some_outputs(
        self, chosen: NDArray[np.intp], split: Split, support: Rows, meta: Params, forward: BatchForward
    ) -> tuple[Tensor, int]:
        solver, loss = self.plan.solver(meta), self.network.loss
        start = repeat_for_tasks(self.plan.start(meta, support), len(chosen))
        adapted, halvings = solve_damped(forward, loss, solver, start, self.plan.support(meta, support))
        X = self.network.scale_features(self.query_features(split.query))
        mask = torch.from_numpy(split.query_mask)
        with torch.no_grad():
            X = X if self.network.widens else X.to(self.network.dtype)
            widened = {name: value.to(X.dtype) for name, value in adapted.items()}
            output = self.plan.output(forward, widened, Rows(X, X, mask.to(X)))
        output = output.cpu()
        self._require_finite(output, mask, chosen, solver)
        return output[mask], int((halvings > 0).sum())

    def query_features(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return features of query rows in the dtype they are predicted in."""
        return self.tasks.X[rows].astype(np.float64)

    def warn_of(self, overshot: int, meta: Params) -> None:
        """Tell for how many tasks the rate was lowered."""
        solver = self.plan.solver(meta)
        if overshot and isinstance(solver, GradientDescent):
            warn(
                f"inner_lr={solver.describe_rate()} overshoots on {overshot} of {len(self.tasks)} tasks (their "
                "support loss rose); they were adapted at lower rates. They may be unlike the tasks of the fit.",
                OvershootWarning,
            )

    def chunks(self) -> Iterator[NDArray[np.intp]]:
        """Task numbers, some at a time, for which splits are drawn together: how many says which they are."""
        size = max(1, min(CHUNK, CHUNK_VALUES // int(self.tasks.sizes.max() * self.tasks.X[0].size)))
        for first in range(0, len(self.tasks), size):
            yield np.arange(first, min(first + size, len(self.tasks)))

    def at_once(self, meta: Params) -> int | None:
        """Return how many tasks are adapted at once, so that memory is bounded."""
        largest = int(np.argmax(self.tasks.sizes))
        rows = self._X[self.tasks.offsets[largest] : self.tasks.offsets[largest + 1]]
        return adapted_at_once(self.plan.max_batch_bytes, self.network.forward, self.plan.zero_shot(meta), rows)

    def _name(self, task: int) -> Any:
        return self.tasks.names[task : task + 1].tolist()[0]

    def _require_finite(self, output: Tensor, mask: Tensor, chosen: NDArray[np.intp], solver: Solver) -> None:
        finite = torch.isfinite(output).all(dim=-1) | ~mask
        if not bool(finite.all()):
            task = int(chosen[int(torch.nonzero(~finite.all(dim=1))[0])])
            raise DivergenceError(
                f"task {self._name(task)!r}: its predictions are non-finite {solver.describe()}; lower "
                "inner_lr, or check the units of X and y."
            )


class RegressionSource(Source):
    """Tasks with numbers to predict.

    Parameters
    ----------
    network, tasks, plan, rng
        As :class:`Source` takes them.
    support_size, split
        As the estimators take them.
    """

    network: RegressionNetwork

    def __init__(
        self,
        network: RegressionNetwork,
        tasks: TaskSet,
        plan: Plan,
        rng: np.random.Generator,
        support_size: Any,
        split: str,
    ) -> None:
        super().__init__(network, tasks, plan, rng)
        self.support_size = support_size
        self.split = split
        self._y = within_range(network.scale_targets(tasks.y), network.dtype, "y", partial(row_of_task, tasks))

    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Split the chosen tasks anew."""
        split = self._split(chosen, training=True)
        return Episodes(self._gather(split.support, split.support_mask), self._gather(split.query, split.query_mask))

    def _gather(self, numbers: NDArray[np.intp], mask: NDArray[np.bool_]) -> Rows:
        return self.rows(numbers, mask, self._y[torch.from_numpy(numbers).to(self._y.device)])

    @property
    def standardised(self) -> tuple[Tensor, Tensor]:
        """All rows of X and of y, in the units and the precision of the fit."""
        return self._X, self._y

    def draw_batches(self, batches: Iterator[NDArray[np.intp]], count: int) -> Drawn:
        """Draw the splits of some meta-steps, as `episodes` would one step after the other."""
        drawn = draw_batches(self.tasks, batches, count, self.support_size, self.split, self.rng)
        if drawn.n_support.min() < LEAST_FOR_STATISTICS:
            self.require_support(order_rows(self.tasks, drawn), drawn.chosen, training=True)
        return drawn

    def _split(self, chosen: NDArray[np.intp], *, training: bool) -> Split:
        split = split_tasks(self.tasks, chosen, self.support_size, self.split, self.rng)
        self.require_support(split, chosen, training=training)
        return split

    def predict_queries(
        self, meta: Params, batching: str, *, verbose: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """Adapt to the support of every task and predict its query; `verbose` shows a progress bar.

        Returns
        -------
        truth, prediction : ndarray of shape (n_query_rows,) or (n_query_rows, n_targets)
            In the user's units, in float64.
        rows : ndarray of shape (n_query_rows,)
            Their row numbers in the TaskSet.
        """
        forward = batch_forward(self.network, batching)
        predictions, numbers, overshot = [], [], 0
        for chosen in progress(self.chunks(), verbose, "tasks scored", "task", len(self.tasks), len):
            split = self._split(chosen, training=False)
            support = self._gather(split.support, split.support_mask)
            output, lowered = self.adapted_outputs(chosen, split, support, meta, forward)
            overshot += lowered
            predictions.append(self.network.in_units(output))
            numbers.append(split.query[split.query_mask])
        self.warn_of(overshot, meta)
        rows = np.concatenate(numbers)
        prediction = np.concatenate(predictions)
        return self.tasks.y[rows].astype(np.float64).reshape(prediction.shape), prediction, rows
