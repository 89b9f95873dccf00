"""Constants that vary between tasks and between units within tasks: laws of linear equations, and nlme's numbers."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal

from metaest import AdaptedUnits, EquationRegressor, IdentifiabilityWarning, Parameter, TaskError, TaskSet

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")


def line(X, a, b):
    return a + b * X[:, 0]


def laboratories():
    """Batches within laboratories, with levels and slopes at both, and rows missing at random."""
    rng = np.random.default_rng(11)
    lab, x = np.repeat(np.arange(30), 20), np.tile(np.arange(5.0), 120)
    batch = np.tile(np.repeat(np.arange(4), 5), 30)
    u = rng.multivariate_normal([0, 0], [[1, 0.3], [0.3, 0.25]], 30)
    v = rng.multivariate_normal([0, 0], [[0.5, -0.1], [-0.1, 0.09]], 120)
    unit, kept = lab * 4 + batch, rng.uniform(size=len(lab)) < 0.8
    y = 5 + u[lab, 0] + v[unit, 0] + (1 + u[lab, 1] + v[unit, 1]) * x + rng.normal(0, 0.4, len(x))
    return pd.DataFrame({"lab": lab, "batch": batch, "x": x, "y": np.round(y, 4)})[kept].reset_index(drop=True)


FRAME = laboratories()
TASKS = TaskSet.from_frame(FRAME, task="lab", target="y", features=["x"], levels=["batch"])


def both_levels(**settings):
    return EquationRegressor(line, {"a": 1.0, "b": 1.0}, levels={"batch": ["a", "b"]}, **settings)


@pytest.fixture(scope="module")
def model():
    return both_levels().fit(TASKS)


# R 4.2.2, nlme 3.1-162, FRAME written as ref.csv:
#   d <- read.csv("ref.csv"); d$lab <- factor(d$lab); d$batch <- factor(d$batch)
#   fit <- lme(y ~ x, d, list(lab = ~x, batch = ~x), method = "ML",
#              control = lmeControl(niterEM = 20000, msTol = 1e-14, tolerance = 1e-12))
#   logLik(fit); fixef(fit); fit$sigma^2; vcov(fit)
#   lapply(as.matrix(fit$modelStruct$reStruct), function(m) m * fit$sigma^2)
def test_maximum_likelihood_is_that_of_nlme(model):
    assert model.log_likelihood_ == pytest.approx(-543.470679876, abs=1e-6)
    np.testing.assert_allclose(model.population_["value"], [4.923609592876, 0.893545196288], rtol=1e-5)
    np.testing.assert_allclose(model.population_["standard_error"] ** 2, [0.0365600410802, 0.00719375615617], rtol=1e-4)
    assert model.noise_["sd"] ** 2 == pytest.approx(0.170035612778, rel=1e-5)
    lab = [[0.961138260049, 0.314314848604], [0.314314848604, 0.187881722179]]
    batch = [[0.387494747970, -0.086865855894], [-0.086865855894, 0.0858789187823]]
    np.testing.assert_allclose(model.covariance_.loc["task"], lab, rtol=1e-4)
    np.testing.assert_allclose(model.covariance_.loc["batch"], batch, rtol=1e-4)
    split = model.variance_split_
    assert split.loc["a", "task"] == pytest.approx(lab[0][0] / (lab[0][0] + batch[0][0]), rel=1e-4)
    np.testing.assert_allclose(split.sum(axis=1), 1)


def joint(model, frame, new=None):
    """Return mean and covariance of the rows of one laboratory, the noise apart, and their design; by the dense law."""
    rows = frame if new is None else pd.concat([frame, new], ignore_index=True)
    D = np.column_stack([np.ones(len(rows)), rows["x"]])
    same = rows["batch"].to_numpy()[:, None] == rows["batch"].to_numpy()
    covariance = D @ model.covariance_.loc["task"].to_numpy() @ D.T
    covariance = covariance + same * (D @ model.covariance_.loc["batch"].to_numpy() @ D.T)
    return D @ model.population_["value"].to_numpy(), covariance, D


def test_the_likelihood_of_rows_is_normal(model):
    values = []
    for _, rows in FRAME.groupby("lab"):
        mean, covariance, _ = joint(model, rows)
        noise = model.noise_["sd"] ** 2 * np.eye(len(rows))
        values.append(multivariate_normal(mean, covariance + noise).logpdf(rows["y"]))
    told = model.log_likelihood(TASKS)
    np.testing.assert_allclose(told.tasks["log_likelihood"], values, rtol=1e-8)
    assert told.value == pytest.approx(model.log_likelihood_, rel=1e-12)


NEW_LAB = FRAME[FRAME["lab"] == 3].iloc[[0, 1, 4, 5, 6, 9]].reset_index(drop=True)
ASKED = pd.DataFrame({"x": [2.5, 0.0, 4.0, 2.5, 1.0], "batch": [0, 1, 1, 7, 8]})


def best_unbiased(model, frame, asked):
    """Return the best linear unbiased prediction of curves, and the standard deviation of its error."""
    mean, covariance, D = joint(model, frame, asked)
    n = len(frame)
    inverse = np.linalg.inv(covariance[:n, :n] + model.noise_["sd"] ** 2 * np.eye(n))
    gain = covariance[n:, :n] @ inverse
    error = np.diag(covariance[n:, n:] - gain @ covariance[:n, n:])
    away, of_beta = D[n:] - gain @ D[:n], model._fitted.beta_covariance.numpy()
    return mean[n:] + gain @ (frame["y"] - mean[:n]), np.sqrt(error + np.einsum("ib,bc,ic->i", away, of_beta, away))


def test_predictions_are_best_linear_unbiased_ones(model):
    adapted = model.adapt(NEW_LAB[["x", "batch"]], NEW_LAB["y"])
    assert isinstance(adapted, AdaptedUnits)
    mean, std = adapted.predict(ASKED, return_std=True)
    expected, error = best_unbiased(model, NEW_LAB, ASKED)
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    np.testing.assert_allclose(std, error, rtol=1e-5)
    low, high = adapted.predict_interval(ASKED, of="curve")
    np.testing.assert_allclose((high - low) / (2 * 1.6449), error, rtol=0.05)
    assert std[3] > std[0]
    np.testing.assert_allclose(adapted.predict_mean(ASKED), expected, atol=0.02)
    # one unit's predictor is that of the task
    np.testing.assert_allclose(adapted.unit(0).predict([[2.5]]), expected[:1], rtol=1e-7)


def test_without_rows_a_task_is_the_population(model):
    nobody = model.adapt([], [])
    mean, std = nobody.predict(ASKED, return_std=True)
    expected, error = best_unbiased(model, NEW_LAB[:0], ASKED)
    np.testing.assert_allclose(mean, expected, rtol=1e-10)
    np.testing.assert_allclose(std, error, rtol=1e-8)
    np.testing.assert_allclose(model.predict(ASKED, return_std=True), [expected, error], rtol=1e-8)


def test_more_rows_of_an_adapted_task_count_as_if_they_came_at_once(model):
    X, y = NEW_LAB[["x", "batch"]], NEW_LAB["y"]
    at_once = model.adapt(X, y)
    later = model.adapt(X[:4], y[:4]).partial_adapt(X[4:], y[4:])
    np.testing.assert_allclose(later.predict(ASKED), at_once.predict(ASKED), rtol=1e-9)
    shuffled = model.adapt(X[::-1], y[::-1])
    np.testing.assert_allclose(shuffled.predict(ASKED), at_once.predict(ASKED), rtol=1e-9)


def test_within_a_training_task_its_rows_count(model):
    seen, more = FRAME[FRAME["lab"] == 5], NEW_LAB.assign(batch=[0, 0, 9, 9, 9, 9])
    within = model.adapt(more[["x", "batch"]], more["y"], within=5)
    mean, std = within.predict(ASKED, return_std=True)
    expected, error = best_unbiased(model, pd.concat([seen, more], ignore_index=True), ASKED)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(std, error, rtol=1e-5)
    adapted = model.adapt([], [], within=5)
    expected, error = best_unbiased(model, seen.reset_index(drop=True), ASKED)
    np.testing.assert_allclose(adapted.predict(ASKED, return_std=True), [expected, error], rtol=1e-6)
    params = model.task_params_.loc[(5, 0)]
    assert adapted.params_.loc[(0, "a"), "value"] == pytest.approx(params["a"])
    with pytest.raises(ValueError, match="no training task"):
        model.adapt([], [], within="lab 5")


def test_simulated_rows_have_the_covariance_of_their_units(model):
    adapted = model.adapt(NEW_LAB[["x", "batch"]], NEW_LAB["y"])
    drawn = adapted.simulate(ASKED, 40_000, random_state=0)
    _, covariance, D = joint(model, NEW_LAB, ASKED)
    n = len(NEW_LAB)
    noise = model.noise_["sd"] ** 2
    gain = covariance[n:, :n] @ np.linalg.inv(covariance[:n, :n] + noise * np.eye(n))
    away = D[n:] - gain @ D[:n]
    left = covariance[n:, n:] - gain @ covariance[:n, n:] + away @ model._fitted.beta_covariance.numpy() @ away.T
    np.testing.assert_allclose(np.cov(drawn.T), left + noise * np.eye(len(ASKED)), atol=0.04)
    zero_shot = model.simulate(ASKED, 40_000, random_state=0)
    _, prior, D = joint(model, ASKED.assign(y=0.0))
    prior = prior + noise * np.eye(len(ASKED)) + D @ model._fitted.beta_covariance.numpy() @ D.T
    np.testing.assert_allclose(np.cov(zero_shot.T), prior, rtol=0.06, atol=0.04)


def test_many_tasks_at_once_are_as_one_by_one(model):
    many = model.adapt_many(TASKS[:4])
    for task, one in zip(TASKS[:4], many, strict=True):
        np.testing.assert_allclose(one.predict(ASKED), model.adapt(task.X, task.y).predict(ASKED), rtol=1e-7)
    np.testing.assert_allclose(many.predict(TASKS[:4])[: len(TASKS[0])], many[0].predict(TASKS[0].X))
    assert many.params_.index.names == ["task", "batch", "constant"]


def test_labels_are_as_good_as_numbers(model):
    words = FRAME.assign(batch="B" + FRAME["batch"].astype(str), lab="lab " + FRAME["lab"].astype(str))
    tasks = TaskSet.from_frame(words, task="lab", target="y", features=["x"], levels=["batch"])
    assert tasks.level_labels == {"batch": ("B0", "B1", "B2", "B3")}
    other = both_levels().fit(pickle.loads(pickle.dumps(tasks))[:])
    assert other.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-9)
    assert other.task_params_.index[0] == ("lab 0", "B0")
    rows = NEW_LAB.assign(batch="B" + NEW_LAB["batch"].astype(str))
    asked = ASKED.assign(batch="B" + ASKED["batch"].astype(str))
    adapted, by_number = (
        other.adapt(rows[["x", "batch"]], rows["y"]),
        model.adapt(NEW_LAB[["x", "batch"]], NEW_LAB["y"]),
    )
    np.testing.assert_allclose(adapted.predict(asked), by_number.predict(ASKED), rtol=1e-7)
    assert adapted.units_ == [("B0",), ("B1",), ("B2",)]
    with pytest.raises(TaskError, match="labels have the numbers 0 to 3"):
        other.adapt([[1.0, 17.0]], [5.0])
    flat = both_levels().fit(words[["x", "batch"]], words["y"], groups=words["lab"])
    assert flat.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-9)
    with pytest.raises(TaskError, match=r"level 'batch' is missing in row 0"):
        TaskSet.from_frame(words.assign(batch=[None, *words["batch"][1:]]), task="lab", target="y", levels=["batch"])


def test_where_units_do_not_differ_their_variance_is_zero():
    rng = np.random.default_rng(0)
    tasks = {}
    for k in range(20):
        x, visit = np.tile(np.arange(4.0), 3), np.repeat([1.0, 2.0, 3.0], 4)
        residual = rng.normal(0, 0.1, (3, 4))
        residual -= residual.mean(axis=1, keepdims=True)
        tasks[k] = np.column_stack([visit, x]), rng.normal(5, 1) + 0.3 * x + residual.ravel()
    fit = EquationRegressor(lambda X, a, b: a + b * X[:, 0], {"a": 1.0, "b": 1.0}, random=["a"], levels={0: ["a"]}).fit(
        tasks
    )
    assert fit.variance_split_.loc["a", "0"] == 0
    assert "shows no variation at '0'" in fit.summary()
    flat = EquationRegressor(lambda X, a, b: a + b * X[:, 1], {"a": 1.0, "b": 1.0}, random=["a"]).fit(tasks)
    assert fit.log_likelihood_ == pytest.approx(flat.log_likelihood_, abs=2e-3)
    assert fit.population_.loc["a", "omega"] == pytest.approx(flat.population_.loc["a", "omega"], rel=1e-3)


def test_a_curve_is_adapted_to_its_most_probable_constants():
    def decay(X, start, rate):
        return start * torch.exp(-rate * X[:, 0])

    rng, tasks = np.random.default_rng(1), {}
    x, visit = np.tile([0.5, 1.0, 2.0, 4.0], 3), np.repeat([1.0, 2.0, 3.0], 4)
    for k in range(30):
        start, rate = np.exp(rng.normal([2.0, -0.7], [0.3, 0.2]))
        rates = rate * np.exp(rng.normal(0, 0.3, 3))[visit.astype(int) - 1]
        tasks[k] = np.column_stack([x, visit]), start * np.exp(-rates * x) * np.exp(rng.normal(0, 0.05, 12))
    constants = {"start": Parameter(5.0, lower=0), "rate": Parameter(1.0, lower=0)}
    fit = EquationRegressor(decay, constants, noise="proportional", levels={1: ["rate"]}).fit(tasks)
    assert 0.2 < fit.population_.loc["rate", "omega_1"] < 0.4
    adapted = fit.adapt(*tasks[0])
    factors, sigma = fit._fitted.levels.factors, fit.noise_["cv"]
    center = fit._fitted.population.beta.numpy()
    X, y = tasks[0]

    def height(u):
        phi = center + factors[0].numpy() @ u[:2] + np.array([0.0, 1.0]) * 0
        paths = [phi + factors[1].numpy() @ u[2 + k : 3 + k] for k in range(3)]
        total = 0.5 * u @ u
        for k, path in enumerate(paths):
            chosen = X[:, 1] == k + 1
            f = np.exp(path[0]) * np.exp(-np.exp(path[1]) * X[chosen, 0])
            total += np.sum(0.5 * ((y[chosen] - f) / (sigma * f)) ** 2 + np.log(sigma * f))
        return total

    from scipy.optimize import minimize

    best = minimize(height, np.zeros(5), tol=1e-12).x
    expected = [
        np.exp(center + factors[0].numpy() @ best[:2] + factors[1].numpy() @ best[2 + k : 3 + k]) for k in range(3)
    ]
    np.testing.assert_allclose(adapted.params_["value"].to_numpy().reshape(3, 2), expected, rtol=2e-4)


def test_settings_that_mean_nothing_are_refused(model):
    def of(**settings):
        return EquationRegressor(line, {"a": 1.0, "b": 1.0}, **{"levels": {"batch": ["a"]}, **settings})

    with pytest.raises(ValueError, match="no constant 'c'"):
        of(levels={"batch": ["c"]}).fit(TASKS)
    with pytest.raises(ValueError, match="no column 'visit'"):
        of(levels={"visit": ["a"]}).fit(TASKS)
    with pytest.raises(ValueError, match="no constant varies at the level"):
        of(levels={"batch": []}).fit(TASKS)
    with pytest.raises(ValueError, match="name of the outermost level"):
        of(levels={"task": ["a"]}).fit(TASKS)
    with pytest.raises(ValueError, match="no level 'visit'"):
        of(covariance={"visit": "diagonal"}).fit(TASKS)
    with pytest.raises(ValueError, match="do not go together"):
        of(objective="query").fit(TASKS)
    with pytest.raises(ValueError, match="do not go together"):
        of(small_sample="integrate").fit(TASKS)
    with pytest.raises(ValueError, match="needs levels=None"):
        of(noise="student-t").fit(TASKS)
    with pytest.raises(ValueError, match="covariance by level needs levels"):
        of(levels=None, covariance={"task": "full"}).fit(TASKS)
    with pytest.raises(ValueError, match="bootstrap is not there yet for models with levels"):
        model.bootstrap(TASKS)
    with pytest.raises(ValueError, match="profile_likelihood is not there yet for models with levels"):
        model.profile_likelihood(TASKS, "a")
    with pytest.raises(ValueError, match="levels"):
        model.to_population()
    with pytest.raises(ValueError, match="guard"):
        model.adapt(NEW_LAB[["x", "batch"]], NEW_LAB["y"], guard=True)
    flat = EquationRegressor(line, {"a": 1.0, "b": 1.0}, noise_correlation="ar1").fit(TASKS)
    with pytest.raises(ValueError, match=r"within= needs a model with levels"):
        flat.adapt([], [], within=0)


def test_covariance_by_level_and_a_constant_of_one_level_alone():
    fit = both_levels(random=["b"], covariance={"batch": "diagonal"}).fit(TASKS)
    assert fit.covariance_.loc[("batch", "a"), "b"] == 0
    assert fit.variance_split_.loc["a", "task"] == 0
    assert fit.variance_split_.loc["a", "batch"] == 1


def test_score_adapts_units_of_left_out_tasks(model):
    assert 0.5 < model.score(TASKS[20:]) <= 1


def test_rows_that_say_little_are_told():
    fit = both_levels().fit(TASKS)
    with pytest.warns(IdentifiabilityWarning, match="the rows cannot tell"):
        fit.adapt([[1.0, 0.0]], [5.0])


def test_conformal_intervals_count_tasks():
    fit = both_levels().fit(TASKS[:15])
    fit.calibrate(TASKS[15:], support_size=4)
    adapted = fit.adapt(NEW_LAB[["x", "batch"]][:4], NEW_LAB["y"][:4])
    interval = adapted.predict_interval(ASKED, level=0.8, method="conformal")
    assert interval.n_tasks == 15
    assert (interval.upper > interval.lower).all()


def test_three_levels_are_adapted_together():
    rng, frames = np.random.default_rng(2), []
    for site in range(25):
        of_site = rng.normal(0, 1.0)
        for subject in range(3):
            of_subject = of_site + rng.normal(0, 0.6)
            for occasion in range(2):
                a = 5 + of_subject + rng.normal(0, 0.3)
                y = a + rng.normal(0, 0.1, 3)
                columns = {"site": site, "subject": f"S{subject}", "occasion": occasion, "x": [0.0, 1.0, 2.0], "y": y}
                frames.append(pd.DataFrame(columns))
    frame = pd.concat(frames)
    tasks = TaskSet.from_frame(frame, task="site", target="y", features=["x"], levels=["subject", "occasion"])
    constants = {"a": 1.0, "b": Parameter(0.1)}
    fit = EquationRegressor(line, constants, random=["a"], levels={"subject": ["a"], "occasion": ["a"]}).fit(tasks)
    sds = fit.population_.loc["a", ["omega", "omega_subject", "omega_occasion"]].astype(float)
    np.testing.assert_allclose(sds, [1.0, 0.6, 0.3], rtol=0.3)
    rows = frame[(frame["site"] == 0) & (frame["subject"] != "S2")]
    columns = ["x", "subject", "occasion"]
    adapted = fit.adapt(rows[columns], rows["y"])
    asked = pd.DataFrame({"x": 0.5, "subject": ["S0", "S0", "S9"], "occasion": [0, 5, 0]})
    mean, std = adapted.predict(asked, return_std=True)
    # dense: variances of the site, of subjects in it and of occasions in these
    everything = pd.concat([rows, asked], ignore_index=True)
    same_subject = everything["subject"].to_numpy()[:, None] == everything["subject"].to_numpy()
    same_occasion = everything["occasion"].to_numpy()[:, None] == everything["occasion"].to_numpy()
    variances = sds.to_numpy() ** 2
    covariance = variances[0] + variances[1] * same_subject + variances[2] * (same_subject & same_occasion)
    n, D = len(rows), np.column_stack([np.ones(len(everything)), everything["x"]])
    gain = covariance[n:, :n] @ np.linalg.inv(covariance[:n, :n] + fit.noise_["sd"] ** 2 * np.eye(n))
    beta = fit.population_["value"].to_numpy()
    np.testing.assert_allclose(mean, D[n:] @ beta + gain @ (rows["y"].to_numpy() - D[:n] @ beta), rtol=1e-7)
    away = D[n:] - gain @ D[:n]
    error = np.diag(covariance[n:, n:] - gain @ covariance[:n, n:])
    error = error + np.einsum("ib,bc,ic->i", away, fit._fitted.beta_covariance.numpy(), away)
    np.testing.assert_allclose(std, np.sqrt(error), rtol=1e-6)
    assert std[0] < std[1] < std[2]
