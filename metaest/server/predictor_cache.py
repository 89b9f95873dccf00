"""Adapted predictors that are kept for a while, under ids that nobody can guess."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from metaest.server.limits import Limits

__all__ = ["PredictorCache"]


# time between two looks for what expired
SWEEP_SECONDS = 1.0


class _Entry(NamedTuple):
    predictor: Any
    size: int
    until: float


class PredictorCache:
    """Predictors by id, of a bounded number and size, each for a bounded time.

    Used by one thread only.

    Parameters
    ----------
    limits : Limits
    clock : callable, default=time.monotonic
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._next_sweep = 0.0
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, predictor: Any, size: int) -> str | None:
        """Keep a predictor of so many bytes and return its id; None where it is larger than all that is kept."""
        if size > self._limits.keep_bytes or not self._limits.keep:
            return None
        if self._clock() >= self._next_sweep:
            self.sweep()
        # 256 random bits
        name = secrets.token_urlsafe(32)
        self._entries[name] = _Entry(predictor, size, self._clock() + self._limits.expiry_seconds)
        self.size += size
        while len(self._entries) > self._limits.keep or self.size > self._limits.keep_bytes:
            self._drop(next(iter(self._entries)))
        return name

    def get(self, name: str) -> Any:
        """Return a predictor, or None where there is none of this id."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if entry.until <= self._clock():
            self._drop(name)
            return None
        self._entries.move_to_end(name)
        return entry.predictor

    def forget(self, name: str) -> bool:
        """Drop a predictor and tell whether there was one."""
        there = self.get(name) is not None
        if there:
            self._drop(name)
        return there

    def sweep(self) -> None:
        """Drop what expired."""
        now = self._clock()
        self._next_sweep = now + SWEEP_SECONDS
        for name in [name for name, entry in self._entries.items() if entry.until <= now]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self.size -= self._entries.pop(name).size
