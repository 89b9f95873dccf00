"""Residuals that correlate in time: nlme's likelihood, generalised least squares, rows near others, refusals, warnings."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from metaest import (
    CorrelatedResidualsWarning,
    EquationRegressor,
    IdentifiabilityWarning,
    Parameter,
    TaskError,
    load,
    save,
)
from metaest.functional import (
    Correlation,
    Equation,
    GaussNewton,
    HierarchicalModel,
    Noise,
    Observations,
    PopulationParameters,
    Transforms,
    negative_log_evidence,
)
from metaest.functional.equations.hierarchical import Design
from metaest_domains.kinetics import JMAKRegressor
from metaest_domains.physiology import OneCompartmentRegressor

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
LINE = {"a": 3.0, "b": 1.0}
# by nlme 3.1-162 (R 4.2.2): lme(y ~ t, random = ~ t | g, method = "ML", correlation = corCAR1(form = ~ t | g)), and
# corAR1 in the order of the rows, to the rows of `straight_lines`: log-likelihood, fixed effects, sigma, phi, and the
# variance of a, covariance and variance of b between tasks
NLME = {
    "car1": (
        -44.479838374158, (2.62456654449, 1.01137880336), 0.39023532193, 0.459099141973,
        (0.1456753034368, 0.0287550056209, 0.1115861244492),
    ),
    "ar1": (
        -64.455299578912, (2.681093102134, 0.998538575972), 0.409787053274, 0.654065758673,
        (0.1526899625668, 0.0257977225502, 0.1136677228811),
    ),
}  # fmt: skip


def line(X, a, b):
    return a + b * X[:, 0]


def decay(X, a, k):
    return a * torch.exp(-k * X[:, 0])


def straight_lines(n_tasks=12):
    """Return times, observations and tasks of lines with residuals of correlation time 1.3, rounded."""
    rng = np.random.RandomState(5)
    X, y, groups = [], [], []
    for task in range(n_tasks):
        t = np.round(np.cumsum(rng.exponential(0.7, 9 + task % 4)), 3)
        R = np.exp(-np.abs(t[:, None] - t) / 1.3)
        a, b = 3 + 0.8 * rng.randn(), 1 - 0.3 * rng.randn()
        y.append(np.round(a + b * t + 0.4 * np.linalg.cholesky(R) @ rng.randn(len(t)), 4))
        X.append(t)
        groups.append(np.full(len(t), task))
    return np.concatenate(X)[:, None], np.concatenate(y), np.concatenate(groups)


@pytest.fixture(scope="module")
def fitted():
    X, y, groups = straight_lines()
    return EquationRegressor(line, LINE, noise_correlation="car1").fit(X, y, groups=groups)


def observations_of(X, y, groups):
    sizes = np.bincount(groups)
    mask = np.arange(sizes.max()) < sizes[:, None]
    rows = np.cumsum([0, *sizes[:-1]])[:, None] + np.minimum(np.arange(sizes.max()), sizes[:, None] - 1)
    return Observations.stack(*(torch.from_numpy(part) for part in (X[rows], y[rows], mask.astype(float))))


@pytest.mark.parametrize("kind", ["car1", "ar1"])
def test_likelihood_and_optimum_are_those_of_nlme(kind):
    X, y, groups = straight_lines()
    height, effects, sigma, phi, (of_a, covariance, of_b) = NLME[kind]
    z = np.log(-1 / np.log(phi)) if kind == "car1" else np.arctanh(phi)
    correlation = Correlation(kind, 0 if kind == "car1" else None)
    noise = Noise(correlation=correlation)
    model = HierarchicalModel(Equation(line, ["a", "b"], "rows"), Transforms([-np.inf] * 2, [np.inf] * 2), noise)
    factor = torch.linalg.cholesky(torch.tensor([[of_a, covariance], [covariance, of_b]], dtype=torch.float64))
    people = PopulationParameters(torch.tensor(effects).double(), factor, torch.tensor([np.log(sigma), z]))
    rows, design = observations_of(X, y, groups), Design(torch.tensor([0, 1]), torch.ones(2, 12).double())
    u = GaussNewton().solve(model, design.center(people.beta, 2), factor, people.log_sigma, rows).u
    at_theirs = -float(negative_log_evidence(model, people, design, rows, u).sum())
    assert at_theirs == pytest.approx(height, abs=1e-6)
    ours = EquationRegressor(line, LINE, noise_correlation=kind).fit(X, y, groups=groups)
    assert ours.log_likelihood_ == pytest.approx(height, abs=1e-4)
    np.testing.assert_allclose(ours.population_["value"], effects, rtol=1e-3)
    assert ours.noise_["sd"] == pytest.approx(sigma, rel=1e-3)
    learned = np.exp(-1 / ours.noise_["correlation_time"]) if kind == "car1" else ours.noise_["phi"]
    assert learned == pytest.approx(phi, rel=1e-3)


def dense(model, X, y, new):
    """Return mean and covariance of the constants, and of a new observation, by dense matrices given the population."""
    factor = model._fitted.population.factor.numpy()
    prior, beta = factor @ factor.T, model.population_["value"].to_numpy()
    sd, tau = model.noise_
    times = np.append(X[:, 0], new)
    R = sd**2 * np.exp(-np.abs(times[:, None] - times) / tau)
    D = np.column_stack([np.ones(len(times)), times])
    V = D @ prior @ D.T + R
    seen = slice(len(X))
    gain = np.linalg.solve(V[seen, seen], y - D[seen] @ beta)
    center = beta + prior @ D[seen].T @ gain
    left = prior - prior @ D[seen].T @ np.linalg.solve(V[seen, seen], D[seen] @ prior)
    mean = D[-1] @ beta + V[-1, seen] @ gain
    variance = V[-1, -1] - V[-1, seen] @ np.linalg.solve(V[seen, seen], V[seen, -1])
    return center, left, mean, variance


def test_adapting_is_generalised_least_squares(fitted):
    X, y = np.arange(8.0)[:, None], np.array([2.9, 4.4, 5.1, 6.3, 7.6, 8.2, 8.9, 9.6])
    adapted = fitted.adapt(X, y)
    center, left, _, _ = dense(fitted, X, y, 3.5)
    np.testing.assert_allclose(adapted.params_["value"], center, rtol=1e-10)
    np.testing.assert_allclose(adapted._posterior.deviation[:, :, 0].numpy(), _in_u(fitted, left), rtol=1e-8)
    many = fitted.adapt_many([(X, y), (X[::-1], y[::-1])])
    np.testing.assert_allclose(many.params_[["a", "b"]], [center, center], rtol=1e-10)
    later = fitted.adapt(X[5:], y[5:]).partial_adapt(X[:5], y[:5])
    np.testing.assert_allclose(later.params_["value"], center, rtol=1e-10)
    assert (adapted.profile("a", n_points=5)["deviance"].to_numpy()[2]) == pytest.approx(0, abs=1e-8)


def _in_u(model, covariance):
    inverse = np.linalg.inv(model._fitted.population.factor.numpy())
    return inverse @ covariance @ inverse.T


@pytest.mark.parametrize("new", [3.1, 3.5, 7.4, 30.0])
def test_a_new_observation_is_predicted_from_the_residuals_beside_it(fitted, new):
    X, y = np.arange(8.0)[:, None], np.array([2.9, 4.4, 5.1, 6.3, 7.6, 8.2, 8.9, 9.6])
    _, _, mean, variance = dense(fitted, X, y, new)
    # leave the uncertainty of the population to the comparison of widths
    low, high = fitted.adapt(X, y).predict_interval([[new]], level=0.8)
    middle, width = 0.5 * (low[0] + high[0]), (high[0] - low[0]) / (2 * 1.2816)
    assert abs(middle - mean) < 0.05 * np.sqrt(variance) + 0.002
    assert np.sqrt(variance) * 0.97 < width < np.sqrt(variance) * 1.15


def test_at_the_time_of_a_row_the_observation_is_that_row(fitted):
    X, y = np.arange(8.0)[:, None], np.array([2.9, 4.4, 5.1, 6.3, 7.6, 8.2, 8.9, 9.6])
    adapted = fitted.adapt(X, y)
    low, high = adapted.predict_interval(X[2:4])
    np.testing.assert_allclose(low, y[2:4], atol=1e-4)
    np.testing.assert_allclose(high, y[2:4], atol=1e-4)
    np.testing.assert_allclose(adapted.simulate(X[2:4], 3, random_state=0), np.tile(y[2:4], (3, 1)), atol=1e-9)
    low, high = adapted.predict_interval(X[2:4], of="curve")
    assert (high - low > 0.1).all()


def test_simulated_observations_have_the_moments_of_dense_matrices(fitted):
    X, y = np.arange(8.0)[:, None], np.array([2.9, 4.4, 5.1, 6.3, 7.6, 8.2, 8.9, 9.6])
    drawn = fitted.adapt(X, y).simulate([[3.5], [3.2], [40.0], [40.1]], 20000, random_state=1)
    for j, new in enumerate([3.5, 3.2]):
        _, _, mean, variance = dense(fitted, X, y, new)
        assert drawn[:, j].mean() == pytest.approx(mean, abs=0.02)
        assert drawn[:, j].std() == pytest.approx(np.sqrt(variance), rel=0.05)
    # neighbours far from all rows differ by the increments of the correlated noise alone
    sd, tau = fitted.noise_
    expected = sd * np.sqrt(2 * -np.expm1(-0.1 / tau))
    assert (drawn[:, 3] - drawn[:, 2]).std() == pytest.approx(expected, rel=0.05)
    apart = fitted.simulate([[40.0], [40.1]], 20000, random_state=1)
    assert (apart[:, 1] - apart[:, 0]).std() == pytest.approx(expected, rel=0.05)
    again = fitted.adapt(X, y).simulate([[3.5], [3.2], [40.0], [40.1]], 20000, random_state=1)
    np.testing.assert_array_equal(drawn, again)


def test_a_row_close_to_another_teaches_little(fitted):
    X, y = np.array([[0.0], [6.0]]), np.array([3.0, 9.0])
    adapted = fitted.adapt(X, y)
    candidates = np.array([[6.01], [6.0], [0.02], [20.0], [20.01], [12.0]])
    # the farthest tells the slope best; its twin beside it says less than another place
    assert adapted.suggest(candidates, 2).tolist()[1] == 5
    with pytest.warns(IdentifiabilityWarning, match="none of the candidates teaches anything"):
        adapted.suggest([[6.0], [6.0001]])


def test_rows_need_no_order(fitted):
    X, y, groups = straight_lines()
    order = np.random.default_rng(0).permutation(len(y))
    other = EquationRegressor(line, LINE, noise_correlation="car1").fit(X[order], y[order], groups=groups[order])
    assert other.log_likelihood_ == pytest.approx(fitted.log_likelihood_, abs=1e-6)
    np.testing.assert_allclose(other.noise_, fitted.noise_, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("noise", "objective"),
    [
        ("proportional", "evidence"),
        ("combined", "evidence"),
        ("combined", "query"),
        pytest.param("proportional", "query", marks=pytest.mark.slow),
    ],
)
def test_every_noise_and_objective_learns_the_correlation_time(noise, objective):
    rng, t = np.random.RandomState(1), np.arange(25) * 0.2
    L = np.linalg.cholesky(np.exp(-np.abs(t[:, None] - t) / 0.5))
    tasks = {}
    for i in range(15):
        curve = np.exp(1 + 0.3 * rng.randn()) * np.exp(-0.3 * t)
        sd = 0.1 * curve if noise == "proportional" else np.sqrt(0.02**2 + 0.1**2 * curve**2)
        tasks[i] = t[:, None], curve + sd * (L @ rng.randn(25))
    constants = {"a": Parameter(2.0, lower=0), "k": Parameter(0.5, lower=0)}
    model = EquationRegressor(
        decay, constants, random=["a"], noise=noise, noise_correlation="car1", objective=objective, n_episodes=6,
        support_size=(3, 10), random_state=0,
    ).fit(tasks)  # fmt: skip
    assert 0.2 < model.noise_["correlation_time"] < 1.2
    assert 0.07 < model.noise_["cv"] < 0.14
    assert model.population_.loc["k", "value"] == pytest.approx(0.3, abs=0.05)


def test_compiled_adaptations_are_the_same():
    X, y, groups = straight_lines()
    order = np.random.default_rng(0).permutation(len(y))
    for kind in ("car1", "ar1"):
        given = X[order], y[order]
        plain = EquationRegressor(line, LINE, noise_correlation=kind, compile=False).fit(*given, groups=groups[order])
        fast = EquationRegressor(line, LINE, noise_correlation=kind, compile=True).fit(*given, groups=groups[order])
        assert not fast.compiled_
        assert "correlated residuals see each other" in fast.compiled_reason_
        assert fast.log_likelihood_ == pytest.approx(plain.log_likelihood_, abs=1e-6)
        ours, theirs = (model.adapt(X[:6][::-1], y[:6]).params_["value"] for model in (fast, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_a_file_keeps_the_correlation(fitted, tmp_path):
    save(fitted, tmp_path / "model.json")
    read = load(tmp_path / "model.json", equation=line)
    X, y = np.arange(4.0)[:, None], np.array([3.0, 4.2, 5.0, 6.1])
    expected = fitted.adapt(X, y)
    np.testing.assert_array_equal(read.adapt(X, y).predict_interval([[1.5]]), expected.predict_interval([[1.5]]))
    save(expected, tmp_path / "task.json")
    again = load(tmp_path / "task.json", model=read)
    np.testing.assert_array_equal(again.predict_interval([[1.5]]), expected.predict_interval([[1.5]]))
    assert "correlation_time" in read.noise_.index
    assert "column '0' have the correlation 1/e" in read.summary()


def test_a_fit_that_was_ended_goes_on_with_the_same_numbers(fitted, tmp_path):
    X, y, groups = straight_lines()
    settings = {"noise_correlation": "car1", "checkpoint": tmp_path, "checkpoint_every": 1, "random_state": 0}
    with pytest.raises(KeyboardInterrupt):
        EquationRegressor(ended(30), LINE, **settings).fit(X, y, groups=groups)
    whole = EquationRegressor(line, LINE, noise_correlation="car1", random_state=0).fit(X, y, groups=groups)
    np.testing.assert_array_equal(whole.noise_, fitted.noise_)


def ended(calls):
    """Return the line, which ends the fit after some calls as Ctrl-C does."""
    left = [calls]

    def line(X, a, b):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return a + b * X[:, 0]

    return line


def test_settings_that_do_not_go_together_are_refused():
    X, y, groups = straight_lines(4)

    def fit(X=X, **settings):
        return EquationRegressor(line, LINE, **settings).fit(X, y, groups=groups)

    with pytest.raises(ValueError, match="noise_correlation needs limit=None"):
        fit(noise_correlation="car1", limit=0.0)
    with pytest.raises(ValueError, match="noise_correlation needs inner_solver='gauss-newton'"):
        fit(noise_correlation="car1", objective="query", inner_solver="gradient")
    with pytest.raises(ValueError, match="noise_correlation='ar1' needs objective='evidence'"):
        fit(noise_correlation="ar1", objective="query")
    with pytest.raises(ValueError, match="correlation_time needs noise_correlation='car1'"):
        fit(correlation_time=0)
    with pytest.raises(ValueError, match="correlation_time: 3 is no column of X"):
        fit(noise_correlation="car1", correlation_time=3)
    with pytest.raises(ValueError, match="correlation_time: there is no column 'day'"):
        fit(noise_correlation="car1", correlation_time="day")
    two = pd.DataFrame(np.column_stack([X, X]), columns=["x", "z"])
    with pytest.raises(ValueError, match=r"which column of X holds the times\? X has the columns \['x', 'z'\]"):
        fit(two, noise_correlation="car1")
    assert fit(two.rename(columns={"z": "Time"}), noise_correlation="car1")._fitted.model.noise.correlation.column == 1
    with pytest.raises(TaskError, match="no task has more than one row"):
        EquationRegressor(line, LINE, noise_correlation="ar1", random=[]).fit(X[:3], y[:3], groups=[0, 1, 2])


def test_equal_times_are_refused_by_task_and_column(fitted):
    X, y, groups = straight_lines()
    X = X.copy()
    X[4] = X[2]
    with pytest.raises(TaskError, match="task 0: column '0' is .* in rows 2 and 4"):
        EquationRegressor(line, LINE, noise_correlation="car1").fit(X, y, groups=groups)
    with pytest.raises(TaskError, match="adapt: column '0' is 1 in rows 0 and 2"):
        fitted.adapt([[1.0], [2.0], [1.0]], [1, 2, 3])
    with pytest.raises(TaskError, match="partial_adapt: column '0' is 1 in rows 0 and 1"):
        fitted.adapt([[1.0]], [1]).partial_adapt([[1.0]], [2])
    with pytest.raises(TaskError, match="task 'b': column '0' is 1"):
        fitted.adapt_many({"a": ([[1.0], [2.0]], [1, 2]), "b": ([[1.0], [1.0]], [1, 2])})
    with pytest.raises(TaskError, match="task 'a': column '0' is 1"):
        fitted.score({"a": ([[1.0], [1.0], [2.0]], [1, 2, 3])})


def dense_tasks(tau, n_tasks=10, seed=0):
    rng, t = np.random.RandomState(seed), np.arange(60) * 0.1
    L = np.eye(60) if tau == 0 else np.linalg.cholesky(np.exp(-np.abs(t[:, None] - t) / tau))
    return {i: (t[:, None], 3 + rng.randn() + t + 0.3 * (L @ rng.randn(60))) for i in range(n_tasks)}


def test_a_warning_says_that_rows_are_not_independent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EquationRegressor(line, LINE).fit(dense_tasks(0))
        EquationRegressor(line, LINE, noise_correlation="car1").fit(dense_tasks(0.3))
        EquationRegressor(line, LINE, noise_correlation="ar1").fit(dense_tasks(0.3))
    with pytest.warns(CorrelatedResidualsWarning, match=r"lag-1 correlation 0\.\d+, .*noise_correlation='car1'"):
        EquationRegressor(line, LINE).fit(dense_tasks(0.3))
    # in the order of time, however the rows stand
    order = np.random.default_rng(0).permutation(60)
    with pytest.warns(CorrelatedResidualsWarning, match="in the order of time"):
        EquationRegressor(line, LINE).fit({i: (X[order], y[order]) for i, (X, y) in dense_tasks(0.3).items()})
    # an equation of the wrong shape
    bent = {i: (X, y + 0.1 * (X[:, 0] - 3) ** 2) for i, (X, y) in dense_tasks(0).items()}
    with pytest.warns(CorrelatedResidualsWarning, match="the equation does not have the shape"):
        EquationRegressor(line, LINE).fit(bent)


@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")
def test_a_correlation_that_nothing_limits_is_told():
    shifted = {i: (X, y + 2 * np.random.RandomState(i).randn()) for i, (X, y) in dense_tasks(200.0).items()}
    with pytest.warns(CorrelatedResidualsWarning, match="correlation time of the residuals has run to its bound"):
        EquationRegressor(line, LINE, random=[], noise_correlation="car1").fit(shifted)


def test_catalogues_hand_the_settings_on():
    rng, tasks = np.random.RandomState(0), {}
    t = np.linspace(0.1, 3, 15)
    for i in range(8):
        L = np.linalg.cholesky(np.exp(-np.abs(t[:, None] - t) / 0.5))
        fraction = 1 - np.exp(-((np.exp(0.2 * rng.randn()) * t) ** 2)) + 0.02 * L @ rng.randn(15)
        tasks[i] = t[:, None], np.clip(fraction, 0, 1)
    model = JMAKRegressor(noise_correlation="car1").fit(tasks)
    assert model._fitted.model.noise.correlation.column == 0
    assert 0.1 < model.noise_["correlation_time"] < 2
    doses = {i: (np.column_stack([t, np.full(15, 10.0)]), 10 * np.exp(-t) * (1 + 0.05 * rng.randn(15))) for i in tasks}
    patients = OneCompartmentRegressor(
        route="iv", noise="proportional", noise_correlation="car1", correlation_time=0, random=["clearance"]
    ).fit(doses)
    assert patients.noise_.index.tolist() == ["cv", "correlation_time"]
