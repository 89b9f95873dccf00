"""The worked examples of the docs run."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "theory/algorithms.md",
        "guide/classification.md",
        "domains/clinic.md",
        "guide/guard-and-intervals.md",
        "guide/keeping.md",
        "domains/physiology.md",
        "guide/speed.md",
        "domains/trading.md",
    ],
)
def test_worked_examples(page):
    failed, tried = doctest.testfile(str(DOCS / page), module_relative=False)
    assert tried > 0
    assert failed == 0
