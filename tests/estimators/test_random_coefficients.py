"""RandomCoefficientRegressor: equal to lme4 and statsmodels where it is linear, and honest where it is not."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from agreement import assert_agree
from metaest import (
    IdentifiabilityWarning,
    ModelFileError,
    RandomCoefficientRegressor,
    Task,
    TaskError,
    TaskSet,
    load,
    save,
)
from metaest.estimators.gaussian.prior import TaskPrior
from metaest.estimators.gaussian.random_coefficients.trees import BoostedTrees
from metaest.estimators.gaussian.random_coefficients.uncertainty import Uncertainty
from metaest_datasets import load_sleepstudy

FAST = HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=4, early_stopping=False)


def people(n_tasks=18, n_rows=10, seed=0):
    """Tasks of a line with a level and a slope of their own, and a column that is one number a task."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = np.column_stack([rng.uniform(0, 9, n_rows), np.full(n_rows, rng.integers(4))])
        line = 250 + 25 * rng.standard_normal() + (10 + 6 * rng.standard_normal()) * X[:, 0] + 5 * X[:, 1]
        y = line + 15 * rng.standard_normal(n_rows)
        tasks.append(Task(f"person {seed}.{i}", X, y, feature_names=("days", "dose")))
    return TaskSet(tasks)


def shops(n_tasks=30, seed=0, level=1.0, noise=0.1):
    """Tasks of one level each, around a curve with a step."""
    rng = np.random.default_rng(seed)
    week = np.arange(26.0)[:, None]
    curve = np.sin(week[:, 0] / 4) + (week[:, 0] > 20)
    return TaskSet([
        Task(f"shop {seed}.{i}", week, curve + level * rng.standard_normal() + noise * rng.standard_normal(26))
        for i in range(n_tasks)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def boosted():
    return RandomCoefficientRegressor(random_state=0).fit(shops())


@pytest.mark.parametrize(("random", "formula"), [("intercept", None), ("slopes", "~days"), (["days"], "~days")])
def test_a_linear_one_is_the_mixed_model_of_statsmodels(random, formula):
    smf = pytest.importorskip("statsmodels.formula.api")
    tasks = people()
    frame = pd.DataFrame(tasks.X, columns=["days", "dose"]).assign(y=tasks.y, person=np.repeat(tasks.names, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its last steps, which change nothing
        theirs = smf.mixedlm("y ~ days + dose", frame, groups="person", re_formula=formula).fit(
            reml=False, method="lbfgs"
        )
    model = RandomCoefficientRegressor(LinearRegression(), random=random).fit(tasks)
    assert model.log_likelihood_ == pytest.approx(theirs.llf, abs=1e-4)
    np.testing.assert_allclose(model.fixed_coefficients_, theirs.fe_params, rtol=1e-4)
    np.testing.assert_allclose(model.covariance_, theirs.cov_re, rtol=1e-3, atol=1e-3)
    assert model.variance_components_.loc["noise", "variance"] == pytest.approx(theirs.scale, rel=1e-4)
    effects = pd.DataFrame(theirs.random_effects).T.loc[list(tasks.names)]
    np.testing.assert_allclose(model.task_coefficients_, effects, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(
        model.adapt(tasks[3].X, tasks[3].y).predict(tasks[3].X), theirs.fittedvalues[30:40], rtol=1e-4
    )


def test_estimates_of_lme4_on_sleepstudy():
    # lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE); Bates and others, 2015, section 1.2 has the
    # data, doi:10.18637/jss.v067.i01
    tasks = load_sleepstudy()
    model = RandomCoefficientRegressor("linear", random=["days"]).fit(tasks)
    np.testing.assert_allclose(model.fixed_coefficients_, [251.4051, 10.46729], rtol=1e-5)
    np.testing.assert_allclose(model.variance_components_["sd"], [23.7806, 5.7168, 25.5918], rtol=1e-4)
    correlation = model.covariance_.iloc[0, 1] / np.prod(model.variance_components_["sd"].iloc[:2])
    assert correlation == pytest.approx(0.08, abs=0.005)
    assert model.log_likelihood_ == pytest.approx(-875.9697, abs=1e-4)


def test_restricted_estimates_of_lme4_on_sleepstudy():
    # summary of lmer(Reaction ~ Days + (Days | Subject), sleepstudy), ibidem, section 5
    model = RandomCoefficientRegressor("linear", random=["days"], restricted=True).fit(load_sleepstudy())
    np.testing.assert_allclose(model.variance_components_["sd"], [24.741, 5.922, 25.592], rtol=1e-4)
    assert -2 * model.log_likelihood_ == pytest.approx(1743.6, abs=0.05)


def without_doubt(prior):
    """Return a prior whose estimates are taken for the truth."""
    nothing = {name: 0 * value for name, value in vars(prior.uncertainty).items()}
    return replace(prior, uncertainty=Uncertainty(**nothing))


def test_conditioning_in_coefficients_is_that_of_all_rows(boosted):
    for model, tasks in (
        (boosted, shops()),
        (RandomCoefficientRegressor("linear", random="slopes").fit(people()), people()),
    ):
        prior, X = without_doubt(model._prior), tasks.X[None, :12]
        mask = np.arange(12)[None] < 9
        new = tasks.X[None, 30:50]
        short, dense = (
            prior.condition(X, tasks.y[None, :12], mask),
            TaskPrior.condition(prior, X, tasks.y[None, :12], mask),
        )
        np.testing.assert_allclose(short.at(new, True).mean, dense.at(new, True).mean, rtol=1e-8)
        np.testing.assert_allclose(short.at(new, True).variance, dense.at(new, True).variance, rtol=1e-6)


def test_a_training_task_has_the_coefficients_that_adapt_gives_it():
    tasks = people()
    model = RandomCoefficientRegressor("linear", random=["days"]).fit(tasks)
    adapted = model.adapt(tasks[4].X, tasks[4].y)
    line = adapted.predict([[0.0, 1.0], [1.0, 1.0]]) - model.predict([[0.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose([line[0], line[1] - line[0]], model.task_coefficients_.loc["person 0.4"], rtol=1e-8)


@pytest.mark.parametrize("base", ["linear", "boosting"])
def test_units_change_nothing_but_the_units(base):
    tasks = people()
    moved = TaskSet(
        [Task(t.name, t.X * [24, 0.001] + [3, 5], 1e3 * t.y - 7, feature_names=("days", "dose")) for t in tasks]
    )
    one, other = (
        RandomCoefficientRegressor(base, random=["days"], random_state=0).fit(part) for part in (tasks, moved)
    )
    new, again = people(1, 6, seed=1)[0], people(1, 6, seed=1)[0].X * [24, 0.001] + [3, 5]
    mean, sd = one.adapt(new.X[:3], new.y[:3]).predict(new.X, return_std=True)
    mean_again, sd_again = other.adapt(again[:3], 1e3 * new.y[:3] - 7).predict(again, return_std=True)
    np.testing.assert_allclose(mean_again, 1e3 * mean - 7, rtol=1e-4)
    np.testing.assert_allclose(sd_again, 1e3 * sd, rtol=1e-3)


def test_one_row_of_a_line_without_noise_leaves_what_it_does_not_tell():
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (20, 6, 1))
    tasks = [(x, 3 * rng.standard_normal() + x[:, 0] * rng.standard_normal()) for x in X]
    model = RandomCoefficientRegressor(None, random=[0]).fit(tasks)
    adapted = model.adapt([[0.25]], [1.0])
    mean, sd = adapted.predict([[0.25], [0.75]], return_std=True)
    assert mean[0] == pytest.approx(1, abs=1e-9)
    variance = without_doubt(model._prior).condition(np.array([[[0.25]]]), np.ones((1, 1)), np.ones((1, 1), bool))
    certain = np.sqrt(variance.at(np.array([[[0.25], [0.75]]]), True).variance[0])
    # of two normal numbers, given one of them
    (root,) = model._prior.random_columns(np.array([[[0.25], [0.75]]])) @ model._prior.factor
    D = root @ root.T
    assert sd[0] < 1e-6
    assert certain[1] < sd[1] < 1.5 * certain[1]
    assert certain[1] == pytest.approx(np.sqrt(D[1, 1] - D[0, 1] ** 2 / D[0, 0]), rel=1e-6)
    before = model.predict([[0.25], [0.75]])
    assert mean[1] == pytest.approx(before[1] + D[0, 1] / D[0, 0] * (1 - before[0]), rel=1e-6)


@pytest.mark.parametrize("restricted", [False, True])
def test_rows_that_coefficients_fit_exactly_are_refused(restricted):
    rng = np.random.default_rng(0)
    tasks = [(rng.standard_normal((2, 3)), rng.standard_normal(2)) for _ in range(3)]
    with pytest.raises(TaskError, match="6 rows of 3 tasks are fitted exactly by 4 fixed coefficients and 1 random"):
        RandomCoefficientRegressor("linear", restricted=restricted).fit(tasks)
    twice = [(np.column_stack([X[:, :2], X[:, 0]]), y) for X, y in tasks]  # a column twice explains nothing more
    assert RandomCoefficientRegressor("linear", restricted=restricted).fit(twice)._prior.noise_variance > 1e-6


def test_as_many_columns_as_tasks_are_said_to_explain_their_levels():
    tasks = [
        Task(t.name, np.column_stack([t.X[:, 0], np.full(len(t.X), float(i == 0))]), t.y)
        for i, t in enumerate(people(6))
    ]
    rng = np.random.default_rng(0)
    many = [Task(t.name, np.column_stack([t.X, np.tile(rng.standard_normal(4), (len(t.X), 1))]), t.y) for t in tasks]
    with pytest.warns(IdentifiabilityWarning, match="5 columns that are one number a task explain the levels of 6"):
        RandomCoefficientRegressor("linear").fit(many)
    RandomCoefficientRegressor("linear").fit(tasks)
    RandomCoefficientRegressor(random_state=0).fit(many)  # shrunk coefficients leave levels to the random part


def test_one_task_and_many_are_adapted_alike(boosted):
    new = shops(6, seed=1)
    supports = TaskSet([Task(task.name, task.X[: 3 + i], task.y[: 3 + i]) for i, task in enumerate(new)])
    together = boosted.adapt_many(supports).predict(new.X[:26], return_std=True)
    alone = [boosted.adapt(task.X, task.y).predict(new.X[:26], return_std=True) for task in supports]
    assert_agree(np.stack(together, axis=1), alone, "float64")


def test_no_rows_are_the_prior(boosted):
    X = shops().X[:26]
    np.testing.assert_array_equal(boosted.adapt([], []).predict(X, True), boosted.predict(X, True))


@pytest.mark.parametrize("seed", range(3))
def test_rows_far_off_tell_what_they_tell_or_are_refused(seed):
    model = RandomCoefficientRegressor("linear", random=["days"]).fit(people(seed=seed))
    new = people(1, seed=9)[0].X
    # the slope is 1 / far, which is nothing, and the level that of the other row where there is one
    for X, y in ([], []), ([[1.0, 1.0]], [250.0]):
        limit = model.adapt([*X, [1e9, 1.0]], [*y, 1.0]).predict(new, return_std=True)
        for far in (1e10, 1e60, 1e100, 1e150, 1e200, 1e300):
            if not X or far == 1e10:
                adapted = model.adapt([*X, [far, 1.0]], [*y, 1.0])
                np.testing.assert_allclose(adapted.predict(new, return_std=True), limit, rtol=1e-4)
                assert np.isfinite(adapted.predict_interval(new, of="curve")).all()
            else:
                with pytest.raises(TaskError, match="adapt: the rows are too far.*orders of magnitude"):
                    model.adapt([*X, [far, 1.0]], [*y, 1.0])


def test_more_rows_later_are_all_rows_at_once(boosted):
    new = shops(1, seed=2)[0]
    in_parts = boosted.adapt(new.X[:2], new.y[:2]).partial_adapt(new.X[2:9], new.y[2:9])
    np.testing.assert_array_equal(in_parts.predict(new.X), boosted.adapt(new.X[:9], new.y[:9]).predict(new.X))


def test_levels_and_curve_come_apart(boosted):
    sd = boosted.variance_components_["sd"]
    levels = boosted.task_coefficients_["intercept"]
    assert sd["intercept"] == pytest.approx(float(levels.std()), rel=0.1)
    assert 0.095 < sd["noise"] < 0.115  # 0.1 was drawn
    new = shops(20, seed=1)
    errors = [
        boosted.adapt(task.X[:4], task.y[:4]).predict(task.X[4:]) - task.y[4:] for task in new
    ]  # fmt: skip
    assert np.sqrt(np.mean(np.square(errors))) < 0.14  # 0.1 and the error of a level from four rows, 0.05, at least


def test_trees_divide_few_rows_as_well():
    rng = np.random.default_rng(0)
    tasks = [
        (t := np.arange(8.0)[:, None], 5 * (t[:, 0] > 3) + rng.standard_normal() + 0.1 * rng.standard_normal(8))
        for _ in range(6)
    ]
    model = RandomCoefficientRegressor(random_state=0).fit(tasks)
    assert 4 < np.diff(model.predict([[1.0], [6.0]]))[0] < 5.5


def test_a_base_that_fits_too_well_leaves_the_noise_as_it_is():
    tasks = shops(20, noise=0.5)
    near = KNeighborsRegressor(n_neighbors=1)
    apart = RandomCoefficientRegressor(near, random_state=0).fit(tasks)
    seen = RandomCoefficientRegressor(ExtraTreesRegressor(5), n_folds=None, random_state=0).fit(tasks)
    assert apart.variance_components_.loc["noise", "sd"] > 0.5  # 0.5 was drawn
    assert seen.variance_components_.loc["noise", "sd"] < 0.5


def test_a_base_that_helps_no_new_task_is_left_out():
    rng = np.random.default_rng(0)
    noise = TaskSet(
        [Task(i, rng.standard_normal((12, 2)), rng.standard_normal() + rng.standard_normal(12)) for i in range(20)]
    )
    model = RandomCoefficientRegressor(random_state=0).fit(noise)
    assert model.base_ is None
    alone = RandomCoefficientRegressor(None).fit(noise)
    np.testing.assert_allclose(model.predict(noise.X[:5]), alone.predict(noise.X[:5]), rtol=1e-12)
    assert isinstance(RandomCoefficientRegressor(random_state=0).fit(shops()).base_, BoostedTrees)


def test_trees_as_arrays_predict_as_the_regressor_does():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 3))
    regressor = HistGradientBoostingRegressor(max_iter=15).fit(X, X[:, 0] * X[:, 1])
    new = rng.standard_normal((50, 3))
    np.testing.assert_allclose(BoostedTrees.of(regressor).predict(new), regressor.predict(new), rtol=1e-12, atol=1e-14)
    assert BoostedTrees.of(regressor).predict(new[:0]).shape == (0,)


def test_without_a_regressor_tasks_are_levels():
    tasks = TaskSet([Task(i, [[0.0], [1.0]], [level - 1.0, level + 1.0]) for i, level in enumerate([1.0, 4.0, 7.0])])
    model = RandomCoefficientRegressor(None).fit(tasks)
    # by hand: noise 2, the mean of two rows has variance 6 = D + 1
    assert model.fixed_coefficients_["intercept"] == pytest.approx(4)
    assert model.variance_components_["variance"].tolist() == pytest.approx([5, 2], rel=1e-5)
    assert model.adapt([[3.0]], [11.0]).predict([[9.0]])[0] == pytest.approx(4 + 5 / 7 * 7, rel=1e-5)


def test_columns_of_one_number_a_task_have_shrunk_coefficients():
    model = RandomCoefficientRegressor(FAST, random_state=0).fit(people(60))
    assert list(model.fixed_coefficients_.index) == ["intercept", "dose"]
    assert 2 < model.fixed_coefficients_["dose"] < 15  # 5 was drawn, with a standard error of about 3


def test_a_regressor_gets_column_names():
    columns = ColumnTransformer([("codes", OneHotEncoder(handle_unknown="ignore"), ["dose"])], remainder="passthrough")
    model = RandomCoefficientRegressor(make_pipeline(columns, Ridge()), n_folds=None).fit(people())
    assert model.base_.feature_names_in_.tolist() == ["days", "dose"]
    codes = HistGradientBoostingRegressor(categorical_features=["dose"], max_iter=10, early_stopping=False)
    of_codes = RandomCoefficientRegressor(codes, n_folds=None).fit(people())
    task = people(seed=1)[0]
    for fitted in (model, of_codes):
        by_name = fitted.adapt(pd.DataFrame(task.X, columns=["days", "dose"]), task.y)
        np.testing.assert_array_equal(by_name.predict(task.X), fitted.adapt(task.X, task.y).predict(task.X))
    with pytest.raises(TaskError, match="feature names"):
        model.predict(pd.DataFrame(task.X, columns=["days", "sex"]))


@pytest.mark.parametrize("base", ["boosting", ExtraTreesRegressor(10)])
def test_a_seed_fixes_every_bit(base):
    one, other = (RandomCoefficientRegressor(base, random_state=3).fit(shops(12)) for _ in range(2))
    np.testing.assert_array_equal(one.predict(shops().X[:26]), other.predict(shops().X[:26]))
    assert one.history_.equals(other.history_)


def test_the_order_of_columns_and_tasks_matters_not():
    tasks = people()
    turned = TaskSet([Task(t.name, t.X[::-1, ::-1], t.y[::-1]) for t in reversed(list(tasks))])
    one = RandomCoefficientRegressor("linear", random=[0]).fit(tasks)
    other = RandomCoefficientRegressor("linear", random=[1]).fit(turned)
    np.testing.assert_allclose(one.predict(tasks.X), other.predict(tasks.X[:, ::-1]), rtol=1e-7)
    np.testing.assert_allclose(one.covariance_, other.covariance_, rtol=1e-3)


@pytest.mark.parametrize("base", ["boosting", "linear", None])
def test_a_file_gives_the_same_model(base, tmp_path):
    model = RandomCoefficientRegressor(base, random_state=0).fit(people())
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    task = people(seed=1)[0]
    expected = model.adapt(task.X[:3], task.y[:3]).predict(task.X, return_std=True)
    np.testing.assert_array_equal(again.adapt(task.X[:3], task.y[:3]).predict(task.X, return_std=True), expected)
    assert "person" not in str(again.task_coefficients_.index)  # names of people stay at home
    assert list(again.task_coefficients_) == list(model.task_coefficients_)


def test_a_file_cannot_hold_a_regressor_of_the_users(tmp_path):
    model = RandomCoefficientRegressor(FAST, random_state=0).fit(shops())
    with pytest.raises(ModelFileError, match="pickle"):
        save(model, tmp_path / "model")
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(shops().X), model.predict(shops().X))


def test_a_turn_that_is_the_last_is_told():
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        RandomCoefficientRegressor(FAST, max_iter=1, random_state=0).fit(shops())


def test_the_base_is_left_as_it_is():
    base = clone(FAST)
    RandomCoefficientRegressor(base, random_state=0).fit(shops(8))
    assert not hasattr(base, "n_iter_")
    assert base.random_state is None


def single_rows():
    return TaskSet([Task(i, [[float(i)]], [float(i % 3)]) for i in range(8)])


class Infinite(Ridge):
    def predict(self, X):
        return np.full(len(X), np.inf)


@pytest.mark.parametrize(
    ("settings", "tasks", "error", "message"),
    [
        ({}, single_rows(), TaskError, "no task has more rows than the 1 random coefficient"),
        ({"random": ["weeks"]}, people(), ValueError, "random: there is no column 'weeks'"),
        ({"random": [2]}, people(), ValueError, "random: there is no column 2"),
        ({"random": ["days", 0]}, people(), ValueError, "occurs twice"),
        ({"random": ["dose"]}, people(), TaskError, "'dose' varies within no task"),
        ({"random": "level"}, people(), ValueError, "random"),
        ({"base": LogisticRegression()}, people(), TypeError, "classifier"),
        ({"base": Ridge}, people(), TypeError, r"make one: Ridge\(\)"),
        ({"base": "forest"}, people(), ValueError, "base"),
        ({"base": Infinite()}, people(), TaskError, "base: predictions of the fitted Infinite are not finite"),
        ({"n_folds": 1}, people(), ValueError, "n_folds"),
        ({"covariance": "full", "random": "slopes"}, "wide", ValueError, "covariance='diagonal'"),
        ({}, [(np.ones((4, 1)), np.ones((4, 2)))] * 2, TaskError, "2 targets"),
        ({}, [(np.array([[1.0], [np.nan]]), np.ones(2))] * 2, TaskError, "NaN"),
        ({}, [Task("a", [[1.0], [2.0]], [1.0, 2.0], sample_weight=[1.0, 2.0])], TaskError, "weight"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(settings, tasks, error, message):
    if isinstance(tasks, str):
        rng = np.random.default_rng(0)
        tasks = [(rng.standard_normal((40, 25)), rng.standard_normal(40)) for _ in range(5)]
    with pytest.raises(error, match=message):
        RandomCoefficientRegressor(**settings).fit(tasks)


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e120])
def test_targets_of_any_magnitude(scale):
    tasks = people()
    moved = TaskSet([Task(task.name, task.X, scale * task.y) for task in tasks])
    one, other = (RandomCoefficientRegressor("linear").fit(part) for part in (tasks, moved))
    np.testing.assert_allclose(other.predict(tasks.X), scale * one.predict(tasks.X), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_targets_are_predicted(value):
    tasks = [(np.arange(6.0)[:, None], np.full(6, value)) for _ in range(4)]
    for base in ("boosting", "linear", None):
        model = RandomCoefficientRegressor(base, random_state=0).fit(tasks)
        np.testing.assert_allclose(model.adapt([[1.0]], [value]).predict([[2.0]]), value, atol=1e-9)


def test_many_coefficients_are_independent_and_few_may_correlate():
    rng = np.random.default_rng(0)
    tasks = [
        (X := rng.standard_normal((30, 6)), X @ rng.standard_normal(6) + rng.standard_normal(30)) for _ in range(12)
    ]
    assert RandomCoefficientRegressor("linear", random=[0]).fit(tasks).covariance_kind_ == "full"
    model = RandomCoefficientRegressor("linear", random="slopes").fit(tasks)
    assert model.covariance_kind_ == "diagonal"
    assert list(model.task_coefficients_) == ["intercept", *(f"x{j}" for j in range(6))]
    assert model.variance_components_["sd"].iloc[1:7].min() > 0.4
