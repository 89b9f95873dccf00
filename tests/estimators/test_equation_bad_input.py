"""Every wrong equation, constant and task has an error in the user's words, and loses nothing."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from equations import AVRAMI, avrami, avrami_tasks, decay, line
from metaest import EquationRegressor, IdentifiabilityWarning, Parameter, Task, TaskError, TaskSet

NEAR = {"k": 1.0, "n": 2.0}


@pytest.fixture(scope="module")
def tasks():
    return avrami_tasks(12, seed=0)[0]


@pytest.fixture(scope="module")
def model(tasks):
    return EquationRegressor(avrami, AVRAMI).fit(tasks)


@pytest.mark.parametrize(
    ("equation", "parameters", "error", "message"),
    [
        (lambda X, k, n: k * n, NEAR, ValueError, r"returned shape \(\) for 5 rows; \(5,\) is wanted"),
        (lambda X, k, n: (k * X[:, 0])[:3], NEAR, ValueError, r"returned shape \(3,\) for 5 rows"),
        (
            lambda X, k, n: torch.log(-k * X[:, 0]) * n,
            AVRAMI,
            TaskError,
            "task 'curve 0': the equation is nan in row 0",
        ),
        (lambda X, k, n: X[:, 0] / (k - k) + n, NEAR, TaskError, "task 'curve 0': the equation is inf in row 0.*k=1"),
        (lambda X, k, n: X[:, 0] * k.detach() * n.detach(), NEAR, TypeError, "'k' in a way torch cannot differentiate"),
        (lambda X, k, n: X.div_(2)[:, 0] * k * n, NEAR, ValueError, "the equation changes X in place"),
        (lambda X, k, n: math.exp(k) * X[:, 0] * n, NEAR, TypeError, "'k' in a way torch cannot differentiate"),
        (lambda X, k, n: np.asarray(X[:, 0]) * n, NEAR, TypeError, "the equation uses numpy on its constants"),
        (avrami, {"k": 1.0, "m": 2.0}, ValueError, "no constant 'm'; it takes k, n after X"),
        (avrami, {"k": 1.0}, ValueError, "the equation's constant 'n' is missing"),
        (avrami, {"k": 1.0, "n": "two"}, TypeError, "parameter 'n' must be a Parameter or a number, got str"),
        (avrami, {"k": 1.0, "n": Parameter(-1.0, lower=0)}, ValueError, "'n': its initial value -1 is not inside"),
        (avrami, {"k": 1.0, "n": Parameter(0.0, lower=0)}, ValueError, "'n': its initial value 0 is not inside"),
        (avrami, {"k": 1.0, "n": Parameter(2.0, lower=5, upper=1)}, ValueError, "'n': its lower bound 5 is not below"),
        (avrami, {"k": 1.0, "n": Parameter(np.nan)}, ValueError, "'n': initial must be a number, got nan"),
        (avrami, {"k": 1.0, "n": Parameter(2.0, upper=np.nan)}, ValueError, "'n': upper must be a number"),
        (avrami, {"k": 1.0, "n": Parameter(2.0, transform="sqrt")}, ValueError, "'n': transform must be 'identity'"),
        (avrami, {"k": 1.0, "n": Parameter(2.0, lower=0, transform="logit")}, ValueError, "not inside its bounds"),
        (avrami, {"k": 1.0, "n": Parameter(2.0, lower=0, transform="identity")}, ValueError, "does not fit the bounds"),
        (avrami, {}, TypeError, "parameters must map the name of each constant"),
        (avrami, ["k", "n"], TypeError, "parameters must map the name of each constant"),
        ("avrami", NEAR, TypeError, "equation must be a function"),
    ],
)
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
def test_wrong_equations_and_constants(tasks, equation, parameters, error, message):
    with pytest.raises(error, match=message):
        EquationRegressor(equation, parameters).fit(tasks)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"random": ["m"]}, ValueError, "random: there is no constant 'm'; the constants are k, n"),
        ({"random": "k"}, (TypeError, ValueError), "random"),
        ({"covariates": {"m": ["t"]}}, ValueError, "covariates: there is no constant 'm'"),
        ({"covariates": {"k": ["filler"]}}, ValueError, r"no column 'filler' in X; it has \['t'\]"),
        ({"covariates": {"k": [3]}}, ValueError, "3 is no column of X, which has 1 columns"),
        ({"covariates": {"k": ["t"]}}, TaskError, "task 'curve 0': column 't' is a covariate and must be the same"),
        ({"covariance": "block"}, ValueError, "covariance"),
        ({"noise": "poisson"}, ValueError, "noise"),
        ({"objective": "map"}, ValueError, "objective"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"inner_solver": "gradient"}, ValueError, "needs objective='query'"),
        ({"meta_gradient": "first-order"}, ValueError, "needs inner_solver='gradient'"),
    ],
)
def test_wrong_settings(tasks, settings, error, message):
    with pytest.raises(error, match=message):
        EquationRegressor(avrami, NEAR, **settings).fit(tasks)


def framed(values, columns=("t", "filler")):
    return [
        Task(i, pd.DataFrame({columns[0]: [0.5, 1.0], columns[1]: filler}), [0.2, 0.7])
        for i, filler in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (framed([1.0, [1.0, 2.0]]), "task 1: column 'filler' is a covariate and must be the same .* it is 1 and 2"),
        (framed([3.0, 3.0]), "column 'filler' is 3 in every task; it cannot tell the tasks apart"),
    ],
)
def test_covariates_that_tell_nothing(tasks, message):
    with pytest.raises(TaskError, match=message):
        EquationRegressor(avrami, AVRAMI, covariates={"k": ["filler"]}).fit(tasks)


def test_dependent_covariates():
    tasks = [
        Task(i, pd.DataFrame({"t": [0.5, 1.0], "a": float(i), "b": 2.0 * i}), [0.2, 0.7 - 0.01 * i]) for i in range(5)
    ]
    with pytest.raises(TaskError, match="covariates of 'k': the columns .* are linearly dependent over the 5 tasks"):
        EquationRegressor(avrami, AVRAMI, covariates={"k": ["a", "b"]}).fit(tasks)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_covariates_of_a_new_task_must_stay():
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(10):
        filler, t = rng.uniform(), rng.uniform(0.1, 2, 4)
        y = 1 - np.exp(-((np.exp(filler) * t) ** 2)) + 0.02 * rng.standard_normal(4)
        tasks.append(Task(i, pd.DataFrame({"t": t, "filler": filler}), y))
    model = EquationRegressor(avrami, AVRAMI, covariates={"k": ["filler"]}).fit(tasks)
    with pytest.raises(TaskError, match="adapt: column 'filler' is a covariate .* 0.5 in row 1, but 0.4 in row 0"):
        model.adapt([[1.0, 0.4], [1.5, 0.5]], [0.5, 0.7])
    adapted = model.adapt([[1.0, 0.4]], [0.9])
    with pytest.raises(TaskError, match="predict: column 'filler' is a covariate.*but 0.4 in the rows adapted to"):
        adapted.predict([[1.0, 0.5]])
    with pytest.raises(TaskError, match="partial_adapt: column 'filler'"):
        adapted.partial_adapt([[1.0, 0.5]], [0.5])
    with pytest.raises(TaskError, match="suggest: column 'filler'"):
        model.suggest([[1.0, 0.4], [1.0, 0.5]])
    many = model.adapt_many(tasks)
    with pytest.raises(TaskError, match="with covariates every task has rows of its own"):
        many.predict([[1.0, 0.4]])
    moved = [
        Task(t.name, np.column_stack([t.X[:, 0], t.X[:, 1] + 1]), t.y, feature_names=["t", "filler"]) for t in tasks
    ]
    with pytest.raises(TaskError, match="task 0: column 'filler' is a covariate; it is"):
        many.predict(TaskSet(moved))


def test_a_derivative_that_is_not_finite_names_its_constant(tasks):
    """At t = 0 the equation moves with k, and the derivative of its root there is NaN."""

    def rooted(X, k, n):
        return 1 - torch.exp(-((k * X[:, 0]) ** n)) + 0.01 * (k - torch.sqrt(k * X[:, 0]))

    with_zero = TaskSet([Task("zero", [[0.0], [1.0]], [0.0, 0.6], feature_names=["t"]), *tasks])
    with pytest.raises(TaskError, match=r"task 'zero': the derivative of the equation in 'k' is nan in row 0.*clamp"):
        EquationRegressor(rooted, AVRAMI).fit(with_zero)
    model = EquationRegressor(rooted, AVRAMI).fit(tasks)
    with pytest.raises(TaskError, match="adapt: the derivative of the equation"):
        model.adapt([[0.0], [1.0]], [0.0, 0.6])


def test_rows_that_say_nothing_give_the_population(model):
    """Long after the end of the transformation the curve is 1 whatever the constants are."""
    with pytest.warns(IdentifiabilityWarning, match="cannot tell k .*, n"):
        adapted = model.adapt([[50.0], [60.0]], [1.0, 1.0])
    table, population = adapted.params_, model.population_
    np.testing.assert_allclose(table["value"], population["value"], rtol=1e-6)
    np.testing.assert_allclose(table["shrinkage"], 1.0, atol=1e-6)
    assert not table["identified"].any()
    assert table["reason"].str.contains("does not respond").all()
    # no narrower than the population: 90 % of tasks lie inside
    wide = np.exp(1.645 * population["scaled_sd"])
    assert (table["upper_90"] / table["value"] >= 0.999 * wide).all()
    np.testing.assert_allclose(adapted.predict([[1.0]]), model.predict([[1.0]]), rtol=1e-6)


def test_one_single_task_is_an_ordinary_fit():
    task = avrami_tasks(1, n_rows=12, seed=3)[0]
    with pytest.warns(UserWarning, match="one task says nothing about the variation between tasks"):
        model = EquationRegressor(avrami, AVRAMI).fit(task)
    assert np.square(model.predict(task.X) - task.y).mean() < 0.03**2
    assert (model.population_["between_task_sd"] == 0).all()
    adapted = model.adapt([[1.0]], model.predict([[1.0]]))
    np.testing.assert_allclose(adapted.params_["value"], model.population_["value"])
    assert not adapted.params_["identified"].any()


def test_identical_tasks_show_no_variation():
    task = avrami_tasks(1, n_rows=12, seed=3)[0][0]
    model = EquationRegressor(avrami, AVRAMI).fit([(task.X, task.y) for _ in range(6)])
    assert (model.population_["between_task_sd"] == 0).all()
    assert model.summary().count("shows no between-task variation") == 2
    adapted = model.adapt([[1.0]], model.predict([[1.0]]))
    assert adapted.params_["reason"].str.startswith("it shows no variation between tasks").all()
    with pytest.raises(ValueError, match="no constant varies between tasks"):
        adapted.suggest([[1.0]])


def test_perfectly_flat_data():
    rng = np.random.default_rng(0)
    tasks = [(rng.uniform(0, 1, (4, 1)), np.full(4, 3.0)) for _ in range(5)]
    with pytest.warns(ConvergenceWarning, match="the noise has shrunk to its floor"):
        model = EquationRegressor(line, {"a": 0.0, "b": 1.0}).fit(tasks)
    np.testing.assert_allclose(model.population_["value"], [3.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(model.predict([[0.5]]), [3.0], rtol=1e-4)
    with pytest.warns(ConvergenceWarning, match="the noise has shrunk to its floor"):
        zero = EquationRegressor(line, {"a": 1.0, "b": 1.0}).fit([(X, np.zeros(4)) for X, _ in tasks])
    np.testing.assert_allclose(zero.predict([[0.5]]), [0.0], atol=1e-4)


def test_data_without_noise():
    rng = np.random.default_rng(0)
    tasks = []
    for _ in range(8):
        X = rng.uniform(0, 2, (4, 1))
        k, a = np.exp(0.3 * rng.standard_normal(2))
        tasks.append((X, a * np.exp(-k * X[:, 0])))
    with pytest.warns(ConvergenceWarning):
        model = EquationRegressor(decay, {"k": Parameter(0.5, lower=0), "a": Parameter(1.0, lower=0)}).fit(tasks)
    adapted = model.adapt(tasks[0][0][:3], tasks[0][1][:3])
    np.testing.assert_allclose(adapted.predict(tasks[0][0]), tasks[0][1], atol=1e-3)


def test_a_search_cut_short_says_so(tasks):
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=1 iterations; raise max_iter"):
        EquationRegressor(avrami, AVRAMI, max_iter=1).fit(tasks)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[np.nan]], [1.0], "adapt: column 0 of X holds NaN in row 0"),
        ([[1.0]], [np.inf], "adapt: column 0 of y holds infinity"),
        ([[1.0]], None, "adapt: y is missing"),
        ([[1.0, 2.0]], [1.0], "X has 2 features, but EquationRegressor is expecting 1"),
        ([[1.0]], [[1.0, 2.0]], "adapt: y has shape .* fitted on 1 target"),
        (pd.DataFrame({"time": [1.0]}), [1.0], "unseen at fit time:\n- time\n"),
        (np.empty((0, 1)), [1.0], "0 sample"),
        (np.empty((0, 2)), [], "X has 2 features"),
    ],
)
def test_adapt_refuses_and_loses_nothing(model, X, y, message):
    before = model.predict([[0.7]])
    with pytest.raises(TaskError, match=message):
        model.adapt(X, y)
    np.testing.assert_array_equal(model.predict([[0.7]]), before)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_wrong_questions(model, tasks):
    adapted = model.adapt(tasks[0].X[:2], tasks[0].y[:2])
    for predictor in (model, adapted):
        for settings, message in (
            ({"level": 1.0}, "level"),
            ({"level": "high"}, "level"),
            ({"level": np.float32(1.5)}, "level"),
            ({"method": "jackknife"}, "method"),
            ({"of": "mean"}, "of must be"),
        ):
            with pytest.raises(ValueError, match=message):
                predictor.predict_interval([[1.0]], **settings)
        for settings, message in (
            ({"n": 3}, "n must be a whole number from 1 to the 2 candidates"),
            ({"n": 0}, "n must be"),
            ({"target": "m"}, "target must be a constant that varies between tasks"),
            ({"cost": [1.0]}, "cost has shape .1,.; one number a row, .2,., is wanted"),
            ({"cost": [1.0, -1.0]}, "cost must hold one number above 0"),
        ):
            with pytest.raises(ValueError, match=message):
                predictor.suggest([[1.0], [2.0]], **settings)
    for n_points in (2, 10.5, "many"):
        with pytest.raises(ValueError, match="n_points must be a whole number from 3 to 1000000"):
            adapted.profile("k", n_points=n_points)
    assert adapted.predict_interval([[1.0]], level=np.float32(0.5))[0].shape == (1,)
    with pytest.raises(TaskError, match="pass the tasks that were adapted to"):
        model.adapt_many(tasks).predict(tasks[:3])


def test_two_targets_and_before_fit(tasks):
    with pytest.raises(TaskError, match="y has 2 targets; an equation gives one value a row"):
        EquationRegressor(avrami, AVRAMI).fit([(t.X, np.column_stack([t.y, t.y])) for t in tasks])
    unfitted = EquationRegressor(avrami, AVRAMI)
    for call in (
        lambda: unfitted.predict([[1.0]]),
        lambda: unfitted.adapt([[1.0]], [1.0]),
        lambda: unfitted.adapt_many(tasks),
        lambda: unfitted.score(tasks),
        lambda: unfitted.suggest([[1.0]]),
        unfitted.summary,
    ):
        with pytest.raises(NotFittedError):
            call()


def test_a_failing_fit_keeps_the_last_one(tasks):
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    before = model.predict(tasks.X)
    with pytest.raises(TaskError):
        model.set_params(equation=lambda X, k, n: torch.log(-k * X[:, 0]) * n).fit(tasks)
    np.testing.assert_array_equal(model.predict(tasks.X), before)


def test_a_score_that_is_not_finite_names_the_task():
    rng = np.random.default_rng(0)
    tasks = [Task(i, rng.uniform(1, 2, (4, 1)), rng.uniform(0, 1, 4)) for i in range(6)]
    model = EquationRegressor(
        lambda X, a, b: a + b * torch.log(X[:, 0]), {"a": 0.0, "b": 1.0}, support_size=1, split="first"
    )
    model.fit(tasks)
    with pytest.raises(ArithmeticError, match="task 'bad': the equation is not finite"):
        model.score([Task("good", [[1.0], [2.0]], [0.0, 0.0]), Task("bad", [[1.0], [-1.0]], [0.0, 0.0])])


def test_targets_too_large_to_be_squared_are_blamed_and_not_the_equation(model, tasks):
    X, y = tasks[0].X[:3], tasks[0].y[:3]
    adapted = model.adapt(X, y)
    for call in (lambda y: model.adapt(X, y), lambda y: adapted.partial_adapt(X, y)):
        with pytest.raises(TaskError, match=r"y is .*e\+1\d\d in support row \d, too large for its square"):
            call(y * 1e170)
    with pytest.raises(TaskError, match=r"with sample_weight 1e\+140, too large for its square"):
        model.adapt(X, y * 1e100, sample_weight=np.full(3, 1e140))


@pytest.mark.filterwarnings("ignore:.*predict_mean")
def test_a_row_in_which_the_equation_is_not_finite_is_named(model, tasks):
    # a negative time has no real power
    rows, adapted = [[1.0], [2.0], [-2.0]], model.adapt(tasks[0].X[:4], tasks[0].y[:4])
    for answer in (model.predict, adapted.predict, lambda X: adapted.predict(X, return_std=True)):
        with pytest.raises(TaskError, match=r"predict: the equation is nan in row 2, X = \[-2\.0\]"):
            answer(rows)
    for answer in (model.predict_interval, lambda X: adapted.predict_interval(X, of="curve")):
        with pytest.raises(TaskError, match="predict_interval: .* in row 2"):
            answer(rows)
    with pytest.raises(TaskError, match="task 'curve 1': the equation is nan in row 2"):
        model.adapt_many(tasks[1:3]).predict(rows)
    for answer in (model.simulate, adapted.simulate):
        with pytest.warns(UserWarning, match="simulate: 2 of the 2 values drawn in row 2 are not finite"):
            assert np.isfinite(answer(rows, n=2, random_state=0)[:, :2]).all()
