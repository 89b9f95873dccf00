"""Meta-steps in machine code: the meta-gradient of one task is traced from torch, and worked out with a task a lane.

The functional core does not know of it. What cannot be compiled raises :class:`UnsupportedError` and is left to torch.
"""

from metaest.jit.adapt import LaneAdapter
from metaest.jit.codegen.meta_steps import Shapes, Side
from metaest.jit.equation import LaneModel
from metaest.jit.errors import UnavailableError, UnsupportedError, lasts
from metaest.jit.function import LaneFunction, padded_rows
from metaest.jit.meta_steps import LaneSteps, traced
from metaest.jit.sampling import ORDERED, Draws, ordered

__all__ = [
    "ORDERED",
    "Draws",
    "LaneAdapter",
    "LaneFunction",
    "LaneModel",
    "LaneSteps",
    "Shapes",
    "Side",
    "UnavailableError",
    "UnsupportedError",
    "lasts",
    "ordered",
    "padded_rows",
    "traced",
]
