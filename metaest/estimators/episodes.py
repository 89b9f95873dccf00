"""From tasks to padded tensors: the episodes of a meta-step, and the query predictions of a score."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.network import Network
from metaest.exceptions import DivergenceError, OvershootWarning
from metaest.functional import (
    BatchForward,
    Episodes,
    GradientDescent,
    Params,
    Rows,
    Solver,
    looped,
    mapped,
    repeat_for_tasks,
    solve_damped,
    squared_error,
)
from metaest.tasks import Split, TaskSet, split_tasks

__all__ = ["Source", "batch_forward"]

CHUNK = 256


def batch_forward(network: Network, batching: str) -> BatchForward:
    """Return the batched forward pass of the recorded kind."""
    return mapped(network.forward) if batching == "vmap" else looped(network.forward)


class Source:
    """Tasks, standardised, from which episodes are drawn.

    Parameters
    ----------
    network : Network
    tasks : TaskSet
    support_size, split
        As the estimators take them.
    rng : Generator
    """

    def __init__(
        self, network: Network, tasks: TaskSet, support_size: Any, split: str, rng: np.random.Generator
    ) -> None:
        self.network = network
        self.tasks = tasks
        self.support_size = support_size
        self.split = split
        self.rng = rng
        self._X = network.scale_features(tasks.X).to(network.dtype)
        self._y = network.scale_targets(tasks.y).to(network.dtype)

    def _gather(self, rows: NDArray[np.intp], mask: NDArray[np.bool_]) -> Rows:
        index = torch.from_numpy(rows).to(self._X.device)
        return Rows(self._X[index], self._y[index], torch.from_numpy(mask).to(self._X.device, self._X.dtype))

    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Split the chosen tasks anew."""
        split = self._split(chosen)
        return Episodes(self._gather(split.support, split.support_mask), self._gather(split.query, split.query_mask))

    def _split(self, chosen: NDArray[np.intp]) -> Split:
        return split_tasks(self.tasks, chosen, self.support_size, self.split, self.rng)

    def batches(self, size: int) -> Iterator[NDArray[np.intp]]:
        """Task numbers of one meta-step after the other; every task comes once before any comes again."""
        n_tasks = len(self.tasks)
        if size >= n_tasks:
            while True:
                yield np.arange(n_tasks)
        queue = np.empty(0, dtype=np.intp)
        while True:
            while len(queue) < size:
                # a task left from the last round may not meet itself in one batch
                fresh = self.rng.permutation(n_tasks)
                fresh = np.concatenate([fresh[~np.isin(fresh, queue)], fresh[np.isin(fresh, queue)]])
                queue = np.concatenate([queue, fresh])
            yield queue[:size]
            queue = queue[size:]

    def _require_finite(self, output: Tensor, mask: Tensor, chosen: NDArray[np.intp], solver: Solver) -> None:
        finite = torch.isfinite(output).all(dim=-1) | ~mask
        if not bool(finite.all()):
            task = int(chosen[int(torch.nonzero(~finite.all(dim=1))[0])])
            name = self.tasks.names[task : task + 1].tolist()[0]
            raise DivergenceError(
                f"task {name!r}: its predictions are non-finite {solver.describe()}; lower "
                "inner_lr, or check the units of X and y."
            )

    def predict_queries(
        self, params: Params, solver: Solver, batching: str
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """Adapt to the support of every task and predict its query.

        Returns
        -------
        truth, prediction : ndarray of shape (n_query_rows,) or (n_query_rows, n_targets)
            In the user's units, in float64.
        rows : ndarray of shape (n_query_rows,)
            Their row numbers in the TaskSet.
        """
        forward = batch_forward(self.network, batching)
        predictions, numbers, overshot = [], [], 0
        for first in range(0, len(self.tasks), CHUNK):
            chosen = np.arange(first, min(first + CHUNK, len(self.tasks)))
            split = self._split(chosen)
            support = self._gather(split.support, split.support_mask)
            start = repeat_for_tasks(params, len(chosen))
            adapted, halvings = solve_damped(forward, squared_error, solver, start, support)
            overshot += int((halvings > 0).sum())
            X = self.network.scale_features(self.tasks.X[split.query].astype(np.float64))
            mask = torch.from_numpy(split.query_mask)
            with torch.no_grad():
                X = X if self.network.widens else X.to(self.network.dtype)
                widened = {name: value.to(X.dtype) for name, value in adapted.items()}
                output = forward(widened, Rows(X, X, mask.to(X)))
            output = output.cpu()
            self._require_finite(output, mask, chosen, solver)
            predictions.append(self.network.in_units(output[mask]))
            numbers.append(split.query[split.query_mask])
        if overshot and isinstance(solver, GradientDescent):
            warnings.warn(
                f"inner_lr={solver.describe_rate()} overshoots on {overshot} of {len(self.tasks)} tasks (their "
                "support loss rose); they were adapted at lower rates. They may be unlike the tasks of the fit.",
                OvershootWarning,
                stacklevel=3,
            )
        rows = np.concatenate(numbers)
        prediction = np.concatenate(predictions)
        return self.tasks.y[rows].astype(np.float64).reshape(prediction.shape), prediction, rows
