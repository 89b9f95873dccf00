"""The restricted posterior of linearised tasks against dense matrices, and Student's distribution where it is known."""

import numpy as np
import pytest
import torch

from metaest.functional.equations.restricted import LinearisedTasks, Shape

RNG = np.random.default_rng(0)
N_TASKS, N_ROWS, SIGMA = 6, 5, 0.4
X = [np.column_stack([np.ones(N_ROWS), RNG.uniform(-1, 1, N_ROWS), RNG.uniform(-1, 1, N_ROWS)]) for _ in range(N_TASKS)]
Y = [x @ RNG.normal([1.0, 2.0, 0.5], [1.0, 0.6, 0.0]) + SIGMA * RNG.standard_normal(N_ROWS) for x in X]


def tasks_of():
    """Return lines in three constants, linearised somewhere."""
    phi = torch.tensor(RNG.normal([1.0, 2.0, 0.5], 0.3, (N_TASKS, 3)))
    gradient, precision, q = [], [], 0.0
    for t in range(N_TASKS):
        residual = Y[t] - X[t] @ phi[t].numpy()
        gradient.append(-X[t].T @ residual / SIGMA**2)
        precision.append(X[t].T @ X[t] / SIGMA**2)
        q += residual @ residual / SIGMA**2
    entering = torch.eye(3, dtype=torch.float64).expand(N_TASKS, 3, 3)
    rows = N_TASKS * N_ROWS
    return LinearisedTasks(phi, torch.tensor(np.array(gradient)), torch.tensor(np.array(precision)), entering, rows, q)


def shape_of(*, diagonal):
    return Shape((0, 1), 3, diagonal, torch.tensor([1.0, 0.7], dtype=torch.float64))


def points(shape, n=4):
    generator = torch.Generator().manual_seed(1)
    return 0.4 * torch.randn(n, shape.n_coordinates, generator=generator, dtype=torch.float64) - 0.3


def dense(shape, theta):
    """Return the covariance of the rows of each task."""
    factor = shape.whole_factor(theta[None])[0].numpy()
    noise = (SIGMA * np.exp(float(theta[-1]))) ** 2
    return [x @ factor @ factor.T @ x.T + noise * np.eye(N_ROWS) for x in X]


def log_likelihood(shape, theta, *, restricted):
    """Return the plain or restricted log-likelihood of generalised least squares, up to a constant."""
    V = dense(shape, theta)
    normal = sum(x.T @ np.linalg.solve(v, x) for x, v in zip(X, V, strict=True))
    beta = np.linalg.solve(normal, sum(x.T @ np.linalg.solve(v, y) for x, v, y in zip(X, V, Y, strict=True)))
    value = 0.0
    for x, v, y in zip(X, V, Y, strict=True):
        residual = y - x @ beta
        value -= 0.5 * (np.linalg.slogdet(v)[1] + residual @ np.linalg.solve(v, residual))
    return value - restricted * 0.5 * np.linalg.slogdet(normal)[1], beta, normal


def information(shape, theta):
    """Return tr(V^-1 dV V^-1 dV) / 2 of all coordinates, from differences of V."""
    step, changes = 1e-5, []
    for one in step * torch.eye(len(theta), dtype=torch.float64):
        high, low = dense(shape, theta + one), dense(shape, theta - one)
        changes.append([(a - b) / (2 * step) for a, b in zip(high, low, strict=True)])
    solved = [[np.linalg.solve(v, d) for v, d in zip(dense(shape, theta), change, strict=True)] for change in changes]
    return np.array([[0.5 * sum(np.trace(a @ b) for a, b in zip(s, t, strict=True)) for s in solved] for t in solved])


@pytest.mark.parametrize("diagonal", [True, False])
def test_the_likelihood_is_that_of_dense_matrices(diagonal):
    tasks, shape = tasks_of(), shape_of(diagonal=diagonal)
    theta = points(shape)
    plain = tasks.at(shape, theta, restricted=False)
    expected = [log_likelihood(shape, point, restricted=False) for point in theta]
    values = np.array([value for value, _, _ in expected])
    difference = plain.log_posterior.numpy() - values
    np.testing.assert_allclose(difference, difference[0], atol=1e-9)
    for i, (_, beta, normal) in enumerate(expected):
        np.testing.assert_allclose(plain.beta[i], beta, rtol=1e-9)
        np.testing.assert_allclose(plain.normal[i], normal, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("diagonal", [True, False])
def test_the_posterior_is_the_restricted_likelihood_times_the_prior_of_jeffreys(diagonal):
    tasks, shape = tasks_of(), shape_of(diagonal=diagonal)
    theta = points(shape)
    expected = [
        log_likelihood(shape, point, restricted=True)[0]
        + 0.5 * np.linalg.slogdet(information(shape, point)[:-1, :-1])[1]
        for point in theta
    ]
    difference = tasks.at(shape, theta).log_posterior.numpy() - expected
    np.testing.assert_allclose(difference, difference[0], atol=1e-6)


@pytest.mark.parametrize("diagonal", [True, False])
def test_the_expected_information_is_that_of_dense_matrices(diagonal):
    tasks, shape = tasks_of(), shape_of(diagonal=diagonal)
    theta = points(shape)[0]
    np.testing.assert_allclose(tasks.information(shape, theta), information(shape, theta), rtol=1e-6, atol=1e-6)


def test_coordinates_give_the_covariance_back():
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
    shape = shape_of(diagonal=False)
    factor = shape.whole_factor(shape.coordinates(covariance)[None])[0]
    np.testing.assert_allclose((factor @ factor.T)[:2, :2], covariance, rtol=1e-12)
    assert not factor[2].any()


def test_the_posterior_is_proper_where_the_likelihood_is_flat():
    """Towards zero standard deviations the likelihood tends to a constant; the density of their logarithm falls."""
    tasks, shape = tasks_of(), shape_of(diagonal=True)
    theta = torch.zeros(3, 3, dtype=torch.float64)
    theta[:, 0] = torch.tensor([-8.0, -9.0, -10.0])
    slopes = tasks.at(shape, theta).log_posterior.diff()
    np.testing.assert_allclose(slopes, -2.0, atol=1e-3)
