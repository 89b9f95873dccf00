"""Every wrong equation, constant and task has an error in the user's words, and loses nothing."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from equations import avrami, avrami_tasks, decay, line
from metaest import (
    EquationRegressor,
    IdentifiabilityWarning,
    Parameter,
    Task,
    TaskError,
    TaskSet,
    UnlikelyTaskWarning,
)

AVRAMI = {"k": Parameter(1.0, lower=0), "n": Parameter(1.5, lower=0)}
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
        (lambda X, k, n: X[:, 0] * k.detach() * n.detach(), NEAR, TypeError, "torch can differentiate"),
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
    """exp(n log t) is 0 at t = 0, and its derivative in n is NaN."""

    def logarithmic(X, k, n):
        return 1 - torch.exp(-torch.exp(n * torch.log(k * X[:, 0])))

    with_zero = TaskSet([Task("zero", [[0.0], [1.0]], [0.0, 0.6], feature_names=["t"]), *tasks])
    with pytest.raises(TaskError, match="task 'zero': the derivative of the equation in '[kn]' is nan in row 0"):
        EquationRegressor(logarithmic, AVRAMI).fit(with_zero)
    fitted = EquationRegressor(avrami, AVRAMI).fit(with_zero)  # a power of zero is taken care of by torch
    assert np.isfinite(fitted.log_likelihood_)
    model = EquationRegressor(logarithmic, AVRAMI).fit(tasks)
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
        (np.empty((0, 1)), [], "0 sample"),
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
            ({"method": "conformal"}, "method"),
            ({"of": "mean"}, "of must be"),
        ):
            with pytest.raises(ValueError, match=message):
                predictor.predict_interval([[1.0]], **settings)
        for settings, message in (
            ({"n": 3}, "n must be a whole number from 1 to the 2 candidates"),
            ({"n": 0}, "n must be"),
            ({"target": "m"}, "target must be a constant that varies between tasks"),
            ({"cost": [1.0]}, "cost must hold one number above 0"),
            ({"cost": [1.0, -1.0]}, "cost must hold one number above 0"),
        ):
            with pytest.raises(ValueError, match=message):
                predictor.suggest([[1.0], [2.0]], **settings)
    with pytest.raises(TaskError, match="the tasks are not those adapted to"):
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


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_rows_unlike_the_population_are_named(model):
    """Minutes where the population was learned in hours, or per cent instead of a share."""
    with pytest.warns(UnlikelyTaskWarning, match="adapt: no curve of this population comes near these rows"):
        model.adapt([[0.5], [1.0], [1.5]], [22.0, 63.0, 90.0])
    with pytest.warns(UnlikelyTaskWarning, match="adapt_many: .* 1 of 2 tasks: task 'per cent'; check their units"):
        model.adapt_many([Task("share", [[1.0]], [0.6]), Task("per cent", [[1.0]], [60.0])])


def test_constants_that_nothing_determines(tasks):
    product = {**AVRAMI, "c": Parameter(1.0, lower=0)}
    with pytest.warns(ConvergenceWarning, match="the tasks do not determine k, c at the population found"):
        model = EquationRegressor(lambda X, k, n, c: avrami(X, k * c, n), product).fit(tasks)
    assert np.isinf(model.population_.loc[["k", "c"], "standard_error"]).all()
    assert np.isfinite(model.population_.loc["n", "standard_error"])
    with pytest.warns(ConvergenceWarning, match="do not determine c at"):
        unused = EquationRegressor(lambda X, k, n, c: avrami(X, k, n) + 0 * c, product).fit(tasks)
    assert np.isinf(unused.population_.loc["c", "standard_error"])
    assert np.isfinite(unused.predict(tasks.X, return_std=True)[1]).all()
    assert unused.log_likelihood_ == pytest.approx(
        EquationRegressor(avrami, AVRAMI).fit(tasks).log_likelihood_, abs=1e-3
    )


def test_a_constant_at_its_bound(tasks):
    """The curves want n near 2."""
    with pytest.warns(ConvergenceWarning, match="do not determine n at .* or it has run to a bound"):
        model = EquationRegressor(avrami, {"k": AVRAMI["k"], "n": Parameter(0.5, lower=0.2, upper=0.8)}).fit(tasks)
    assert model.population_.loc["n", "value"] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(("scale_x", "scale_y"), [(1e6, 1.0), (1.0, 1e8), (1e-3, 1e-8)])
def test_units_do_not_matter(scale_x, scale_y):
    rng = np.random.default_rng(1)
    tasks = []
    for i in range(15):
        t, (k, a) = rng.uniform(0, 3, (6, 1)), np.exp(0.3 * rng.standard_normal(2))
        tasks.append(Task(i, scale_x * t, scale_y * (a * np.exp(-k * t[:, 0]) + 0.02 * rng.standard_normal(6))))
    model = EquationRegressor(decay, {"k": Parameter(1.0, lower=0), "a": Parameter(1.0, lower=0)}).fit(tasks)
    value = model.population_["value"] * [scale_x, 1 / scale_y]
    np.testing.assert_allclose(value, [1.0, 1.0], rtol=0.3)
    assert model.noise_["sd"] / scale_y == pytest.approx(0.02, rel=0.3)


def test_proportional_noise_with_values_it_cannot_give(tasks):
    zero = Task("zero", tasks[0].X, np.where(np.arange(5) == 2, 0.0, np.abs(tasks[0].y) + 0.01), feature_names=["t"])
    others = [Task(t.name, t.X, np.abs(t.y) + 0.01, feature_names=["t"]) for t in tasks[1:]]
    with pytest.warns(UserWarning, match="noise='proportional', but y is 0 in row 2 of task 'zero'"):
        EquationRegressor(avrami, AVRAMI, noise="proportional").fit([zero, *others])


def test_a_query_fit_without_support_rows_is_a_fit_to_curves_of_the_population(tasks):
    model = EquationRegressor(avrami, AVRAMI, objective="query", support_size=0, random_state=0).fit(tasks)
    assert np.square(model.predict(tasks.X) - tasks.y).mean() < 0.05


def test_gradient_steps_begin_anew_where_the_first_rates_diverge():
    """One task with far larger slopes than the others."""
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(8):
        t, (k, a) = np.sort(rng.uniform(0, 4, (8, 1)), axis=0), np.exp(0.4 * rng.standard_normal(2))
        tasks.append(Task(i, t, a * np.exp(-k * t[:, 0]) + 0.05 * rng.standard_normal(8)))
    tasks.append(Task("large", tasks[0].X, 40 * np.exp(-tasks[0].X[:, 0])))
    settings = {"objective": "query", "inner_solver": "gradient", "random_state": 0, "max_iter": 40}
    constants = {"k": Parameter(1.0, lower=0), "a": Parameter(1.0, lower=0)}
    model = EquationRegressor(decay, constants, **settings).fit(tasks)
    assert np.isfinite(model.history_["loss"]).all()
    assert model.history_["iteration"].tolist() == list(range(1, 41))


def test_a_row_at_time_zero_changes_nothing():
    """The second derivative of a power is NaN at zero in torch, and zero in truth."""
    rng = np.random.default_rng(0)
    fits = {}
    curves = list(zip(np.exp(0.3 * rng.standard_normal(15)), 2 * np.exp(0.2 * rng.standard_normal(15)), strict=True))
    noise = 0.02 * rng.standard_normal((15, 6))
    for first in (0.0, 1e-9):
        t = np.array([first, 0.4, 0.8, 1.2, 1.6, 2.2])
        fits[first] = EquationRegressor(avrami, AVRAMI).fit(
            [(t[:, None], 1 - np.exp(-((k * t) ** n)) + noise[i]) for i, (k, n) in enumerate(curves)]
        )
    assert fits[0.0].log_likelihood_ == pytest.approx(fits[1e-9].log_likelihood_, abs=1e-6)
    np.testing.assert_allclose(fits[0.0].covariance_, fits[1e-9].covariance_, rtol=1e-4)
    assert (fits[0.0].population_["between_task_sd"] > 0.1).all()


def test_a_second_derivative_that_is_not_finite_is_no_silent_end():
    """Rows that see each other cannot be told apart, so the search has to say that it cannot move."""

    def summed(X, k, n):
        return torch.cumsum(1 - torch.exp(-((k * X[:, 0]) ** n)), dim=0)

    rng = np.random.default_rng(0)
    t = np.array([0.0, 0.4, 0.8, 1.2])
    tasks = [
        (t[:, None], np.cumsum(1 - np.exp(-((k * t) ** 2))) + 0.02 * rng.standard_normal(4)) for k in (0.8, 1.0, 1.3)
    ]
    with pytest.raises(ArithmeticError, match="a second derivative of the equation is not finite"):
        EquationRegressor(summed, AVRAMI).fit(tasks)


def test_a_column_that_is_not_there(tasks):
    with pytest.raises(ValueError, match="reads a column that X does not have; X has 1"):
        EquationRegressor(lambda X, k, n: k * X[:, 3] ** n, AVRAMI).fit(tasks)


def test_ends_of_intervals_where_curves_have_heavy_tails():
    """Exponential growth beyond the data: drawn curves differ by orders of magnitude."""
    rng = np.random.default_rng(0)
    x, tasks = np.linspace(0, 2, 8), []
    for _ in range(30):
        A, r = np.exp(0.3 * rng.standard_normal()), np.exp(0.4 * rng.standard_normal())
        tasks.append((x[:, None], A * np.exp(r * x) + 0.05 * rng.standard_normal(8)))
    constants = {"A": Parameter(1.0, lower=0), "r": Parameter(1.0, lower=0)}
    model = EquationRegressor(lambda X, A, r: A * torch.exp(r * X[:, 0]), constants).fit(tasks)
    grid = np.array([[2.0], [4.0], [6.0], [8.0]])
    low, high = model.predict_interval(grid)
    curve_low, curve_high = model.predict_interval(grid, of="curve")
    assert (low < high).all()
    sd = model.noise_["sd"]
    assert (np.abs(low - curve_low) < 3 * sd).all()
    # beyond the data the noise is nothing beside the spread of the curves
    np.testing.assert_allclose(high[1:], curve_high[1:], rtol=0.02)


def test_an_equation_that_branches_on_its_tasks_x():
    rng = np.random.default_rng(0)
    x, tasks = np.linspace(0, 2, 6), []
    for i in range(30):
        sign = 1.0 if i in (5, 6, 7) else -1.0
        a, b = 1 + 0.2 * rng.standard_normal(), 2 + 0.2 * rng.standard_normal()
        X = np.column_stack([x, np.full(6, float(sign > 0))])
        tasks.append((X, a + sign * b * x + 0.05 * rng.standard_normal(6)))

    def either(X, a, b):
        return a + b * X[:, 0] if X[0, 1] > 0.5 else a - b * X[:, 0]

    model = EquationRegressor(either, {"a": 1.0, "b": 1.0}).fit(tasks)
    assert model.batching_ == "loop"
    np.testing.assert_allclose(model.population_["value"], [1.0, 2.0], atol=0.15)


def test_unbounded_constants_of_very_different_size():
    rng = np.random.default_rng(0)
    t, fits = np.linspace(1e4, 3e6, 8), {}
    draws = np.exp(0.2 * rng.standard_normal((30, 2)))
    y = [2 * a * np.exp(-1e-6 * k * t) + 0.02 * rng.standard_normal(8) for a, k in draws]
    for unit in (1.0, 1e6):
        model = EquationRegressor(decay, {"a": 2.0, "k": 1e-6 * unit}).fit([(t[:, None] / unit, own) for own in y])
        fits[unit] = model.population_[["value", "standard_error", "between_task_sd"]].to_numpy() / [[1.0], [unit]]
    np.testing.assert_allclose(fits[1.0], fits[1e6], rtol=1e-2)
    np.testing.assert_allclose(fits[1.0][:, 0], [2.0, 1e-6], rtol=0.15)


def test_a_large_offset_is_no_exact_fit():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 5)
    tasks = [(x[:, None], 1e7 + rng.standard_normal() + 2 * x + 0.1 * rng.standard_normal(5)) for _ in range(30)]
    model = EquationRegressor(line, {"a": 1e7, "b": 1.0}, random=["a"]).fit(tasks)
    assert model.noise_["sd"] == pytest.approx(0.1, rel=0.2)


def test_a_summary_is_of_the_fit_and_copies_stay_read_only(tasks):
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    before = model.summary()
    assert model.set_params(noise="proportional", objective="query").summary() == before
    with pytest.raises(ValueError, match="read-only"):
        copy.deepcopy(model.adapt(tasks[0].X, tasks[0].y)).y_support_[0] = 1.0
