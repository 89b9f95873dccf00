"""Meta-steps in machine code: the meta-gradient of one task is traced from torch, and worked out with a task a lane.

The functional core does not know of it. What cannot be compiled raises :class:`UnsupportedError` and is left to torch.
"""

from metaest.jit.adapt import CompiledAdaptation
from metaest.jit.codegen.meta_steps import EpisodeShapes, RowsShape
from metaest.jit.equation import CompiledHierarchicalModel
from metaest.jit.errors import UnavailableError, UnsupportedError, is_permanent
from metaest.jit.function import CompiledFunction, padded_rows
from metaest.jit.meta_steps import CompiledMetaSteps, trace_meta_loss
from metaest.jit.sampling import MOST_RANKED_ROWS, EpisodeDraws, split_by_keys

__all__ = [
    "MOST_RANKED_ROWS",
    "CompiledAdaptation",
    "CompiledFunction",
    "CompiledHierarchicalModel",
    "CompiledMetaSteps",
    "EpisodeDraws",
    "EpisodeShapes",
    "RowsShape",
    "UnavailableError",
    "UnsupportedError",
    "is_permanent",
    "padded_rows",
    "split_by_keys",
    "trace_meta_loss",
]
