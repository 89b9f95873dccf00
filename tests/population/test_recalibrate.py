"""Whether a model fits tasks of one's own: shifts of constants, coverage of intervals, and the updated model."""

import copy
import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from metaest import (
    CoverageWarning,
    EquationRegressor,
    IdentifiabilityWarning,
    Parameter,
    Population,
    TaskError,
    UnlikelyTaskWarning,
    load,
    save,
)
from metaest.estimators.equations.local_bias import bias_of
from metaest.estimators.equations.local_coverage import Outcomes, conformal_outcomes, coverage
from metaest.estimators.equations.settings import FitSettings
from metaest.population import Block, NoiseModel, Power, Provenance
from metaest_domains.kinetics import JMAKArrheniusRegressor
from metaest_domains.physiology import OneCompartmentRegressor, Regimen

TIMES = np.array([[0.5], [2.0], [5.0], [9.0]])
DIAGONAL = Block(sd={"start": 0.3, "rate": 0.2})


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def published(rate=0.2, **changes):
    parts = {
        "constants": {"start": Parameter(10.0, lower=0, unit="mg/L"), "rate": Parameter(rate, lower=0, unit="1/h")},
        "between_tasks": DIAGONAL,
        "noise": NoiseModel("combined", sd=0.1, cv=0.1),
        "columns": {"time": "h"},
    }
    return Population(**{**parts, **changes})


def keeping(population, **settings):
    return EquationRegressor.from_population(decay, population, random_state=0, **settings)


def bias(model, tasks):
    return bias_of(FitSettings.of(clone(model).set_params(prior_weight="auto")), model._fitted, tasks, 0.9)


def test_intervals_of_a_shift_cover_it_at_their_rate_and_tell_a_quarter_from_none():
    model, shifted = keeping(published()), keeping(published(rate=0.25))
    covers, tells, p_values = np.zeros(2), 0, []
    for seed in range(25):
        right = bias(model, model.simulate_tasks(TIMES, 8, random_state=seed))
        covers += (right.table["scaled_lower"] <= 0) & (right.table["scaled_upper"] >= 0)
        p_values.append(right.p_value)
    for seed in range(6):
        wrong = bias(model, shifted.simulate_tasks(TIMES, 20, random_state=seed)).table.loc["rate"]
        tells += wrong["change_lower"] > 0
        assert abs(wrong["change"] - 0.25) < 0.2
    # of 25 replicates 22 or 23 are expected, and fewer than 19 come once in a hundred
    assert (covers >= 19).all()
    assert tells >= 5
    assert 0.3 < np.mean(p_values) < 0.75


def test_shrinkage_is_taken_out():
    """Constants of single tasks are drawn to the population by noise; their typical value is not."""
    scarce = {"noise": NoiseModel("combined", sd=1.0, cv=0.2)}
    model, local = keeping(published(**scarce)), keeping(published(rate=0.3, **scarce))
    tasks = local.simulate_tasks(TIMES, 100, random_state=1)
    with pytest.warns(IdentifiabilityWarning):
        shrunk = model.adapt_many(tasks).params_["rate"].median()
    row = bias(model, tasks).table.loc["rate"]
    assert shrunk < 0.27
    assert row["local"] == pytest.approx(0.3, rel=0.1)
    assert row["change"] == pytest.approx(row["local"] / 0.2 - 1)


def test_the_covariates_of_tasks_are_no_shift():
    covariate = {
        "covariates": {"rate": Power("weight", -0.5, reference=70)},
        "columns": {"time": "h", "weight": "kg"},
        "provenance": Provenance(ranges={"weight": (60, 90)}),
    }
    model = keeping(published(**covariate))
    tasks = model.simulate_tasks([np.column_stack([TIMES, np.full(4, 35.0)])], 40, random_state=0)
    assert abs(bias(model, tasks).table["change"]["rate"]) < 0.1
    with pytest.warns(UnlikelyTaskWarning, match="recalibrate: 'weight' is 35"):
        model.recalibrate(tasks[:1])


@pytest.fixture(scope="module")
def result():
    return keeping(published()).recalibrate(keeping(published(rate=0.3)).simulate_tasks(TIMES, 12, random_state=0))


def test_what_is_said_is_said_in_words_and_numbers(result, tmp_path):
    text = str(result)
    assert "12 tasks of yours, 48 rows; intervals of 90 %" in text
    assert "rate of your tasks is" in text
    assert re.search(r"rate of your tasks is \d+ % above the model's \(interval \d+ to \d+ %\)\n", text)
    assert "Your tasks do not follow this model (p = " in result.verdict
    assert "above all rate: take `model`" in result.verdict
    assert result.p_value < 0.05
    frame = result.to_frame()
    assert frame["what"].value_counts().to_dict() == {"coverage": 6, "typical value": 2}
    assert frame.loc[1, ["of", "expected"]].tolist() == ["rate", 0.2]
    assert (frame["lower"] <= frame["estimate"]).all()
    assert (frame["estimate"] <= frame["upper"]).all()
    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert str(again) == text
    save(result.model, tmp_path / "model.metaest")
    again = load(tmp_path / "model.metaest", equation=decay)
    interval = result.model.predict_interval(TIMES, method="conformal")
    np.testing.assert_array_equal(again.predict_interval(TIMES, method="conformal"), interval)


def test_a_difference_that_rounds_to_nothing_has_no_side(result):
    def lines(**numbers):
        return str(replace(result, bias=result.bias.assign(**numbers)))

    chance = {"told": True, "scaled_lower": -0.1, "scaled_upper": 0.1, "change_lower": -0.1, "change_upper": 0.11}
    assert "rate of your tasks is as the model's (interval 10 % below to 11 % above)\n" in lines(
        **chance, change=-0.004
    )
    text = lines(**chance, change=-0.006)
    assert (
        "rate of your tasks is 1 % below the model's (interval 10 % below to 11 % above), which may be chance\n" in text
    )
    ends = {**chance, "change_lower": -0.001, "change": 0.05}
    assert "rate of your tasks is 5 % above the model's (interval 0 % to 11 % above)" in lines(**ends)


def test_the_updated_model_is_one_that_an_update_makes(result):
    model = keeping(published())
    tasks = keeping(published(rate=0.3)).simulate_tasks(TIMES, 12, random_state=0)
    expected = clone(model).set_params(prior_weight="auto").fit(tasks)
    assert result.model.population_.equals(expected.population_)
    assert result.model.adapt(TIMES[:3], [8.0, 5.0, 3.0]).predict_interval(TIMES, method="conformal").n_tasks == 12
    covered = result.coverage.set_index(["rows", "intervals"])["covered"]
    assert covered["before any row", "updated"] > covered["before any row", "as it was"]
    with pytest.raises(TaskError, match="recalibrate: task 'simulated 1' was in the fit"):
        result.model.recalibrate(tasks)


def test_the_model_is_untouched_and_the_answer_the_same_twice():
    model = keeping(published())
    before = pickle.dumps(model)
    tasks = model.simulate_tasks(TIMES, 2, random_state=3)
    one, other = (model.recalibrate(tasks, support_size=2, level=0.8) for _ in range(2))
    assert pickle.dumps(model) == before
    assert model._conformal is None
    assert one.bias.equals(other.bias)
    assert one.coverage.equals(other.coverage)
    assert "2 tasks can show great differences only" in one.verdict


def test_one_task_and_tasks_of_one_row_are_answered():
    model = keeping(published())
    one = model.recalibrate(model.simulate_tasks(TIMES, 1, random_state=0))
    assert "updated too few tasks" in str(one)
    assert one.model._conformal is None
    assert str(one).count("which your rows hardly tell") == int((~one.bias["told"]).sum())
    single = model.recalibrate(model.simulate_tasks(TIMES[:1], 3, random_state=0))
    assert "one step ahead: no task has a second row" in str(single)
    assert re.search(r"rate of your tasks is .* % below to .* % above\), which your rows hardly tell", str(single))
    with pytest.warns(CoverageWarning, match="3 calibration tasks cannot promise"):
        single.model.predict_interval(TIMES, method="conformal")


@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")  # the local rate is twice the population's
def test_a_fitted_model_is_asked_as_a_published_one():
    truth = keeping(published())
    fitted = EquationRegressor(
        decay, published().constants, covariance="diagonal", noise="combined", random_state=0, small_sample="none"
    ).fit(truth.simulate_tasks(TIMES, 20, random_state=0))
    local = keeping(published(rate=0.4)).simulate_tasks(TIMES, 3, random_state=9)
    result = fitted.recalibrate(local)
    assert result.bias["population"]["rate"] == pytest.approx(fitted.population_["value"]["rate"])
    assert 0.25 < result.bias["local"]["rate"] < 0.6
    assert result.model.n_tasks_ == 3
    assert result.model.prior == fitted.to_population()


def test_a_model_of_a_catalogue():
    drug = Population(
        {"clearance": Parameter(4.0, lower=0, unit="L/h"), "volume": Parameter(60.0, lower=0, unit="L")},
        Block(cv={"clearance": 0.3, "volume": 0.2}),
        NoiseModel("proportional", cv=0.1),
        columns={"time": "h", "dose": "mg"},
        equation="OneCompartmentRegressor",
        settings={"route": "iv"},
    )
    model = OneCompartmentRegressor.from_population(drug, n_doses=2)
    other = OneCompartmentRegressor.from_population(
        replace(drug, constants={**drug.constants, "clearance": Parameter(6.0, lower=0, unit="L/h")}), n_doses=2
    )
    doses = Regimen.repeated(500.0, interval=12, n=2)
    tasks = other.simulate_tasks([model.rows(doses, [2.0, 11.0, 23.0])], 4, random_state=0)
    result = model.recalibrate(tasks)
    assert isinstance(result.model, OneCompartmentRegressor)
    assert result.bias["change"]["clearance"] > 0.1


def test_rows_in_another_unit_are_no_model_that_fits():
    model = keeping(published())
    tasks = [(task.X, task.y) for task in model.simulate_tasks(TIMES, 6, random_state=0)]
    with pytest.warns(UnlikelyTaskWarning, match="no curve of this population comes near .* 6 of 6 tasks"):
        result = model.recalibrate([(X, 1000 * y) for X, y in tasks])
    assert result.verdict.startswith("No curve of this model comes near the rows of 6 of 6 tasks (0 and others): check")
    assert "Nothing speaks against" not in result.verdict
    with pytest.warns(UnlikelyTaskWarning):
        result = model.recalibrate([(X, y * (1 + 999 * (i == 2))) for i, (X, y) in enumerate(tasks)])
    assert "1 of 6 tasks (2)" in result.verdict


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        ([], {}, "no task"),
        ({"a": (TIMES, np.ones((4, 2)))}, {}, "fitted on 1 target"),
        ({}, {}, "no task"),
        ({"a": (TIMES, [1.0, 2.0, np.nan, 1.0])}, {}, "task 'a'.*(NaN|missing)"),
        ({"a": (np.hstack([TIMES, TIMES]), np.ones(4))}, {}, "2 features, .*recalibrate"),
        ({"a": (pd.DataFrame({"hour": TIMES[:, 0]}), np.ones(4))}, {}, "hour"),
        ({"a": (-1e5 * TIMES, np.ones(4))}, {}, "task 'a': the equation is inf in row 0"),
        ({"a": (TIMES, np.ones(4))}, {"level": 1.0}, "level must be"),
        ({"a": (TIMES, np.ones(4))}, {"support_size": 4}, "no task has more than 4 rows"),
        ({"a": (TIMES, np.ones(4))}, {"support_size": "all"}, "support_size"),
        ({"a": (TIMES, np.ones(4))}, {"sample_weight": [1.0, 1.0]}, "sample_weight"),
    ],
)
def test_what_cannot_be_used_is_refused(tasks, settings, message):
    with pytest.raises((TaskError, ValueError), match=message):
        keeping(published()).recalibrate(tasks, **settings)


def test_what_a_population_does_not_hold_is_refused():
    tasks = keeping(published()).simulate_tasks(TIMES, 8, random_state=0)
    fitted = EquationRegressor(decay, published().constants, noise_correlation="ar1", random_state=0, max_iter=3)
    with pytest.warns(), pytest.raises(ValueError, match="noise_correlation"):
        fitted.fit(tasks).recalibrate(tasks)


def test_shares_count_rows_of_one_task_as_few():
    task, ones = np.repeat(np.arange(10), 10), np.ones(100)
    together = Outcomes(task, task >= 3, ones, ones, ones)
    apart = Outcomes(task, np.arange(100) % 10 >= 3, ones, ones, ones)
    one, other = (coverage(outcomes, 0.9, False) for outcomes in (together, apart))
    assert one["covered"] == other["covered"] == 0.7
    assert one["upper"] - one["lower"] > 1.3 * (other["upper"] - other["lower"])
    # Clopper and Pearson's interval of 70 of 100
    assert stats.binom.sf(69, 100, other["lower"]) == pytest.approx(0.05)
    assert stats.binom.cdf(70, 100, other["upper"]) == pytest.approx(0.05)
    assert np.isnan(coverage(Outcomes.join([]), 0.9, False)["covered"])


def test_conformal_widths_are_those_of_the_other_tasks():
    score = np.arange(1.0, 11.0)
    outcomes = Outcomes(np.arange(10), np.ones(10, bool), np.ones(10), score, np.full(10, 2.0))
    judged = conformal_outcomes(outcomes, 0.5)
    np.testing.assert_array_equal(judged.width, 4 * np.where(score <= 5, 6.0, 5.0))
    np.testing.assert_array_equal(judged.inside, score <= 5)
    assert np.isinf(conformal_outcomes(outcomes, 0.95).width).all()
    assert np.isinf(conformal_outcomes(Outcomes(*(part[:1] for part in outcomes)), 0.5).width).all()


def test_a_model_without_variation_is_held_against_intervals_alone():
    model = keeping(published(between_tasks=()))
    result = model.recalibrate(keeping(published()).simulate_tasks(TIMES, 4, random_state=0))
    assert "No constant of this model varies between tasks" in str(result)
    assert result.verdict.endswith("Its intervals are too narrow for them: take those of `model`.")
    assert np.isnan(result.p_value)


def test_what_a_fit_of_a_catalogue_has_read_off_its_tasks_is_kept():
    def alloy(rng, temperature):
        k, n = 0.2 * np.exp(0.3 * rng.normal()), 2.0 * np.exp(0.1 * rng.normal())
        rows = pd.DataFrame({"time": TIMES[:, 0], "temperature": temperature})
        return rows, np.clip(1 - np.exp(-((k * TIMES[:, 0]) ** n)) + 0.01 * rng.normal(size=4), 0, 1)

    rng = np.random.default_rng(0)
    model = JMAKArrheniusRegressor(random=["k_ref"])
    model.fit({f"alloy {i}": alloy(rng, 600.0 + i) for i in range(8)})
    result = model.recalibrate({f"local {i}": alloy(rng, 603.0) for i in range(2)})
    assert result.model.get_params()["fixed"] == model.to_population().settings["fixed"]
    assert result.bias.index.tolist() == ["k_ref"]
