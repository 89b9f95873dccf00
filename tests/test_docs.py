"""The worked examples of the docs run."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "algorithms.md",
        "classification.md",
        "clinic.md",
        "harm.md",
        "keeping.md",
        "physiology.md",
        "speed.md",
        "trading.md",
    ],
)
def test_worked_examples(page):
    failed, tried = doctest.testfile(str(DOCS / page), module_relative=False)
    assert tried > 0
    assert failed == 0
