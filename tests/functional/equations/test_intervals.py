"""Observations known by an interval: below a limit, above one, or between two numbers, each by row."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm

from metaest.functional import Noise, Observations
from metaest.functional.equations.censoring import Column

KINDS = ["additive", "proportional", "combined", "combined1", "power", "lognormal"]
F = torch.linspace(0.2, 3, 8).double()


def constants(kind):
    values = [-1.0, -1.5] if kind.startswith("combined") else [-1.0, 0.7] if kind == "power" else [-1.0]
    return torch.tensor(values, dtype=torch.float64)


def loss(noise, f, y, kind):
    """Of one observation y around curves f."""
    return noise.terms(f, torch.full_like(f, y), constants(kind)).loss


@pytest.mark.parametrize("kind", KINDS)
def test_probability_of_an_interval_is_the_integral_of_the_density(kind):
    noise, plain = Noise(kind, 0.01, limit=1.4, limit_from=0.6), Noise(kind, 0.01)
    for f, value in zip(F, loss(noise, F, 0.0, kind), strict=True):
        density = lambda y, f=f: math.exp(-float(loss(plain, f[None], y, kind)[0]))  # noqa: E731
        assert math.exp(-float(value)) == pytest.approx(integrate.quad(density, 0.6, 1.4, epsabs=1e-13)[0], rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_two_intervals_side_by_side_are_the_whole_and_both_ends_with_the_middle_are_certain(kind):
    whole = loss(Noise(kind, 0.01, limit=1.4, limit_from=0.6), F, 0.0, kind)
    parts = [loss(Noise(kind, 0.01, limit=b, limit_from=a), F, 0.0, kind) for a, b in ((0.6, 0.9), (0.9, 1.4))]
    np.testing.assert_allclose(sum((-part).exp() for part in parts), (-whole).exp(), rtol=1e-12)
    below, above = (loss(Noise(kind, 0.01, limit=0.6, upper_limit=1.4), F, y, kind) for y in (0.1, 9.0))
    total = (-below).exp() + (-above).exp() + (-whole).exp()
    np.testing.assert_allclose(total, torch.ones_like(F), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1e-3, 1e-6, 1e-9])
def test_a_tiny_interval_is_the_density_times_its_width(kind, width):
    low, high = 1.0 - width / 2, 1.0 + width / 2
    noise = Noise(kind, 0.01, limit=high, limit_from=low)
    f = torch.linspace(0.7, 1.4, 8).double()
    terms = noise.terms(f, torch.zeros_like(f), constants(kind))
    seen = Noise(kind, 0.01).terms(f, torch.ones_like(f), constants(kind))
    close = 1e-12 + 30 * width**2 + 3e-16 / width
    np.testing.assert_allclose(terms.loss + math.log(high - low), seen.loss, rtol=close, atol=close)
    np.testing.assert_allclose(terms.slope, seen.slope, rtol=100 * close, atol=100 * close)
    assert bool((terms.weight >= 0).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", [(0.6, 1.4), (1.0 - 1e-7, 1.0 + 1e-7), (0.0, 0.8)])
@pytest.mark.parametrize("y", [-1.0, 9.0])
def test_slopes_and_gradients_are_those_of_finite_differences(kind, ends, y):
    noise = Noise(kind, 0.01, limit=ends[1], limit_from=ends[0], upper_limit=2.0)
    sigma = constants(kind)

    def of_curve(f):
        return noise.terms(f, torch.full_like(f, y), sigma)

    step = 1e-5
    differences = (of_curve(F + step).loss - of_curve(F - step).loss) / (2 * step)
    np.testing.assert_allclose(of_curve(F).slope, differences, rtol=2e-6, atol=1e-7)
    f, log_sigma = F.clone().requires_grad_(), sigma.clone().requires_grad_()
    terms = noise.terms(f, torch.full_like(f, y), log_sigma)
    by_curve, by_sigma = torch.autograd.grad(terms.loss.sum(), [f, log_sigma], retain_graph=True)
    np.testing.assert_allclose(by_curve, terms.slope.detach(), rtol=1e-8, atol=1e-10)
    for k in range(len(sigma)):
        moved = torch.zeros_like(sigma)
        moved[k] = step
        ends_of = [noise.terms(F, torch.full_like(F, y), sigma + s * moved).loss.sum() for s in (1, -1)]
        assert float(by_sigma[k]) == pytest.approx(float(ends_of[0] - ends_of[1]) / (2 * step), rel=1e-6, abs=1e-7)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(terms.weight.sum() + terms.slope.sum(), f))


def test_curvature_of_additive_noise_is_the_second_derivative():
    noise, step = Noise(limit=1.4, limit_from=0.6, upper_limit=2.0), 1e-5
    for y in (0.0, 9.0):
        slopes = [noise.terms(F + s * step, torch.full_like(F, y), constants("additive")).slope for s in (1, -1)]
        weight = noise.terms(F, torch.full_like(F, y), constants("additive")).weight
        np.testing.assert_allclose(weight, (slopes[0] - slopes[1]) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("away", [10.0, 40.0, 1e3])
def test_nothing_cancels_far_away(away):
    noise, sigma = Noise(limit=1.0, limit_from=0.0), torch.zeros(1).double()
    for side in (1.0, -1.0):
        f = torch.tensor([0.5 + side * away]).double()
        terms = noise.terms(f, torch.tensor([-9.0]).double(), sigma)
        z = away - 0.5  # the nearer end
        inside = norm.logcdf(-z) + math.log(-math.expm1(norm.logcdf(-z - 1) - norm.logcdf(-z)))
        assert float(terms.loss) == pytest.approx(-inside, rel=1e-12)
        assert float(terms.slope) == pytest.approx(side * (z + 1 / z), rel=1e-2)
        assert 0 <= float(terms.weight) < 1.01


def test_limits_far_away_change_nothing():
    y = torch.linspace(0.1, 3, 8).double()
    for kind in KINDS:
        low = 1e-300 if kind == "lognormal" else -1e300
        plain = Noise(kind, 0.01).terms(F, y, constants(kind))
        for part, same in zip(Noise(kind, 0.01, limit=low, upper_limit=1e300).terms(F, y, constants(kind)), plain,
                              strict=True):  # fmt: skip
            np.testing.assert_allclose(part, same.expand_as(F), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_that_begins_nowhere_lies_below_its_limit_with_its_gradients(kind):
    f, log_sigma = F.clone().requires_grad_(), constants(kind).requires_grad_()
    results = []
    for start in (None, -1e30):
        terms = Noise(kind, 0.01, limit=1.4, limit_from=start).terms(f, torch.zeros_like(F), log_sigma)
        gradients = [torch.autograd.grad(part.sum(), [f, log_sigma], retain_graph=True) for part in terms]
        results.append([*terms, *(each for pair in gradients for each in pair)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_limits_of_rows_are_those_of_each_row_alone(kind):
    rng = np.random.default_rng(0)
    limit, start = rng.uniform(0.5, 1.5, 8), rng.uniform(0.01, 0.4, 8)
    y = np.where(rng.random(8) < 0.5, 0.0, 2.0)
    X = torch.from_numpy(np.column_stack([limit, start, limit + 0.3]))
    rows = Observations.stack(X[None], torch.from_numpy(y)[None], torch.ones(1, 8).double())
    noise = Noise(kind, 0.01, limit=Column(0), limit_from=Column(1), upper_limit=Column(2))
    together = noise.terms(F[:, None], rows.y, constants(kind), noise.accuracy(rows))
    accuracy = noise.accuracy(rows)
    nearest = noise.nearest(F[:, None], rows.y, accuracy)
    for i in range(8):
        one = Noise(kind, 0.01, limit=limit[i], limit_from=start[i], upper_limit=limit[i] + 0.3)
        alone = one.terms(F[i : i + 1], torch.tensor([y[i]]), constants(kind))
        for part, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(part[i], other, rtol=1e-12)
        assert float(nearest[i]) == float(one.nearest(F[i : i + 1], torch.tensor([y[i]])))
        scale = [float(n.log_scale(F[i : i + 1, None], torch.tensor([[y[i]]]), constants(kind))) for n in [one]]
        assert float(noise.log_scale(F[:, None], rows.y, constants(kind), accuracy)[i]) == pytest.approx(scale[0])


def test_no_observation_in_an_interval_is_likelier_than_the_scale_of_its_loss():
    for kind in KINDS:
        noise = Noise(kind, 0.01, limit=1.05, limit_from=0.95)
        y = torch.zeros_like(F)
        assert bool((noise.terms(F, y, constants(kind)).loss >= noise.log_scale(F, y, constants(kind)) - 1e-12).all())
