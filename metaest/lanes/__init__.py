"""Meta-steps in machine code: the meta-gradient of one task is traced from torch, and worked out with a task a lane.

The functional core does not know of it. What cannot be compiled raises :class:`UnsupportedError` and is left to torch.
"""

from metaest.lanes.adapting import LaneAdapter, padded_rows
from metaest.lanes.arrays import UnsupportedError
from metaest.lanes.draws import ORDERED, Draws, ordered
from metaest.lanes.equation import LaneModel
from metaest.lanes.function import LaneFunction
from metaest.lanes.native import UnavailableError
from metaest.lanes.reasons import lasts
from metaest.lanes.steps import LaneSteps
from metaest.lanes.steps_text import Side
from metaest.lanes.trace import Shapes, traced

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
