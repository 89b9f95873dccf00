"""Maximum likelihood of random coefficients: laws, dense matrices, finite differences, lme4 and statsmodels."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from metaest.estimators.gaussian.random_coefficients.likelihood import profiled
from metaest.estimators.gaussian.random_coefficients.maximum_likelihood import maximum_likelihood, searched
from metaest.estimators.gaussian.random_coefficients.statistics import TaskStatistics

FACTOR = np.array([[1.3, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.2, 0.1, 0.5]])
NONE = np.zeros(5, dtype=bool)
SHRUNK = np.array([False, False, False, True, True])


def rows(n_tasks=9, seed=0, q=3, noise=0.7, deviation=1.0):
    """Return Z, C, y and offsets of tasks of one to eight rows; two columns of C are one number a task."""
    rng = np.random.default_rng(seed)
    sizes = 1 + np.arange(n_tasks) * 7 % 8
    task = np.repeat(np.arange(n_tasks), sizes)
    Z = np.column_stack([np.ones(len(task)), rng.standard_normal((len(task), q - 1))])
    C = np.column_stack([Z, rng.standard_normal((n_tasks, 2))[task]])
    b = deviation * rng.standard_normal((n_tasks, q)) @ FACTOR[:q, :q].T
    y = C @ np.linspace(1, -1, q + 2) + (Z * b[task]).sum(axis=1) + noise * rng.standard_normal(len(task))
    return Z, C, y, np.concatenate([[0], np.cumsum(sizes)])


def dense(Z, C, y, offsets, relative, shrunk, tau, restricted):
    """Return minus twice the log-likelihood at its greatest over beta and the noise, by a matrix of all rows."""
    task = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    V = np.eye(len(y)) + np.where(task[:, None] == task, Z @ relative @ Z.T, 0.0)
    V = V + tau**2 * C[:, shrunk] @ C[:, shrunk].T
    free = C[:, ~shrunk]
    if restricted:  # that of contrasts, which have no mean; lme4's differs by the determinant of C'C
        contrasts = np.linalg.qr(free, mode="complete")[0][:, free.shape[1] :].T
        V, y = contrasts @ V @ contrasts.T, contrasts @ y
        r, shift = y, np.linalg.slogdet(free.T @ free)[1]
    else:
        r, shift = y - free @ np.linalg.solve(free.T @ np.linalg.solve(V, free), free.T @ np.linalg.solve(V, y)), 0.0
    noise = r @ np.linalg.solve(V, r) / len(y)
    return shift - 2 * multivariate_normal(np.zeros(len(y)), noise * V).logpdf(r), noise


@pytest.mark.parametrize("shrunk", [NONE, SHRUNK])
@pytest.mark.parametrize("factor", [FACTOR, FACTOR * [1, 1, 0], np.zeros((3, 3))])
@pytest.mark.parametrize("restricted", [False, True])
def test_the_likelihood_is_that_of_one_normal_distribution_of_all_rows(factor, shrunk, restricted):
    given = rows()
    profile = profiled(TaskStatistics.of(*given), factor, shrunk, 0.6, restricted=restricted)
    deviance, noise = dense(*given, factor @ factor.T, shrunk, 0.6, restricted)
    assert profile.deviance == pytest.approx(deviance, rel=1e-10)
    assert profile.noise == pytest.approx(noise, rel=1e-10)


@pytest.mark.parametrize("shrunk", [NONE, SHRUNK])
@pytest.mark.parametrize("restricted", [False, True])
def test_slopes_agree_with_finite_differences(shrunk, restricted):
    statistics = TaskStatistics.of(*rows())
    places = np.tril_indices(3)

    def deviance(values):
        factor = np.zeros((3, 3))
        factor[places] = values[:-1]
        return profiled(statistics, factor, shrunk, np.exp(values[-1]), restricted=restricted).deviance

    point = np.append(FACTOR[places], -0.3)
    profile = profiled(statistics, FACTOR, shrunk, np.exp(-0.3), restricted=restricted)
    slope = np.append((2 * profile.steepness @ FACTOR)[places], profile.tau_slope)
    np.testing.assert_allclose(slope, approx_fprime(point, deviance, 1e-7), rtol=1e-4, atol=1e-4)


def test_a_small_noise_beside_large_levels_keeps_its_digits():
    Z, C, y, offsets = rows(noise=0)
    task = np.repeat(np.arange(9), np.diff(offsets))
    small = 1e-6 * np.random.default_rng(1).standard_normal(len(y))
    profile = profiled(
        TaskStatistics.of(Z[:, :1], C[:, :1], 1e3 * task + small, offsets), np.eye(1) * 1e12, NONE[:1], 1
    )
    mean = (np.bincount(task, small) / np.diff(offsets))[task]
    assert profile.noise == pytest.approx(np.square(small - mean).sum() / len(y), rel=1e-3, abs=0)


@pytest.mark.parametrize(("q", "diagonal"), [(1, False), (3, False), (3, True)])
def test_the_estimate_is_where_expectation_maximisation_rests(q, diagonal):
    statistics = TaskStatistics.of(*rows(60, q=q))
    shrunk = np.zeros(q + 2, dtype=bool)
    estimate = maximum_likelihood(statistics, shrunk, diagonal=diagonal)
    assert estimate.converged
    relative = estimate.covariance / estimate.noise
    again = profiled(statistics, np.linalg.cholesky(relative), shrunk, 1.0).expected_relative()
    again = np.diag(np.diag(again)) if diagonal else again
    np.testing.assert_allclose(again, relative, rtol=1e-4, atol=1e-5)


def test_a_variance_that_is_not_there_vanishes():
    statistics = TaskStatistics.of(*rows(40, seed=3, deviation=0.0))
    estimate = maximum_likelihood(statistics, NONE, diagonal=True)
    assert np.diag(estimate.covariance).min() < 1e-8
    steepness = profiled(statistics, np.sqrt(estimate.covariance / estimate.noise), NONE, 1.0).steepness
    assert np.diag(steepness).min() > -1e-3  # no variance would raise the likelihood


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_search_leaves_a_variance_that_should_not_vanish(diagonal):
    statistics = TaskStatistics.of(*rows(40, seed=3))
    estimate = maximum_likelihood(statistics, NONE, diagonal=diagonal)
    begun, converged = searched(statistics, NONE, np.diag([1.0, 1e-14, 1.0]), 1.0, diagonal=diagonal)
    assert converged
    np.testing.assert_allclose(begun.noise * begun.relative, estimate.covariance, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("restricted", [False, True])
def test_collinear_fixed_columns_change_nothing(restricted):
    Z, C, y, offsets = rows(30)
    how = {"diagonal": False, "restricted": restricted}
    one = maximum_likelihood(TaskStatistics.of(Z, C, y, offsets), NONE, **how)
    twice = np.column_stack([C, C[:, 1]])
    two = maximum_likelihood(TaskStatistics.of(Z, twice, y, offsets), np.zeros(6, bool), **how)
    np.testing.assert_allclose(twice @ two.beta, C @ one.beta, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-4, atol=1e-5)


def test_shrunk_coefficients_lie_between_none_and_free_ones():
    Z, C, y, offsets = rows(30)
    task = np.repeat(np.arange(30), np.diff(offsets))
    noisy = np.column_stack([C[:, :3], np.random.default_rng(5).standard_normal((30, 20))[task]])
    statistics = TaskStatistics.of(Z, noisy, y, offsets)
    free = maximum_likelihood(statistics, np.zeros(23, bool), diagonal=False)
    held = maximum_likelihood(statistics, np.arange(23) > 2, diagonal=False)
    assert held.converged
    assert 0 <= np.linalg.norm(held.beta[3:]) < 0.7 * np.linalg.norm(free.beta[3:])
