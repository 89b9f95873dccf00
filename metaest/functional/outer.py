"""The one outer loop: meta-steps, validation, early stopping, callbacks and the record of it all."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from metaest.exceptions import DivergenceError
from metaest.functional.progress import Bar
from metaest.functional.steps import REMEDY, AdamW, EagerSteps, State, Steps
from metaest.functional.types import Params

__all__ = ["Callback", "Checkpoint", "History", "OuterLoop", "OuterResult", "StepInfo"]

VALIDATION_INTERVAL = 10
_logger = logging.getLogger("metaest.fit")
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

    def state(self) -> State:
        """Return a copy as tensors; a missing validation loss is not a number."""
        validation = [math.nan if loss is None else loss for loss in self.validation_loss]
        columns = {"meta_loss": self.meta_loss, "validation_loss": validation, "seconds": self.seconds}
        return {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.meta_loss, self.seconds = state["meta_loss"].tolist(), state["seconds"].tolist()
        self.validation_loss = [None if math.isnan(loss) else loss for loss in state["validation_loss"].tolist()]

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


class Checkpoint(Protocol):
    """Where the loop keeps its state, so that a run that was ended can go on with the same bits.

    Attributes
    ----------
    every : int
        Meta-steps from one state that is kept to the next.
    """

    every: int

    def load(self) -> State | None:
        """Return the state that was kept last, or None where there is none."""

    def save(self, state: State) -> None:
        """Keep a state."""


@dataclass
class _Progress:
    """The record of a run, and the best parameters so far where there are validation losses."""

    history: History = field(default_factory=History)
    best: float = math.inf
    best_step: int = 0
    best_params: Params | None = None

    def judge(self, loss: float, params: Params) -> None:
        """Take note of a validation loss."""
        step = len(self.history)
        if not math.isfinite(loss):
            raise DivergenceError(f"the validation loss became non-finite in meta-step {step}; {REMEDY}")
        self.history.validation_loss[-1] = loss
        if loss < self.best:
            self.best, self.best_step, self.best_params = loss, step, params

    def state(self) -> State:
        best = {"best": self.best, "best_step": self.best_step, "best_params": self.best_params}
        return {"history": self.history.state(), **best}

    def restore(self, state: State) -> None:
        self.history.restore(state["history"])
        self.best, self.best_step, self.best_params = state["best"], state["best_step"], state["best_params"]


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
        checkpoint: Checkpoint | None = None,
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
        checkpoint : Checkpoint, optional
            Where the run goes on from, and keeps its state. What `draw` gives next is not part of that state.

        Returns
        -------
        OuterResult

        Raises
        ------
        DivergenceError
            When a meta-loss or its gradient is not finite.
        """
        steps = EagerSteps(self, params, draw, task_losses, parts) if steps is None else steps
        progress = _Progress()
        if checkpoint is not None and (kept := checkpoint.load()) is not None:
            progress.restore(kept["progress"])
            steps.restore(kept["steps"])
        history = progress.history
        started = time.perf_counter() - (history.seconds[-1] if history else 0.0)
        with Bar(self.verbose, self.max_iter, "meta-steps", "step") as bar:
            bar.advance(len(history))
            while (step := len(history)) < self.max_iter:
                every = None if checkpoint is None else checkpoint.every
                count = self._count(step, steps.at_once, every, validates=validate is not None)
                history.add(steps.advance(count), time.perf_counter() - started)
                step += count
                if validate is not None and (step % VALIDATION_INTERVAL == 0 or step == self.max_iter):
                    progress.judge(validate(steps.params()), steps.params())
                    history.seconds[-1] = time.perf_counter() - started
                info = history[-1]
                bar.advance(count)
                if step // VALIDATION_INTERVAL > (step - count) // VALIDATION_INTERVAL:
                    bar.say(meta_loss=f"{info.meta_loss:.4g}")
                # every callback sees every step, also the one in which another asks to stop
                stop = [callback(info) is True for callback in self.callbacks]
                settled = progress.best_params is not None and step - progress.best_step >= self.n_iter_no_change
                if any(stop) or settled:
                    break
                if checkpoint is not None and step % checkpoint.every == 0:
                    checkpoint.save({"progress": progress.state(), "steps": steps.state()})
        final = steps.params() if progress.best_params is None else progress.best_params
        if not all(bool(torch.isfinite(value).all()) for value in final.values()):
            raise DivergenceError(f"the weights became non-finite in meta-step {len(history)}; {REMEDY}")
        best = None if progress.best_params is None else (progress.best_step, progress.best)
        _tell(history, self.max_iter, best)
        return OuterResult(final, history)

    def _count(self, step: int, at_once: int, every: int | None, *, validates: bool) -> int:
        """Return how many steps to take in one call: none of them may be one that somebody looks at but the last."""
        if self.callbacks:
            return 1
        looks = [VALIDATION_INTERVAL] * validates + ([] if every is None else [every])
        return min(at_once, self.max_iter - step, *(look - step % look for look in looks))


def _tell(history: History, max_iter: int, best: tuple[int, float] | None) -> None:
    """Log where the steps ended, and which weights are returned."""
    if not len(history):
        return
    early = "" if len(history) == max_iter else f", before max_iter={max_iter}"
    _logger.info("%d meta-steps%s; last meta-loss %.4g", len(history), early, history.meta_loss[-1])
    if best is not None:
        _logger.info("weights are those of meta-step %d, of the least validation loss %.4g", *best)
    seconds = history.seconds[-1]
    _logger.debug("meta-steps took %.3f s, %.3g ms each", seconds, 1e3 * seconds / len(history))
