"""How a classifier adapts: what a class starts from, and how much each counts."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from metaest.estimators.networks.adaptation import Plan
from metaest.estimators.networks.schedule import Differentiated
from metaest.functional import (
    BatchForward,
    ClassHead,
    Episodes,
    HeadForward,
    ModuleForward,
    Params,
    Rows,
    cross_entropy,
)
from metaest.functional.inner.class_weights import weigh_classes
from metaest.functional.modules.head import layer_of

__all__ = ["ClassPlan", "head_names"]

# learned weights of classes in the support, among the meta-parameters
EXPONENT, LOG_WEIGHTS = "class_weight:exponent", "class_weight:logarithms"


def head_names(forward: ModuleForward) -> tuple[str, ...]:
    """Return the names of the last layer's parameters where it is linear, so that classes may share them; () if not."""
    if forward.last is None or type(forward.module.get_submodule(forward.last)) is not nn.Linear:
        return ()
    return tuple(name for name in forward.names if layer_of(name) == forward.last)


@dataclass(frozen=True)
class ClassPlan(Plan):
    """The adaptation a classifier's settings ask for.

    Where labels mean nothing beyond their task, nothing may depend on their order: every class of a task starts from
    the same weights of the last layer, as long as these move in an adaptation (Ye and Chao, 2022, arXiv:2106.16245).
    Their number then follows from the task.

    Attributes
    ----------
    alike : tuple of str
        The parameters every class shares at its start; kept as those of one class.
    n_outputs : int
        Outputs of the module as it was built.
    exponent : float or None
        Support rows count as the number of rows of their class to the power of minus this; None where it is learned.
    given : tuple of float or None
        Weights of shared classes, in support and query.
    balanced : bool
        Whether every class counts the same in the query.
    shared : bool
        Whether labels mean the same in every task.
    """

    alike: tuple[str, ...] = ()
    n_outputs: int = 0
    exponent: float | None = 0.0
    given: tuple[float, ...] | None = None
    balanced: bool = False
    shared: bool = True

    loss: ClassVar[Any] = staticmethod(cross_entropy)

    @classmethod
    def of(cls, model: Any, forward: ModuleForward, labels: Any = None) -> Self:
        """Read a classifier's settings; `labels` are all there are, where they mean the same in every task.

        Raises
        ------
        ValueError
            When they contradict each other, or name no parameter of the network.
        """
        plan = super().of(model, forward)
        weights = model.class_weight
        alike = head_names(forward) if forward.n_outputs is None and not isinstance(forward, HeadForward) else ()
        if not set(alike) <= set(plan.moving):
            raise ValueError(
                f"adapt_layers={model.adapt_layers!r} was set after the fit, in which all classes of a task started "
                "alike; fit anew, without warm_start."
            )
        settings = {
            "alike": alike,
            "n_outputs": _built_for(forward),
            "exponent": {"balanced": 1.0, "learned": None}.get(weights, 0.0) if isinstance(weights, str) else 0.0,
            "given": _given(weights, labels) if isinstance(weights, dict) else None,
            "balanced": bool(model.balanced) or weights == "balanced",
            "shared": labels is not None,
        }
        for name, value in settings.items():
            object.__setattr__(plan, name, value)
        return plan

    @staticmethod
    def _head(model: Any, forward: HeadForward) -> ClassHead:
        return ClassHead(model.inner_solver == "bayes", forward.n_hidden, forward.n_outputs or 1)

    @property
    def fixed(self) -> bool:
        """Whether the last layer stays as it is, so that its outputs are handed out to the classes of a task."""
        return not self.shared and self.head is None and not self.alike

    def meta_parameters(self, weights: Params, before: Params | None = None) -> Params:
        """Add to the weights what is learned with them; of a head that all classes share one class is kept."""
        own = {name: value[:1].clone() if name in self.alike else value for name, value in weights.items()}
        if self.exponent is None:
            like = next(iter(weights.values()))
            own[EXPONENT] = like.new_zeros(())
            if self.shared:
                own[LOG_WEIGHTS] = like.new_zeros(self.n_outputs)
        return super().meta_parameters(own, before)

    def start(self, meta: Params, rows: Rows | None = None) -> Params:
        """Return where a task starts, with as many classes as its rows have."""
        start = super().start(meta, rows)
        n_classes = self.n_outputs if rows is None else rows.y.shape[-1]
        for name in self.alike:
            start[name] = start[name].expand(n_classes, *start[name].shape[1:])
        if isinstance(self.head, ClassHead) and not self.shared:
            start = self.head.spread(start, n_classes)
        return start

    def support(self, meta: Params, rows: Rows) -> Rows:
        """Return support rows with the weights of their classes."""
        if self.exponent is None:
            return weigh_classes(rows, meta[EXPONENT], meta.get(LOG_WEIGHTS))
        if self.given is not None:
            return weigh_classes(rows, 0.0, self._logarithms(rows))
        return weigh_classes(rows, self.exponent) if self.exponent else rows

    def query(self, rows: Rows) -> Rows:
        """Return query rows with the weights of their classes."""
        if self.balanced or self.given is not None:
            return weigh_classes(
                rows, 1.0 if self.balanced else 0.0, None if self.given is None else self._logarithms(rows)
            )
        return rows

    def losses(self, forward: BatchForward, meta: Params, episodes: Episodes, differentiated: Differentiated) -> Tensor:
        """Return the meta-loss of each task; its gradient is the meta-gradient."""
        weighed = Episodes(self.support(meta, episodes.support), self.query(episodes.query))
        return super().losses(forward, meta, weighed, differentiated)

    def output(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return logits of rows of adapted tasks."""
        return self.head.logits(forward, params, rows) if isinstance(self.head, ClassHead) else forward(params, rows)

    def class_weights(self, meta: Params) -> dict[str, Any] | None:
        """Return the learned weights: exponent, and one for each shared class."""
        if EXPONENT not in meta:
            return None
        weights = meta[LOG_WEIGHTS].exp().tolist() if LOG_WEIGHTS in meta else None
        return {"exponent": float(meta[EXPONENT]), "weights": weights}

    def _logarithms(self, rows: Rows) -> Tensor:
        return torch.tensor(self.given, dtype=rows.X.dtype, device=rows.X.device).log()


def _built_for(forward: ModuleForward) -> int:
    """Return the number of classes a module was built for."""
    if forward.n_outputs is not None:
        return forward.n_outputs
    layer = None if forward.last is None else forward.module.get_submodule(forward.last)
    return layer.out_features if isinstance(layer, nn.Linear) else 2


def _given(weights: dict[Any, float], labels: Any) -> tuple[float, ...]:
    """Return a weight for every label; 1 for those that are not named."""
    if labels is None:
        raise ValueError(
            "class_weight names classes, but each task has labels of its own; set shared_labels=True, or "
            "class_weight='balanced' or 'learned'."
        )
    known = labels.tolist()
    for label, weight in weights.items():
        if label not in known:
            raise ValueError(f"class_weight: there is no class {label!r}; there are {known[:20]}.")
        if not 0 < weight < float("inf"):
            raise ValueError(f"class_weight: the weight of {label!r} must be positive and finite, got {weight!r}.")
    return tuple(float(weights.get(label, 1.0)) for label in known)
