"""The results of the long steps of a search, kept so that a search that was ended takes them from there.

What lies between these steps is worked out again, which is quick and gives the same bits.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.checkpoint import Checkpoint
from metaest.functional.outer import State

__all__ = ["Evaluations", "Journal", "KeptLoop"]

T = TypeVar("T")


class Evaluations:
    """The values and gradients of an objective, in the order in which a search asks for them.

    Parameters
    ----------
    u : Tensor of shape (random, tasks)
        The tasks' constants at the start.
    kept : dict, optional
        What `state` returned.

    Attributes
    ----------
    u : Tensor of shape (random, tasks)
        At the lowest value so far.
    """

    def __init__(self, u: Tensor, kept: State | None = None) -> None:
        self.u = u if kept is None else kept["u"]
        self.values: list[float] = [] if kept is None else kept["values"].tolist()
        self.gradients: list[Tensor] = [] if kept is None else list(kept["gradients"])
        self.asked = 0

    def next(self, evaluate: Callable[[], tuple[float, Tensor]]) -> tuple[float, NDArray[np.float64]]:
        """Return the next value and gradient; they are evaluated where they were not kept."""
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


class Journal:
    """The steps of one fit, in their order.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        Where they are kept; without it nothing is.
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self.checkpoint = checkpoint
        kept = None if checkpoint is None else checkpoint.load()
        self._entries: list[Any] = [] if kept is None else kept["entries"]
        self.loops: list[State] = [] if kept is None else kept["loops"]
        self._steps = self._ticks = self._n_loops = 0

    def step(self, compute: Callable[[], T], rebuild: Callable[[Any], T]) -> T:
        """Return the result of the next step.

        Parameters
        ----------
        compute : callable
        rebuild : callable
            From what was kept to the result: tensors and numbers, but tuples have become lists.
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
        """Count an iteration of the search at work, and keep it every so often."""
        self._ticks += 1
        if self.checkpoint is None or self._ticks % self.checkpoint.every:
            return
        last = self._entries[-1]
        if self._steps == len(self._entries) and last.asked == len(last.values):
            self.save()

    def loop(self, rng: np.random.Generator, report: Callable[[int, float], None]) -> "KeptLoop | None":
        """Return where the next outer loop keeps its state."""
        if self.checkpoint is None:
            return None
        self._n_loops += 1
        return KeptLoop(self, self._n_loops - 1, self.checkpoint.every, rng, report)

    def save(self) -> None:
        """Keep everything."""
        if self.checkpoint is not None:
            entries = [own.state() if isinstance(own, Evaluations) else own for own in self._entries]
            self.checkpoint.save({"entries": entries, "loops": self.loops})


class KeptLoop:
    """The state of an outer loop that is a step of a journal; the loop may be begun anew.

    Parameters
    ----------
    journal : Journal
    place : int
        Which of its loops.
    every : int
    rng : Generator
        What the loop draws from.
    report : callable
        Told of the steps that were taken before.

    Attributes
    ----------
    attempt : int
        Times the loop was begun anew.
    """

    def __init__(
        self, journal: Journal, place: int, every: int, rng: np.random.Generator, report: Callable[[int, float], None]
    ) -> None:
        self.journal, self.place, self.every, self.rng, self.report = journal, place, every, rng, report
        self.kept = journal.loops[place] if place < len(journal.loops) else None
        self.attempt = 0 if self.kept is None else int(self.kept["attempt"])

    def load(self) -> State | None:
        """Return the state of the loop, if it is of this attempt."""
        if self.kept is None or self.kept["attempt"] != self.attempt:
            return None
        self.rng.bit_generator.state = self.kept["generator"]
        loop: State = self.kept["loop"]
        for step, loss in enumerate(loop["progress"]["history"]["meta_loss"].tolist(), 1):
            self.report(step, loss)
        return loop

    def save(self, state: State) -> None:
        """Keep the state of the loop."""
        kept = {"attempt": self.attempt, "generator": self.rng.bit_generator.state, "loop": state}
        self.journal.loops[self.place :] = [kept]
        self.journal.save()


def _copied(value: Any) -> Any:
    """Return a copy that later changes in place do not reach."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return [_copied(own) for own in value] if isinstance(value, (list, tuple)) else value
