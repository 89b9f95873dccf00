"""What users of EquationRegressor rely on: the contract of all metaest estimators, and what is its own."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_regressor
from sklearn.model_selection import GridSearchCV, LeaveOneOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from agreement import assert_agree, assert_same_in_threads
from equations import absorption, avrami, avrami_tasks, cumulated, decay, line
from metaest import (
    AdaptedEquation,
    EquationRegressor,
    FewShotRegressor,
    IdentifiabilityWarning,
    Parameter,
    Task,
    TaskSet,
    adapt,
)
from metaest.functional import QueryLoss, Reptile
from metaest_datasets import load_theophylline

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
AVRAMI = {"k": Parameter(1.0, lower=0, unit="1/h"), "n": Parameter(1.5, lower=0, upper=6)}
QUERY = {"objective": "query", "random_state": 0}
GRADIENT = {**QUERY, "inner_solver": "gradient", "max_iter": 60}
WAYS = {
    "evidence": {},
    "query": QUERY,
    "gradient": GRADIENT,
    "first-order": {**GRADIENT, "meta_gradient": "first-order"},
}


@pytest.fixture(scope="module")
def tasks():
    return avrami_tasks(40, seed=0)[0]


@pytest.fixture(scope="module")
def new():
    return avrami_tasks(12, seed=1)[0]


@pytest.fixture(scope="module", params=WAYS)
def model(request, tasks):
    return EquationRegressor(avrami, AVRAMI, **WAYS[request.param]).fit(tasks)


def test_every_way_learns_the_constants(model):
    np.testing.assert_allclose(model.population_["value"], [1.0, 2.0], rtol=0.2)
    np.testing.assert_allclose(model.noise_, 0.02, rtol=0.5)


def test_adapting_beats_the_population(model, new):
    split = [Task(task.name, task.X, task.y, support=[0, 1, 2], feature_names=["t"]) for task in new]
    population = 1 - np.square(model.predict(new.X) - new.y).sum() / np.square(new.y - new.y.mean()).sum()
    assert model.score(split) > max(0.97, population)


def test_adapt_leaves_the_model_and_is_immutable(model, new):
    before = model.predict(new.X)
    adapted = model.adapt(new[0].X, new[0].y)
    assert isinstance(adapted, AdaptedEquation)
    assert is_regressor(adapted)
    with pytest.raises(TypeError, match="is not fitted again; adapt the model"):
        adapted.fit(new[0].X, new[0].y)
    np.testing.assert_array_equal(model.predict(new.X), before)
    with pytest.raises(AttributeError):
        adapted.X_support_ = None
    with pytest.raises(ValueError, match="read-only"):
        adapted.y_support_[0] = 1.0
    table = adapted.params_
    table.loc["k", "value"] = 7.0
    assert adapted.params_.loc["k", "value"] != 7.0


def test_many_are_one_by_one(model, new):
    ragged = [
        Task(task.name, task.X[: 1 + i % 5], task.y[: 1 + i % 5], feature_names=["t"]) for i, task in enumerate(new)
    ]
    many = model.adapt_many(ragged)
    assert len(many) == 12
    for i, (single, task) in enumerate(zip(many, ragged, strict=True)):
        alone = model.adapt(task.X, task.y)
        np.testing.assert_allclose(single.predict(new.X), alone.predict(new.X), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(many.params_["k"].iloc[i], alone.params_.loc["k", "value"], rtol=1e-9)
        np.testing.assert_allclose(many.params_["n_shrinkage"].iloc[i], alone.params_.loc["n", "shrinkage"], rtol=1e-6)
        assert many.params_["status"].iloc[i] == alone.status_
    grid = np.linspace(0.1, 2, 7)[:, None]
    together = many.predict(grid)
    np.testing.assert_allclose(together, [single.predict(grid) for single in many], rtol=1e-12)
    predictions = many.predict(new)
    np.testing.assert_allclose(
        predictions, np.concatenate([s.predict(t.X) for s, t in zip(many, new, strict=True)]), rtol=1e-12
    )
    assert [s.params_.loc["k", "value"] for s in many[2:4]] == many.params_["k"].iloc[2:4].tolist()


def test_partial_adapt_is_adapting_once(model, new):
    X, y = new[3].X, new[3].y
    first = model.adapt(X[:2], y[:2])
    np.testing.assert_array_equal(first.partial_adapt(X[2:], y[2:]).predict(X), model.adapt(X, y).predict(X))
    assert len(first.X_support_) == 2


def test_row_order_names_and_other_tasks_do_not_matter(model, new):
    X, y = new[5].X, new[5].y
    np.testing.assert_allclose(model.adapt(X[::-1], y[::-1]).predict(X), model.adapt(X, y).predict(X), rtol=1e-8)


def test_task_order_and_names_do_not_matter_in_fit(tasks):
    base = EquationRegressor(avrami, AVRAMI).fit(tasks)
    turned = EquationRegressor(avrami, AVRAMI).fit([(task.X, task.y) for task in list(tasks)[::-1]])
    # the search stops within a hundredth of a standard error of the maximum
    np.testing.assert_allclose(turned.population_["value"], base.population_["value"], rtol=1e-4)
    assert turned.log_likelihood_ == pytest.approx(base.log_likelihood_, abs=1e-5)


def test_same_data_same_bits(tasks):
    for settings in WAYS.values():
        one, two = (EquationRegressor(avrami, AVRAMI, **{"random_state": 0, **settings}).fit(tasks) for _ in range(2))
        np.testing.assert_array_equal(one.population_["value"], two.population_["value"])
        assert one.log_likelihood_ == two.log_likelihood_
        assert one.score(tasks) == two.score(tasks)


def test_every_form_of_input_gives_the_same(tasks):
    groups = tasks.names.repeat(tasks.sizes)
    base = EquationRegressor(avrami, AVRAMI).fit(tasks)
    for arguments in (([(t.X, t.y) for t in tasks],), (tasks.X, tasks.y, groups), (list(tasks),)):
        other = EquationRegressor(avrami, AVRAMI).fit(*arguments)
        assert_agree(other.population_["value"], base.population_["value"])
    column = EquationRegressor(avrami, AVRAMI).fit([(t.X, t.y[:, None]) for t in tasks])
    assert_agree(column.population_["value"], base.population_["value"])


@pytest.mark.parametrize("way", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
def test_models_travel(way, model, new):
    adapted = model.adapt(new[0].X, new[0].y)
    np.testing.assert_array_equal(way(model).predict(new.X), model.predict(new.X))
    np.testing.assert_array_equal(way(adapted).predict(new.X), adapted.predict(new.X))
    pd.testing.assert_frame_equal(way(adapted).params_, adapted.params_, rtol=1e-9)
    assert "log-likelihood" in way(model).summary()


def test_threads_do_not_disturb_each_other(model, new):
    assert_same_in_threads(model, new, 48)


def test_clone_set_params_and_search(tasks):
    model = EquationRegressor(avrami, AVRAMI, noise="proportional")
    assert clone(model).get_params()["noise"] == "proportional"
    scores = cross_val_score(EquationRegressor(avrami, AVRAMI, random_state=0), tasks[:6], cv=LeaveOneOut())
    assert (scores > 0.5).all()
    search = GridSearchCV(
        EquationRegressor(avrami, AVRAMI, random_state=0), {"covariance": ["full", "diagonal"]}, cv=3
    ).fit(tasks[:12])
    assert search.best_score_ > 0.9
    adapted = adapt(search, tasks[20].X, tasks[20].y)
    assert isinstance(adapted, AdaptedEquation)


def test_pipeline_and_few_shot_regressor(tasks, new):
    groups = tasks.names.repeat(tasks.sizes)
    minutes = FunctionTransformer(lambda X: X / 60)  # the equation wants hours
    pipeline = make_pipeline(minutes, EquationRegressor(avrami, AVRAMI))
    pipeline.fit(60 * tasks.X, tasks.y, equationregressor__groups=groups)
    patient = adapt(pipeline, 60 * new[0].X, new[0].y)
    direct = EquationRegressor(avrami, AVRAMI).fit(tasks.X, tasks.y, groups)
    np.testing.assert_allclose(patient.predict(60 * new.X), direct.adapt(new[0].X, new[0].y).predict(new.X))
    ordinary = FewShotRegressor(direct).fit(new[0].X, new[0].y)
    np.testing.assert_array_equal(ordinary.predict(new.X), direct.adapt(new[0].X, new[0].y).predict(new.X))
    assert cross_val_score(ordinary, new[0].X, new[0].y, cv=5, scoring="neg_mean_squared_error").min() > -0.1


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")  # curves that differ, taken for one
def test_shared_constants_stay_with_the_population(tasks, new):
    model = EquationRegressor(avrami, AVRAMI, random=["k"]).fit(tasks)
    adapted = model.adapt(new[0].X, new[0].y)
    assert adapted.params_.loc["n", "value"] == pytest.approx(model.population_.loc["n", "value"])
    assert adapted.params_.loc["n", "reason"].startswith("shared by all tasks")
    assert adapted.params_.loc["n", "shrinkage"] == 1
    assert model.covariance_.shape == (1, 1)
    pooled = EquationRegressor(avrami, AVRAMI, random=[]).fit(tasks)
    np.testing.assert_allclose(pooled.adapt(new[0].X, new[0].y).predict(new.X), pooled.predict(new.X))
    assert pooled.log_likelihood_ < model.log_likelihood_ < EquationRegressor(avrami, AVRAMI).fit(tasks).log_likelihood_


def test_covariates_say_where_a_new_task_starts():
    """ln k rises by 0.8 per unit of the filler content, and varies by 0.1 besides."""
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(60):
        filler, t = rng.uniform(0, 2), rng.uniform(0.1, 2, 5)
        k = np.exp(-1 + 0.8 * filler + 0.1 * rng.standard_normal())
        y = 1 - np.exp(-((k * t) ** 2)) + 0.02 * rng.standard_normal(5)
        tasks.append(Task(i, pd.DataFrame({"t": t, "filler": filler}), y))
    model = EquationRegressor(avrami, AVRAMI, covariates={"k": ["filler"]}).fit(tasks)
    coefficient = model.coefficients_.iloc[0]
    assert (coefficient["constant"], coefficient["covariate"]) == ("k", "filler")
    assert abs(coefficient["coefficient"] - 0.8) < 3 * coefficient["standard_error"]
    assert coefficient["standard_error"] < 0.1
    plain = EquationRegressor(avrami, AVRAMI).fit(tasks)
    assert model.population_.loc["k", "scaled_sd"] < 0.3 * plain.population_.loc["k", "scaled_sd"]
    assert "filler" in model.summary()
    # zero-shot rows of several tasks at once, each with its own start
    rows = pd.DataFrame({"t": [0.5, 0.5], "filler": [0.2, 1.8]})
    curve, std = model.predict(rows, return_std=True)
    n = model.population_.loc["n", "value"]
    by_hand = 1 - np.exp(-((np.exp(-1 + 0.8 * rows["filler"]) * 0.5) ** n))
    np.testing.assert_allclose(curve, by_hand, atol=0.03)
    low, high = model.predict_interval(rows, of="curve")
    assert (low < curve).all()
    assert (curve < high).all()
    assert (std > 0).all()
    by_number = EquationRegressor(avrami, AVRAMI, covariates={"k": [1]}).fit([(t.X, t.y) for t in tasks])
    np.testing.assert_allclose(by_number.predict(rows.to_numpy()), curve, rtol=1e-9)
    for settings in (QUERY, GRADIENT):
        other = EquationRegressor(avrami, AVRAMI, covariates={"k": ["filler"]}, **settings).fit(tasks)
        assert other.coefficients_["coefficient"].iloc[0] == pytest.approx(0.8, abs=0.2)


@pytest.mark.parametrize("noise", ["proportional", "combined"])
def test_noise_that_grows_with_the_curve(noise):
    rng = np.random.default_rng(0)
    tasks, truth = [], []
    for i in range(80):
        t = rng.uniform(0, 3, 6)
        log_k, log_a = 0.2 * rng.standard_normal(), np.log(10) + 0.3 * rng.standard_normal()
        truth.append((log_k, log_a))
        curve = np.exp(log_a) * np.exp(-np.exp(log_k) * t)
        y = curve * (1 + 0.1 * rng.standard_normal(6)) + (0.2 if noise == "combined" else 0.0) * rng.standard_normal(6)
        tasks.append(Task(i, t[:, None], y))
    constants = {"k": Parameter(0.5, lower=0), "a": Parameter(5.0, lower=0)}
    model = EquationRegressor(decay, constants, noise=noise).fit(tasks)
    assert model.noise_["cv"] == pytest.approx(0.1, rel=0.25)
    if noise == "combined":
        assert model.noise_["sd"] == pytest.approx(0.2, rel=0.3)
    error = model.population_["scaled_value"] - np.mean(truth, axis=0)  # of the tasks that were drawn
    assert (error.abs() < 2 * model.population_["scaled_standard_error"]).all()
    assert EquationRegressor(decay, constants).fit(tasks).log_likelihood_ < model.log_likelihood_ - 10
    low, high = model.adapt(tasks[0].X, tasks[0].y).predict_interval([[0.0], [3.0]])
    assert high[0] - low[0] > 3 * (high[1] - low[1])


@pytest.mark.parametrize("function", [cumulated, lambda X, k, a: a * torch.exp(-k * X[:, 0]) if k > 0 else X[:, 0]])
def test_equations_whose_rows_see_each_other(function):
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(8):
        X = np.sort(rng.uniform(0, 2, (3 + i % 3, 1)), axis=0)
        k, a = np.exp(0.2 * rng.standard_normal(2))
        curve = function(torch.tensor(X), torch.tensor(k), torch.tensor(a)).numpy()
        tasks.append(Task(i, X, curve + 0.02 * rng.standard_normal(len(X))))
    model = EquationRegressor(function, {"k": Parameter(0.8, lower=0), "a": Parameter(1.2, lower=0)}).fit(tasks)
    assert model.batching_ in ("vmap", "loop")
    np.testing.assert_allclose(model.population_["value"], 1.0, rtol=0.4)
    adapted = model.adapt(tasks[0].X, tasks[0].y)
    np.testing.assert_allclose(adapted.predict(tasks[0].X), tasks[0].y, atol=0.1)
    many = model.adapt_many(tasks)
    np.testing.assert_allclose(many[0].predict(tasks[0].X), adapted.predict(tasks[0].X), rtol=1e-9)
    low, high = adapted.predict_interval(tasks[0].X)
    assert (low < high).all()
    assert len(adapted.suggest(tasks[0].X, n=2)) == 2


def test_profile_agrees_with_the_standard_error(new, tasks):
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    adapted = model.adapt(new[2].X, new[2].y)
    profile = adapted.profile("n")
    assert list(profile.columns) == ["n", "deviance", "k"]
    assert profile["deviance"].min() >= 0
    best = profile.loc[profile["deviance"].idxmin()]
    assert best["n"] == pytest.approx(adapted.params_.loc["n", "value"], rel=1e-6)
    inside = profile.loc[profile["deviance"] < 2.706, "n"]
    assert inside.min() == pytest.approx(adapted.params_.loc["n", "lower_90"], rel=0.08)
    assert inside.max() == pytest.approx(adapted.params_.loc["n", "upper_90"], rel=0.08)
    alone = adapted.profile("n", prior=False)
    assert alone["deviance"].max() < profile["deviance"].max()
    with pytest.raises(ValueError, match="a constant that varies between tasks"):
        adapted.profile("m")


def test_profile_of_a_linear_equation_is_a_parabola():
    rng = np.random.default_rng(0)
    tasks = [
        (X, X[:, 0] * b + 0.1 * rng.standard_normal(4))
        for b in rng.normal(2, 1, 20)
        for X in [rng.uniform(0, 1, (4, 1))]
    ]
    model = EquationRegressor(line, {"a": 0.0, "b": 1.0}, random=["b"]).fit(tasks)
    adapted = model.adapt(*tasks[0])
    profile = adapted.profile("b")
    psi, sigma = float(model.covariance_.iloc[0, 0]), model.noise_["sd"]
    precision = 1 / psi + (tasks[0][0] ** 2).sum() / sigma**2
    expected = precision * (profile["b"] - adapted.params_.loc["b", "value"]) ** 2
    np.testing.assert_allclose(profile["deviance"], expected, rtol=1e-6, atol=1e-8)


def test_suggest_minds_targets_and_costs(tasks, new):
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    adapted = model.adapt(new[0].X[:1], new[0].y[:1])
    grid = np.linspace(0.1, 2.5, 20)[:, None]
    chosen = adapted.suggest(grid, n=4)
    assert len(set(chosen.tolist())) == 4
    cost = np.ones(20)
    cost[chosen[0]] = 1e6
    assert adapted.suggest(grid, cost=cost)[0] != chosen[0]
    after = {}
    for target in ("k", "n"):
        row = adapted.suggest(grid, target=target)
        y = adapted.predict(grid[row])
        table = adapted.partial_adapt(grid[row], y).params_
        after[target] = table["shrinkage"]
    assert after["k"]["k"] < after["n"]["k"]
    assert after["n"]["n"] < after["k"]["n"]
    assert len(model.suggest(grid, n=3)) == 3


def test_a_warning_names_what_the_rows_cannot_tell(tasks):
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    with pytest.warns(IdentifiabilityWarning, match=r"adapt: 1 row cannot tell n"):
        adapted = model.adapt([[1.0]], [0.6])
    table = adapted.params_
    assert not table.loc["n", "identified"]
    assert "of its variance between tasks" in table.loc["n", "reason"]
    with pytest.warns(IdentifiabilityWarning, match="adapt_many: of 2 tasks the rows cannot tell .*n of 2"):
        model.adapt_many([([[1.0]], [0.6]), ([[1.0]], [0.5])])


def test_theophylline_by_query_and_gradient_are_sane():
    tasks = load_theophylline(exclude_time_zero=True)
    constants = {"Ke": Parameter(0.1, lower=0), "Ka": Parameter(1.5, lower=0), "Cl": Parameter(0.04, lower=0)}
    evidence = EquationRegressor(absorption, constants).fit(tasks)
    for settings in (QUERY, {**GRADIENT, "max_iter": 100}):
        other = EquationRegressor(absorption, constants, **settings).fit(tasks)
        assert other.log_likelihood_ < evidence.log_likelihood_
        assert abs(np.log(other.population_["value"] / evidence.population_["value"])).max() < 0.7


def test_a_task_set_of_one_row_tasks_adapts():
    tasks, _, _ = avrami_tasks(200, n_rows=1, seed=4)
    model = EquationRegressor(avrami, AVRAMI, random=["k"]).fit(tasks)
    assert model.population_.loc["k", "value"] == pytest.approx(1.0, rel=0.2)
    assert isinstance(model.adapt_many(TaskSet([(t.X, t.y) for t in tasks])).params_, pd.DataFrame)


def test_a_meta_gradient_may_be_an_object(tasks):
    by_name = EquationRegressor(avrami, AVRAMI, **WAYS["first-order"]).fit(tasks)
    settings = {**GRADIENT, "meta_gradient": QueryLoss(exact=False)}
    pd.testing.assert_frame_equal(
        by_name.population_, EquationRegressor(avrami, AVRAMI, **settings).fit(tasks).population_
    )
    with pytest.raises(ValueError, match="does not go through the gradient steps"):
        EquationRegressor(avrami, AVRAMI, **{**settings, "meta_gradient": Reptile()}).fit(tasks)


def test_a_model_with_another_equation_has_the_same_population(tasks):
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    other = model.with_equation(lambda X, k, n: 2 * avrami(X, k, n))
    np.testing.assert_array_equal(other.predict(tasks[0].X), 2 * model.predict(tasks[0].X))
    pd.testing.assert_frame_equal(other.population_, model.population_)
    assert (model.equation_, model.limit_, model.covariate_columns_) == (avrami, None, ())
