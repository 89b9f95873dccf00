"""How much LLVM optimises in tests: little, which takes a sixth of the time, or as much as for users."""

import os
from contextlib import contextmanager

import pytest

from metaest.estimators.equations import compiled
from metaest.jit.llvm import compile as llvm

# TEST_OPTIMISATION=3 tries the machine code that users run in every test
LITTLE = int(os.environ.get("TEST_OPTIMISATION", "0"))


@contextmanager
def optimised():
    """Compile as for users, programs of equations that are kept in memory among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llvm, "OPTIMISATION", 3)
        patch.setattr(compiled, "_row_programs", type(compiled._row_programs)())
        yield
