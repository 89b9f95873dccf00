"""The page "Ten questions of a clinic" against the truth that its data were simulated from."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

PAGE = Path(__file__).parent.parent.parent / "docs" / "domains" / "clinic.md"


@pytest.fixture(scope="module")
def page():
    test = doctest.DocTestParser().get_doctest(PAGE.read_text(), {}, "clinic", str(PAGE), 0)
    runner = doctest.DocTestRunner()
    runner.run(test, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0
    return test.globs


def inside(answer, truth):
    assert answer.lower < truth < answer.upper
    assert answer.value == pytest.approx(truth, rel=0.15)


def test_the_answers_hold_the_truth(page):
    def level(time, doses):
        return float(page["concentration"](np.array(time), doses, *page["truth"]["Q"]))

    before = [(0.0, 400.0), (12.0, 400.0), (24.0, 400.0)]
    later = [(36.0, 400.0), (48.0, 400.0), (60.0, 400.0)]
    given = level(72.0, before)
    unit = level(72.0, later) / 400
    inside(page["now"], (4 - given) / unit)
    inside(page["day"], quad(lambda t: level(t, before + later), 36, 60, points=[48.0])[0])
    times = np.linspace(36, 48, 4801)[1:]
    inside(page["above"], 12 * np.mean([level(t, before + later) > 5 for t in times]))
    so_far = [*before, (36.0, 400.0)]
    inside(page["late"], 400 * (4 - level(60.0, so_far)) / level(60.0, [(52.0, 400.0)]))
    inside(page["clearance"](page["Q"]), page["truth"]["Q"][0])


def test_the_first_dose_is_as_uncertain_as_the_population(page):
    rng = np.random.default_rng(0)
    every = [(12.0 * k, 400.0) for k in range(6)]
    cl = 4 * (60 / 70) ** 0.75 * np.exp(0.25 * rng.normal(size=2000))
    volume = 40 * 60 / 70 * np.exp(0.15 * rng.normal(size=2000))
    needed = [400 * 4 / page["concentration"](np.array(72.0), every, *own) for own in zip(cl, volume, strict=True)]
    first = page["first"]
    assert 0.8 < np.mean((np.array(needed) > first.lower) & (np.array(needed) < first.upper)) < 0.97
    assert first.value == pytest.approx(np.median(needed), rel=0.1)
