"""Equations with several outputs: fits, predictions, scores, populations and files."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from metaest import (
    AutoMetaRegressor,
    EquationRegressor,
    Parameter,
    Population,
    PopulationAverage,
    TaskError,
    TaskSet,
    load,
    save,
)
from metaest.diagnostics import leave_one_task_out
from metaest.population import NoiseModel, OutputNoiseModel
from metaest.scorers import few_shot_r2, few_shot_rmse

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")

CONSTANTS = {"rate": Parameter(0.5, lower=0), "start": Parameter(8, lower=0), "base": Parameter(800.0, lower=0),
             "slope": Parameter(20.0, lower=0)}  # fmt: skip
SETTINGS = {"output": "dvid", "noise": {1: "combined", 2: "additive"}, "random": ["rate", "start", "base"]}


def concentration(X, rate, start):
    return start * torch.exp(-rate * X[:, 0])


def effect(X, rate, start, base, slope):
    return base - slope * concentration(X, rate, start)


def both(X, rate, start, base, slope):
    value = concentration(X, rate, start)
    return torch.where(X[:, 1] == 1, value, base - slope * value)


EQUATIONS = {1: concentration, 2: effect}


def frame_of(n, seed):
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(n):
        k, a, b = np.array([0.4, 10, 1000]) * np.exp(np.array([0.2, 0.2, 0.1]) * rng.normal(size=3))
        t = np.linspace(0.5, 10, 8)
        c = a * np.exp(-k * t)
        seen = c * (1 + 0.1 * rng.normal(size=8)) + 0.05 * rng.normal(size=8)
        for dvid, y, curve in ((1, seen, c), (2, b - 30 * c + 15 * rng.normal(size=8), b - 30 * c)):
            parts.append(pd.DataFrame({"id": f"{seed}-{i}", "t": t, "dvid": dvid, "y": y, "curve": curve}))
    return pd.concat(parts, ignore_index=True)


def tasks_of(n, seed):
    return TaskSet.from_frame(frame_of(n, seed), task="id", features=["t", "dvid"], target="y")


def fitted(equation=None, tasks=None, **settings):
    settings = {**SETTINGS, "random_state": 0, **settings}
    return EquationRegressor(equation or EQUATIONS, CONSTANTS, **settings).fit(tasks or tasks_of(30, 0))


@pytest.fixture(scope="module")
def model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fitted()


def test_constants_and_the_noise_of_each_output_are_recovered(model):
    population, noise = model.population_, model.noise_
    for name, truth in (("rate", 0.4), ("start", 10), ("base", 1000), ("slope", 30)):
        assert abs(population.loc[name, "value"] - truth) < 3.5 * population.loc[name, "standard_error"]
    assert noise.index.tolist() == [1, 2]
    assert noise.loc[1, "cv"] == pytest.approx(0.1, rel=0.15)
    assert noise.loc[2, "sd"] == pytest.approx(15, rel=0.15)
    assert np.isnan(noise.loc[2, "cv"])
    assert "Noise of output 1: SD" in model.summary()
    assert "combined (1), additive (2) noise" in model.summary()


@pytest.mark.filterwarnings("ignore")
def test_one_function_that_looks_at_the_column_and_torch_give_the_same(model):
    for other in (fitted(both), fitted(compile=False)):
        pd.testing.assert_frame_equal(other.population_, model.population_, rtol=1e-4, atol=1e-7)
        assert other.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_unit_of_an_output_does_not_matter(model):
    frame = frame_of(30, 0)
    frame.loc[frame.dvid == 2, "y"] *= 1e-6

    def small(X, rate, start, base, slope):
        return 1e-6 * effect(X, rate, start, base, slope)

    other = fitted(
        {1: concentration, 2: small}, TaskSet.from_frame(frame, task="id", features=["t", "dvid"], target="y")
    )
    np.testing.assert_allclose(other.population_["value"], model.population_["value"], rtol=1e-4)
    assert other.noise_.loc[2, "sd"] == pytest.approx(1e-6 * model.noise_.loc[2, "sd"], rel=1e-3)
    tasks = tasks_of(6, 5)
    small_tasks = tasks.with_rows(y=np.where(tasks.X[:, 1] == 2, 1e-6 * tasks.y, tasks.y))
    assert other.score(small_tasks) == pytest.approx(model.score(tasks), abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_outputs_alone_add_up_where_they_share_nothing():
    def line(X, level):
        return level + 0 * X[:, 0]

    def other(X, height):
        return height + 0 * X[:, 0]

    table = {"level": 5.0, "height": 900.0}
    frame = frame_of(12, 3)
    joint = EquationRegressor({1: line, 2: other}, table, output="dvid", covariance="diagonal")
    joint.fit(TaskSet.from_frame(frame, task="id", features=["t", "dvid"], target="y"))
    total = 0.0
    for code, equation, name in ((1, line, "level"), (2, other, "height")):
        tasks = TaskSet.from_frame(frame[frame.dvid == code], task="id", features=["t"], target="y")
        alone = EquationRegressor(equation, {name: table[name]}).fit(tasks)
        total += alone.log_likelihood_
        assert joint.population_.loc[name, "value"] == pytest.approx(alone.population_["value"].iloc[0], rel=1e-5)
        assert joint.noise_.loc[code, "sd"] == pytest.approx(float(alone.noise_["sd"]), rel=1e-3)
    assert joint.log_likelihood_ == pytest.approx(total, abs=1e-3)


def test_rows_of_one_output_tell_the_other(model):
    frame = frame_of(30, 7)
    errors = {0: [], 3: []}
    for _, patient in frame.groupby("id"):
        X, y = patient[["t", "dvid"]].to_numpy(), patient["y"].to_numpy()
        first, second = X[:, 1] == 1, X[:, 1] == 2
        for n in errors:
            predictor = model.adapt(X[first][:n], y[first][:n]) if n else model
            fall = predictor.predict(X[second])
            errors[n].append((fall - fall[-1]) - (patient["curve"][second] - patient["curve"].iloc[-1]))
    assert np.std(errors[3]) < 0.6 * np.std(errors[0])


def test_intervals_and_draws_have_the_noise_of_their_output(model):
    task = tasks_of(1, 9)[0]
    adapted = model.adapt(task.X, task.y)
    X = task.X[[0, 8]]
    drawn = adapted.simulate(X, 4000, random_state=0)
    low, high = adapted.predict_interval(X, 0.8)
    assert ((low <= drawn) & (drawn <= high)).mean(axis=0) == pytest.approx(0.8, abs=0.03)
    sd = np.diff(adapted.predict_interval(X, 0.8), axis=0)[0]
    assert sd[1] > 5 * sd[0]


def test_scores_are_means_over_outputs(model):
    tasks = tasks_of(8, 11)
    task = tasks[0]
    adapted = model.adapt(task.X[::3], task.y[::3])
    parts = []
    for code in (1, 2):
        rows = task.X[:, 1] == code
        error = adapted.predict(task.X[rows]) - task.y[rows]
        parts.append(1 - np.square(error).sum() / np.square(task.y[rows] - task.y[rows].mean()).sum())
    assert adapted.score(task.X, task.y) == pytest.approx(np.mean(parts))
    assert 0.5 < model.score(tasks) < 1
    assert 0.5 < few_shot_r2(shots=5)(model, tasks) < 1
    with pytest.raises(TypeError, match="several outputs have several units"):
        few_shot_rmse(shots=5)(model, tasks)


def test_files_clones_and_populations(model, tmp_path):
    save(model, tmp_path / "model")
    again = load(tmp_path / "model", objects=[concentration, effect])
    task = tasks_of(1, 13)[0]
    expected = model.adapt(task.X, task.y).predict(task.X)
    for other in (again, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.adapt(task.X, task.y).predict(task.X), expected)
    pd.testing.assert_frame_equal(again.noise_, model.noise_)
    assert clone(model).get_params()["noise"] == SETTINGS["noise"]
    population = model.to_population()
    assert Population.from_dict(population.to_dict()) == population
    kept = EquationRegressor.from_population(EQUATIONS, population)
    np.testing.assert_allclose(kept.adapt(task.X, task.y).predict(task.X), expected, rtol=1e-6)
    pd.testing.assert_frame_equal(kept.noise_, model.noise_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        updated = EquationRegressor(EQUATIONS, dict(population.constants), prior_weight=10.0,
                                    **{k: v for k, v in population.as_settings().items() if k != "prior_weight"})  # fmt: skip
        updated.fit(tasks_of(6, 15))
    assert updated.noise_.loc[2, "sd"] == pytest.approx(15, rel=0.2)


def test_rows_of_another_output_are_refused(model):
    with pytest.raises(TaskError, match="column 'dvid' is 3 in row 1, and the outputs of the fit are 1, 2"):
        model.predict([[1.0, 2.0], [1.0, 3.0]])
    with pytest.raises(TaskError, match="'dvid' is 0 in row 0"):
        model.adapt([[1.0, 0.0]], [3.0])
    with pytest.raises(TaskError, match="task 'a': column 'dvid' is 5"):
        model.adapt_many({"a": ([[1.0, 5.0]], [3.0])})


@pytest.mark.parametrize(("settings", "error", "match"), [
    ({"output": None}, ValueError, "needs output="),
    ({"output": "kind"}, ValueError, "output: there is no column 'kind'"),
    ({"noise": {1: "combined"}}, ValueError, "the output 2 has none"),
    ({"noise": {1: "combined", 2: "additive", 3: "additive"}}, ValueError, "no row has the output 3"),
    ({"noise": {1: "gamma", 2: "additive"}}, ValueError, "noise of an output must be one of"),
    ({"noise": {1: "lognormal", 2: "additive"}}, ValueError, "of all outputs or of none"),
    ({"noise": "auto"}, ValueError, "noise of an output must be one of"),
    ({"limit": 1.0}, ValueError, "limit must be a column"),
    ({"small_sample": "integrate"}, ValueError, "not implemented for several outputs"),
    ({"noise_correlation": "ar1"}, ValueError, "not implemented for several outputs"),
    ({"objective": "query"}, ValueError, "not implemented for several outputs"),
])  # fmt: skip
def test_what_is_refused(settings, error, match):
    with pytest.raises(error, match=match):
        fitted(tasks=tasks_of(4, 0), **settings)


def test_noise_models_of_outputs():
    models = {1: NoiseModel("proportional", cv=0.1), 2: NoiseModel("additive", sd=4.0)}
    assert OutputNoiseModel("dvid", models).kind == {1: "proportional", 2: "additive"}
    with pytest.raises(ValueError, match="of all outputs or of none"):
        OutputNoiseModel("dvid", {**models, 3: NoiseModel("lognormal", sd_log=0.1)})
    with pytest.raises(TypeError, match="must be a NoiseModel"):
        OutputNoiseModel("dvid", {1: "additive"})


WORDS = {1: "conc", 2: "effect"}
IN_WORDS = {"output": "dvid", "noise": {"conc": "combined", "effect": "additive"}, "random": SETTINGS["random"]}


def words_of(n, seed):
    frame = frame_of(n, seed)
    return frame.assign(dvid=frame.dvid.map(WORDS), visit=np.where(frame.t < 5, "first", "second"))


def read_words(frame, **settings):
    return TaskSet.from_frame(frame, task="id", features=["t", "dvid"], target="y", output="dvid", **settings)


@pytest.mark.filterwarnings("ignore")
def test_outputs_in_words_are_those_in_numbers(model, tmp_path):
    frame = words_of(30, 0)
    tasks = read_words(frame)
    assert tasks.level_labels == {"dvid": ("conc", "effect")}
    equations = {"effect": effect, "conc": concentration}
    words = EquationRegressor(equations, CONSTANTS, random_state=0, **IN_WORDS).fit(tasks)
    np.testing.assert_allclose(words.population_["value"], model.population_["value"], rtol=1e-9)
    assert words.noise_.index.tolist() == ["conc", "effect"]
    flat = EquationRegressor(equations, CONSTANTS, random_state=0, **IN_WORDS)
    flat.fit(frame[["t", "dvid"]], frame["y"], frame["id"])
    assert flat.log_likelihood_ == words.log_likelihood_
    new, numbers = words_of(4, 21), tasks_of(4, 21)
    one, X = new[new.id == "21-0"], numbers[0].X
    adapted, expected = words.adapt(one[["t", "dvid"]], one["y"]), model.adapt(X, numbers[0].y)
    np.testing.assert_allclose(adapted.predict(one[["t", "dvid"]]), expected.predict(X), rtol=1e-9)
    assert adapted.score(one[["t", "dvid"]], one["y"]) == pytest.approx(expected.score(X, numbers[0].y))
    # of tasks with one output alone, which has another number there
    effects = read_words(new[new.dvid == "effect"])
    assert effects.level_labels == {"dvid": ("effect",)}
    alone = TaskSet([(t.X[t.X[:, 1] == 2], t.y[t.X[:, 1] == 2]) for t in numbers])
    np.testing.assert_allclose(words.adapt_many(effects).params_["rate"], model.adapt_many(alone).params_["rate"])
    assert words.score(read_words(new)) == pytest.approx(model.score(numbers))
    save(words, tmp_path / "words")
    again = load(tmp_path / "words", objects=[concentration, effect])
    np.testing.assert_array_equal(again.predict(one[["t", "dvid"]]), words.predict(one[["t", "dvid"]]))
    population = words.to_population()
    assert Population.from_dict(population.to_dict()) == population
    kept = EquationRegressor.from_population(equations, population)
    np.testing.assert_allclose(kept.predict(one[["t", "dvid"]]), words.predict(one[["t", "dvid"]]))
    assert kept.simulate_tasks(one[["t", "dvid"]], 2, random_state=0).X[:, 1].tolist() == [*[0] * 8, *[1] * 8] * 2
    again = words.bootstrap(tasks, n=1, random_state=0)
    assert {"rate", "noise_conc_cv", "noise_effect_sd"} <= set(again.columns)
    with pytest.raises(TaskError, match=r"holds 'inr' .* the outputs of the fit are conc, effect"):
        words.predict(one[["t", "dvid"]].assign(dvid="inr"))
    with pytest.raises(ValueError, match=r"no row has the output 'inr'"):
        EquationRegressor({"inr": effect, "conc": concentration}, CONSTANTS, **IN_WORDS).fit(tasks)


@pytest.mark.filterwarnings("ignore")
def test_outputs_of_units_within_tasks(model):
    frame = words_of(30, 0)
    tasks = read_words(frame, levels=["visit"])
    levels = {"levels": {"visit": ["start"]}, "covariance": "diagonal"}
    units = EquationRegressor({"conc": concentration, "effect": effect}, CONSTANTS, **levels, **IN_WORDS).fit(tasks)
    # the visits of these tasks do not differ
    np.testing.assert_allclose(units.population_["value"], model.population_["value"], rtol=0.02)
    assert units.noise_.loc["effect", "sd"] == pytest.approx(model.noise_.loc[2, "sd"], rel=0.02)
    one = frame[frame.id == "0-0"]
    X = one[["t", "dvid", "visit"]]
    adapted = units.adapt(X, one["y"])
    np.testing.assert_allclose(adapted.predict(X), model.adapt(tasks_of(30, 0)[0].X, one["y"]).predict(
        tasks_of(30, 0)[0].X), rtol=0.05, atol=0.1)  # fmt: skip
    assert adapted.score(X, one["y"]) > 0.9


@pytest.mark.filterwarnings("ignore")
def test_errors_in_several_units_are_no_measure(model):
    tasks = tasks_of(8, 31)
    sets = pd.DataFrame({"task": [tasks.names[0]], "support": [(0, 8)]})
    with pytest.raises(ValueError, match="errors are in several units"):
        leave_one_task_out({"joint": lambda others: fitted(tasks=others)}, tasks, sets, n_jobs=1)
    estimator = EquationRegressor(EQUATIONS, CONSTANTS, **SETTINGS)
    with pytest.raises(ValueError, match="errors are in several units"):
        AutoMetaRegressor(candidates=[("joint", estimator)], shots=2, random_state=0).fit(tasks)
    population = model.to_population()
    kept = EquationRegressor.from_population(EQUATIONS, population)
    with pytest.raises(ValueError, match="several outputs"):
        PopulationAverage([("one", FrozenEstimator(kept)), ("two", FrozenEstimator(kept))]).fit(tasks)
