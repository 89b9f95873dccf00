r"""The one outer loop: Adam on the meta-loss of drawn episodes.

.. math:: \theta \leftarrow \mathrm{Adam}_{\eta_s}\Bigl(\theta, \nabla_\theta \tfrac{1}{T} \sum_t M_t(\theta)\Bigr),
          \qquad \eta_s = \tfrac{\eta}{2}\Bigl(1 + \cos\frac{\pi s}{S}\Bigr).

The rate falls to zero over the whole run (cosine annealing), so that the last parameters are settled ones; weight
decay is decoupled from the gradient (AdamW, arXiv:1711.05101).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from metaest.exceptions import DivergenceError
from metaest.functional.types import Params

__all__ = ["Callback", "OuterLoop", "OuterResult", "StepInfo"]

VALIDATION_INTERVAL = 10
E = TypeVar("E")


class StepInfo(NamedTuple):
    """What a callback sees after a meta-step.

    Attributes
    ----------
    step : int
        Counts from 1.
    meta_loss : float
        Mean query loss of the tasks of this step, before its update.
    validation_loss : float or None
        Where it was computed in this step.
    seconds : float
        Since the start of this fit.
    """

    step: int
    meta_loss: float
    validation_loss: float | None
    seconds: float


Callback = Callable[[StepInfo], bool | None]


class OuterResult(NamedTuple):
    """Meta-learned parameters, and one StepInfo for each meta-step."""

    params: Params
    history: list[StepInfo]


@dataclass(frozen=True)
class OuterLoop:
    """Settings of the outer loop.

    Parameters
    ----------
    max_iter : int
        Meta-steps.
    meta_lr : float
        Rate of Adam in the first step.
    weight_decay : float
    undecayed : callable, optional
        Names -> whether a parameter is left out of weight decay, as learned rates are.
    max_grad_norm : float or None
        Longer meta-gradients are shortened to this norm.
    n_iter_no_change : int
        Meta-steps without a better validation loss before the loop stops.
    callbacks : sequence of callable
        Called with a StepInfo after every step; one that returns True stops the loop.
    verbose : bool
        Whether to show a progress bar.
    """

    max_iter: int
    meta_lr: float
    weight_decay: float = 0.0
    undecayed: Callable[[str], bool] | None = None
    max_grad_norm: float | None = None
    n_iter_no_change: int = 100
    callbacks: Sequence[Callback] = field(default=())
    verbose: bool = False

    def run(
        self,
        params: Params,
        draw: Callable[[], E],
        task_losses: Callable[[Params, E], Tensor],
        validate: Callable[[Params], float] | None = None,
    ) -> OuterResult:
        """Minimise the mean of `task_losses` over the episodes `draw` gives.

        Parameters
        ----------
        params : dict of Tensor
            Where to start; left as it is.
        draw : callable
            Episodes of the next meta-step, handed on to `task_losses` as they are.
        task_losses : callable
            Parameters and episodes -> one loss for each task.
        validate : callable, optional
            Parameters -> validation loss, computed every 10 steps; the best parameters are returned.

        Returns
        -------
        OuterResult

        Raises
        ------
        DivergenceError
            When a meta-loss or its gradient is not finite.
        """
        params = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        leaves = list(params.values())
        optimiser = torch.optim.AdamW(self._groups(params), lr=self.meta_lr, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.max_iter)))
        )
        history: list[StepInfo] = []
        best, best_step, best_params = math.inf, 0, None
        started = time.perf_counter()
        with tqdm(total=self.max_iter, disable=not self.verbose, desc="meta-steps", leave=False) as bar:
            for step in range(1, self.max_iter + 1):
                losses = task_losses(params, draw())
                gradients = torch.autograd.grad(losses.mean(), leaves, materialize_grads=True)
                norm = _norm(gradients)
                meta_loss = _require_finite(losses, norm, step)
                if self.max_grad_norm is not None and norm > self.max_grad_norm:
                    gradients = tuple(gradient * (self.max_grad_norm / norm) for gradient in gradients)
                for leaf, gradient in zip(leaves, gradients, strict=True):
                    # the fused optimiser reads memory in the parameter's own layout and ignores that of the gradient,
                    # which autograd may hand over transposed or expanded (torch 2.13: silently wrong updates)
                    leaf.grad = torch.empty_like(leaf).copy_(gradient)
                optimiser.step()
                schedule.step()

                validation_loss = None
                if validate is not None and (step % VALIDATION_INTERVAL == 0 or step == self.max_iter):
                    validation_loss = validate(_detached(params))
                    if not math.isfinite(validation_loss):
                        raise DivergenceError(f"the validation loss became non-finite in meta-step {step}; {_REMEDY}")
                    if validation_loss < best:
                        best, best_step, best_params = validation_loss, step, _detached(params)
                info = StepInfo(step, meta_loss, validation_loss, time.perf_counter() - started)
                history.append(info)
                bar.update()
                if step % VALIDATION_INTERVAL == 0:
                    bar.set_postfix(meta_loss=f"{meta_loss:.4g}")
                # every callback sees every step, also the one in which another asks to stop
                stop = [callback(info) is True for callback in self.callbacks]
                if any(stop) or (best_params is not None and step - best_step >= self.n_iter_no_change):
                    break
        final = _detached(params) if best_params is None else best_params
        if not all(bool(torch.isfinite(value).all()) for value in final.values()):
            raise DivergenceError(f"the weights became non-finite in meta-step {len(history)}; {_REMEDY}")
        return OuterResult(final, history)

    def _groups(self, params: Params) -> list[dict[str, Any]]:
        kept = {name for name in params if self.undecayed is not None and self.undecayed(name)}
        groups = [
            {"params": [params[name] for name in params if name not in kept], "weight_decay": self.weight_decay},
            {"params": [params[name] for name in params if name in kept], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]


_REMEDY = (
    "lower meta_lr or inner_lr, take fewer inner_steps, set max_grad_norm, or leave standardize=True. "
    "Nothing fitted before was changed."
)


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(gradients)


def _detached(params: Params) -> Params:
    return {name: value.detach().clone() for name, value in params.items()}


def _require_finite(losses: Tensor, norm: Tensor, step: int) -> float:
    meta_loss = float(losses.detach().mean())
    if math.isfinite(meta_loss) and math.isfinite(float(norm)):
        return meta_loss
    what = "meta-gradient" if math.isfinite(meta_loss) else "meta-loss"
    raise DivergenceError(f"the {what} became non-finite in meta-step {step}; {_REMEDY}")
