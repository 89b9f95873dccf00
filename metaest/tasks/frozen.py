"""Arrays that stay read-only in copies: numpy forgets the flag when an array is pickled or copied deeply."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["StaysReadOnly", "read_only"]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array after making it read-only."""
    array.flags.writeable = False
    return array


class StaysReadOnly:
    """A mix-in for objects that never change: their arrays are read-only in unpickled and deep copies, too."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            if isinstance(value, np.ndarray):
                read_only(value)
        self.__dict__.update(state)
