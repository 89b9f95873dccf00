"""Results of the long steps of a fit in a checkpoint, from which a fit that was interrupted goes on.

What lies between these steps is computed again, which is quick and gives the same bits.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.checkpoint import Checkpoint
from metaest.functional.outer import State

__all__ = ["Evaluations", "FitCheckpoint", "LoopCheckpoint"]

T = TypeVar("T")


class Evaluations:
    """The values and gradients of an objective, in the order in which a search asks for them.

    Parameters
    ----------
    u : Tensor of shape (random, tasks)
        The tasks' deviations at the start.
    saved : dict, optional
        The return value of `state` in the fit that was interrupted.

    Attributes
    ----------
    u : Tensor of shape (random, tasks)
        The tasks' deviations at the lowest value so far.
    """

    def __init__(self, u: Tensor, saved: State | None = None) -> None:
        self.u = u if saved is None else saved["u"]
        self.values: list[float] = [] if saved is None else saved["values"].tolist()
        self.gradients: list[Tensor] = [] if saved is None else list(saved["gradients"])
        self.asked = 0

    def next(self, evaluate: Callable[[], tuple[float, Tensor]]) -> tuple[float, NDArray[np.float64]]:
        """Return the next value and gradient; they are evaluated where they were not saved."""
        if self.asked == len(self.values):
            value, gradient = evaluate()
            self.values.append(value)
            self.gradients.append(gradient)
        self.asked += 1
        return self.values[self.asked - 1], self.gradients[self.asked - 1].numpy().copy()

    def state(self) -> State:
        """Return what a search needs to go on."""
        values = torch.tensor(self.values, dtype=torch.float64)
        return {"u": self.u, "values": values, "gradients": torch.stack(self.gradients) if len(values) else values}


class FitCheckpoint:
    """The steps of one fit, in their order.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        Where results are saved; without it they are not.
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self.checkpoint = checkpoint
        saved = None if checkpoint is None else checkpoint.load()
        self._entries: list[Any] = [] if saved is None else saved["entries"]
        self.loops: list[State] = [] if saved is None else saved["loops"]
        self._steps = self._ticks = self._n_loops = 0

    def step(self, compute: Callable[[], T], rebuild: Callable[[Any], T]) -> T:
        """Return the result of the next step.

        Parameters
        ----------
        compute : callable
            Computes the result, where it was not saved.
        rebuild : callable
            Makes the result of what was saved: tensors and numbers, but tuples have become lists.
        """
        if self.checkpoint is None:
            return compute()
        self._steps += 1
        if self._steps <= len(self._entries):
            return rebuild(self._entries[self._steps - 1])
        result = compute()
        self._entries.append(_copied(result))
        self.save()
        return result

    def evaluations(self, u: Tensor) -> Evaluations:
        """Return the record of the next search; see `tick`."""
        if self.checkpoint is None:
            return Evaluations(u)
        self._steps += 1
        if self._steps > len(self._entries):
            self._entries.append(Evaluations(u))
        else:
            self._entries[self._steps - 1] = Evaluations(u, self._entries[self._steps - 1])
        evaluations: Evaluations = self._entries[self._steps - 1]
        return evaluations

    def tick(self) -> None:
        """Count an iteration of the search at work, and save every so often."""
        self._ticks += 1
        if self.checkpoint is None or self._ticks % self.checkpoint.every:
            return
        last = self._entries[-1]
        if self._steps == len(self._entries) and last.asked == len(last.values):
            self.save()

    def loop(self, rng: np.random.Generator, report: Callable[[int, float], None]) -> "LoopCheckpoint | None":
        """Return where the next outer loop saves its state."""
        if self.checkpoint is None:
            return None
        self._n_loops += 1
        return LoopCheckpoint(self, self._n_loops - 1, self.checkpoint.every, rng, report)

    def save(self) -> None:
        """Save all steps so far."""
        if self.checkpoint is not None:
            entries = [entry.state() if isinstance(entry, Evaluations) else entry for entry in self._entries]
            self.checkpoint.save({"entries": entries, "loops": self.loops})


class LoopCheckpoint:
    """The state of an outer loop that is a step of a fit; the loop may be begun anew.

    Parameters
    ----------
    fit : FitCheckpoint
    place : int
        The number of the loop in the fit.
    every : int
    rng : Generator
        The generator that the loop draws from.
    report : callable
        Called with the steps that were taken before.

    Attributes
    ----------
    attempt : int
        Times the loop was begun anew.
    """

    def __init__(
        self,
        fit: FitCheckpoint,
        place: int,
        every: int,
        rng: np.random.Generator,
        report: Callable[[int, float], None],
    ) -> None:
        self.fit, self.place, self.every, self.rng, self.report = fit, place, every, rng, report
        self.saved = fit.loops[place] if place < len(fit.loops) else None
        self.attempt = 0 if self.saved is None else int(self.saved["attempt"])

    def load(self) -> State | None:
        """Return the state of the loop, if it is of this attempt."""
        if self.saved is None or self.saved["attempt"] != self.attempt:
            return None
        self.rng.bit_generator.state = self.saved["generator"]
        loop: State = self.saved["loop"]
        for step, loss in enumerate(loop["progress"]["history"]["meta_loss"].tolist(), 1):
            self.report(step, loss)
        return loop

    def save(self, state: State) -> None:
        """Save the state of the loop."""
        saved = {"attempt": self.attempt, "generator": self.rng.bit_generator.state, "loop": state}
        self.fit.loops[self.place :] = [saved]
        self.fit.save()


def _copied(value: Any) -> Any:
    """Return a copy that later changes in place do not reach."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return [_copied(part) for part in value] if isinstance(value, (list, tuple)) else value
