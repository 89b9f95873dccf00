"""Weights and known errors of rows in the functional core: densities, gradients, machine code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from equations import assert_slopes_are_differences, design, model_of, observations, population
from metaest.functional import GaussNewton, Noise, PopulationParameters, negative_log_evidence, query_loss
from metaest.functional.equations.noise import Accuracy
from metaest.jit import CompiledHierarchicalModel

NOISES = ["additive", "proportional", "combined", "power"]
CONSTANTS = {"additive": [-1.0], "proportional": [-1.0], "combined": [-1.0, -1.5], "power": [-1.0, 0.75]}
TIGHT = GaussNewton(max_iter=500, tol=1e-14)


def weighed(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = 0.2 + 3 * torch.rand(rows.y.shape, generator=generator, dtype=torch.float64)
    return rows._replace(weight=torch.where(rows.mask > 0, weight, weight[:1]))


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("kind", NOISES)
def test_densities_are_normal_with_the_variance_of_the_row(kind, limit):
    noise = Noise(kind, 0.01, limit=limit)
    log_sigma = torch.tensor(CONSTANTS[kind]).double()
    f = torch.linspace(-1, 3, 9).double().requires_grad_()
    y = torch.tensor([0.0, 0.4, 0.1, 0.0, 0.3, 0.2, 0.6, 2.0, 0.49]).double()
    w, s = torch.linspace(0.1, 4, 9).double(), torch.linspace(1, 0, 9).double()
    terms = noise.terms(f, y, log_sigma, Accuracy(w, s.square()))
    at, sigma, rho = f.detach().numpy(), np.exp(-1.0), np.exp(-1.5)
    v = {
        "additive": sigma**2 + 0 * at,
        "proportional": sigma**2 * (at**2 + 1e-4),
        "combined": sigma**2 + rho**2 * at**2,
        "power": sigma**2 * ((at**2 + 1e-4) / 100) ** 0.75,
    }
    sd = np.sqrt(v[kind] / w.numpy() + s.numpy() ** 2)
    expected = -norm.logpdf(y, at, sd)
    expected = expected if limit is None else np.where(y < limit, -norm.logcdf(limit, at, sd), expected)
    np.testing.assert_allclose(terms.loss.detach(), expected, rtol=1e-12)
    (slope,) = torch.autograd.grad(terms.loss.sum(), f)
    np.testing.assert_allclose(terms.slope.detach(), slope, rtol=1e-9, atol=1e-12)
    # the expected second derivative, by a sum over the observations that may be
    if limit is None:
        z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
        drawn = torch.from_numpy(at) + torch.from_numpy(sd) * z
        many = noise.terms(f.detach().expand_as(drawn), drawn, log_sigma, Accuracy(w, s.square())).slope
        density = torch.exp(-0.5 * z**2)
        np.testing.assert_allclose(terms.weight.detach(), (density * many**2).sum(0) / density.sum(), rtol=1e-8)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("accuracy", ["weights", "errors", "both"])
@pytest.mark.parametrize("objective", ["evidence", "censored", "query"])
def test_meta_gradients_equal_finite_differences(objective, accuracy, kind):
    model, support, query = model_of("decay", kind), observations(), observations((2, 4, 1, 3, 2), seed=7)
    if accuracy != "errors":
        support, query = weighed(support), weighed(query, 1)
    limit = float(support.y.median()) if objective == "censored" else None
    model = replace(model, noise=replace(model.noise, limit=limit, column=None if accuracy == "weights" else 0))
    people, covariates = population(kind), design()

    def loss(*parts):
        here = PopulationParameters(*parts)
        center = covariates.center(here.beta, 2).detach()
        with torch.no_grad():
            u = TIGHT.solve(model, center, here.factor, here.log_sigma, support).u
        if objective == "query":
            return query_loss(model, here, covariates, support, query, u).mean()
        return negative_log_evidence(model, here, covariates, support, u).sum()

    assert_slopes_are_differences(loss, people)


def test_taking_and_thinning_keep_weights_with_their_rows():
    rows = weighed(observations((3, 1, 5, 2, 4)))
    rows = rows._replace(y=rows.weight)  # each y tells its weight
    for other in (rows.take(torch.tensor([4, 0, 4])), rows.thin(2), rows.to(torch.float32)):
        torch.testing.assert_close(other.weight, other.y)
    assert rows.thin(2).y.shape == (2, 5)


EVEN, RAGGED = (5,) * 9, (3, 1, 6, 2, 4, 5, 5, 2, 3)


@pytest.mark.parametrize(
    ("accuracy", "sizes", "kind"),
    [
        ("weights", EVEN, "additive"),
        ("weights", RAGGED, "additive"),
        ("errors", EVEN, "proportional"),
        ("both", RAGGED, "combined"),
    ],
)
def test_machine_code_weighs_as_torch_does(accuracy, sizes, kind):
    pytest.importorskip("llvmlite")
    plain, rows, people = model_of("decay", kind), observations(sizes), population(kind)
    rows = rows if accuracy == "errors" else weighed(rows)
    plain = replace(plain, noise=replace(plain.noise, column=None if accuracy == "weights" else 0))
    center = people.beta[:2, None].expand(-1, len(sizes)).contiguous()
    given = center, people.factor, people.log_sigma, rows
    lanes, solver = CompiledHierarchicalModel.of(plain), GaussNewton()
    compiled, expected = solver.solve(lanes, *given), solver.solve(plain, *given)
    assert lanes.programs
    assert all(program is not None for program in lanes.programs.values())
    np.testing.assert_allclose(compiled.u, expected.u, atol=1e-8)
    np.testing.assert_allclose(compiled.loss, expected.loss, rtol=1e-8)
    # the same lanes, and rows without weights: another program
    bare = (*given[:3], rows._replace(weight=None))
    np.testing.assert_allclose(solver.solve(lanes, *bare).u, solver.solve(plain, *bare).u, atol=1e-8)
