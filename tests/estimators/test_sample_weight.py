"""Known accuracy of rows: weights (1/variance) and a column of measurement errors, in fit and adapt of equations."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn import config_context
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import metaest
from metaest import (
    EquationRegressor,
    FewShotRegressor,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    Task,
    TaskError,
    TaskSet,
)
from metaest.diagnostics import leave_one_task_out, pooled
from metaest.scorers import few_shot_coverage, few_shot_mae, few_shot_r2, few_shot_rmse
from metaest_domains.kinetics import JMAKRegressor
from metaest_domains.physiology import GlucoseForecaster, OneCompartmentRegressor

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning", "ignore::metaest.UnlikelyTaskWarning")


def line(X, a, b):
    return a + b * X[:, 0]


def decay(X, rate, start):
    return start * torch.exp(-rate * X[:, 0])


LINE = {"a": 0.0, "b": 0.0}
DECAY = {"rate": Parameter(0.5, lower=0), "start": Parameter(8, lower=0)}
N_TASKS = 20


def lines(seed=0, n_tasks=N_TASKS):
    """Ragged tasks on lines whose intercept and slope vary, with rows of known, very unequal accuracy."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), rng.integers(3, 8, n_tasks))
    x, sd = rng.uniform(0, 3, len(groups)), 10 ** rng.uniform(-1.5, 0.7, len(groups))
    truth = rng.multivariate_normal([2, -1], [[0.5, 0.2], [0.2, 0.3]], n_tasks)
    y = truth[groups, 0] + truth[groups, 1] * x + sd * rng.normal(size=len(x))
    return x[:, None], y, groups, sd, truth


def decays(noise="additive", seed=0, n_tasks=20):
    rng = np.random.default_rng(seed)
    groups, t = np.repeat(np.arange(n_tasks), 5), np.tile([0.5, 1.0, 2.0, 4.0, 6.0], n_tasks)
    factor = rng.choice([0.5, 1.0, 6.0], len(t))
    f = 10 * np.exp(0.3 * rng.normal(size=n_tasks))[groups] * np.exp(-0.4 * t)
    size = {"additive": 0.2, "proportional": 0.05 * f, "combined": np.hypot(0.1, 0.05 * f)}[noise]
    return t[:, None], f + size * factor * rng.normal(size=len(t)), groups, 1 / factor**2


class Reference:
    """The linear mixed model with the covariance R of the rows, in closed form."""

    def __init__(self, X, y, groups, R, factor):
        Psi, self.normal, self.tasks = factor @ factor.T, 0, []
        Z = np.column_stack([np.ones(len(X)), X[:, 0]])
        right = 0
        for g in np.unique(groups):
            rows = groups == g
            V = Z[rows] @ Psi @ Z[rows].T + np.diag(R[rows])
            self.tasks.append((Z[rows], y[rows], V))
            self.normal = self.normal + Z[rows].T @ np.linalg.solve(V, Z[rows])
            right = right + Z[rows].T @ np.linalg.solve(V, y[rows])
        self.beta = np.linalg.solve(self.normal, right)
        self.error = np.sqrt(np.diag(np.linalg.inv(self.normal)))
        self.log_likelihood = sum(multivariate_normal.logpdf(y, Z @ self.beta, V) for Z, y, V in self.tasks)
        self.blup = np.array([self.beta + Psi @ Z.T @ np.linalg.solve(V, y - Z @ self.beta) for Z, y, V in self.tasks])


@pytest.mark.parametrize("accuracy", ["weights", "errors", "both"])
def test_a_linear_equation_is_the_weighted_linear_mixed_model(accuracy):
    X, y, groups, sd, _ = lines()
    X = np.column_stack([X, sd])
    weight = None if accuracy == "errors" else 1 / sd**2 if accuracy == "weights" else np.where(sd > 1, 0.5, 2.0)
    column = None if accuracy == "weights" else 1
    model = EquationRegressor(line, LINE, measurement_sd=column).fit(X, y, groups=groups, sample_weight=weight)

    def reference(x):
        R = np.exp(2 * x[3]) / (1 if weight is None else weight) + (0 if column is None else sd**2)
        return Reference(X, y, groups, R, np.array([[x[0], 0], [x[1], x[2]]]))

    factor, log_sigma = model._fitted.population.factor.numpy(), model._fitted.population.log_sigma.numpy()
    root = np.linalg.cholesky(factor @ factor.T)
    at = np.array([root[0, 0], root[1, 0], root[1, 1], log_sigma[0]])
    here = reference(at)
    assert model.log_likelihood_ == pytest.approx(here.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(model.population_["value"], here.beta, atol=1e-4 * here.error.min())
    np.testing.assert_allclose(model.population_["standard_error"], here.error, rtol=1e-6)
    np.testing.assert_allclose(model.task_params_[["a", "b"]], here.blup, atol=1e-4)
    best = minimize(lambda x: -reference(x).log_likelihood, at + 0.05, method="BFGS")
    assert model.log_likelihood_ >= -best.fun - 1e-5
    # a new task: its best linear unbiased prediction
    new = slice(0, 3)
    weights = {} if weight is None else {"sample_weight": weight[new]}
    adapted = model.adapt(X[new], y[new], **weights)
    Z, Psi = np.column_stack([np.ones(3), X[new, 0]]), factor @ factor.T
    R = np.exp(2 * log_sigma[0]) / weights.get("sample_weight", 1) + (0 if column is None else sd[new] ** 2)
    beta = model.population_["value"].to_numpy()
    blup = beta + Psi @ Z.T @ np.linalg.solve(Z @ Psi @ Z.T + np.diag(R * np.ones(3)), y[new] - Z @ beta)
    np.testing.assert_allclose(adapted.params_["value"], blup, rtol=1e-8)


@pytest.mark.parametrize("noise", ["additive", "proportional", "combined"])
def test_weights_of_one_are_none(noise):
    X, y, groups, _ = decays(noise)
    plain = EquationRegressor(decay, DECAY, noise=noise, random=["start"]).fit(X, y, groups=groups)
    ones = clone_fit(plain, X, y, groups, np.ones(len(X)))
    assert ones.log_likelihood_ == pytest.approx(plain.log_likelihood_, abs=1e-8)
    np.testing.assert_allclose(ones.population_["value"], plain.population_["value"], rtol=1e-7)
    np.testing.assert_allclose(ones.noise_, plain.noise_, rtol=1e-6)


def clone_fit(model, X, y, groups, weight):
    from sklearn.base import clone

    return clone(model).fit(X, y, groups=groups, sample_weight=weight)


@pytest.mark.parametrize("noise", ["additive", "proportional", "combined"])
@pytest.mark.parametrize("c", [1e-6, 7.0])
def test_the_unit_of_weights_is_that_of_the_noise(noise, c):
    X, y, groups, weight = decays(noise)
    model = EquationRegressor(decay, DECAY, noise=noise, random=["start"])
    one, other = clone_fit(model, X, y, groups, weight), clone_fit(model, X, y, groups, c * weight)
    assert other.log_likelihood_ == pytest.approx(one.log_likelihood_, abs=1e-7)
    np.testing.assert_allclose(other.population_["value"], one.population_["value"], rtol=1e-6)
    np.testing.assert_allclose(other.population_["standard_error"], one.population_["standard_error"], rtol=1e-5)
    np.testing.assert_allclose(other.noise_, c**0.5 * one.noise_, rtol=1e-5)
    adapted = [m.adapt(X[:3], y[:3], sample_weight=w[:3]) for m, w in ((one, weight), (other, c * weight))]
    np.testing.assert_allclose(adapted[1].params_["value"], adapted[0].params_["value"], rtol=1e-6)
    ends = [a.predict_interval([[3.0]], sample_weight=[w]) for a, w in zip(adapted, (0.3, c * 0.3), strict=True)]
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"objective": "query", "split": "first"}, {"limit": 1.0}])
def test_a_row_of_weight_zero_is_not_there(settings):
    X, y, groups, weight = decays()
    kept = np.random.default_rng(1).random(len(y)) < 0.7
    kept[::5] = True
    bad = np.where(kept, y, 1e3)
    model = EquationRegressor(decay, DECAY, random=["start"], random_state=0, **settings)
    zero = clone_fit(model, X, bad, groups, np.where(kept, weight, 0.0))
    dropped = clone_fit(model, X[kept], y[kept], groups[kept], weight[kept])
    assert zero.n_rows_ == dropped.n_rows_ == kept.sum()
    assert zero.log_likelihood_ == pytest.approx(dropped.log_likelihood_, abs=1e-9)
    assert zero.bic_ == pytest.approx(dropped.bic_, abs=1e-9)
    np.testing.assert_allclose(zero.population_["value"], dropped.population_["value"], rtol=1e-9)
    one, other = (
        zero.adapt(X[:5], bad[:5], sample_weight=np.where(kept, weight, 0.0)[:5]),
        dropped.adapt(X[:5][kept[:5]], y[:5][kept[:5]], sample_weight=weight[:5][kept[:5]]),
    )
    np.testing.assert_allclose(one.params_["value"], other.params_["value"], rtol=1e-9)
    assert len(one.X_support_) == kept[:5].sum()
    assert zero.score(X, bad, groups, sample_weight=np.where(kept, weight, 0.0)) == pytest.approx(
        dropped.score(X[kept], y[kept], groups[kept], sample_weight=weight[kept]), abs=1e-9
    )


def test_support_rows_keep_their_places_when_others_are_left_out():
    tasks = TaskSet([
        Task("a", [[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0], support=[1, 2], sample_weight=[0, 0, 1.0]),
        Task("b", [[0.0], [1.0]], [1.0, 2.0], sample_weight=[1.0, 2.0]),
    ])  # fmt: skip
    from metaest.tasks.weighted_tasks import without_zeros

    left = without_zeros(tasks)
    assert left.sizes.tolist() == [1, 2]
    assert left[0].support.tolist() == [0]
    assert left[0].X.tolist() == [[2.0]]
    assert left[1].support is None
    assert left.sample_weight.tolist() == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("objective", ["evidence", "query", "gradient"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::metaest.OvershootWarning")
def test_every_objective_heeds_weights(objective):
    X, y, groups, weight = decays()
    wild = np.arange(len(y)) % 5 == 3
    y, weight = np.where(wild, y * 3, y), np.where(wild, 1e-4, 1.0)
    gradient = {"objective": "query", "inner_solver": "gradient", "max_iter": 60}
    settings = gradient if objective == "gradient" else {"objective": objective}
    model = EquationRegressor(decay, DECAY, random=["start"], random_state=0, **settings)
    clean = clone_fit(model, X[~wild], y[~wild], groups[~wild], None).population_.loc["rate", "value"]
    weighed = clone_fit(model, X, y, groups, weight).population_.loc["rate", "value"]
    ignorant = clone_fit(model, X, y, groups, None).population_.loc["rate", "value"]
    assert weighed == pytest.approx(clean, rel=0.1)
    assert abs(ignorant / clean - 1) > 0.2


def test_proportional_noise_of_two_assays():
    X, y, groups, weight = decays("proportional", n_tasks=40)
    constants = {"random": ["start"], "noise": "proportional"}
    weighed = EquationRegressor(decay, DECAY, **constants).fit(X, y, groups=groups, sample_weight=weight)
    assert weighed.noise_["cv"] == pytest.approx(0.05, rel=0.15)
    assert weighed.population_.loc["rate", "value"] == pytest.approx(0.4, rel=0.02)


def test_all_roads_give_the_same():
    X, y, groups, weight = decays()
    flat = EquationRegressor(decay, DECAY, random=["start"]).fit(X, y, groups=groups, sample_weight=weight)
    frame = pd.DataFrame({"id": groups, "t": X[:, 0], "y": y, "w": weight})
    sets = {
        "tasks": TaskSet([
            Task(g, X[groups == g], y[groups == g], sample_weight=list(weight[groups == g])) for g in range(20)
        ]),
        "frame": TaskSet.from_frame(frame, task="id", target="y", sample_weight="w"),
        "arrays": TaskSet.from_arrays(X, y, groups, sample_weight=weight),
    }  # fmt: skip
    same = pytest.approx(flat.log_likelihood_, rel=1e-9)
    for tasks in sets.values():
        assert EquationRegressor(decay, DECAY, random=["start"]).fit(tasks).log_likelihood_ == same
    pairs = [(X[groups == g], y[groups == g]) for g in range(20)]
    again = EquationRegressor(decay, DECAY, random=["start"]).fit(pairs, sample_weight=pd.Series(weight, index=-groups))
    assert again.log_likelihood_ == same
    shuffled = np.random.default_rng(0).permutation(len(y))
    mixed = clone_fit(flat, X[shuffled], y[shuffled], groups[shuffled], weight[shuffled])
    assert mixed.log_likelihood_ == pytest.approx(flat.log_likelihood_, abs=1e-6)

    tasks = sets["tasks"]
    many, at_once = flat.adapt_many(tasks), flat.adapt_many(pairs, sample_weight=weight)
    for i in (0, 7):
        single = flat.adapt(tasks[i].X, tasks[i].y, sample_weight=tasks[i].sample_weight)
        for other in (many, at_once):
            np.testing.assert_allclose(other[i].params_["value"], single.params_["value"], rtol=1e-6)
            np.testing.assert_allclose(other[i].params_["lower_90"], single.params_["lower_90"], rtol=1e-6)
        part = flat.adapt(tasks[i].X[:2], tasks[i].y[:2], sample_weight=tasks[i].sample_weight[:2])
        part = pickle.loads(pickle.dumps(part))
        later = part.partial_adapt(tasks[i].X[2:], tasks[i].y[2:], sample_weight=tasks[i].sample_weight[2:])
        np.testing.assert_allclose(later.params_["value"], single.params_["value"], rtol=1e-9)
        np.testing.assert_array_equal(later.sample_weight_support_, single.sample_weight_support_)
        profile = single.profile("start", n_points=9)
        assert profile["deviance"].min() == pytest.approx(0, abs=1e-6)
        assert profile["start"].iloc[profile["deviance"].argmin()] == pytest.approx(
            single.params_.loc["start", "value"]
        )
    few = FewShotRegressor(flat).fit(tasks[0].X, tasks[0].y, sample_weight=tasks[0].sample_weight)
    same = flat.adapt(tasks[0].X, tasks[0].y, sample_weight=tasks[0].sample_weight)
    np.testing.assert_allclose(few.adapted_.params_["value"], same.params_["value"], rtol=1e-9)
    np.testing.assert_allclose(few.adapted_.params_["lower_90"], same.params_["lower_90"], rtol=1e-9)


def test_an_exact_row_outweighs_a_wild_one_in_adapt():
    X, y, groups, weight = decays()
    model = EquationRegressor(decay, DECAY, random=["start"]).fit(X, y, groups=groups, sample_weight=weight)
    adapted = model.adapt([[1.0], [1.0]], [8.0, 30.0], sample_weight=[4.0, 1e-4])
    assert adapted.predict([[1.0]])[0] == pytest.approx(8.0, abs=0.2)
    alike = model.adapt([[1.0], [1.0]], [8.0, 30.0], sample_weight=[1.0, 1.0])
    assert alike.predict([[1.0]])[0] > 12


def test_meta_analysis_with_known_standard_errors():
    """Studies with known variances: the model of metafor's ``rma(method="ML")``, its tau the noise of one shared mean."""
    rng = np.random.default_rng(3)
    s = 10 ** rng.uniform(-1.3, 0.3, 25)
    y = -0.7 + 0.4 * rng.normal(size=25) + s * rng.normal(size=25)
    X = pd.DataFrame({"study": np.arange(25.0), "se": s})

    def mean(X, mu):
        return mu + 0 * X[:, 0]

    def loss(x):
        v = np.exp(2 * x[1]) + s**2
        return 0.5 * (np.log(2 * np.pi * v) + (y - x[0]) ** 2 / v).sum()

    best = minimize(loss, [-0.5, -1.0], method="BFGS")
    model = EquationRegressor(mean, {"mu": 0.0}, random=[], measurement_sd="se").fit(X, y, groups=np.arange(25))
    assert model.log_likelihood_ == pytest.approx(-best.fun, abs=1e-6)
    assert model.population_.loc["mu", "value"] == pytest.approx(best.x[0], abs=1e-4)
    assert model.noise_["sd"] == pytest.approx(np.exp(best.x[1]), rel=1e-3)
    assert "column 'se'" in model.summary()
    # a new study has its own standard error
    low, high = model.predict_interval(pd.DataFrame({"study": [0.0, 0.0], "se": [0.0, 2.0]}), level=0.9)
    se, sigma = model.population_.loc["mu", "standard_error"], model.noise_["sd"]
    np.testing.assert_allclose((high - low) / 2, 1.6449 * np.sqrt([se**2 + sigma**2, se**2 + sigma**2 + 4]), rtol=0.02)
    # between two possible studies, the accurate one teaches more
    free = EquationRegressor(mean, {"mu": 0.0}, measurement_sd="se").fit(X, y, groups=np.arange(25) // 5)
    assert free.suggest(pd.DataFrame({"study": [0.0, 0.0], "se": [2.0, 0.1]}))[0] == 1
    draws = model.simulate(pd.DataFrame({"study": [0.0, 0.0], "se": [0.0, 2.0]}), 4000, random_state=0)
    np.testing.assert_allclose(draws.std(axis=0), np.sqrt([se**2 + sigma**2, se**2 + sigma**2 + 4]), rtol=0.06)


def test_known_errors_that_say_it_all_leave_no_noise():
    X, y, groups, sd, truth = lines(n_tasks=40)
    model = EquationRegressor(line, LINE, measurement_sd=1).fit(np.column_stack([X, sd]), y, groups=groups)
    assert model.noise_["sd"] < 0.1
    weighed = EquationRegressor(line, LINE).fit(X, y, groups=groups, sample_weight=1 / sd**2)
    assert weighed.noise_["sd"] == pytest.approx(1.0, abs=0.1)
    for fit in (model, weighed):
        assert np.sqrt(np.mean((fit.task_params_["a"] - truth[:, 0]) ** 2)) < 0.45


def test_intervals_and_simulations_of_weighed_rows():
    X, y, groups, weight = decays()
    model = EquationRegressor(decay, DECAY, random=["start"]).fit(X, y, groups=groups, sample_weight=weight)
    sigma = model.noise_["sd"]
    for predictor in (model, model.adapt(X[:5], y[:5], sample_weight=weight[:5])):
        draws = predictor.simulate([[30.0], [30.0]], 4000, random_state=0, sample_weight=[1.0, 0.01])
        assert draws[:, 1].std() == pytest.approx(10 * sigma, rel=0.05)
        low, high = predictor.predict_interval([[30.0], [30.0]], sample_weight=[1.0, 0.01])
        assert (high - low)[1] == pytest.approx(10 * (high - low)[0], rel=0.02)
        for of, low_weight in (("observation", [1.0, 0.0]), ("curve", [1.0, 1.0])):
            with pytest.raises(ValueError, match="sample_weight is 0 in row 1|sample_weight is for of='observation'"):
                predictor.predict_interval([[30.0], [30.0]], of=of, sample_weight=low_weight)
        assert predictor.suggest([[1.0], [1.0]], sample_weight=[0.01, 1.0])[0] == 1
        assert predictor.suggest([[1.0], [1.0]], sample_weight=[1.0, 0.01])[0] == 0
        _, sd = predictor._center_and_scale(np.array([[30.0], [30.0]]), [1.0, 0.01])
        assert sd[1] == pytest.approx(10 * sd[0], rel=1e-2)


def test_guard_calibration_and_scores_carry_weights():
    X, y, groups, weight = decays(n_tasks=60)
    wild = np.arange(len(y)) % 5 == 2
    y, weight = np.where(wild, y + 20, y), np.where(wild, 1e-4, 1.0)
    tasks = TaskSet.from_arrays(X, y, groups, sample_weight=weight)
    model = EquationRegressor(decay, DECAY, random=["start"], support_size=3, random_state=0).fit(tasks[:30])
    guard = model.adapt(tasks[30].X, tasks[30].y, sample_weight=tasks[30].sample_weight, guard=True).guard_
    fair = [part[:150][~wild[:150]] for part in (X, y, groups)]
    without = clone_fit(model, *fair, None).adapt(tasks[30].X[~wild[:5]], tasks[30].y[~wild[:5]], guard=True).guard_
    assert guard.share == pytest.approx(without.share, abs=0.1)
    assert guard.adapted_rmse == pytest.approx(without.adapted_rmse, rel=0.1)
    model.calibrate(tasks[30:])
    adapted = model.adapt(tasks[40].X[:3], tasks[40].y[:3], sample_weight=tasks[40].sample_weight[:3])
    low, high = adapted.predict_interval([[1.0]], method="conformal")
    assert high - low < 10
    assert model.score(tasks[30:]) > 0.9
    scores = cross_val_score(EquationRegressor(decay, DECAY, random=["start"], support_size=3), tasks, cv=3)
    assert scores.min() > 0.9


def test_scorers_and_left_out_tasks_carry_weights():
    X, y, groups, _ = decays(n_tasks=40)
    wild = np.arange(len(y)) % 5 == 2
    tasks = TaskSet.from_arrays(X, np.where(wild, y + 20, y), groups, sample_weight=np.where(wild, 1e-4, 1.0))
    bare = TaskSet.from_arrays(tasks.X, tasks.y, groups)
    model = EquationRegressor(decay, DECAY, random=["start"], random_state=0).fit(tasks[:20])
    for shots in (0, 3):
        assert few_shot_mae(shots=shots)(model, tasks[20:]) > -3
        assert few_shot_rmse(shots=shots)(model, bare[20:]) < -6
        assert few_shot_r2(shots=shots)(model, tasks[20:]) > few_shot_r2(shots=shots)(model, bare[20:]) + 0.3
        assert few_shot_coverage(shots=shots)(model, tasks[20:]) > 0.8
    sets = pd.DataFrame({"task": [3, 3], "support": [(0, 1, 2), ()]})
    errors = leave_one_task_out({"equation": model.fit}, tasks[:8], sets, n_jobs=1).errors["equation"]
    assert errors.max() < 20
    for other in (MAMLRegressor(max_iter=2), GlucoseForecaster()):
        with pytest.raises(TaskError, match="carries a sample_weight, and this estimator weighs all rows alike"):
            pooled(other, tasks) if isinstance(other, MAMLRegressor) else other.fit(tasks)


def test_weights_through_pipelines_and_routing():
    X, y, groups, weight = decays()
    expected = EquationRegressor(decay, DECAY, random=["start"]).fit(X, y, groups=groups, sample_weight=weight)
    pipeline = make_pipeline(FunctionTransformer(), EquationRegressor(decay, DECAY, random=["start"]))
    pipeline.fit(X, y, equationregressor__groups=groups, equationregressor__sample_weight=weight)
    assert pipeline[-1].log_likelihood_ == expected.log_likelihood_
    adapted = metaest.adapt(pipeline, X[:3], y[:3], sample_weight=weight[:3])
    later = adapted.partial_adapt(X[3:5], y[3:5], sample_weight=weight[3:5])
    whole = expected.adapt(X[:5], y[:5], sample_weight=weight[:5])
    np.testing.assert_allclose(later[-1].params_["value"], whole.params_["value"], rtol=1e-9)
    with config_context(enable_metadata_routing=True):
        routed = EquationRegressor(decay, DECAY, random=["start"]).set_fit_request(sample_weight=True)
        routed = make_pipeline(FunctionTransformer(), routed).fit(X, y, groups=groups, sample_weight=weight)
        assert routed[-1].log_likelihood_ == expected.log_likelihood_
        few = FewShotRegressor(expected).set_fit_request(sample_weight=True)
        few = make_pipeline(FunctionTransformer(), few).fit(X[:5], y[:5], sample_weight=weight[:5])
        np.testing.assert_allclose(few.predict(X[:5]), whole.predict(X[:5]), rtol=1e-9)


def test_estimators_that_inherit_take_weights():
    rng = np.random.default_rng(0)
    groups, t = np.repeat(np.arange(12), 6), np.tile(np.linspace(0.2, 2.0, 6), 12)
    wild = np.arange(len(t)) % 6 == 4
    fraction = 1 - np.exp(-((np.exp(0.2 * rng.normal(size=12))[groups] * t) ** 2))
    y = np.where(wild, 0.1, fraction + 0.01 * rng.normal(size=len(t)))
    weight = np.where(wild, 1e-3, 1.0)
    kinetics = JMAKRegressor().fit(t[:, None], y, groups=groups, sample_weight=weight)
    assert kinetics.population_.loc["n", "value"] == pytest.approx(2, rel=0.05)
    X = pd.DataFrame({"time": t, "dose": 10.0})
    y = 5 * np.exp(0.2 * rng.normal(size=12))[groups] * np.exp(-t) * np.where(wild, 4, 1 + 0.02 * rng.normal(size=72))
    patients = OneCompartmentRegressor(route="iv", noise="proportional").fit(X, y, groups=groups, sample_weight=weight)
    patient = patients.adapt(X[:6], y[:6], sample_weight=weight[:6])
    assert "of a row of weight 1 (weights 0.001 to 1)" in patients.summary()
    assert patient.params_.loc["clearance", "value"] / patient.params_.loc["volume", "value"] == pytest.approx(
        1, rel=0.05
    )


BAD = [
    (lambda w: [*w[:7], -1.0, *w[8:]], r"task 1: sample_weight is -1 in row 2"),
    (lambda w: [*w[:7], np.nan, *w[8:]], r"task 1: sample_weight is nan in row 2"),
    (lambda w: [*w[:7], np.inf, *w[8:]], r"task 1: sample_weight is inf in row 2"),
    (lambda w: pd.Series([*w[:7], pd.NA, *w[8:]], dtype="Float64"), r"task 1: sample_weight is nan in row 2"),
    (lambda w: np.ma.masked_array(w, np.arange(len(w)) == 7), r"task 1: sample_weight is masked in row 2"),
    (lambda w: [*w[:7], None, *w[8:]], r"task 1: sample_weight is nan in row 2"),
    (lambda w: w[:-1], r"sample_weight has shape \(99,\); one number a row, \(100,\)"),
    (lambda w: w[:, None], r"sample_weight has shape \(100, 1\)"),
    (lambda w: 1.0, r"sample_weight has shape \(\)"),
    (lambda w: w.astype(str), "sample_weight cannot be read as numbers"),
    (lambda w: [*w[:7], "1", *w[8:]], "sample_weight cannot be read as numbers"),
    (lambda w: w.astype("datetime64[s]"), "sample_weight cannot be read as numbers"),
    (lambda w: pd.Series(w.astype(str)), "sample_weight cannot be read as numbers"),
    (lambda w: pd.Series(w).astype("category"), "sample_weight cannot be read as numbers"),
    (lambda w: pd.Series(pd.to_timedelta(w, "h")), "sample_weight cannot be read as numbers"),
    (lambda w: pd.Series(pd.date_range("2020", periods=len(w))), "sample_weight cannot be read as numbers"),
    (lambda w: [*w[:7], 1e-320, *w[8:]], r"task 1: sample_weight is 9.99989e-321 in row 2"),
    (lambda w: w + 0j, "sample_weight cannot be read as numbers"),
    (lambda w: [[1.0, 2.0], [1.0]], "sample_weight cannot be read as numbers"),
    (lambda w: np.where(np.arange(len(w)) < 5, 0.0, w), "task 0: the weights of all its rows are zero"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_what_is_no_weight_is_refused_with_task_and_row(change, words):
    X, y, groups, weight = decays()
    model = EquationRegressor(decay, DECAY, random=["start"])
    with pytest.raises(TaskError, match=words):
        model.fit(X, y, groups=groups, sample_weight=change(weight))
    assert not hasattr(model, "population_")


@pytest.mark.parametrize("form", ["int", "float32", "list", "bool", "Int64", "Float64", "index"])
def test_forms_of_weights(form):
    X, y, groups, _ = decays()
    weight = np.random.default_rng(0).integers(1, 4, len(y)) if form != "bool" else np.arange(len(y)) % 5 != 2
    given = {
        "int": weight, "float32": weight.astype("float32"), "list": weight.tolist(), "bool": weight.tolist(),
        "Int64": pd.Series(weight).astype("Int64") if form != "bool" else None,
        "Float64": pd.Series(weight).astype("Float64"), "index": pd.Series(weight, index=np.arange(len(y))[::-1]),
    }[form]  # fmt: skip
    model = EquationRegressor(decay, DECAY, random=["start"])
    one, other = clone_fit(model, X, y, groups, given), clone_fit(model, X, y, groups, weight.astype(float))
    assert one.log_likelihood_ == pytest.approx(other.log_likelihood_, rel=1e-9)
    adapted = one.adapt(X[:5], y[:5], sample_weight=given[:5])
    np.testing.assert_allclose(
        adapted.predict(X), other.adapt(X[:5], y[:5], sample_weight=weight[:5]).predict(X), rtol=1e-9
    )


def test_what_a_column_of_errors_refuses():
    X, y, groups, sd, _ = lines()
    X = pd.DataFrame({"x": X[:, 0], "sd": sd})
    with pytest.raises(ValueError, match=r"measurement_sd: there is no column 'se' in X; it has \['x', 'sd'\]"):
        EquationRegressor(line, LINE, measurement_sd="se").fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="measurement_sd: 2 is no column of X, which has 2 columns"):
        EquationRegressor(line, LINE, measurement_sd=2).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="measurement_sd needs inner_solver='gauss-newton'"):
        EquationRegressor(line, LINE, measurement_sd=1, objective="query", inner_solver="gradient").fit(
            X, y, groups=groups
        )
    scaled = StandardScaler().set_output(transform="pandas").fit_transform(X)
    with pytest.raises(TaskError, match=r"task \d+: measurement_sd column 'sd' is -.* in row \d+.*scaler"):
        EquationRegressor(line, LINE, measurement_sd="sd").fit(scaled, y, groups=groups)
    model = EquationRegressor(line, LINE, measurement_sd="sd").fit(X, y, groups=groups)
    bad = pd.DataFrame({"x": [1.0], "sd": [-2.0]})
    for call in (
        model.predict,
        model.predict_interval,
        lambda X: model.adapt(X, [1.0]),
        model.adapt(X[:3], y[:3]).predict,
    ):
        with pytest.raises(TaskError, match="measurement_sd column 'sd' is -2 in row 0"):
            call(bad)


def test_rows_without_weights_after_a_fit_with_weights():
    X, y, groups, weight = decays()
    model = EquationRegressor(decay, DECAY, random=["start"]).fit(X, y, groups=groups, sample_weight=100 * weight)
    words = "the rows come without sample_weight and are taken with weight 1"
    with pytest.warns(UserWarning, match=f"adapt: {words}"):
        model.adapt(X[:5], y[:5])
    with pytest.warns(UserWarning, match=f"adapt_many: {words}"):
        model.adapt_many([(X[:5], y[:5])])
    with pytest.warns(UserWarning, match=f"predict_interval: {words}"):
        model.predict_interval(X[:5])
    model.predict_interval(X[:5], of="curve")
    # where 1 is among the weights of the fit, nothing is to be said
    clone_fit(model, X, y, groups, weight).adapt(X[:5], y[:5])


def test_weights_are_given_once_and_alike():
    X, y, groups, weight = decays()
    tasks = TaskSet.from_arrays(X, y, groups, sample_weight=weight)
    with pytest.raises(TaskError, match="the tasks already carry a sample_weight; pass weights once"):
        EquationRegressor(decay, DECAY).fit(tasks, sample_weight=weight)
    with pytest.raises(TaskError, match="task 'a' carries a sample_weight, but task 'b' has none"):
        TaskSet([Task("a", [[0.0]], [1.0], sample_weight=[1.0]), Task("b", [[0.0]], [1.0])])
    assert "weighted" in repr(tasks[0])
    with pytest.raises(ValueError, match="read-only"):
        tasks.sample_weight[0] = 2


@pytest.mark.parametrize(
    "model", [MAMLRegressor(max_iter=2), MAMLClassifier(max_iter=2), MAMLPolicy(max_iter=2, support_size=4)]
)
def test_networks_refuse_weights(model):
    X, groups = np.random.default_rng(0).normal(size=(40, 2)), np.repeat(np.arange(4), 10)
    y = np.tile([0, 1], 20) if isinstance(model, MAMLClassifier) else X[:, 0]
    with pytest.raises(TypeError, match="sample_weight"):
        model.fit(X, y, groups=groups, sample_weight=np.ones(40))
    with pytest.raises(TaskError, match="task 0 carries a sample_weight, and this estimator weighs all rows alike"):
        model.fit(TaskSet.from_arrays(X, y, groups, sample_weight=np.ones(40)))
    model.fit(X, y, groups=groups)
    with pytest.raises(TypeError, match="sample_weight"):
        model.adapt(X[:6], y[:6], sample_weight=np.ones(6))
    adapted = model.adapt(X[:6], y[:6])
    assert np.isfinite(adapted.score(X[:6], y[:6], sample_weight=None))
