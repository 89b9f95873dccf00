"""Models that keep a published population: the same numbers as a fit, and no refitting in silence."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from metaest import (
    EquationRegressor,
    IdentifiabilityWarning,
    Parameter,
    Population,
    TaskError,
    TaskSet,
    UnlikelyTaskWarning,
    load,
    save,
)
from metaest.estimators.equations.published import equation_hash, population_of
from metaest.population import Block, Category, Linear, NoiseModel, Power, Provenance

CONSTANTS = {"start": Parameter(10.0, lower=0, unit="mg/L"), "rate": Parameter(0.2, lower=0, unit="1/h")}
OMEGA = Block(sd={"start": 0.3, "rate": 0.4}, correlation={("start", "rate"): 0.5})
TIMES = np.array([[0.5], [2.0], [5.0], [9.0]])


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def published(**changes):
    parts = {
        "constants": CONSTANTS,
        "between_tasks": OMEGA,
        "noise": NoiseModel("combined", sd=0.2, cv=0.1),
        "columns": {"time": "h"},
    }
    return Population(**{**parts, **changes})


WITH_WEIGHT = {
    "covariates": {"rate": Power("weight", -0.25, reference=70)},
    "columns": {"time": "h", "weight": "kg"},
    "provenance": Provenance("A. Author", ranges={"weight": (40, 120)}),
}


def observed(rate=0.3, start=8.0, times=TIMES):
    return start * np.exp(-rate * times[:, 0]) * np.array([1.05, 0.97, 1.02, 0.9][: len(times)])


def test_constants_are_those_that_minimise_the_objective():
    population = published()
    patient = EquationRegressor.from_population(decay, population).adapt(TIMES, observed())
    precision = np.linalg.inv(population.covariance())

    def objective(theta):
        f = decay(torch.from_numpy(TIMES), *torch.from_numpy(theta)).numpy()
        v = 0.2**2 + (0.1 * f) ** 2
        eta = np.log(theta) - np.log([10.0, 0.2])
        return ((observed() - f) ** 2 / v + np.log(v)).sum() + eta @ precision @ eta

    theta = patient.params_["value"].to_numpy(copy=True)
    best = objective(theta)
    for step in (1e-3, -1e-3):
        for k in range(2):
            assert objective(theta * np.exp(step * (np.arange(2) == k))) > best


def test_a_fitted_model_and_its_population_adapt_alike():
    tasks = EquationRegressor.from_population(decay, published()).simulate_tasks(TIMES, 30, random_state=0)
    model = EquationRegressor(decay, CONSTANTS, noise="combined", random_state=0).fit(tasks)
    again = EquationRegressor.from_population(decay, model.to_population(columns={"time": "h"}))
    one, other = (m.adapt(TIMES[:2], observed()[:2]) for m in (model, again))
    pd.testing.assert_frame_equal(one.params_, other.params_, rtol=1e-6)
    np.testing.assert_allclose(one.predict(TIMES), other.predict(TIMES), rtol=1e-8)
    for part, same in zip(one.predict_interval(TIMES), other.predict_interval(TIMES), strict=True):
        np.testing.assert_allclose(part, same, rtol=1e-5)


@pytest.mark.parametrize(
    "noise",
    [
        NoiseModel("additive", sd=0.2),
        NoiseModel("proportional", cv=0.1, floor=0.01),
        NoiseModel("combined1", sd=0.2, cv=0.05),
        NoiseModel("power", sd_at_1=0.1, power=0.7, floor=0.01),
        NoiseModel("lognormal", sd_log=0.1),
    ],
    ids=lambda noise: noise.kind,
)
def test_every_kind_of_noise_comes_back_from_a_model(noise):
    model = EquationRegressor.from_population(decay, published(noise=noise))
    patient = model.adapt(TIMES, observed())
    low, high = patient.predict_interval(TIMES)
    assert ((low < patient.predict(TIMES)) & (patient.predict(TIMES) < high)).all()
    again = population_of(
        model._fitted, {"time": "h"}, target="", equation="", settings={}, equation_hash="", provenance=Provenance()
    )
    assert again.noise.numbers() == pytest.approx(noise.numbers(), rel=1e-12)
    assert (again.noise.kind, again.noise.floor) == (noise.kind, noise.floor)
    np.testing.assert_allclose(again.covariance(), published().covariance(), rtol=1e-12)


def test_learned_covariates_become_formulas_that_say_the_same():
    tasks = EquationRegressor.from_population(decay, published(**WITH_WEIGHT)).simulate_tasks(
        [np.column_stack([TIMES, np.full(4, weight)]) for weight in np.linspace(45, 115, 12)], 36, random_state=1
    )
    model = EquationRegressor(decay, CONSTANTS, noise="combined", covariates={"rate": ["weight"]}).fit(tasks)
    again = EquationRegressor.from_population(decay, model.to_population())
    rows = pd.DataFrame({"time": TIMES[:, 0], "weight": 55.0})
    np.testing.assert_allclose(model.predict(rows), again.predict(rows), rtol=1e-10)
    np.testing.assert_allclose(
        model.adapt(rows, observed()).predict(rows), again.adapt(rows, observed()).predict(rows), rtol=1e-8
    )


def test_formulas_move_the_constants_of_a_task_without_rows():
    model = EquationRegressor.from_population(decay, published(**WITH_WEIGHT))
    light = model.adapt([], [], covariates={"weight": 40.0})
    assert light.params_["value"]["rate"] == pytest.approx(0.2 * (40 / 70) ** -0.25, rel=1e-12)
    rows = np.column_stack([TIMES, np.full(4, 40.0)])
    np.testing.assert_allclose(model.predict(rows), light.predict(rows), rtol=1e-12)


def test_a_clone_and_a_later_fit_keep_the_population():
    model = EquationRegressor.from_population(decay, published())
    tasks = model.simulate_tasks(TIMES, 12, random_state=0)
    for again in (clone(model).fit([]), clone(model).fit(tasks)):
        pd.testing.assert_frame_equal(again.population_, model.population_)
        assert again.to_population() == published()
    assert again.n_tasks_ == 12
    assert len(again.task_params_) == 12
    assert np.isfinite(again.log_likelihood_)


def test_many_patients_are_adapted_as_one_by_one():
    model = EquationRegressor.from_population(decay, published(**WITH_WEIGHT))
    designs = [np.column_stack([TIMES[: 2 + i % 3], np.full(2 + i % 3, 60.0 + i)]) for i in range(6)]
    tasks = model.simulate_tasks(designs, 6, random_state=0)
    with pytest.warns(IdentifiabilityWarning):
        many = model.adapt_many(tasks)
    with pytest.warns(IdentifiabilityWarning):
        alone = [model.adapt(task.X, task.y) for task in tasks]
    for one, patient in zip(alone, many, strict=True):
        np.testing.assert_allclose(one.params_["value"], patient.params_["value"], rtol=1e-6)


def test_simulated_tasks_follow_the_population():
    model = EquationRegressor.from_population(decay, published(noise=NoiseModel("additive", sd=1e-9)))
    tasks = model.simulate_tasks(TIMES[:2], 4000, random_state=0)
    y = np.log(tasks.y.reshape(-1, 2))
    rate = -(y[:, 1] - y[:, 0]) / 1.5
    start = y[:, 0] + rate * 0.5
    deviations = np.column_stack([start - np.log(10), np.log(rate / 0.2)])
    np.testing.assert_allclose(np.cov(deviations.T), published().covariance(), atol=0.01)
    np.testing.assert_allclose(deviations.mean(axis=0), 0, atol=0.03)


def test_conformal_intervals_and_the_guard_learn_from_simulated_tasks():
    model = EquationRegressor.from_population(decay, published())
    tasks = model.simulate_tasks(TIMES, 60, random_state=0)
    with pytest.raises(ValueError, match=r"no training tasks; learn it from simulated ones"):
        model.adapt(TIMES[:2], observed()[:2], guard=True)
    model.learn_guard(tasks=tasks)
    assert 0 <= model.adapt(TIMES[:2], observed()[:2], guard=True).guard_.share <= 1
    model.calibrate(tasks, support_size=2)
    interval = model.adapt(TIMES[:2], observed()[:2]).predict_interval(TIMES, method="conformal")
    assert (interval.lower < interval.upper).all()


def test_files_keep_a_population(tmp_path):
    model = EquationRegressor.from_population(decay, published(**WITH_WEIGHT))
    patient = model.adapt(np.column_stack([TIMES, np.full(4, 80.0)]), observed())
    save(model, tmp_path / "model.json")
    save(patient, tmp_path / "patient.json")
    again = load(tmp_path / "model.json", equation=decay)
    same = load(tmp_path / "patient.json", model=again)
    pd.testing.assert_frame_equal(same.params_, patient.params_)
    assert again.to_population() == published(**WITH_WEIGHT)


def test_uncertain_typical_values_widen_the_intervals():
    exact = EquationRegressor.from_population(decay, published())
    doubtful = EquationRegressor.from_population(decay, published(standard_errors={"rate": 0.08}))
    (low, high), (lower, higher) = (m.predict_interval(TIMES, of="curve") for m in (exact, doubtful))
    assert (lower[1:] < low[1:]).all()
    assert (higher[1:] > high[1:]).all()


def test_a_patient_outside_the_ranges_is_warned_of():
    model = EquationRegressor.from_population(decay, published(**WITH_WEIGHT))
    with pytest.warns(UnlikelyTaskWarning, match="'weight' is 8, and the population was learned from 40 to 120"):
        model.adapt(np.column_stack([TIMES, np.full(4, 8.0)]), observed())
    with pytest.warns(UnlikelyTaskWarning, match="'weight' is 150"):
        model.adapt([], [], covariates={"weight": 150.0})


def test_times_are_no_range_of_a_population():
    tasks = EquationRegressor.from_population(decay, published()).simulate_tasks(TIMES, 12, random_state=0)
    model = EquationRegressor(decay, CONSTANTS, noise="combined").fit(tasks)
    assert model.to_population().provenance.ranges == {}


def test_a_checkpoint_of_a_population_is_refused(tmp_path):
    with pytest.raises(ValueError, match="checkpoint is for a fit that takes long"):
        EquationRegressor.from_population(decay, published(), checkpoint=tmp_path, random_state=0)


def test_a_covariate_without_a_factor_names_the_task():
    linear = {**WITH_WEIGHT, "covariates": {"rate": Linear("weight", 0.1, reference=70)}}
    model = EquationRegressor.from_population(decay, published(**linear))
    rows = np.column_stack([TIMES, np.full(4, 41.0)])
    with pytest.raises(TaskError, match="adapt: covariate 'weight' is 41: the linear formula"):
        model.adapt(rows, observed())
    with pytest.raises(TaskError, match="task 'b': covariate 'weight' is 41"):
        model.adapt_many({"a": (rows + np.array([0, 30]), observed()), "b": (rows, observed())})


OTHER = {
    "another constant": ({"constants": {**CONSTANTS, "lag": 1.0}}, {}, "no constant 'lag'"),
    "a missing constant": (
        {"constants": {"start": 10.0}, "between_tasks": Block(sd={"start": 1})},
        {},
        "'rate' is miss",
    ),
    "a missing column": ({"covariates": WITH_WEIGHT["covariates"], "columns": {}}, {}, "columns"),
    "another noise": ({}, {"noise": "additive"}, "noise='additive', but the noise of the population is 'combined'"),
    "other random constants": ({}, {"random": ["rate"]}, r"random=\['rate'\], but"),
    "independent constants": ({}, {"covariance": "diagonal"}, "constants of the population are correlated"),
    "covariates": ({}, {"covariates": {"rate": [0]}}, "covariates is no setting of a model that keeps"),
    "automatic noise": ({}, {"noise": "auto"}, "noise='auto', but"),
    "the first column": ({}, {"measurement_sd": 0}, "measurement_sd is no setting of a model that keeps"),
    "settings of a catalogue": ({"settings": {"route": "iv"}}, {}, "belong to the settings {'route': 'iv'}"),
    "another source": ({"equation_hash": "0" * 16}, {}, "learned for another equation: decay has the hash"),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_population_of_another_equation_is_refused(case):
    change, settings, message = OTHER[case]
    with pytest.raises(ValueError, match=message):
        EquationRegressor.from_population(decay, published(**change), **settings)


def test_uncertainty_of_the_covariance_is_lost_with_a_warning():
    tasks = EquationRegressor.from_population(decay, published()).simulate_tasks(TIMES, 6, random_state=0)
    model = EquationRegressor(decay, CONSTANTS, covariance="diagonal", small_sample="integrate").fit(tasks)
    with pytest.warns(UserWarning, match="no uncertainty of its covariance between tasks"):
        population = model.to_population(columns={"time": "h"})
    assert population.noise.kind == "additive"


def test_units_that_differ_are_refused():
    minutes = {**CONSTANTS, "rate": replace(CONSTANTS["rate"], unit="1/min")}
    settings = published().as_settings()
    with pytest.raises(ValueError, match="'rate' is in 1/min here, and in 1/h in the population"):
        EquationRegressor(decay, minutes, **settings).fit([])


def test_what_a_population_does_not_hold_is_refused():
    tasks = EquationRegressor.from_population(decay, published()).simulate_tasks(TIMES, 20, random_state=0)
    model = EquationRegressor(decay, CONSTANTS, noise_correlation="ar1").fit(tasks)
    with pytest.raises(ValueError, match="correlation of residuals"):
        model.to_population()
    with pytest.raises(TypeError, match="a Population is wanted"):
        EquationRegressor.from_population(decay, {"start": 10.0})


def test_the_summary_says_where_the_numbers_come_from():
    provenance = Provenance("A. Author 2020", doi="10.1000/x", n_tasks=40)
    text = EquationRegressor.from_population(decay, published(provenance=provenance)).summary()
    assert "Not fitted. The numbers come from: A. Author 2020; doi:10.1000/x; 40 tasks" in text
    assert "nan" not in text


def test_score_needs_no_training_mean():
    model = EquationRegressor.from_population(decay, published())
    tasks = model.simulate_tasks(TIMES, 40, random_state=0)
    assert 0 < model.score(TaskSet(list(tasks))) < 1


def test_columns_in_another_order_are_refused():
    model = EquationRegressor.from_population(decay, published(**WITH_WEIGHT))
    rows = pd.DataFrame({"weight": 80.0, "time": TIMES[:, 0]})
    for given in ({"a": (rows, observed())}, rows.iloc[:0]):
        with pytest.raises(
            ValueError, match=r"\['weight', 'time'\], but the equation .* \['time', 'weight'\], in this"
        ):
            clone(model).fit(given)


@pytest.mark.parametrize(
    "noise", [NoiseModel("proportional", cv=0.1), NoiseModel("power", sd_at_1=0.1, power=0.7)], ids=lambda n: n.kind
)
def test_a_curve_at_0_without_a_floor_names_the_row(noise):
    def rising(X, start, rate):
        return start * (1 - torch.exp(-rate * X[:, 0]))

    model = EquationRegressor.from_population(rising, published(noise=noise))
    with pytest.raises(TaskError, match="the equation is 0 in row 1, .* noise has no width"):
        model.adapt([[2.0], [0.0]], [3.0, 0.1])
    model = EquationRegressor.from_population(rising, published(noise=replace(noise, floor=0.05)))
    assert np.isfinite(model.adapt([[2.0], [0.0]], [3.0, 0.004]).predict(TIMES)).all()


def test_what_is_set_after_the_fit_does_not_change_the_population():
    model = EquationRegressor.from_population(decay, published())
    model.set_params(prior=published(noise=NoiseModel("combined", sd=0.3, cv=0.1)))
    assert model.to_population() == published()
    tasks = model.simulate_tasks(TIMES, 12, random_state=0)
    fitted = EquationRegressor(decay, CONSTANTS, noise="additive", random=["start"], compile=False).fit(tasks)
    assert fitted.set_params(prior=published()).to_population() != published()


def test_another_equation_has_its_hash_in_the_population():
    def doubled(X, start, rate):
        return 2 * decay(X, start, rate)

    model = EquationRegressor.from_population(decay, published(equation_hash=equation_hash(decay)))
    assert model.with_equation(doubled).to_population().equation_hash == equation_hash(doubled)
    assert model.to_population(target="mg/L").target == "mg/L"


def test_nothing_is_counted_as_fitted():
    model = EquationRegressor.from_population(decay, published())
    model = clone(model).fit(model.simulate_tasks(TIMES, 5, random_state=0))
    assert model.aic_ == model.bic_ == -2 * model.log_likelihood_


def test_a_category_in_single_precision_is_that_category():
    effects = {"covariates": {"rate": Category("dose", {0.1: 1.0, 0.3: 2.0})}, "columns": {"time": "h", "dose": "g"}}
    model = EquationRegressor.from_population(decay, published(**effects))
    rows = np.column_stack([TIMES, np.full(4, 0.3)])
    np.testing.assert_allclose(model.predict(rows.astype(np.float32)), model.predict(rows), rtol=1e-6)


def test_a_guard_that_cannot_be_learned_changes_nothing(monkeypatch):
    model = EquationRegressor.from_population(decay, published())
    tasks = model.simulate_tasks(TIMES, 10, random_state=0)

    def fails(gap):
        raise ValueError("no guard")

    monkeypatch.setattr(model, "_fitted_guard", fails)
    with pytest.raises(ValueError, match="no guard"):
        model.learn_guard(tasks=tasks)
    assert model.adapt(TIMES[:2], observed()[:2]).guard_ is None


def test_constants_that_vary_as_one_are_refused_in_the_words_of_the_fit():
    model = EquationRegressor.from_population(decay, published())
    factor = torch.tensor([[0.3, 0.0], [0.4, 0.0]], dtype=torch.float64)
    fitted = replace(model._fitted, population=model._fitted.population._replace(factor=factor))
    further = {"target": "", "equation": "", "settings": {}, "equation_hash": "", "provenance": Provenance()}
    with pytest.raises(ValueError, match="to_population: the fit lets the constants start, rate vary as one"):
        population_of(fitted, {"time": "h"}, **further)


def test_a_file_of_a_model_keeps_its_population_read_only(tmp_path):
    save(EquationRegressor.from_population(decay, published(**WITH_WEIGHT)), tmp_path / "model.metaest")
    population = load(tmp_path / "model.metaest", equation=decay).prior
    assert population == published(**WITH_WEIGHT)
    for mapping in (population.columns, population.between_tasks[0].sd, population.provenance.ranges):
        with pytest.raises(TypeError, match="read-only"):
            mapping["time"] = 1.0


def test_ranges_without_tasks_are_the_published_ones():
    model = EquationRegressor.from_population(decay, published(**WITH_WEIGHT))
    np.testing.assert_array_equal(model.feature_range_, [[np.nan, 40], [np.nan, 120]])
    tasks = model.simulate_tasks(np.column_stack([TIMES, np.full(4, 80.0)]), 3, random_state=0)
    np.testing.assert_array_equal(clone(model).fit(tasks).feature_range_, [[0.5, 80], [9, 80]])


def test_many_tasks_meet_the_refusal_of_one():
    def rising(X, start, rate):
        return start * (1 - torch.exp(-rate * X[:, 0]))

    model = EquationRegressor.from_population(rising, published(noise=NoiseModel("proportional", cv=0.1)))
    tasks = {"sound": ([[2.0]], [3.0]), "at 0": ([[2.0], [0.0]], [3.0, 0.1]), "again": ([[0.0]], [0.1])}
    with pytest.raises(TaskError, match=r"task 'at 0' \(and 1 other\): the equation is 0 in row 1, .* no width"):
        model.adapt_many(tasks)
    with pytest.raises(TaskError, match=r"task 'b': the equation is inf in row 0"):
        EquationRegressor.from_population(decay, published()).adapt_many(
            {"a": ([[1.0]], [3.0]), "b": ([[-1e5]], [3.0])}
        )
