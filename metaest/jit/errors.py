"""Reasons not to compile, and which of them are remembered."""

__all__ = ["MomentaryError", "UnavailableError", "UnsupportedError", "is_permanent"]


class UnsupportedError(Exception):
    """A traced function does something that cannot be compiled; the message says what."""


class MomentaryError(UnsupportedError):
    """Tracing failed for lack of memory, or because another thread was tracing; the next attempt may succeed."""


class UnavailableError(RuntimeError):
    """LLVM is missing or fails on this machine; the message says why."""


def is_permanent(error: UnsupportedError | UnavailableError) -> bool:
    """Tell whether the next attempt would fail for the same reason: an unsupported operation, or LLVM not installed.

    Other failures, such as lack of memory, are tried again at the next call.
    """
    if isinstance(error, UnavailableError):
        return isinstance(error.__cause__, ImportError)
    return not isinstance(error, MomentaryError)
