"""torch's global generator, which many threads share and layers such as dropout can only draw from.

A thread that seeds or restores it holds a lock meanwhile: otherwise the draws of two fits mix, or one fit restores the
state of another. Locks are taken in this order, and none is asked for while a later one is held: those of
programs that are compiled at their first use, the generator, torch's compiler (``metaest.functional.compiler``), a
module's own (``ModuleForward``), attention.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Stream", "seeded", "undrawn"]

_GENERATOR = threading.RLock()


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave torch's global generator as it was; one thread at a time."""
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generator as if seeded, and leave it as it was; one thread at a time."""
    with undrawn():
        torch.manual_seed(seed)
        yield


class Stream:
    """Draws from torch's global generator that go on where this stream's last ones ended, whoever drew in between.

    The generator is held for a call at a time, and not for a whole fit, so that other fits and adaptations go on.

    Parameters
    ----------
    seed : int

    Attributes
    ----------
    state : Tensor
        State of the generator from which the next draw is taken.

    Examples
    --------
    >>> import torch
    >>> from metaest.functional.generator import Stream, seeded
    >>> stream = Stream(3)
    >>> with stream.drawing():
    ...     first = torch.rand(1)
    >>> with stream.drawing():
    ...     second = torch.rand(1)
    >>> with seeded(3):
    ...     bool(torch.equal(torch.rand(2), torch.cat([first, second])))
    True
    """

    def __init__(self, seed: int) -> None:
        with seeded(seed):
            self.state = torch.get_rng_state()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw from the stream; one thread at a time."""
        with undrawn():
            torch.set_rng_state(self.state)
            try:
                yield
            finally:
                self.state = torch.get_rng_state()
