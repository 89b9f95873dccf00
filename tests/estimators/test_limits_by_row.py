"""Limits of quantification that differ between rows, upper ones, and intervals, in an equation regressor."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from metaest import EquationRegressor, Parameter, TaskError, TaskSet, load, save
from metaest.population import Block, NoiseModel, Population

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")

CONSTANTS = {"rate": Parameter(0.5, lower=0), "start": Parameter(8, lower=0)}
BY_ROW = {"limit": "lloq", "upper_limit": "uloq"}


def decay(X, rate, start):
    return start * torch.exp(-rate * X[:, 0])


def frame_of(n, seed, code=-9.0):
    """Patients of two laboratories, each with its own lower limit; samples of one saturate."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(n):
        t = np.linspace(0.5, 10, 10)
        y = 10 * np.exp(0.2 * rng.normal() - 0.4 * np.exp(0.2 * rng.normal()) * t) + 0.3 * rng.normal(size=10)
        lloq, uloq = (1.0, 50.0) if i % 2 else (2.0, 7.0)
        recorded = np.where(y < lloq, code, np.where(y > uloq, 99.0, y))
        parts.append(pd.DataFrame({"id": f"{seed}-{i}", "t": t, "lloq": lloq, "from": 0.0, "uloq": uloq,
                                   "y": recorded, "truth": y}))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def tasks_of(frame, target="y", features=("t", "lloq", "from", "uloq")):
    return TaskSet.from_frame(frame, task="id", features=list(features), target=target)


def fitted(tasks, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EquationRegressor(decay, CONSTANTS, random_state=0, **settings).fit(tasks)


def test_equal_limits_of_rows_are_one_limit():
    frame = frame_of(12, 0).assign(lloq=1.5, uloq=8.0)
    frame["y"] = frame.truth.where(frame.truth >= 1.5, 0.0).where(frame.truth <= 8, 99.0)
    by_row, by_number = fitted(tasks_of(frame), **BY_ROW), fitted(tasks_of(frame), limit=1.5, upper_limit=8.0)
    pd.testing.assert_frame_equal(by_row.population_, by_number.population_, rtol=1e-8)
    assert by_row.log_likelihood_ == pytest.approx(by_number.log_likelihood_, rel=1e-10)
    assert (by_row.limit_, by_number.limit_) == ("lloq", 1.5)


def test_the_numbers_written_beyond_limits_do_not_matter():
    frame = frame_of(14, 1)
    models = []
    for low, high in ((-9.0, 99.0), (0.5, 1e6)):
        other = frame.assign(y=frame.y.replace({-9.0: low, 99.0: high}))
        models.append((fitted(tasks_of(other), **BY_ROW), tasks_of(other)))
    (one, tasks), (two, others) = models
    np.testing.assert_allclose(one.population_["value"], two.population_["value"], rtol=1e-9)
    assert one.score(tasks) == pytest.approx(two.score(others), rel=1e-9)
    ends = [m.adapt(t[0].X, t[0].y).predict_interval(t[0].X) for m, t in models]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-8)


def test_constants_are_not_biased_where_rows_dropped_bias_them():
    frame = frame_of(60, 0)
    full = fitted(tasks_of(frame, "truth", ["t"]))
    censored = fitted(tasks_of(frame), **BY_ROW)
    dropped = fitted(tasks_of(frame[(frame.y > -9) & (frame.y < 99)], "y", ["t"]))
    for name, close in (("rate", 0.015), ("start", 0.3)):
        value = {k: m.population_.loc[name, "value"] for k, m in (("full", full), ("in", censored), ("out", dropped))}
        assert abs(value["in"] - value["full"]) < close
        assert abs(value["out"] - value["full"]) > 2 * abs(value["in"] - value["full"])
    assert float(censored.noise_["sd"]) == pytest.approx(0.3, rel=0.12)


def test_an_interval_says_more_than_a_limit():
    frame = frame_of(12, 2)
    below, between = fitted(tasks_of(frame), **BY_ROW), fitted(tasks_of(frame), limit_from="from", **BY_ROW)
    assert between.log_likelihood_ < below.log_likelihood_  # the probability of a part
    narrow = frame.assign(lloq=np.where(frame.y == -9, frame.truth + 1e-4, frame.lloq))
    narrow["from"] = np.where(frame.y == -9, frame.truth - 1e-4, 0.0)
    narrow["y"] = np.where(frame.y == -9, -99.0, frame.truth)
    exact = fitted(tasks_of(frame, "truth", ["t"]))
    in_intervals = fitted(tasks_of(narrow), limit="lloq", limit_from="from")
    np.testing.assert_allclose(in_intervals.population_["value"], exact.population_["value"], rtol=1e-4)


def test_known_errors_and_weights_beside_limits_of_rows():
    frame = frame_of(12, 3).assign(sd=0.2, w=1.0)
    tasks = tasks_of(frame, features=("t", "lloq", "from", "uloq", "sd"))
    alone = fitted(tasks, **BY_ROW)
    beside = fitted(tasks, measurement_sd="sd", **BY_ROW)
    assert np.hypot(float(beside.noise_["sd"]), 0.2) == pytest.approx(float(alone.noise_["sd"]), rel=1e-4)
    heavy = fitted(tasks.with_rows(sample_weight=np.full(len(tasks.X), 4.0)), **BY_ROW)
    assert float(heavy.noise_["sd"]) == pytest.approx(2 * float(alone.noise_["sd"]), rel=1e-4)
    np.testing.assert_allclose(heavy.population_["value"], alone.population_["value"], rtol=1e-5)


def test_saved_and_cloned_and_from_a_population(tmp_path):
    tasks = tasks_of(frame_of(10, 4))
    model = fitted(tasks, limit_from="from", **BY_ROW)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model", equation=decay)
    X, y = tasks[0].X, tasks[0].y
    np.testing.assert_array_equal(again.adapt(X, y).predict(X), model.adapt(X, y).predict(X))
    population = Population(CONSTANTS, Block(cv={"rate": 0.2, "start": 0.2}), NoiseModel("additive", sd=0.3),
                            columns=dict.fromkeys(["t", "lloq", "from", "uloq"], ""))  # fmt: skip
    kept = EquationRegressor.from_population(decay, population, **BY_ROW)
    below = kept.adapt([[1.0, 3.0, 0.0, 9.0]], [0.0]).params_["value"]
    above = kept.adapt([[1.0, 3.0, 0.0, 9.0]], [10.0]).params_["value"]
    assert below["start"] < kept.population_.loc["start", "value"] < above["start"]


def test_values_at_a_limit_of_rows_are_asked_about():
    frame = frame_of(8, 5)
    frame["y"] = np.where(frame.y == -9, frame.lloq, frame.y)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        EquationRegressor(decay, CONSTANTS, **BY_ROW).fit(tasks_of(frame))
    assert any("observations equal limit='lloq', which counts as measured" in str(each.message) for each in said)


@pytest.mark.parametrize(("settings", "error", "match"), [
    ({"limit": "loq"}, ValueError, "limit: there is no column 'loq'"),
    ({"limit_from": 0.0}, ValueError, "limit_from .* needs limit"),
    ({"limit": 1.0, "limit_from": 2.0}, ValueError, "limit_from=2.0 must be below limit=1.0"),
    ({"limit": 9.0, "upper_limit": 2.0}, ValueError, "limit=9.0 must be below upper_limit=2.0"),
    ({"upper_limit": 9.0, "objective": "query"}, ValueError, "upper_limit needs objective='evidence'"),
    ({"limit": "uloq", "upper_limit": "lloq"}, TaskError, "task '6-0': row 0: limit='uloq' is above the upper limit"),
    ({"limit": "lloq", "limit_from": "uloq"}, TaskError, "limit_from='uloq' is not below the limit"),
    ({"limit": "from", "noise": "lognormal"}, TaskError, "needs a limit above 0"),
])  # fmt: skip
def test_what_is_refused(settings, error, match):
    with pytest.raises(error, match=match):
        EquationRegressor(decay, CONSTANTS, **settings).fit(tasks_of(frame_of(4, 6)))
