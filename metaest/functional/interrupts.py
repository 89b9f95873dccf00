"""Ctrl-C during long calls of C and during tracing: raised at once, and neither lost nor able to break an import."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

__all__ = ["interrupts_raised", "run_in_thread"]

T = TypeVar("T")
# seconds between two looks for signals, on systems where a signal does not end the waiting of a thread
PATIENCE = 0.1


def run_in_thread(work: Callable[[], T], *, daemon: bool = False) -> T:
    """Call a function in a new thread, wait for it, and return its result or raise its error.

    It is for a long call of C, during which Python handles no signal, and for an import, which must not
    end in the middle: the next attempt would fail on the modules that were there already. A ``KeyboardInterrupt``
    reaches the waiting thread at once, and the function runs to its end.

    Parameters
    ----------
    work : callable
    daemon : bool, default=False
        Whether the process may end while the work goes on, which a library in C may not survive.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="metaest-work", daemon=daemon).start()
    while not wait([outcome], PATIENCE).done:
        pass
    return outcome.result()


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Raise at the end of a block the ``KeyboardInterrupt`` that Python dropped in it.

    Python prints and drops what is raised in a finaliser or in the callback of a weak reference. torch has many of them
    while it traces: one of fifty interrupts was lost. Handlers of the user's are called as before.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    raised: list[BaseException] = []

    def press(number: int, frame: FrameType | None) -> None:
        try:
            before(number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is press:
            signal.signal(signal.SIGINT, before)
        if raised and not isinstance(sys.exc_info()[1], type(raised[0])):
            raise raised[0]
