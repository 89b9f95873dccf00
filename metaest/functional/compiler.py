"""torch's compiler, of which optimisers and tracing need a part, and what it does to the process.

When it is imported, and when it traces for the first time, it sets ``TORCHINDUCTOR_CACHE_DIR`` in the environment,
which the processes that a user starts inherit, and SymPy adds a warning filter (torch 2.13). Two threads that import it
at once meet modules that are half there.
"""

import importlib
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from metaest.functional.interrupts import run_in_thread

__all__ = ["COMPILER", "import_compiler", "process_kept"]

# held while torch's compiler is imported, or traces: torch patches itself meanwhile
COMPILER = threading.RLock()
# what optimisers and tracing import when they are first used (torch 2.13)
MODULES = (
    "torch._dynamo",
    "torch.fx.experimental.proxy_tensor",
    "torch.fx.experimental.validator",
    "torch._decomp",
    "torch._inductor.compiler_bisector",
    "torch._inductor.fx_passes.dedupe_symint_uses",
)
_imported = threading.Event()


def import_compiler() -> None:
    """Import what optimisers and tracing need, one thread at a time, and leave the process as it was.

    It is done in a thread of its own: an import that Ctrl-C ends in the middle leaves modules behind on which every
    later attempt fails. Do not call it under :func:`process_kept`, for which that thread waits.
    """
    if not _imported.is_set():
        run_in_thread(_import, daemon=True)


def _import() -> None:
    with process_kept():
        for name in MODULES:
            with suppress(ImportError):  # not every version of torch has them all
                importlib.import_module(name)
    _imported.set()


@contextmanager
def process_kept() -> Iterator[None]:
    """Leave environment and warning filters as they were; one thread at a time."""
    with COMPILER:
        environment, filters = set(os.environ), list(warnings.filters)
        try:
            yield
        finally:
            for name in set(os.environ) - environment:
                if name.startswith("TORCH"):
                    del os.environ[name]
            for added in [each for each in warnings.filters if each not in filters]:
                if added[2].__module__.startswith("sympy"):
                    warnings.filters.remove(added)  # type: ignore[attr-defined]
