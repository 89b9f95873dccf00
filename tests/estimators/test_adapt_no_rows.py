"""A task without rows: everywhere the population's predictions, and a start for rows to come."""

import pickle

import numpy as np
import pandas as pd
import pytest

from equations import wave
from metaest import (
    EquationRegressor,
    FewShotClassifier,
    FewShotRegressor,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    TaskError,
    TaskSet,
)
from metaest_datasets import make_sinusoids

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
X = np.array([[-2.0], [0.3], [1.5], [4.0]])
NOTHING = [([], []), (np.empty((0, 1)), np.empty(0)), (np.empty((0, 1)), [])]


WAVE = {"amplitude": Parameter(2.0, lower=0), "phase": Parameter(1.5)}


@pytest.fixture(scope="module")
def tasks():
    return make_sinusoids(40, 8, noise=0.1, random_state=0)


@pytest.fixture(scope="module")
def equation(tasks):
    return EquationRegressor(wave, WAVE).fit(tasks[:30])


@pytest.fixture(scope="module")
def networks(tasks):
    settings = {"max_iter": 3, "random_state": 0, "hidden_layer_sizes": (5,)}
    normed = {"normalization": "batch", "support_size": 3}
    per_step = {**normed, "batch_statistics": "per-step"}
    variants = [{}, {"inner_solver": "bayes"}, {"context_dim": 2}, normed, per_step]
    return [MAMLRegressor(**settings, **variant).fit(tasks[:30]) for variant in variants]


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("guard", [False, True])
def test_an_equation_on_no_rows_is_the_population(equation, nothing, guard):
    task = equation.adapt(*nothing, guard=guard)
    np.testing.assert_allclose(task.predict(X), equation.predict(X))
    for one, other in zip(task.predict(X, return_std=True), equation.predict(X, return_std=True), strict=True):
        np.testing.assert_allclose(one, other)
    for of in ("curve", "observation"):
        np.testing.assert_allclose(task.predict_interval(X, of=of), equation.predict_interval(X, of=of))
    np.testing.assert_allclose(task.predict_mean(X), equation.predict_mean(X))
    np.testing.assert_array_equal(task.suggest(X, 2), equation.suggest(X, 2))
    np.testing.assert_allclose(task.simulate(X, 3, random_state=0), equation.simulate(X, 3, random_state=0))
    np.testing.assert_allclose(task.params_["value"], equation.population_["value"])
    assert task.params_["shrinkage"].tolist() == [1.0, 1.0]
    assert not task.params_["identified"].any()
    assert task.params_["reason"].str.contains("there are no rows").all()
    # the interval of a constant is as wide as the population
    spread = equation.covariance_.to_numpy()[1, 1]
    low, high = task.params_.loc["phase", ["lower_90", "upper_90"]]
    assert high - low >= 2 * 1.6448 * np.sqrt(spread) * 0.98
    assert (task.guard_.decision == "kept") if guard else task.guard_ is None
    assert repr(task) == "AdaptedEquation(1 feature, adapted on 0 rows)"
    assert "0 rows" in task._repr_html_()


@pytest.mark.parametrize("guard", [False, True])
def test_rows_may_follow(equation, networks, tasks, guard):
    new = tasks[35]
    for model in (equation, *networks):
        empty = pickle.loads(pickle.dumps(model.adapt([], [], guard=guard)))
        later = empty.partial_adapt(new.X[:3], new.y[:3])
        at_once = model.adapt(new.X[:3], new.y[:3], guard=guard)
        np.testing.assert_allclose(later.predict(X), at_once.predict(X))
        assert later.guard_ == at_once.guard_
        np.testing.assert_array_equal(later.X_support_, new.X[:3])
        np.testing.assert_allclose(later.partial_adapt([], []).predict(X), at_once.predict(X))


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_network_on_no_rows_is_the_model_itself(networks, nothing):
    for model in networks:
        task = model.adapt(*nothing)
        np.testing.assert_allclose(task.predict(X), model.predict(X))
    mean, sd = networks[1].adapt(*nothing).predict(X, return_std=True)
    np.testing.assert_allclose((mean, sd), networks[1].predict(X, return_std=True))


def test_conformal_intervals_are_those_without_rows(equation, networks, tasks):
    for model in (equation, networks[0]):
        model.calibrate(tasks[30:], support_size=2)
        one = model.adapt([], [], guard=True).predict_interval(X, level=0.8, method="conformal")
        np.testing.assert_allclose(one, model.predict_interval(X, level=0.8, method="conformal"))


def test_columns_and_shapes_are_checked(equation, networks):
    for model in (equation, networks[0]):
        with pytest.raises(TaskError, match="X has 3 features"):
            model.adapt(np.empty((0, 3)), [])
        with pytest.raises(TaskError, match="unseen at fit time"):
            model.adapt(pd.DataFrame({"time": []}), [])
        with pytest.raises(TaskError, match="y has shape"):
            model.adapt([], np.empty((0, 2)))
        with pytest.raises(TaskError, match="0 sample"):
            model.adapt(np.empty((0, 1)), [1.0])
        with pytest.raises(TaskError, match="it has no rows"):
            model.adapt_many([([[1.0]], [1.0]), (np.empty((0, 1)), [])])


def test_a_profile_needs_rows(equation):
    with pytest.raises(ValueError, match="the task has no rows"):
        equation.adapt([], []).profile("phase")


def test_covariates_of_a_task_without_rows_are_said():
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 30)
    parts = [
        pd.DataFrame(
            {"x": (at := rng.uniform(0, 3, 6)), "age": years, "y": 0.05 * years * at + rng.normal(size=6) * 0.1}
        )
        for years in age
    ]
    frame = pd.concat(parts, keys=range(30), names=["task"]).reset_index("task")
    tasks = TaskSet.from_arrays(frame[["x", "age"]], frame["y"], frame["task"])

    def line(X, slope):
        return slope * X[:, 0]

    model = EquationRegressor(line, {"slope": Parameter(2.0, lower=0)}, covariates={"slope": ["age"]}).fit(tasks)
    task = model.adapt([], [], covariates={"age": 71.0})
    rows = pd.DataFrame({"x": [1.0, 2.0], "age": 71.0})
    np.testing.assert_allclose(task.predict(rows), model.predict(rows))
    np.testing.assert_allclose(
        task.partial_adapt(rows[:1], [3.9]).predict(rows), model.adapt(rows[:1], [3.9]).predict(rows)
    )
    with pytest.raises(TaskError, match="belongs to the task"):
        task.partial_adapt(rows.assign(age=40.0), [3.9, 7.7])
    with pytest.raises(TaskError, match="belongs to the task"):
        task.predict(rows.assign(age=40.0))
    with pytest.raises(
        TaskError, match=r"without rows the covariate 'age' of this task is not known.*covariates=\{'age': value\}"
    ):
        model.adapt([], [])
    with pytest.raises(TaskError, match="'weight', which is no column of the fit"):
        model.adapt([], [], covariates={"age": 50.0, "weight": 70.0})
    with pytest.raises(TaskError, match="'age' is nan; a finite number"):
        model.adapt([], [], covariates={"age": np.nan})
    with pytest.raises(ValueError, match="these rows bring their own"):
        model.adapt(rows, [3.9, 7.7], covariates={"age": 71.0})


@pytest.mark.parametrize("outcomes", [1, 2])
def test_a_policy_on_no_rows_acts_as_the_model(outcomes):
    rng = np.random.default_rng(0)
    shape = (30,) if outcomes == 1 else (30, 2)
    tasks = [(rng.normal(size=(30, 2)), np.abs(rng.normal(size=shape)) * 0.01) for _ in range(6)]
    model = MAMLPolicy(support_size=10, max_iter=2, random_state=0, hidden_layer_sizes=(4,)).fit(tasks)
    rows, y = tasks[0]
    task = model.adapt([], [])
    np.testing.assert_allclose(task.predict(rows), model.predict(rows))
    np.testing.assert_allclose(task.partial_adapt(rows, y).predict(rows), model.adapt(rows, y).predict(rows))


def test_where_no_rows_are_refused(equation, tasks):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 8)
    classes = MAMLClassifier(n_way=3, k_shot=2, max_iter=2, random_state=0)
    classes.fit(rng.normal(size=(48, 3)) + labels[:, None], labels)
    with pytest.raises(TaskError, match="rows of a task define its classes"):
        classes.adapt([], [])
    with pytest.raises(TaskError, match="0 sample"):
        FewShotClassifier(classes).fit(np.empty((0, 3)), [])
    with pytest.raises(TaskError, match="0 sample"):
        FewShotRegressor(equation).fit(np.empty((0, 1)), [])
