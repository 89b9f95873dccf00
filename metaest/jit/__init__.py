"""A just-in-time compiler for meta-steps, adaptations and equations.

A function of one task, written in torch, is traced (`trace`), written as LLVM's text with one task in each lane of a
vector register (`codegen`) and compiled (`llvm`). The functional core does not import it. A function that cannot be
compiled raises :class:`UnsupportedError` and is left to torch.
"""

from metaest.jit.adapt import CompiledAdaptation
from metaest.jit.codegen.meta_steps import EpisodeShapes, RowsShape
from metaest.jit.equation import CompiledHierarchicalModel
from metaest.jit.errors import UnavailableError, UnsupportedError, is_permanent
from metaest.jit.function import CompiledFunction, padded_rows
from metaest.jit.meta_steps import CompiledMetaSteps, Stage, trace_meta_loss
from metaest.jit.rows import CompiledRows, RowData
from metaest.jit.sampling import MOST_RANKED_ROWS, EpisodeDraws, split_by_keys

__all__ = [
    "MOST_RANKED_ROWS",
    "CompiledAdaptation",
    "CompiledFunction",
    "CompiledHierarchicalModel",
    "CompiledMetaSteps",
    "CompiledRows",
    "EpisodeDraws",
    "EpisodeShapes",
    "RowData",
    "RowsShape",
    "Stage",
    "UnavailableError",
    "UnsupportedError",
    "is_permanent",
    "padded_rows",
    "split_by_keys",
    "trace_meta_loss",
]
