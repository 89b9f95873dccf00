"""PopulationAverage: weights by evidence, answers of the mixture, columns by name, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from equations import averaging
from metaest import (
    EquationRegressor,
    FewShotRegressor,
    MAMLRegressor,
    Parameter,
    Population,
    PopulationAverage,
    Task,
    TaskError,
    TaskSet,
    UnlikelyTaskWarning,
    scorers,
)
from metaest.exceptions import quiet
from metaest.population import Block, NoiseModel, Power, Provenance

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning", "ignore::metaest.UnlikelyTaskWarning")

X = np.array([[0.5], [1.0], [2.0], [3.0]])
NEXT = np.array([[4.0], [0.1], [7.0]])


def line(X, level, slope):
    return level + slope * X[:, 0]


def rise(X, height):
    return height * X[:, 0]


def positive(X, height):
    return height * torch.exp(-0.1 * X[:, 0])


def line_part(level, sd=0.5, noise=0.3, slope=1.0):
    population = Population(
        {"level": float(level), "slope": float(slope)},
        Block(sd={"level": sd, "slope": 0.2}, correlation={("level", "slope"): 0.3}),
        NoiseModel("additive", sd=noise),
        columns={"x": ""},
    )
    return EquationRegressor.from_population(line, population)


def rise_part(height=1.5, noise=0.5):
    population = Population(
        {"height": height}, Block(sd={"height": 0.4}), NoiseModel("additive", sd=noise), columns={"x": ""}
    )
    return EquationRegressor.from_population(rise, population)


def lognormal_part(height=5.0):
    constants = {"height": Parameter(height, lower=0)}
    population = Population(
        constants, Block(sd={"height": 0.3}), NoiseModel("lognormal", sd_log=0.2), columns={"x": ""}
    )
    return EquationRegressor.from_population(positive, population)


@pytest.fixture(scope="module")
def model():
    parts = [("low", line_part(0)), ("high", line_part(2.5, noise=0.5)), ("rise", rise_part())]
    return PopulationAverage(parts, weights={"rise": 2, "low": 1, "high": 1}).fit([])


Y = np.array([1.9, 2.2, 3.1, 4.5])


def exact(y=Y, rows=X):
    """Return mean and covariance of the rows under the parts of `model`, which are linear and normal."""
    one = np.column_stack([np.ones(len(rows)), rows[:, 0]])
    omega = np.array([[0.25, 0.03], [0.03, 0.04]])
    eye = np.eye(len(rows))
    return [
        (one @ [0.0, 1.0], one @ omega @ one.T + 0.09 * eye),
        (one @ [2.5, 1.0], one @ omega @ one.T + 0.25 * eye),
        (1.5 * rows[:, 0], 0.16 * rows @ rows.T + 0.25 * eye),
    ]


def test_weights_are_prior_times_evidence(model):
    density = [stats.multivariate_normal(mean, covariance).pdf(Y) for mean, covariance in exact()]
    expected = np.array(density) * [0.25, 0.25, 0.5]
    task = model.adapt(X, Y)
    np.testing.assert_allclose(task.weights_, expected / expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(task.log_evidence_, np.log(density), rtol=1e-6)
    assert task.weights_.index.tolist() == ["low", "high", "rise"]
    for name, part in model.models_.items():
        value = part.log_likelihood([(pd.DataFrame(X, columns=["x"]), Y)]).value
        np.testing.assert_allclose(task.log_evidence_[name], value, rtol=1e-9)


def test_answers_are_those_of_the_mixture(model):
    task = model.adapt(X, Y)
    parts = [one.predict(NEXT, return_std=True) for one in task.members_.values()]
    weight = task.weights_.to_numpy()
    mean = sum(w * m for w, (m, _) in zip(weight, parts, strict=True))
    np.testing.assert_allclose(task.predict(NEXT), mean)
    variance = sum(w * (s**2 + (m - mean) ** 2) for w, (m, s) in zip(weight, parts, strict=True))
    np.testing.assert_allclose(task.predict(NEXT, return_std=True)[1], np.sqrt(variance))
    # distribution of a new row: a mixture of normals in closed form
    scale = [np.sqrt(s**2 + noise**2) for (_, s), noise in zip(parts, (0.3, 0.5, 0.5), strict=True)]
    for of, spread in (("observation", scale), ("curve", [s for _, s in parts])):
        for end, tail in zip(task.predict_interval(NEXT, 0.8, of=of), (0.1, 0.9), strict=True):
            below = sum(w * stats.norm(m, s).cdf(end) for w, (m, _), s in zip(weight, parts, spread, strict=True))
            np.testing.assert_allclose(below, tail, atol=0.01)


def test_simulated_observations_have_the_quantiles_of_the_interval():
    model = PopulationAverage([("line", line_part(4, slope=-0.3)), ("lognormal", lognormal_part())]).fit([])
    task = model.adapt(X[:1], [4.2])
    assert 0.1 < task.weights_["line"] < 0.9
    drawn = task.simulate(NEXT, 40_000, random_state=0)
    for end, tail in zip(task.predict_interval(NEXT, 0.8), (0.1, 0.9), strict=True):
        np.testing.assert_allclose((drawn < end).mean(axis=0), tail, atol=0.01)
    np.testing.assert_allclose(drawn.mean(axis=0), task.predict_mean(NEXT), rtol=0.02)


def test_one_part_alone_answers_as_it_does():
    part = line_part(0)
    task, alone = PopulationAverage([("a", part)]).fit([]).adapt(X, Y), part.adapt(X, Y)
    np.testing.assert_array_equal(task.predict(NEXT), alone.predict(NEXT))
    np.testing.assert_array_equal(task.predict_interval(NEXT), alone.predict_interval(NEXT))
    assert task.weights_.tolist() == [1.0]


def test_without_rows_weights_are_those_before(model):
    task = model.adapt([], [])
    assert task.weights_.tolist() == [0.25, 0.25, 0.5]
    np.testing.assert_allclose(task.predict(NEXT), model.predict(NEXT))
    np.testing.assert_allclose(model.predict(NEXT), 0.25 * NEXT[:, 0] + 0.25 * (2.5 + NEXT[:, 0]) + 0.75 * NEXT[:, 0])
    np.testing.assert_allclose(task.predict_interval(NEXT), model.predict_interval(NEXT))
    np.testing.assert_allclose(task.predict_mean(NEXT), model.predict_mean(NEXT))
    np.testing.assert_array_equal(task.simulate(NEXT, 5, 0), model.simulate(NEXT, 5, 0))


def test_many_tasks_and_rows_one_after_the_other_are_the_same(model):
    tasks = TaskSet([Task("a", X, Y), Task("b", X[:2], Y[:2] - 2)])
    many = model.adapt_many(tasks)
    assert many.weights_.index.tolist() == ["a", "b"]
    np.testing.assert_allclose(many.weights_.sum(axis=1), 1)
    for i, task in enumerate(tasks):
        one = model.adapt(task.X, task.y)
        np.testing.assert_allclose(many.weights_.iloc[i], one.weights_)
        np.testing.assert_allclose(many[i].predict(NEXT), one.predict(NEXT))
        np.testing.assert_allclose(many.predict(NEXT)[i], one.predict(NEXT))
    np.testing.assert_allclose(many.predict(tasks)[4:], many[1].predict(X[:2]))
    step = model.adapt(X[:1], Y[:1]).partial_adapt(X[1:], Y[1:])
    np.testing.assert_allclose(step.predict(NEXT), model.adapt(X, Y).predict(NEXT))
    np.testing.assert_array_equal(step.X_support_, X)
    with pytest.raises(TaskError, match="in the same order"):
        many.predict(tasks[[1, 0]])


def test_a_row_of_weight_0_counts_for_nothing(model):
    task = model.adapt(X, Y, sample_weight=[1, 1, 0, 1])
    np.testing.assert_allclose(task.weights_, model.adapt(X[[0, 1, 3]], Y[[0, 1, 3]]).weights_)
    assert len(task.X_support_) == len(task.y_support_) == 3


def test_the_greatest_weight_alone_is_selected(model):
    chosen = clone(model).set_params(method="select").fit([]).adapt(X, Y)
    best = model.adapt(X, Y).weights_.idxmax()
    assert chosen.weights_[best] == 1
    np.testing.assert_array_equal(chosen.predict(NEXT), chosen.members_[best].predict(NEXT))
    np.testing.assert_array_equal(chosen.predict_interval(NEXT), chosen.members_[best].predict_interval(NEXT))


def test_a_temperature_holds_weights_where_they_were(model):
    hot = clone(model).set_params(temperature=1e9).fit([]).adapt(X, Y)
    np.testing.assert_allclose(hot.weights_, [0.25, 0.25, 0.5], atol=1e-6)
    task = model.adapt(X, Y)
    warm = clone(model).set_params(temperature=2.0).fit([]).adapt(X, Y)
    expected = np.array([0.25, 0.25, 0.5]) * np.exp(task.log_evidence_ / 2)
    np.testing.assert_allclose(warm.weights_, expected / expected.sum())
    cold = clone(model).set_params(temperature=5e-324).fit([]).adapt(X, Y)
    assert cold.weights_[task.log_evidence_.idxmax()] == 1
    alike = PopulationAverage([("a", rise_part()), ("b", rise_part())], temperature=5e-324).fit([])
    assert alike.adapt(X, Y).weights_.tolist() == [0.5, 0.5]


def test_the_temperature_is_read_off_tasks():
    parts = [("low", line_part(0)), ("high", line_part(3))]
    right = [line_part(level).simulate_tasks(X, 30, random_state=level) for level in (0, 3)]
    tasks = [task for some in right for task in some]
    tasks = [Task(i, pd.DataFrame(task.X, columns=["x"]), task.y) for i, task in enumerate(tasks)]
    fitted = PopulationAverage(parts, random_state=0).fit(tasks)
    assert 0.5 <= fitted.temperature_ <= 2
    assert fitted.n_tasks_ == 60
    assert PopulationAverage(parts).fit([]).temperature_ == 1
    # noise that is ten times what both parts say: the rows tell less than they believe
    rng = np.random.default_rng(0)
    loud = [(pd.DataFrame(X, columns=["x"]), 1.5 + X[:, 0] + 3 * rng.normal(size=4)) for _ in range(60)]
    assert PopulationAverage(parts, random_state=0).fit(loud).temperature_ > 3
    assert PopulationAverage(parts, temperature=1.5).fit(loud).temperature_ == 1.5


def test_weights_before_any_row_are_the_shares_of_the_tasks():
    parts = [("low", line_part(0)), ("high", line_part(6)), ("unseen", line_part(-6))]
    tasks = [*line_part(0).simulate_tasks(X, 6, random_state=0), *line_part(6).simulate_tasks(X, 18, random_state=1)]
    tasks = [Task(i, task.X, task.y) for i, task in enumerate(tasks)]
    fitted = PopulationAverage(parts, temperature=1.0, random_state=0).fit(tasks)
    # the parts are so far apart that each task tells its own
    np.testing.assert_allclose(fitted.weights_, np.array([7, 19, 1]) / 27, atol=1e-3)
    np.testing.assert_allclose(fitted.adapt([], []).weights_, fitted.weights_)
    equal = PopulationAverage(parts, weights=None, random_state=0).fit(tasks)
    np.testing.assert_allclose(equal.weights_, 1 / 3)
    stated = PopulationAverage(parts, weights=[1, 1, 2], random_state=0).fit(tasks)
    np.testing.assert_allclose(stated.weights_, [0.25, 0.25, 0.5])
    both = PopulationAverage(parts, random_state=0).fit(tasks)
    assert 0.25 <= both.temperature_ <= 4
    assert both.weights_.idxmax() == "high"


def test_of_many_tasks_some_teach_the_temperature():
    tasks = rise_part().simulate_tasks(X[:2], 230, random_state=0)
    parts = [("learned", EquationRegressor(rise, {"height": 1.0})), ("kept", rise_part())]
    one, again = (PopulationAverage(parts, random_state=0).fit(tasks) for _ in range(2))
    assert one.temperature_ == again.temperature_
    assert 0.5 <= one.temperature_ <= 4


def test_parts_that_learn_are_fitted_to_the_tasks():
    tasks = line_part(1).simulate_tasks(X, 10, random_state=0)
    frame = [Task(t.name, pd.DataFrame(t.X, columns=["x"]), t.y) for t in tasks]
    constants = {"level": 0.0, "slope": 0.5}
    parts = [("learned", EquationRegressor(line, constants, covariance="diagonal")), ("kept", rise_part())]
    average = PopulationAverage(parts, random_state=0).fit(frame)
    alone = EquationRegressor(line, constants, covariance="diagonal").fit(frame)
    np.testing.assert_allclose(average.models_["learned"].adapt(X, Y).predict(NEXT), alone.adapt(X, Y).predict(NEXT))
    assert not hasattr(parts[0][1], "n_tasks_")
    # the learned part has the equation of the tasks, and is judged on those that its fits did not have
    assert average.weights_["learned"] > 0.6
    few = PopulationAverage(parts, random_state=0).fit(frame[:4])
    assert few.temperature_ == 1
    frozen = PopulationAverage([("a", FrozenEstimator(alone)), ("kept", rise_part())]).fit([])
    assert frozen.models_["a"] is alone
    assert frozen.weights_.tolist() == [0.5, 0.5]
    with pytest.warns(
        UserWarning, match=r"the part 'a' was fitted on task 'simulated 1', .* Pass other tasks, or state"
    ):
        clone(frozen).fit(frame)
    clone(frozen).set_params(weights=None, temperature=1.0).fit(frame)  # nothing is learned
    with pytest.raises(ValueError, match=r"'learned' learns from tasks, and none were given"):
        PopulationAverage(parts).fit([])


def test_parts_and_their_settings_are_reached_by_name():
    average = PopulationAverage([("a", rise_part()), ("b", FrozenEstimator(rise_part(2.0)))])
    assert average.get_params()["a__noise"] == "additive"
    average.set_params(a__limit=0.2)
    assert average.estimators[0][1].limit == 0.2
    average.set_params(a=rise_part(3.0))
    again = clone(average).fit([])
    assert again.models_["a"].population_["value"].tolist() == [3.0]
    assert again.models_["b"] is average.estimators[1][1].estimator


def test_pickles_and_copies_answer_the_same(model):
    task = model.adapt(X, Y)
    for thing in (model, task):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(thing)).predict(NEXT), thing.predict(NEXT))
    assert "AdaptedPopulationAverage(1 feature, adapted on 4 rows)" in repr(task)
    with pytest.raises(TypeError, match="not fitted"):
        task.fit(X, Y)


def test_calibrated_intervals_and_scores(model):
    tasks = line_part(0).simulate_tasks(X, 30, random_state=3)
    calibrated = pickle.loads(pickle.dumps(model)).calibrate(tasks, support_size=2)
    low, high = calibrated.adapt(X[:2], Y[:2]).predict_interval(NEXT, 0.8, method="conformal")
    assert (low < high).all()
    low, high = calibrated.predict_interval(NEXT, 0.8, method="conformal")
    assert (low < high).all()
    assert 0.5 < model.score(tasks) < 1
    with pytest.raises(ValueError, match="conformal interval needs tasks"):
        model.adapt(X, Y).predict_interval(NEXT, method="conformal")


# ---- columns ------------------------------------------------------------------------------------------------------


def scaled(X, height):
    return height * X[:, 0]


def scaled_part(column, **parts):
    population = Population(
        {"height": Parameter(1.0, lower=0)},
        Block(sd={"height": 0.3}),
        NoiseModel("additive", sd=0.2),
        **{"covariates": {"height": Power(column, 1)}, "columns": {"t": "h", column: "kg"}, "target": "mg/L", **parts},
    )
    return EquationRegressor.from_population(scaled, population)


@pytest.fixture(scope="module")
def by_name():
    return PopulationAverage([("weight", scaled_part("weight")), ("lean", scaled_part("ffm"))]).fit([])


ROWS = pd.DataFrame({"ffm": 2.0, "t": [1.0, 2.0], "weight": 6.0})


def test_parts_read_their_columns_by_name(by_name):
    assert by_name.feature_names_in_.tolist() == ["t", "weight", "ffm"]
    task = by_name.adapt(ROWS, [2.1, 3.9])
    assert task.weights_["lean"] > 0.95
    for rows in (ROWS[["weight", "ffm", "t"]], ROWS[["t", "weight", "ffm"]].to_numpy()):
        np.testing.assert_array_equal(by_name.adapt(rows, [2.1, 3.9]).weights_, task.weights_)
        np.testing.assert_array_equal(task.predict(rows), task.predict(ROWS))
    np.testing.assert_allclose(by_name.predict(ROWS), [4.0, 8.0])
    several = pd.concat([ROWS, ROWS.assign(ffm=4.0)])  # two tasks, before any adaptation
    np.testing.assert_allclose(by_name.predict(several), [4.0, 8.0, 5.0, 10.0])
    np.testing.assert_allclose(
        by_name.adapt([], [], covariates={"weight": 6.0, "ffm": 2.0}).predict_interval(ROWS),
        by_name.predict_interval(ROWS),
    )
    many = by_name.adapt_many([(ROWS[["weight", "t", "ffm"]], [2.1, 3.9])])
    np.testing.assert_allclose(many.weights_.iloc[0], task.weights_)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[["t", "weight"]], r"adapt: X lacks the column 'ffm', which the part 'lean' reads"),
        (ROWS[["t", "weight"]].to_numpy(), r"X has 2 columns without names, .* read 3: \['t', 'weight', 'ffm'\]"),
        (ROWS.assign(age=3.0), "unseen at fit time"),
        (ROWS.assign(ffm=[2.0, 2.5]), "'ffm' is a covariate"),
        (ROWS.assign(ffm="heavy"), "numbers are wanted"),
        (ROWS.assign(ffm=np.nan), "'ffm' of X holds NaN"),
        (np.zeros((2, 3, 4, 4)), "columns are wanted"),
    ],
)
def test_rows_that_a_part_cannot_read_are_refused(by_name, rows, message):
    with pytest.raises(TaskError, match=message):
        by_name.adapt(rows, [2.1, 3.9])


def test_covariates_of_a_task_without_rows_are_checked(by_name):
    with pytest.raises(TaskError, match="'age', which no part of the average reads"):
        by_name.adapt([], [], covariates={"weight": 3.0, "ffm": 2.0, "age": 1.0})
    with pytest.raises(TaskError, match="'ffm' of this task is not known") as error:
        by_name.adapt([], [], covariates={"weight": 3.0})
    assert error.value.__notes__ == ["It was raised by the part 'lean'."]


def test_tasks_of_a_fit_bring_their_columns():
    tasks = [(pd.concat([ROWS.assign(weight=w, ffm=w / 2)] * 2), np.array([1.0, 2.0] * 2) * w) for w in (2.0, 3.0, 4.0)]
    average = clone(PopulationAverage([("weight", scaled_part("weight")), ("lean", scaled_part("ffm"))]))
    average.fit(tasks)
    assert average.feature_names_in_.tolist() == ["ffm", "t", "weight"]
    assert average.models_["lean"].feature_names_in_.tolist() == ["t", "ffm"]
    assert average.adapt(*tasks[0]).weights_["weight"] > 0.9


# ---- what is refused ----------------------------------------------------------------------------------------------

PAIR = [("a", rise_part()), ("b", rise_part(2.0))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimators": []}, "list of pairs"),
        ({"estimators": [rise_part()]}, "pairs of a name and a model"),
        ({"estimators": [PAIR[0], PAIR[0]]}, "'a' stands twice"),
        ({"estimators": [("a__b", rise_part())]}, "rename it"),
        ({"estimators": [("weights", rise_part())]}, "rename it"),
        ({"estimators": [("a", MAMLRegressor())]}, "must be an EquationRegressor"),
        ({"estimators": [("a", EquationRegressor)]}, "must be an EquationRegressor"),
        ({"weights": {"a": 1.0}}, "'b' is missing"),
        ({"weights": {"a": 1.0, "b": 1.0, "c": 1.0}}, "'c' is missing"),
        ({"weights": [1.0]}, "must be 2 numbers"),
        ({"weights": "equal"}, "weights"),
        ({"weights": [1.0, 0.0]}, "weights of 'b': a number above 0 is wanted, got 0"),
        ({"weights": [1e308, 1e-20]}, "weights: that of 'b' is too small"),
        ({"weights": [1.0, np.nan]}, "weights of 'b'"),
        ({"temperature": 0.0}, "temperature"),
        ({"method": "best"}, "method"),
        ({"estimators": [("a", scaled_part("w")), ("b", scaled_part("w", columns={"t": "h", "w": "g"}))]}, "'w' is in kg"),
        ({"estimators": [("a", scaled_part("w")), ("b", scaled_part("w", target="ug/L"))]}, "y is in mg/L for 'a'"),
        ({"estimators": [("a", rise_part()), ("b", rise_part().set_params(limit=0.1))]}, "limit=None, and 'b' limit=0.1"),
        ({"estimators": [("a", EquationRegressor(rise, {"height": 1.0}, objective="query", inner_solver="gradient"))]}, "no evidence"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        PopulationAverage(**{"estimators": PAIR, **arguments}).fit([])


def test_an_average_is_fitted_first_and_has_no_guard():
    average = PopulationAverage(PAIR)
    for call in (lambda: average.adapt(X, Y), lambda: average.predict(X), lambda: average.adapt_many([(X, Y)])):
        with pytest.raises(NotFittedError):
            call()
    with pytest.raises(NotFittedError):
        PopulationAverage([("a", FrozenEstimator(EquationRegressor(rise, {"height": 1.0})))]).fit([])
    average.fit([])
    with pytest.raises(ValueError, match="guard: an average has none"):
        average.adapt(X, Y, guard=True)
    with pytest.raises(TaskError, match="no tasks"):
        average.adapt_many([])


# ---- what is told, and what else takes an average -----------------------------------------------------------------


def decaying(noise, **settings):
    def decay(X, start, rate):
        return start * torch.exp(-rate * X[:, 0])

    constants = {"start": Parameter(5.0, lower=0), "rate": Parameter(0.3, lower=0)}
    population = Population(constants, Block(sd={"start": 0.3, "rate": 0.3}), noise, columns={"x": ""})
    return EquationRegressor.from_population(decay, population, **settings)


@pytest.mark.parametrize(
    ("noise", "settings"),
    [
        (NoiseModel("combined", sd=0.1, cv=0.2), {}),
        (NoiseModel("power", sd_at_1=0.2, power=0.7, floor=1e-3), {}),
        (NoiseModel("lognormal", sd_log=0.2), {}),
        (NoiseModel("combined1", sd=0.1, cv=0.1), {"limit": 2.5}),
    ],
    ids=lambda given: getattr(given, "kind", ""),
)
def test_evidence_is_the_likelihood_by_laplace_of_every_kind_of_noise(noise, settings):
    part = decaying(noise, **settings)
    weight = np.array([1.0, 2.0, 0.5, 1.0])
    task = PopulationAverage([("a", part), ("b", part)]).fit([]).adapt(X, Y, sample_weight=weight)
    value = part.log_likelihood([(X, Y)], sample_weight=weight).value
    np.testing.assert_allclose(task.log_evidence_, [value, value], rtol=1e-10)


def test_evidence_counts_correlated_residuals_and_averaged_structures():
    tasks = decaying(NoiseModel("additive", sd=0.3)).simulate_tasks(X, 8, random_state=0)
    constants = {"level": 5.0, "slope": -1.0}
    correlated = EquationRegressor(line, constants, random=["level"], noise_correlation="car1", correlation_time=0)
    with quiet(Warning):
        correlated.fit(tasks)
    with averaging(), quiet(Warning):
        several = EquationRegressor(line, constants, random=["level"], noise="auto", random_state=0).fit(tasks)
    parts = [("a", FrozenEstimator(correlated)), ("b", FrozenEstimator(several))]
    task = PopulationAverage(parts).fit([]).adapt(X, Y)
    np.testing.assert_allclose(task.log_evidence_["a"], correlated.log_likelihood([(X, Y)]).value)
    each = [one._unguarded.log_evidence.item() for one in task.members_["b"].members_]
    assert len(each) == 2
    np.testing.assert_allclose(task.log_evidence_["b"], np.log(np.mean(np.exp(each))))
    low, high = task.predict_interval(NEXT)
    assert (low < high).all()
    assert task.simulate(NEXT, 3, 0).shape == (3, 3)


@pytest.mark.filterwarnings("error")
def test_only_what_concerns_the_average_is_warned_of(model):
    model.adapt(X[:1], Y[:1])  # one row says little about two constants, of which nobody asked
    with pytest.warns(UnlikelyTaskWarning, match="no curve of any part comes near these rows; check their units"):
        model.adapt(X, 1e6 * Y)
    tasks = {"a": (X, Y), "b": (X, 1e6 * Y)}
    with pytest.warns(UnlikelyTaskWarning, match=r"adapt_many: no curve of any part .* of 1 task \('b'\)"):
        model.adapt_many(tasks)
    with pytest.warns(UnlikelyTaskWarning, match="partial_adapt: no curve of any part"):
        model.adapt(X[:1], Y[:1]).partial_adapt(X[1:], 1e6 * Y[1:])


def test_constants_are_those_of_a_part(model):
    task = model.adapt(X, Y)
    for name in ("params_", "derive", "suggest"):
        with pytest.raises(AttributeError, match=rf"see members_\[name\]\.{name}"):
            getattr(task, name)
    assert not hasattr(task, "tasks")
    assert task.members_["low"].params_.index.tolist() == ["level", "slope"]


def test_ranges_of_a_part_are_warned_of_by_its_name():
    ranged = scaled_part("weight", provenance=Provenance(ranges={"weight": (40, 100)}))
    average = PopulationAverage([("a", ranged), ("b", scaled_part("ffm"))]).fit([])
    light = ROWS.assign(weight=20.0)
    message = r"'weight' is 20, and the population was learned from 40 to 100.*\(The part 'a'\.\)"
    for call in (
        lambda: average.adapt(light, [20.0, 40.0]),
        lambda: average.adapt_many([(light, [20.0, 40.0])]),
        lambda: average.adapt([], [], covariates={"weight": 20.0, "ffm": 15.0}),
    ):
        with pytest.warns(UnlikelyTaskWarning, match=message) as told:
            call()
        assert len(told) == 1


def test_a_curve_below_zero_is_warned_of_once():
    def crossing(X, slope):
        return 1 - slope * X[:, 0]

    population = Population(
        {"slope": 0.5}, Block(sd={"slope": 0.3}), NoiseModel("lognormal", sd_log=0.2), columns={"x": ""}
    )
    crossing_part = EquationRegressor.from_population(crossing, population)
    task = PopulationAverage([("crossing", crossing_part), ("positive", lognormal_part())]).fit([]).adapt([], [])
    with pytest.warns(UserWarning, match="the curve is below zero") as told:
        task.predict_interval([[1.2]])
    assert len(told) == 1


def test_weights_and_tasks_come_in_several_forms(model, by_name):
    weights = model.adapt(X, Y).weights_
    again = clone(model).set_params(weights=weights).fit(pd.DataFrame(columns=["x"]))
    np.testing.assert_allclose(again.weights_, weights)
    tasks = [(ROWS[["weight", "t", "ffm"]], [2.1, 3.9]), (ROWS[["weight", "t", "ffm"]], [6.1, 11.5])]
    ordered = [(rows[["t", "weight", "ffm"]], y) for rows, y in tasks]
    assert by_name.fit(tasks).score(tasks) == by_name.score(ordered)
    by_name.fit([])


def test_other_tools_take_an_average(model):
    few = FewShotRegressor(model).fit(X, Y)
    np.testing.assert_array_equal(few.predict(NEXT), model.adapt(X, Y).predict(NEXT))
    tasks = line_part(0).simulate_tasks(X, 12, random_state=1)
    assert scorers.few_shot_rmse(2)(model, tasks) < 0
