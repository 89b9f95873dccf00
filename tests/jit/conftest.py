"""The compiler is tested with the machine code that users run."""

import pytest

from machine_code import optimised


@pytest.fixture(scope="module", autouse=True)
def everything_optimised():
    """Optimise before the fixtures of a module compile."""
    with optimised():
        yield
