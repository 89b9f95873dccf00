"""Which reasons not to compile are remembered."""

from metaest.lanes.arrays import MomentaryError, UnsupportedError
from metaest.lanes.native import UnavailableError

__all__ = ["lasts"]


def lasts(error: UnsupportedError | UnavailableError) -> bool:
    """Tell whether the next attempt would fail alike: an operation without machine code, or LLVM not installed.

    Everything else, such as want of memory, is tried again at the next call.
    """
    if isinstance(error, UnavailableError):
        return isinstance(error.__cause__, ImportError)
    return not isinstance(error, MomentaryError)
