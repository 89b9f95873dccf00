"""Episodes of classification tasks, and the classes predicted for their query rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.networks.class_plan import ClassPlan
from metaest.estimators.networks.classification import ClassNetwork, as_probabilities, indicators
from metaest.estimators.networks.episodes import Batches, Source, batch_forward
from metaest.exceptions import TaskError
from metaest.functional import Episodes, Params
from metaest.functional.progress import progress
from metaest.tasks import Classes, ClassSplit, Drawing, TaskSet, split_classes

__all__ = ["ClassSource", "Predicted"]


class Predicted(NamedTuple):
    """Query rows of all tasks.

    Attributes
    ----------
    truth, prediction : ndarray of int, shape (n_query_rows,)
        Classes, as numbered in the task.
    rows, task : ndarray of int, shape (n_query_rows,)
        Row numbers in the TaskSet, and task numbers.
    """

    truth: NDArray[np.intp]
    prediction: NDArray[np.intp]
    rows: NDArray[np.intp]
    task: NDArray[np.intp]


class _Repeated(Batches):
    """Batches of more episodes than there are tasks."""

    def __next__(self) -> NDArray[np.intp]:
        rounds = -(-self.size // self.n_tasks)
        return np.concatenate([self.rng.permutation(self.n_tasks) for _ in range(rounds)])[: self.size]


class ClassSource(Source):
    """Tasks with labels to predict.

    Parameters
    ----------
    network, tasks, plan, rng
        As :class:`Source` takes them.
    classes : Classes
    drawing : Drawing
    training : bool
        Whether classes take outputs in random order.
    """

    network: ClassNetwork

    def __init__(
        self,
        network: ClassNetwork,
        tasks: TaskSet,
        plan: ClassPlan,
        rng: np.random.Generator,
        classes: Classes,
        drawing: Drawing,
        *,
        training: bool,
    ) -> None:
        super().__init__(network, tasks, plan, rng)
        drawing.check(tasks, classes)
        most = int(classes.counts.max()) if drawing.n_way is None else drawing.n_way
        if plan.fixed and most > plan.n_outputs:
            raise TaskError(
                f"task {self._name(int(np.argmax(classes.counts)))!r}: it has {most} classes, but the model has "
                f"{plan.n_outputs} outputs, since its last layer stays as it is."
            )
        # outputs beyond the classes of a batch stand for nothing
        self.n_outputs = plan.n_outputs if plan.fixed else 0
        self.classes, self.drawing, self.training = classes, drawing, training

    def batches(self, size: int) -> Batches:
        """Task numbers of one meta-step after the other; a task that gives many episodes may come often."""
        if self.drawing.n_way is None or size <= len(self.tasks):
            return super().batches(size)
        return _Repeated(len(self.tasks), size, self.rng)

    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Split the chosen tasks anew."""
        split = self._split(chosen)
        self.require_support(split.rows, chosen, training=self.training)
        return self._gathered(split)

    def _split(self, chosen: NDArray[np.intp]) -> ClassSplit:
        split = split_classes(self.tasks, self.classes, chosen, self.drawing, self.rng, shuffled=self.training)
        missing = max(0, self.n_outputs - split.outputs.shape[1])
        return split._replace(outputs=np.pad(split.outputs, ((0, 0), (0, missing)), constant_values=-1))

    def _gathered(self, split: ClassSplit) -> Episodes:
        rows, dtype = split.rows, self.network.dtype
        support, query = (
            indicators(codes, split.outputs).to(self._X.device, dtype) for codes in (split.support, split.query)
        )
        return Episodes(
            self.rows(rows.support, rows.support_mask, support), self.rows(rows.query, rows.query_mask, query)
        )

    def query_features(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return features of query rows in the dtype they are predicted in; images are left as they are."""
        return self.tasks.X[rows] if self.tasks.X.ndim > 2 else super().query_features(rows)

    def _query_logits(
        self, meta: Params, batching: str, *, verbose: bool = False
    ) -> Iterator[tuple[NDArray[np.intp], ClassSplit, Tensor]]:
        """Yield some tasks, their split, and the logits of their query rows after adapting to the support."""
        forward = batch_forward(self.network, batching)
        overshot = 0
        for chosen in progress(self.chunks(), verbose, "tasks scored", "task", len(self.tasks), len):
            split = self._split(chosen)
            self.require_support(split.rows, chosen, training=False)
            episodes = self._gathered(split)
            logits, lowered = self.adapted_outputs(chosen, split.rows, episodes.support, meta, forward)
            overshot += lowered
            absent = torch.from_numpy(split.outputs[np.nonzero(split.rows.query_mask)[0]] < 0)
            yield chosen, split, logits.masked_fill(absent, -torch.inf)
        self.warn_of(overshot, meta)

    def query_probabilities(
        self, meta: Params, batching: str, n_classes: int
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Adapt to the support of every task and predict probabilities of its query, where labels are shared.

        Returns
        -------
        probabilities : ndarray of shape (n_query_rows, n_classes)
        rows : ndarray of shape (n_query_rows,)
            Their row numbers in the TaskSet.
        """
        parts, numbers = [], []
        for _, split, logits in self._query_logits(meta, batching):
            real = split.rows.query_mask
            outputs = split.outputs[np.nonzero(real)[0]]
            row, column = np.nonzero(outputs >= 0)
            found = np.zeros((len(outputs), n_classes))
            found[row, outputs[row, column]] = as_probabilities(logits)[row, column]
            parts.append(found)
            numbers.append(split.rows.query[real])
        return np.concatenate(parts), np.concatenate(numbers)

    def predict_queries(self, meta: Params, batching: str, *, verbose: bool = False) -> Predicted:
        """Adapt to the support of every task and predict its query; `verbose` shows a progress bar."""
        parts = []
        for chosen, split, logits in self._query_logits(meta, batching, verbose=verbose):
            real = split.rows.query_mask
            place = np.nonzero(real)[0]
            best = logits.argmax(dim=1).numpy()
            parts.append(
                Predicted(
                    split.outputs[place, split.query[real]],
                    split.outputs[place, best],
                    split.rows.query[real],
                    chosen[place],
                )
            )
        return Predicted(*(np.concatenate(part) for part in zip(*parts, strict=True)))
