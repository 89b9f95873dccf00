"""The network of a classifier: one output for each class of a task."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.inputs import check_columns
from metaest.estimators.networks.adaptation import moving_names
from metaest.estimators.networks.building import build_parts, goes_on
from metaest.estimators.networks.class_plan import ClassPlan, head_names
from metaest.estimators.networks.network import Network
from metaest.exceptions import TaskError
from metaest.functional import HeadForward, Loss, ModuleForward, Params, Rows, cross_entropy, looped
from metaest.tasks import TaskSet

__all__ = ["ClassNetwork", "build_classes", "indicators"]


@dataclass(frozen=True)
class ClassNetwork(Network):
    """A network whose outputs are logits.

    Attributes
    ----------
    labels : ndarray or None
        All labels, sorted, where they mean the same in every task.
    """

    labels: NDArray[Any] | None

    @property
    def loss(self) -> Loss:
        """The cross-entropy."""
        return cross_entropy

    def probabilities(self, plan: ClassPlan, params: Params, X: NDArray[Any], n_classes: int) -> NDArray[Any]:
        """Return probabilities of the classes for rows of one task, of shape (n_rows, n_classes)."""
        own, rows = self.widened(params, X)
        one = {name: value[None] for name, value in own.items()}
        blank = rows.new_ones(1, len(rows))
        with torch.no_grad():
            logits = plan.output(looped(self.forward), one, Rows(rows[None], blank[..., None], blank))[0]
        self.finite(logits, X)
        return as_probabilities(logits[:, :n_classes])  # further outputs stand for nothing

    def targets(self, codes: NDArray[np.intp], n_classes: int, n_outputs: int) -> Tensor:
        """Return indicators of the classes of rows of one task; further outputs stand for none."""
        outputs = np.arange(n_outputs)
        return indicators(codes, np.where(outputs < n_classes, outputs, -1)).to(self.device)


def as_probabilities(logits: Tensor) -> NDArray[Any]:
    """Return softmax over classes, in double precision."""
    probabilities: NDArray[Any] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
    return probabilities


def indicators(codes: NDArray[np.intp], outputs: NDArray[np.intp]) -> Tensor:
    """Return 1 for the output of a row, 0 for another one of its task, -1 for one that stands for no class.

    Parameters
    ----------
    codes : ndarray of int, shape (..., n_rows)
        The output each row belongs to.
    outputs : ndarray of int, shape (..., n_outputs)
        The class each output stands for; -1 for none.

    Returns
    -------
    Tensor of shape (..., n_rows, n_outputs)
    """
    own = (codes[..., None] == np.arange(outputs.shape[-1])).astype(np.float32)
    return torch.from_numpy(np.where(outputs[..., None, :] < 0, np.float32(-1), own))


def build_classes(model: Any, tasks: TaskSet, n_outputs: int, labels: NDArray[Any] | None) -> ClassNetwork:
    """Return the network a classifier's settings ask for; a warm start's is that of the fit before.

    Parameters
    ----------
    model : MetaClassifier
    tasks : TaskSet
    n_outputs : int
        Classes of the task that has most.
    labels : ndarray or None
        All labels, where they mean the same in every task.
    """
    if goes_on(model):
        check_columns(model, tasks, tasks.X.shape[1:], "warm_start")
        kept: ClassNetwork = deepcopy(model._network)
        kept_labels, own_labels = (None if own is None else own.tolist() for own in (kept.labels, labels))
        if kept_labels != own_labels:
            had, have = ("labels of each task's own" if own is None else own for own in (kept_labels, own_labels))
            raise TaskError(f"warm_start goes on from {had}, but the tasks have {have}; fit a new model.")
        if kept.forward.n_outputs is not None and kept.forward.n_outputs < n_outputs:
            raise TaskError(
                f"warm_start goes on from {kept.forward.n_outputs} classes, but the tasks have {n_outputs}; fit a new "
                "model."
            )
        return kept
    forward, parts = build_parts(model, tasks, n_outputs)
    if labels is None:
        forward = _with_any_number(model, forward)
    return ClassNetwork(forward, **parts, labels=labels)


def _with_any_number(model: Any, forward: ModuleForward) -> ModuleForward:
    """Let the task say how many classes there are, where all of them start alike."""
    if isinstance(forward, HeadForward):
        return HeadForward(forward.module, None, forward.n_hidden)
    names: Sequence[str] = () if model.context_dim else head_names(forward)
    if names and set(names) <= set(moving_names(forward, model.adapt_layers)):
        return ModuleForward(forward.module, None, forward.last)
    return forward
