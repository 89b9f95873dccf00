"""Several outputs: a noise and an equation for each."""

import numpy as np
import pytest
import torch

from metaest.functional import Noise, Observations
from metaest.functional.equations.censoring import Column
from metaest.functional.equations.outputs import OutputEquations, OutputNoise

OUTPUT = torch.tensor([1.0, 2, 1, 2, 2, 1]).double()
F = torch.tensor([0.5, 0.2, 2, 3, 50, 1]).double()
Y = torch.tensor([0.7, 0.3, 2.2, 2.9, 44, 0.1]).double()
PAIRS = [("additive", "proportional"), ("combined", "power"), ("combined1", "additive"), ("lognormal", "lognormal")]


def noise_of(kinds, **settings):
    kind = "lognormal" if kinds[0] == "lognormal" else "additive"
    parts = tuple(Noise(each, 0.01) for each in kinds)
    outputs = {"codes": (1.0, 2.0), "labels": (1, 2), "by": Column(0), "spreads": (1.0, 20.0)}
    return OutputNoise(kind, parts=parts, **outputs, **settings)


def rows(*columns):
    X = torch.stack([OUTPUT, *columns], dim=1)
    return Observations.stack(X[None], Y[None], torch.ones(1, 6).double(), 1 + OUTPUT[None])


def sigma_of(noise):
    return torch.from_numpy(np.random.default_rng(0).normal(-0.5, 0.3, noise.n_constants))


@pytest.mark.parametrize("kinds", PAIRS)
def test_each_row_has_the_noise_of_its_output(kinds):
    noise, given = noise_of(kinds), rows()
    log_sigma, accuracy = sigma_of(noise), noise.accuracy(given)
    together = noise.terms(F[:, None], given.y, log_sigma, accuracy)
    scale = noise.log_scale(F[:, None], given.y, log_sigma, accuracy)
    for code, (label, part, of_output) in zip((1.0, 2.0), noise.each(log_sigma), strict=True):
        chosen = code == OUTPUT
        assert label == code
        alone = part.terms(F[chosen], Y[chosen], of_output, accuracy._replace(output=None, weight=1 + OUTPUT[chosen]))
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one[chosen, 0], other, rtol=1e-12)
        weight = accuracy._replace(output=None, weight=1 + OUTPUT[chosen])
        np.testing.assert_allclose(
            scale[chosen, 0], part.log_scale(F[chosen], Y[chosen], of_output, weight), rtol=1e-12
        )


@pytest.mark.parametrize("kinds", PAIRS)
def test_limits_and_errors_of_measurement_by_row(kinds):
    limit, sd = torch.tensor([1.0, 0.1, 9, 9, 9, 0.01]).double(), torch.full((6,), 0.3).double()
    measured = kinds[0] != "lognormal"
    noise, given = noise_of(kinds, limit=Column(1), column=2 if measured else None), rows(limit, sd)
    log_sigma = sigma_of(noise)
    together = noise.terms(F[:, None], given.y, log_sigma, noise.accuracy(given))
    for i in range(6):
        _, part, of_output = list(noise.each(log_sigma))[int(OUTPUT[i]) - 1]
        one = Noise(part.kind, 0.01, limit=float(limit[i]), column=1 if measured else None)
        X = torch.stack([OUTPUT[i : i + 1], sd[i : i + 1]], dim=1)
        alone = Observations.stack(X[None], Y[None, i : i + 1], torch.ones(1, 1).double(), 1 + OUTPUT[None, i : i + 1])
        terms = one.terms(F[i : i + 1, None], alone.y, of_output, one.accuracy(alone))
        for a, b in zip(together, terms, strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-12)


@pytest.mark.parametrize("kinds", PAIRS)
def test_gradients_are_finite_and_those_of_differences(kinds):
    noise, given, step = noise_of(kinds), rows(), 1e-6
    log_sigma = sigma_of(noise).requires_grad_()
    accuracy = noise.accuracy(given)

    def total(sigma):
        return noise.terms(F[:, None], given.y, sigma, accuracy).loss.sum()

    (gradient,) = torch.autograd.grad(total(log_sigma), log_sigma)
    for k in range(noise.n_constants):
        moved = torch.zeros(noise.n_constants).double()
        moved[k] = step
        difference = (total(log_sigma.detach() + moved) - total(log_sigma.detach() - moved)) / (2 * step)
        assert float(gradient[k]) == pytest.approx(float(difference), rel=1e-6, abs=1e-6)


def test_factors_of_each_output_and_places_of_scales():
    noise = noise_of(("combined", "power"))
    log_sigma = sigma_of(noise)
    np.testing.assert_allclose(noise.scaled(log_sigma, 0.5) - log_sigma, [0.5, 0.5, 0.5, 0])
    np.testing.assert_allclose(noise.scaled(log_sigma, torch.tensor([1.0, 2.0])) - log_sigma, [1, 1, 2, 0])
    assert noise.scale_places == [0, 1, 2]
    assert len(noise.largest) == noise.n_constants == 4


def test_an_output_of_no_noise_has_no_density():
    noise = noise_of(("additive", "additive"))
    given = rows()
    other = given._replace(X=torch.where(given.X == 2, 3.0, given.X))
    loss = noise.terms(F[:, None], given.y, torch.zeros(2).double(), noise.accuracy(other)).loss[:, 0]
    assert torch.isnan(loss).tolist() == (OUTPUT == 2).tolist()


def test_equations_share_constants_and_each_takes_its_own():
    def concentration(X, k, a):
        return a * torch.exp(-k * X[:, 1])

    def effect(X, a, *, base):
        return (base - a * X[:, 1])[:, None]

    both = OutputEquations((concentration, effect), (1.0, 2.0), 0)
    X = torch.stack([OUTPUT, F], dim=1)
    constants = dict(zip(("k", "a", "base"), torch.tensor([0.3, 2, 9], dtype=torch.float64), strict=True))
    expected = torch.where(OUTPUT == 1, 2 * torch.exp(-0.3 * F), 9 - 2 * F)
    np.testing.assert_allclose(both(X, **constants), expected, rtol=1e-15)
    assert both.__name__ == "concentration, effect"
    assert list(both.__signature__.parameters) == ["X", "k", "a", "base"]
