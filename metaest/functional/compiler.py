"""The import of torch's compiler, of which optimisers and tracing need a part.

It sets ``TORCHINDUCTOR_CACHE_DIR`` in the environment, which the processes that a user starts inherit, and imports
SymPy, which adds a warning filter (torch 2.13). Two threads that import it at once meet modules that are half there.
"""

import importlib
import os
import threading
import warnings

__all__ = ["import_compiler"]

_LOCK = threading.Lock()
_MODULES = ("torch._dynamo", "torch.fx.experimental.proxy_tensor", "torch._decomp")


def import_compiler() -> None:
    """Import it, one thread at a time, and leave environment and warning filters as they were."""
    with _LOCK:
        environment, filters = set(os.environ), list(warnings.filters)
        for name in _MODULES:
            importlib.import_module(name)
        for name in set(os.environ) - environment:
            if name.startswith("TORCH"):
                del os.environ[name]
        for added in [each for each in warnings.filters if each not in filters]:
            if added[2].__module__.startswith("sympy"):
                warnings.filters.remove(added)  # type: ignore[attr-defined]
