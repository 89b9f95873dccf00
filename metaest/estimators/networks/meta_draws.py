"""What meta-steps draw, with the state it is drawn from: random generators, tasks left over, a module's buffers."""

from typing import Any

import numpy as np
import torch
from torch import nn

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.networks.episodes import Batches, Source
from metaest.estimators.networks.schedule import Differentiated, Schedule
from metaest.functional import Episodes
from metaest.functional.generator import Stream
from metaest.functional.outer import State

__all__ = ["KeptWithDraws", "MetaDraws"]


class MetaDraws:
    """Draws the episodes of one meta-step after the other, and how they are differentiated.

    Parameters
    ----------
    source : Source
    batches : Batches
    schedule : Schedule
    module : Module
        Its buffers may change.
    stream : Stream or None
        What a module of the user's draws from.
    """

    def __init__(
        self, source: Source, batches: Batches, schedule: Schedule, module: nn.Module, stream: Stream | None
    ) -> None:
        self.source, self.batches, self.schedule = source, batches, schedule
        self.module, self.stream = module, stream
        self.step = 0

    def __call__(self) -> tuple[Differentiated, Episodes]:
        """Return what the next step differentiates, and its episodes."""
        kind = self.schedule.at(self.step)
        self.step += 1
        return kind, self.source.episodes(next(self.batches))

    def state(self) -> State:
        """Return a copy of what the next draws depend on."""
        return {
            "step": self.step,
            "generator": self.source.rng.bit_generator.state,
            "queue": torch.tensor(self.batches.queue),
            "stream": None if self.stream is None else self.stream.state,
            "buffers": dict(self.module.named_buffers()),
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.step = state["step"]
        self.source.rng.bit_generator.state = state["generator"]
        self.batches.queue = state["queue"].numpy().astype(np.intp)
        if self.stream is not None:
            self.stream.state = state["stream"]
        for name, buffer in self.module.named_buffers():
            buffer.copy_(state["buffers"][name])


class KeptWithDraws:
    """A checkpoint of an outer loop that keeps the state of its draws as well.

    Parameters
    ----------
    checkpoint : Checkpoint
    kept : dict or None
        What was read from it.
    draws : MetaDraws
    further : dict
        Kept as it is.
    """

    def __init__(self, checkpoint: Checkpoint, kept: State | None, draws: MetaDraws, further: dict[str, Any]) -> None:
        self.checkpoint, self.kept, self.draws, self.further = checkpoint, kept, draws, further
        self.every = checkpoint.every

    def load(self) -> State | None:
        """Return the state of the loop, and set that of the draws."""
        if self.kept is None:
            return None
        self.draws.restore(self.kept["draws"])
        loop: State = self.kept["loop"]
        return loop

    def save(self, state: State) -> None:
        """Keep the state of the loop and of the draws."""
        self.checkpoint.save({"loop": state, "draws": self.draws.state(), **self.further})
