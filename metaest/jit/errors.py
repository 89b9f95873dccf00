"""Reasons not to compile, and which of them are remembered."""

__all__ = ["MomentaryError", "UnavailableError", "UnsupportedError", "is_permanent"]


class UnsupportedError(Exception):
    """A traced function does something that lanes do not know; the message says what."""


class MomentaryError(UnsupportedError):
    """Tracing failed for want of memory, or because another thread traced; the next attempt may succeed."""


class UnavailableError(RuntimeError):
    """LLVM cannot be had here; the message says why."""


def is_permanent(error: UnsupportedError | UnavailableError) -> bool:
    """Tell whether the next attempt would fail alike: an operation without machine code, or LLVM not installed.

    Everything else, such as want of memory, is tried again at the next call.
    """
    if isinstance(error, UnavailableError):
        return isinstance(error.__cause__, ImportError)
    return not isinstance(error, MomentaryError)
