"""Laws of the hierarchical model: likelihoods, the search for the most probable constants, and the meta-gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import norm

from equations import assert_slopes_are_differences, avrami, decay, design, model_of, observations, population
from metaest.functional import (
    Equation,
    GaussNewton,
    GradientDescent,
    HierarchicalModel,
    Noise,
    Observations,
    PopulationParameters,
    SolveCode,
    Transforms,
    negative_log_evidence,
    query_loss,
)
from metaest.functional.equations import small_matrices
from metaest.functional.equations.gradient_descent import constant_losses

TIGHT = GaussNewton(max_iter=500, tol=1e-14)
NOISES = ["additive", "proportional", "combined", "combined1", "power"]
NAMES = ["line", "decay", "avrami", "cumulated"]


def solve(model, people, rows, solver=TIGHT):
    center = design(rows.y.shape[1], len(people.beta)).center(people.beta, len(people.factor))
    return solver.solve(model, center, people.factor, people.log_sigma, rows), center


@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_the_normal_density_and_its_derivatives(kind):
    noise = Noise(kind, 0.1)
    log_sigma = torch.tensor([-1.0, -0.7], dtype=torch.float64)[: noise.n_constants]
    f = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.1, -1.0, 2.5], dtype=torch.float64)
    terms = noise.terms(f, y, log_sigma)
    sd = noise.variance(f, log_sigma).sqrt().detach().numpy()
    np.testing.assert_allclose(terms.loss.detach(), -norm.logpdf(y, f.detach(), sd))
    (slope,) = torch.autograd.grad(terms.loss.sum(), f)
    torch.testing.assert_close(terms.slope.detach(), slope)
    # the expected second derivative, by Gauss-Hermite quadrature over what might be observed
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    for i in range(3):
        z = torch.tensor(nodes)
        at = f[i].detach().expand(40).clone().requires_grad_()
        (first,) = torch.autograd.grad(
            noise.terms(at, f[i].detach() + sd[i] * z, log_sigma).loss.sum(), at, create_graph=True
        )
        (second,) = torch.autograd.grad(first.sum(), at)
        expected = float(second @ torch.tensor(weights)) / weights.sum()
        assert float(terms.weight.detach().expand(3)[i]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("name", NAMES)
def test_information_is_gradient_and_fisher_matrix(name, kind):
    model, rows, people = model_of(name, kind), observations(), population(kind)
    phi = torch.randn(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.3
    phi.requires_grad_()
    information = model.information(phi, people.log_sigma, rows)
    loss = model.loss(phi, people.log_sigma, rows)
    torch.testing.assert_close(information.loss.detach(), loss.detach())
    (gradient,) = torch.autograd.grad(loss.sum(), phi)
    torch.testing.assert_close(information.gradient.detach(), gradient)
    values, slopes = model.curve_and_slopes(phi, rows)
    weight = rows.mask * model.noise.terms(values, rows.y, people.log_sigma).weight
    torch.testing.assert_close(information.matrix, torch.einsum("krt,jrt,rt->kjt", slopes, slopes, weight))


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("name", NAMES)
def test_the_most_probable_constants_are_scipys(name, kind):
    model, rows, people = model_of(name, kind), observations(), population(kind)
    result, center = solve(model, people, rows)
    assert (result.code == SolveCode.CONVERGED).all()
    for t in range(5):
        of_task = rows.take(torch.tensor([t]))

        def objective(u, of_task=of_task, t=t):
            phi = center[:, t : t + 1] + people.factor @ torch.tensor(u)[:, None]
            return float(model.loss(phi, people.log_sigma, of_task)) + 0.5 * u @ u

        starts = [np.zeros(2), result.u[:, t].numpy()]
        best = min((minimize(objective, start, tol=1e-12) for start in starts), key=lambda result: result.fun)
        assert float(result.loss[t]) <= best.fun + 1e-7
        np.testing.assert_allclose(result.u[:, t], best.x, atol=2e-4)


def test_an_undamped_step_solves_a_linear_equation():
    model, rows, people = model_of("line"), observations(), population()
    result, _ = solve(model, people, rows, GaussNewton(max_iter=2, tol=1e-14))
    best, _ = solve(model, people, rows)
    torch.testing.assert_close(result.u, best.u, rtol=1e-12, atol=1e-12)


def test_far_off_starts_end_in_the_same_place():
    model, people = model_of("avrami"), population(coefficients=2)
    rows = observations((5, 5, 4, 5, 5), seed=3)
    best, center = solve(model, people, rows)
    start = torch.tensor([[8.0, -9.0, 5.0, 7.0, -6.0], [-6.0, 5.0, 9.0, 3.0, 4.0]], dtype=torch.float64)
    far = TIGHT.solve(model, center, people.factor, people.log_sigma, rows, start)
    assert (far.loss <= best.loss + 1e-6).sum() >= 4  # a prior does not make every problem convex
    assert torch.isfinite(far.u).all()


def test_result_codes():
    broken = HierarchicalModel(
        Equation(lambda X, k, a: a * torch.log(X[:, 0] - k), ("k", "a"), "rows"),
        Transforms((-float("inf"),) * 2, (float("inf"),) * 2),
        Noise(),
    )
    rows = observations((3, 3))
    people = population(coefficients=2)
    center = torch.tensor([[-1.0, 50.0], [1.0, 1.0]], dtype=torch.float64)  # log of a negative number in the second
    result = TIGHT.solve(broken, center, people.factor, people.log_sigma, rows)
    assert result.code.tolist() == [SolveCode.CONVERGED, SolveCode.NOT_FINITE]
    short, _ = solve(model_of("decay"), population(), observations(), GaussNewton(max_iter=1))
    assert (short.code == SolveCode.MAX_ITER).any()


@pytest.mark.parametrize("random", [0, 1, 2])
@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("objective", ["evidence", "censored", "query"])
def test_meta_gradients_equal_finite_differences(objective, name, kind, random):
    model, support, query = model_of(name, kind), observations(), observations((2, 4, 1, 3, 2), seed=7)
    people = population(kind, random)
    if objective == "censored":
        model = replace(model, noise=replace(model.noise, limit=float(support.y.median())))

    def loss(*parts):
        here = PopulationParameters(*parts)
        with torch.no_grad():
            u = solve(model, here.detach(), support)[0].u
        matrices = design()
        if objective != "query":
            return negative_log_evidence(model, here, matrices, support, u).sum()
        return query_loss(model, here, matrices, support, query, u).mean()

    assert_slopes_are_differences(loss, people)


def test_the_evidence_of_a_linear_equation_is_exact():
    model, rows, people = model_of("line"), observations(), population()
    result, center = solve(model, people, rows)
    losses = negative_log_evidence(model, people, design(), rows, result.u)
    X = rows.by_task()
    for t in range(5):
        real = rows.mask[:, t] > 0
        A = torch.stack([torch.ones_like(X[t, :, 0]), X[t, :, 0]], dim=1)[real]
        cov = A @ people.factor @ people.factor.T @ A.T + (2 * people.log_sigma).exp() * torch.eye(len(A)).double()
        normal = torch.distributions.MultivariateNormal(A @ center[:, t], cov)
        assert float(losses[t].detach()) == pytest.approx(-float(normal.log_prob(rows.y[real, t])), abs=1e-9)


def test_laplace_is_close_to_the_integral():
    """With 30 rows a task the posterior is nearly normal: quadrature over both constants."""
    model, people = model_of("avrami"), population(coefficients=2)
    generator = torch.Generator().manual_seed(0)
    X = 0.1 + 2 * torch.rand(1, 30, 1, generator=generator, dtype=torch.float64)
    y = avrami(X[0], torch.tensor(0.9), torch.tensor(1.5)) + 0.05 * torch.randn(30, generator=generator).double()
    rows = Observations.stack(X, y[None], torch.ones(1, 30).double())
    people = people._replace(log_sigma=torch.tensor([-3.0]).double())
    result, center = solve(model, people, rows)
    approximate = float(negative_log_evidence(model, people, design(1, 2), rows, result.u).detach())
    grid = torch.linspace(-6, 6, 241, dtype=torch.float64)
    u = torch.cartesian_prod(grid, grid).T
    many = Observations.stack(
        X.expand(u.shape[1], -1, -1), y.expand(u.shape[1], -1), torch.ones(u.shape[1], 30).double()
    )
    loss = model.loss(center + people.factor @ u, people.log_sigma, many) + 0.5 * u.square().sum(dim=0)
    integral = -float(torch.logsumexp(-loss, dim=0)) - 2 * np.log(12 / 240) + np.log(2 * np.pi)
    assert approximate == pytest.approx(integral, abs=0.02)


@pytest.mark.parametrize("meta_gradient", ["exact", "first-order"])
def test_gradients_through_gradient_steps(meta_gradient):
    """Exact equals finite differences in start and rates; first-order its own definition."""
    model, support, query = model_of("decay"), observations(), observations((2, 4, 1, 3, 2), seed=7)
    center = design().center(population().beta, 2).requires_grad_()
    log_rate = torch.tensor([-1.5, -1.0], dtype=torch.float64, requires_grad=True)

    def loss(center, log_rate, meta_gradient="exact"):
        solver = GradientDescent(3, {"k": log_rate[0].exp(), "a": log_rate[1].exp()})
        return constant_losses(model, solver, 0.7, center, support, query, meta_gradient).mean()

    gradients = torch.autograd.grad(loss(center, log_rate, meta_gradient), [center, log_rate], materialize_grads=True)
    if meta_gradient == "exact":
        for leaf, gradient in zip((center, log_rate), gradients, strict=True):
            for j in range(leaf.numel()):
                ends = []
                for sign in (1, -1):
                    moved = [center.detach().clone(), log_rate.detach().clone()]
                    moved[0 if leaf is center else 1].view(-1)[j] += sign * 1e-6
                    ends.append(float(loss(*moved).detach()))
                assert float(gradient.reshape(-1)[j]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)
        return
    # adapt by hand, then the gradient of the query loss at the adapted constants
    phi = center.detach().clone().requires_grad_()
    for _ in range(3):
        residual = (model.curve(phi, support) - support.y).square() * support.mask / 0.7**2
        (step,) = torch.autograd.grad((residual.sum(dim=0) / support.mask.sum(dim=0)).sum(), phi)
        phi = (phi - log_rate.exp().detach()[:, None] * step).detach().requires_grad_()
    residual = (model.curve(phi, query) - query.y).square() * query.mask / 0.7**2
    (expected,) = torch.autograd.grad((residual.sum(dim=0) / query.mask.sum(dim=0)).mean(), phi)
    torch.testing.assert_close(gradients[0], expected)


def test_padding_and_order_do_not_matter():
    model, people = model_of("decay"), population()
    rows = observations()
    result, _ = solve(model, people, rows)
    losses = negative_log_evidence(model, people, design(), rows, result.u)
    order = torch.tensor([3, 0, 4, 2, 1])
    X, y, mask = rows.by_task(), rows.y.T, rows.mask.T
    wider = Observations.stack(
        torch.cat([X, X[:, :1]], dim=1)[order],
        torch.cat([y, y[:, :1]], dim=1)[order],
        torch.cat([mask, torch.zeros(5, 1).double()], dim=1)[order],
    )
    again = negative_log_evidence(model, people, design().take(order), wider, result.u[:, order])
    torch.testing.assert_close(again, losses[order])


def test_small_matrices_are_torchs():
    generator = torch.Generator().manual_seed(0)
    for m in (1, 2, 3, 5):
        root = torch.randn(7, m, m, generator=generator, dtype=torch.float64)
        full = root @ root.mT + torch.eye(m).double()
        last = full.permute(1, 2, 0).contiguous()
        factor = small_matrices.cholesky(last)
        right = torch.randn(m, 7, generator=generator, dtype=torch.float64)
        solution = torch.linalg.solve(full, right.T[..., None])[..., 0].T
        torch.testing.assert_close(small_matrices.solve(factor, right), solution)
        torch.testing.assert_close(small_matrices.inverse(factor, last), torch.linalg.inv(full).permute(1, 2, 0))
        torch.testing.assert_close(small_matrices.log_determinant(factor, last[0, 0]), torch.logdet(full))
        outer = torch.randn(4, m, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(small_matrices.sandwich(outer, last), (outer @ full @ outer.T).permute(1, 2, 0))


def test_an_equation_unbounded_in_its_constants_is_found_from_its_prior():
    """A step that leaves the equation's range is refused, not taken."""
    model = HierarchicalModel(Equation(decay, ("k", "a"), "rows"), Transforms((0.0, 0.0), (float("inf"),) * 2), Noise())
    rows = observations((4,))._replace(y=torch.full((4, 1), 1e6, dtype=torch.float64))
    people = population(coefficients=2)
    result, _ = solve(model, people, rows)
    assert torch.isfinite(result.u).all()
    assert torch.isfinite(result.loss).all()
