"""Laws of residuals that correlate in time: densities, derivatives, limits, and rows between rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from equations import assert_slopes_are_differences, decay, design, observations, population
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
    query_loss,
)
from metaest.functional.equations.correlated import whitened_residuals

NOISES = ["additive", "proportional", "combined", "combined1", "power"]
TIMES = Correlation("car1", column=0, label="time", shortest=1e-3, longest=1e3)
ORDER = Correlation("ar1")


def model_with(correlation, kind="additive", function=decay, names=("k", "a")):
    noise = Noise(kind, 0.1, correlation=correlation)
    transforms = Transforms([0.0] * len(names), [float("inf")] * len(names))
    return HierarchicalModel(Equation(function, list(names), "rows"), transforms, noise)


def rows_of_tasks(*sizes, seed=0):
    """Return tasks at random times in no order, padded with their last rows."""
    rng, longest = np.random.default_rng(seed), max(sizes)
    X, y, mask = np.zeros((len(sizes), longest, 1)), np.zeros((len(sizes), longest)), np.zeros((len(sizes), longest))
    for t, n in enumerate(sizes):
        X[t, :n, 0], y[t, :n], mask[t, :n] = rng.uniform(0, 5, n), rng.normal(1, 0.5, n), 1
        X[t, n:], y[t, n:] = X[t, n - 1], y[t, n - 1]
    return Observations.stack(torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(mask))


def constants(kind, z):
    return torch.tensor([-1.0, *([-0.7] if kind in ("combined", "combined1", "power") else []), z], dtype=torch.float64)


def dense(model, phi, log_sigma, rows, task, weight=None):
    """Return mean, standard deviations and correlation matrix of the rows of a task, by their definitions."""
    n = int(rows.mask[:, task].sum())
    one = rows.take(torch.tensor([task]))
    f = model.curve(phi[:, task : task + 1], one)
    sd = model.noise.variance(f, log_sigma, model.noise.accuracy(one)).sqrt()[:n, 0]
    z = float(log_sigma[-1])
    if model.noise.correlation.kind == "car1":
        t = one.X.reshape(-1)[:n]
        R = torch.exp(-(t[:, None] - t).abs() / np.exp(z))
    else:
        R = float(np.tanh(z)) ** (torch.arange(n)[:, None] - torch.arange(n)).abs().double()
    return f[:n, 0], sd, R


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(("correlation", "z"), [(TIMES, -0.5), (TIMES, 2.0), (ORDER, 0.8), (ORDER, -0.6)])
def test_loss_is_that_of_the_multivariate_normal_distribution(kind, correlation, z):
    model, rows = model_with(correlation, kind), rows_of_tasks(7, 1, 4)
    phi = torch.tensor([[0.3, 0.1, -0.2], [-1.0, -0.5, 0.2]], dtype=torch.float64)
    log_sigma = constants(kind, z)
    rows = rows._replace(weight=torch.linspace(0.5, 2.0, 21, dtype=torch.float64).reshape(7, 3))
    losses = model.loss(phi, log_sigma, rows)
    for task, n in enumerate((7, 1, 4)):
        f, sd, R = dense(model, phi, log_sigma, rows, task)
        density = multivariate_normal(f, sd[:, None] * R * sd)
        assert float(losses[task]) == pytest.approx(-density.logpdf(rows.y[:n, task]), rel=1e-10)
    torch.testing.assert_close(model.information(phi, log_sigma, rows).loss, losses)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("correlation", [TIMES, ORDER])
def test_gradient_is_that_of_differences_and_the_second_derivative_is_its_covariance(kind, correlation):
    model, rows = model_with(correlation, kind), rows_of_tasks(6, 3)
    phi = torch.tensor([[0.3, 0.1], [-1.0, -0.5]], dtype=torch.float64)
    log_sigma = constants(kind, 0.4)
    info = model.information(phi, log_sigma, rows)
    for k in range(2):
        step = torch.zeros_like(phi)
        step[k] = 1e-6
        slope = (model.loss(phi + step, log_sigma, rows) - model.loss(phi - step, log_sigma, rows)) / 2e-6
        torch.testing.assert_close(info.gradient[k], slope, rtol=1e-6, atol=1e-7)
    # Fisher's information of a multivariate normal distribution, from dense matrices and differences of both moments
    for task, n in enumerate((6, 3)):

        def moments(k, h, task=task):
            moved = phi.clone()
            moved[k] += h
            f, sd, R = dense(model, moved, log_sigma, rows, task)
            return f.detach(), (sd[:, None] * R * sd).detach()

        _, V = moments(0, 0.0)
        means, covariances = zip(
            *([(a - b) / 2e-5 for a, b in zip(moments(k, 1e-5), moments(k, -1e-5), strict=True)] for k in range(2)),
            strict=True,
        )
        inverse = torch.linalg.inv(V)
        for k in range(2):
            for j in range(2):
                expected = means[k] @ inverse @ means[j]
                expected += 0.5 * torch.trace(inverse @ covariances[k] @ inverse @ covariances[j])
                assert float(info.matrix[k, j, task]) == pytest.approx(float(expected), rel=1e-7)
        assert len(means[0]) == n


@pytest.mark.parametrize("correlation", [TIMES, ORDER])
def test_the_constant_of_the_correlation_has_the_gradient_of_differences(correlation):
    model, rows = model_with(correlation, "combined"), rows_of_tasks(6, 3)
    phi = torch.tensor([[0.3, 0.1], [-1.0, -0.5]], dtype=torch.float64)

    def total(log_sigma):
        info = model.information(phi, log_sigma, rows, differentiable=True)
        return info.loss.sum() + info.matrix.sum()

    for z in (-2.0, 0.0, 1.5):
        assert torch.autograd.gradcheck(total, constants("combined", z).requires_grad_())


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(("correlation", "z"), [(TIMES, -12.0), (ORDER, 0.0)])
def test_without_correlation_rows_are_independent(kind, correlation, z):
    rows = rows_of_tasks(7, 4)
    phi = torch.tensor([[0.3, 0.1], [-1.0, -0.5]], dtype=torch.float64)
    log_sigma = constants(kind, z)
    ours = model_with(correlation, kind).information(phi, log_sigma, rows)
    plain = model_with(None, kind).information(phi, log_sigma[:-1], rows)
    for part, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)


def test_the_order_of_rows_does_not_matter_to_times():
    rows, phi = rows_of_tasks(8, 8), torch.tensor([[0.3, 0.1], [-1.0, -0.5]], dtype=torch.float64)
    model, log_sigma = model_with(TIMES, "combined"), constants("combined", 0.3)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    X = rows.by_task()[:, order]
    other = Observations.stack(X, rows.y.T[:, order], rows.mask.T[:, order])
    for part, expected in zip(
        model.information(phi, log_sigma, other), model.information(phi, log_sigma, rows), strict=True
    ):
        torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)


def test_whitened_residuals_are_independent():
    rng, n, tau = np.random.default_rng(0), 40, 0.7
    t = np.sort(rng.uniform(0, 20, n))
    R = np.exp(-np.abs(t[:, None] - t) / tau)
    drawn = rng.multivariate_normal(np.zeros(n), R, size=4000)
    X = torch.from_numpy(np.broadcast_to(t[None, :, None], (4000, n, 1)).copy())
    rows = Observations.stack(X, torch.from_numpy(drawn), torch.ones(4000, n).double())
    noise = Noise(correlation=replace(TIMES))
    log_sigma = torch.tensor([0.0, np.log(tau)], dtype=torch.float64)
    white = whitened_residuals(noise, torch.zeros(n, 4000).double(), log_sigma, rows).numpy()
    lag_one = (white[1:] * white[:-1]).sum() / (white**2).sum()
    assert abs(lag_one) < 4 / np.sqrt(white.size)
    assert abs((white**2).mean() - 1) < 4 * np.sqrt(2 / white.size)
    assert norm.sf(np.abs(white).max()) > 1e-8


def test_a_bridge_is_the_conditional_distribution_of_dense_matrices():
    rng = np.random.default_rng(3)
    seen, tau = rng.uniform(0, 5, 6), 0.8
    new = np.array([-1.0, 0.7, 2.3, 9.0, seen[2]])
    masked = torch.tensor([[1.0] * 6 + [0.0]]).double()
    padded = torch.from_numpy(np.append(seen, seen[-1]))[None, :, None]
    observations = Observations.stack(padded, torch.zeros(1, 7).double(), masked)
    asked = Observations.stack(
        torch.from_numpy(new)[None, :, None], torch.zeros(1, 5).double(), torch.ones(1, 5).double()
    )
    bridge = TIMES.bridge(observations, asked, torch.tensor(np.log(tau)))
    K = np.exp(-np.abs(seen[:, None] - seen) / tau)
    across = np.exp(-np.abs(new[:, None] - seen) / tau)
    r = rng.normal(size=6)
    values = torch.from_numpy(np.append(r, 0.0))[:, None]
    np.testing.assert_allclose(bridge.mean(values)[:, 0], across @ np.linalg.solve(K, r), atol=1e-12)
    variance = 1 - (across * np.linalg.solve(K, across.T).T).sum(axis=1)
    np.testing.assert_allclose(bridge.variance[:, 0], variance, atol=1e-12)


def test_a_bridge_has_a_gradient_where_there_is_no_row():
    none = Observations.stack(torch.zeros(1, 2, 1).double(), torch.zeros(1, 2).double(), torch.zeros(1, 2).double())
    asked = Observations.stack(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    z = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    bridge = TIMES.bridge(none, asked, z)
    assert float(bridge.variance.detach()) == 1
    (slope,) = torch.autograd.grad(bridge.variance.sum() + bridge.weight_before.sum(), z)
    assert float(slope) == 0


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(("objective", "correlation"), [("evidence", TIMES), ("evidence", ORDER), ("query", TIMES)])
def test_gradients_in_the_population_are_those_of_differences(objective, correlation, kind):
    model, support, query = model_with(correlation, kind), observations(), observations((2, 4, 1, 3, 2), seed=7)
    people = population(kind)
    people = people._replace(log_sigma=torch.cat([people.log_sigma, torch.tensor([-0.4], dtype=torch.float64)]))
    solver = GaussNewton(max_iter=500, tol=1e-14)

    def loss(*parts):
        here = PopulationParameters(*parts)
        center = design().center(here.beta.detach(), 2)
        u = solver.solve(model, center, here.factor.detach(), here.log_sigma.detach(), support).u
        if objective == "query":
            return query_loss(model, here, design(), support, query, u).mean()
        return negative_log_evidence(model, here, design(), support, u).sum()

    assert_slopes_are_differences(loss, people)


def test_query_rows_are_predicted_as_dense_matrices_say():
    """A line with additive noise: all is normal, and the density is exact."""
    model = HierarchicalModel(
        Equation(lambda X, a, b: a + b * X[:, 0], ["a", "b"], "rows"),
        Transforms([-np.inf] * 2, [np.inf] * 2),
        Noise(correlation=TIMES),
    )
    support, query = rows_of_tasks(5, 3), rows_of_tasks(1, 1, seed=9)
    beta, spread, log_sigma = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 0.2], [0.5, 0.3], [-0.7, 0.1]))
    people = PopulationParameters(beta, torch.diag(spread), log_sigma)
    matrices = design(2, 2)
    center = matrices.center(people.beta, 2)
    u = GaussNewton().solve(model, center, people.factor, people.log_sigma, support).u
    densities = query_loss(model, people, matrices, support, query, u)
    sd, tau = people.log_sigma.exp().tolist()
    for task, n in enumerate((5, 3)):
        t = np.append(support.X.reshape(5, 2)[:n, task], query.X.reshape(1, 2)[0, task])
        D = np.column_stack([np.ones(n + 1), t])
        prior = people.factor.numpy() @ people.factor.numpy().T
        V = D @ prior @ D.T + sd**2 * np.exp(-np.abs(t[:, None] - t) / tau)
        gain = V[-1, :n] @ np.linalg.inv(V[:n, :n])
        mean = D[-1] @ [1.0, 0.2] + gain @ (support.y[:n, task].numpy() - D[:n] @ [1.0, 0.2])
        expected = -norm.logpdf(float(query.y[0, task]), mean, np.sqrt(V[-1, -1] - gain @ V[:n, -1]))
        assert float(densities[task]) == pytest.approx(expected, rel=1e-9)
