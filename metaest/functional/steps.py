r"""Meta-steps: from the parameters of one to those of the next, by AdamW on the gradient of the meta-loss.

.. math:: \theta \leftarrow \mathrm{Adam}_{\eta_s}\Bigl(\theta, \nabla_\theta \tfrac{1}{T} \sum_t M_t(\theta)\Bigr),
          \qquad \eta_s = \tfrac{\eta}{2}\Bigl(1 + \cos\frac{\pi s}{S}\Bigr).

The rate falls to zero over the whole run (cosine annealing), so that the last parameters are settled ones; weight
decay is decoupled from the gradient (AdamW, arXiv:1711.05101).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from metaest.exceptions import DivergenceError
from metaest.functional.compiler import import_compiler
from metaest.functional.types import Params

__all__ = ["REMEDY", "AdamW", "EagerSteps", "State", "Steps", "require_finite"]

E = TypeVar("E")
# what a computation needs to go on later with the same bits: tensors, numbers, text and None, in dicts and lists
State = dict[str, Any]
REMEDY = (
    "lower meta_lr or inner_lr, take fewer inner_steps, set max_grad_norm, or leave standardize=True. "
    "Nothing fitted before was changed."
)


@dataclass(frozen=True)
class AdamW:
    """Settings of the steps.

    Parameters
    ----------
    max_iter : int
        Steps in which the rate falls to 0.
    meta_lr : float
        Rate of the first step.
    weight_decay : float
    undecayed : callable, optional
        Names -> whether a parameter is left out of weight decay, as learned rates are.
    max_grad_norm : float or None
        Longer meta-gradients are shortened to this norm.
    """

    max_iter: int
    meta_lr: float
    weight_decay: float = 0.0
    undecayed: Callable[[str], bool] | None = None
    max_grad_norm: float | None = None

    def rate(self, step: int) -> float:
        """Return the share of the first rate in a step, counted from 0."""
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.max_iter)))

    def decay(self, name: str) -> float:
        """Return the weight decay of a parameter."""
        return 0.0 if self.undecayed is not None and self.undecayed(name) else self.weight_decay


class Steps(Protocol):
    """Whatever takes meta-steps.

    Attributes
    ----------
    at_once : int
        Steps it would rather take in one call.
    """

    at_once: int

    def advance(self, count: int) -> Sequence[float]:
        """Take so many steps; return the meta-loss of each, before its update.

        Raises
        ------
        DivergenceError
            When a meta-loss or its gradient is not finite.
        """

    def params(self) -> Params:
        """Return a copy of the parameters reached."""

    def state(self) -> State:
        """Return a copy of what the next steps depend on: parameters, moments, steps taken."""

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""


class EagerSteps(Generic[E]):
    """Steps by torch's autograd, one at a time.

    Parameters
    ----------
    settings : AdamW
    params : dict of Tensor
        Where to start; left as it is.
    draw : callable
        Episodes of the next meta-step, handed on to `task_losses` as they are.
    task_losses : callable
        Parameters and episodes -> one loss for each task.
    parts : callable, optional
        Episodes -> the same in parts that fit into memory, of which the gradients are summed.
    """

    at_once = 1

    def __init__(
        self,
        settings: AdamW,
        params: Params,
        draw: Callable[[], E],
        task_losses: Callable[[Params, E], Tensor],
        parts: Callable[[E], Sequence[E]] | None = None,
    ) -> None:
        self.settings = settings
        self.draw = draw
        self.task_losses = task_losses
        self.parts = parts
        self.taken = 0
        self._params = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        self._leaves = list(self._params.values())
        import_compiler()  # optimisers do, when the first is made
        self._optimiser = torch.optim.AdamW(self._groups(), lr=settings.meta_lr, fused=True)

    def advance(self, count: int) -> list[float]:
        """Take so many steps; return the meta-loss of each."""
        return [self._step() for _ in range(count)]

    def params(self) -> Params:
        """Return a copy of the parameters reached."""
        return {name: value.detach().clone() for name, value in self._params.items()}

    def state(self) -> State:
        """Return a copy of what the next steps depend on."""
        moments = [self._optimiser.state[leaf] for leaf in self._leaves]
        return {
            "taken": self.taken,
            "params": self.params(),
            "moments": [{name: value.clone() for name, value in moment.items()} for moment in moments],
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.taken = state["taken"]
        with torch.no_grad():
            for name, leaf in self._params.items():
                leaf.copy_(state["params"][name])
        for leaf, own in zip(self._leaves, state["moments"], strict=True):
            # moments lie in memory as their parameter does: the fused optimiser asks for no strides
            self._optimiser.state[leaf] = {
                name: value.to(leaf.device) if name == "step" else torch.empty_like(leaf).copy_(value)
                for name, value in own.items()
            }

    def _step(self) -> float:
        self.taken += 1
        losses, gradients = self._gradients(self.draw())
        norm = torch.nn.utils.get_total_norm(gradients)
        meta_loss = require_finite(float(losses.mean()), float(norm), self.taken)
        longest = self.settings.max_grad_norm
        if longest is not None and norm > longest:
            gradients = tuple(gradient * (longest / norm) for gradient in gradients)
        for leaf, gradient in zip(self._leaves, gradients, strict=True):
            # the fused optimiser reads memory in the parameter's own layout and ignores that of the gradient,
            # which autograd may hand over transposed or expanded (torch 2.13: silently wrong updates)
            leaf.grad = torch.empty_like(leaf).copy_(gradient)
        for group in self._optimiser.param_groups:
            group["lr"] = self.settings.meta_lr * self.settings.rate(self.taken - 1)
        self._optimiser.step()
        return meta_loss

    def _gradients(self, drawn: E) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of each task, and the gradient of their mean."""
        parts = [drawn] if self.parts is None else self.parts(drawn)
        if len(parts) == 1:
            losses = self.task_losses(self._params, parts[0])
            return losses.detach(), torch.autograd.grad(losses.mean(), self._leaves, materialize_grads=True)
        found, totals = [], [torch.zeros_like(leaf) for leaf in self._leaves]
        for part in parts:
            losses = self.task_losses(self._params, part)
            gradients = torch.autograd.grad(losses.sum(), self._leaves, allow_unused=True)
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total += gradient
            found.append(losses.detach())
        whole = torch.cat(found)
        return whole, tuple(total / len(whole) for total in totals)

    def _groups(self) -> list[dict[str, Any]]:
        groups: dict[float, list[Tensor]] = {}
        for name, value in self._params.items():
            groups.setdefault(self.settings.decay(name), []).append(value)
        return [{"params": own, "weight_decay": decay} for decay, own in groups.items()]


def require_finite(meta_loss: float, norm: float, step: int) -> float:
    """Return a meta-loss, or raise a DivergenceError when it or the norm of its gradient is not finite."""
    if math.isfinite(meta_loss) and math.isfinite(norm):
        return meta_loss
    what = "meta-gradient" if math.isfinite(meta_loss) else "meta-loss"
    raise DivergenceError(f"the {what} became non-finite in meta-step {step}; {REMEDY}")
