"""The one outer loop: meta-steps, validation, early stopping, callbacks and the record of it all."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metaest.exceptions import DivergenceError
from metaest.functional.progress import Bar
from metaest.functional.steps import REMEDY, AdamW, EagerSteps, Steps
from metaest.functional.types import Params

__all__ = ["Callback", "History", "OuterLoop", "OuterResult", "StepInfo"]

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


class History(Sequence[StepInfo]):
    """One StepInfo for each meta-step, kept as columns: a fit may take a hundred thousand steps a second.

    Attributes
    ----------
    meta_loss, seconds : list of float
    validation_loss : list of float or None
    """

    def __init__(self) -> None:
        self.meta_loss: list[float] = []
        self.validation_loss: list[float | None] = []
        self.seconds: list[float] = []

    def add(self, meta_losses: Sequence[float], seconds: float) -> None:
        """Add some steps."""
        self.meta_loss.extend(meta_losses)
        self.validation_loss.extend([None] * len(meta_losses))
        self.seconds.extend([seconds] * len(meta_losses))

    def __len__(self) -> int:
        return len(self.meta_loss)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[own] for own in range(*i.indices(len(self)))]
        step = range(len(self))[i]
        return StepInfo(step + 1, self.meta_loss[step], self.validation_loss[step], self.seconds[step])


class OuterResult(NamedTuple):
    """Meta-learned parameters, and the record of the meta-steps."""

    params: Params
    history: History


@dataclass(frozen=True)
class OuterLoop(AdamW):
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

    n_iter_no_change: int = 100
    callbacks: Sequence[Callback] = field(default=())
    verbose: bool = False

    def run(
        self,
        params: Params,
        draw: Callable[[], E],
        task_losses: Callable[[Params, E], Tensor],
        validate: Callable[[Params], float] | None = None,
        steps: Steps | None = None,
        parts: Callable[[E], Sequence[E]] | None = None,
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
        steps : Steps, optional
            What takes the steps, in place of torch's autograd.
        parts : callable, optional
            Episodes -> the same in parts that fit into memory.

        Returns
        -------
        OuterResult

        Raises
        ------
        DivergenceError
            When a meta-loss or its gradient is not finite.
        """
        steps = EagerSteps(self, params, draw, task_losses, parts) if steps is None else steps
        history = History()
        best, best_step, best_params = math.inf, 0, None
        started = time.perf_counter()
        with Bar(self.verbose, self.max_iter, "meta-steps", "step") as bar:
            while (step := len(history)) < self.max_iter:
                count = self._count(step, steps.at_once, validates=validate is not None)
                history.add(steps.advance(count), time.perf_counter() - started)
                step += count
                if validate is not None and (step % VALIDATION_INTERVAL == 0 or step == self.max_iter):
                    history.validation_loss[-1] = loss = validate(steps.params())
                    if not math.isfinite(loss):
                        raise DivergenceError(f"the validation loss became non-finite in meta-step {step}; {REMEDY}")
                    if loss < best:
                        best, best_step, best_params = loss, step, steps.params()
                    history.seconds[-1] = time.perf_counter() - started
                info = history[-1]
                bar.advance(count)
                if step // VALIDATION_INTERVAL > (step - count) // VALIDATION_INTERVAL:
                    bar.say(meta_loss=f"{info.meta_loss:.4g}")
                # every callback sees every step, also the one in which another asks to stop
                stop = [callback(info) is True for callback in self.callbacks]
                if any(stop) or (best_params is not None and step - best_step >= self.n_iter_no_change):
                    break
        final = steps.params() if best_params is None else best_params
        if not all(bool(torch.isfinite(value).all()) for value in final.values()):
            raise DivergenceError(f"the weights became non-finite in meta-step {len(history)}; {REMEDY}")
        return OuterResult(final, history)

    def _count(self, step: int, at_once: int, *, validates: bool) -> int:
        """Return how many steps to take in one call: none of them may be one that somebody looks at but the last."""
        if self.callbacks:
            return 1
        left = self.max_iter - step
        until = VALIDATION_INTERVAL - step % VALIDATION_INTERVAL if validates else left
        return min(at_once, left, until)
