r"""The one outer loop: meta-steps, validation, early stopping, callbacks and the record of it all.

A meta-step goes from the parameters of one to those of the next by AdamW on the gradient of the meta-loss,

.. math:: \theta \leftarrow \mathrm{Adam}_{\eta_s}\Bigl(\theta, \nabla_\theta \tfrac{1}{T} \sum_t M_t(\theta)\Bigr),
          \qquad \eta_s = \tfrac{\eta}{2}\Bigl(1 + \cos\frac{\pi s}{S}\Bigr).

The rate falls to zero over the whole run (cosine annealing), so that the last parameters are settled ones; weight
decay is decoupled from the gradient (AdamW, arXiv:1711.05101).
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from metaest.exceptions import DivergenceError
from metaest.functional.compiler import import_compiler
from metaest.functional.progress import Bar
from metaest.functional.types import Params

__all__ = [
    "REMEDY",
    "AdamW",
    "Callback",
    "Checkpoint",
    "EagerSteps",
    "History",
    "OuterLoop",
    "OuterResult",
    "State",
    "StepInfo",
    "Steps",
    "require_finite",
]

# meta-steps between two validation losses
VALIDATION_INTERVAL = 10
_logger = logging.getLogger("metaest.fit")
E = TypeVar("E")
# all that a computation needs to be resumed with the same bits: tensors, numbers, text and None, in dicts and lists
State = dict[str, Any]
REMEDY = (
    "lower meta_lr or inner_lr, take fewer inner_steps, set max_grad_norm, or leave standardize=True. "
    "Nothing fitted before was changed."
)


@dataclass(frozen=True)
class AdamW:
    """Settings of AdamW with a rate that falls to zero along a cosine, in `max_iter` steps; see :class:`OuterLoop`."""

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
    """The interface of what takes meta-steps: torch's autograd, or compiled code.

    Attributes
    ----------
    at_once : int
        Steps to take in one call where nothing looks at those between.
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
        """Return a copy of the state that the next steps depend on: parameters, moments, steps taken."""

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""


class EagerSteps(Generic[E]):
    """Steps by torch's autograd, one at a time.

    Parameters
    ----------
    settings : AdamW
    params, draw, task_losses
        As :meth:`OuterLoop.run` takes them.
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
        for leaf, moment in zip(self._leaves, state["moments"], strict=True):
            # moments lie in memory as their parameter does: the fused optimiser asks for no strides
            self._optimiser.state[leaf] = {
                name: value.to(leaf.device) if name == "step" else torch.empty_like(leaf).copy_(value)
                for name, value in moment.items()
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
        detached = []
        totals = [torch.zeros_like(leaf) for leaf in self._leaves]
        for part in parts:
            losses = self.task_losses(self._params, part)
            gradients = torch.autograd.grad(losses.sum(), self._leaves, allow_unused=True)
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total += gradient
            detached.append(losses.detach())
        whole = torch.cat(detached)
        return whole, tuple(total / len(whole) for total in totals)

    def _groups(self) -> list[dict[str, Any]]:
        """Return groups of parameters of equal weight decay, as torch's optimisers take them."""
        groups: dict[float, list[Tensor]] = {}
        for name, value in self._params.items():
            groups.setdefault(self.settings.decay(name), []).append(value)
        return [{"params": values, "weight_decay": decay} for decay, values in groups.items()]


def require_finite(meta_loss: float, norm: float, step: int) -> float:
    """Return a meta-loss, or raise a DivergenceError when it or the norm of its gradient is not finite."""
    if math.isfinite(meta_loss) and math.isfinite(norm):
        return meta_loss
    name = "meta-gradient" if math.isfinite(meta_loss) else "meta-loss"
    raise DivergenceError(f"the {name} became non-finite in meta-step {step}; {REMEDY}")


class StepInfo(NamedTuple):
    """The record of a meta-step, as a callback receives it.

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
            return [self[step] for step in range(*i.indices(len(self)))]
        step = range(len(self))[i]
        return StepInfo(step + 1, self.meta_loss[step], self.validation_loss[step], self.seconds[step])


class OuterResult(NamedTuple):
    """Meta-learned parameters, and the record of the meta-steps."""

    params: Params
    history: History


class Checkpoint(Protocol):
    """A place that stores the state of the loop, so that a run that was ended can be resumed with the same bits.

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
        """Record a validation loss, and the parameters where it is the lowest so far."""
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
            Compiled steps, in place of those by torch's autograd.
        parts : callable, optional
            Episodes -> the same in parts that fit into memory.
        checkpoint : Checkpoint, optional
            Stores the state of the run, and the state to resume from. What `draw` gives next is not part of it.

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
        if checkpoint is not None and (stored := checkpoint.load()) is not None:
            progress.restore(stored["progress"])
            steps.restore(stored["steps"])
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
        """Return how many steps to take in one call: callbacks, validation and checkpoints see the last one only."""
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
