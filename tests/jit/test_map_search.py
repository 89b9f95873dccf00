"""Searches in lanes end where torch's end, for every noise, any padding and any number of tasks."""

import logging

import numpy as np
import pytest
import torch

from agreement import assert_agree
from equations import avrami
from metaest.functional import (
    Equation,
    GaussNewton,
    HierarchicalModel,
    Noise,
    Observations,
    PopulationParameters,
    SolveCode,
    Transforms,
)
from metaest.jit import CompiledHierarchicalModel, UnsupportedError

pytest.importorskip("llvmlite")
DOUBLE = torch.float64
POPULATION = PopulationParameters(
    torch.tensor([0.1, 0.7], dtype=DOUBLE),
    torch.tensor([[0.4, 0.0], [0.1, 0.3]], dtype=DOUBLE),
    torch.tensor([-3.0, -2.5], dtype=DOUBLE),
)


def model_of(kind="additive", function=avrami):
    noise = Noise(kind, 1e-3)
    transforms = Transforms((0.0, 0.0), (np.inf, np.inf))
    return HierarchicalModel(Equation(function, ["k", "n"], "rows"), transforms, noise)


def curves(n_tasks, n_rows, *, ragged, sd=0.05, relative=False, seed=0):
    """Rows that the population could have made, some tasks with fewer of them."""
    rng = np.random.default_rng(seed)
    phi = POPULATION.beta.numpy() + rng.standard_normal((n_tasks, 2)) @ POPULATION.factor.numpy().T
    t = rng.uniform(0.0, 2.0, (n_tasks, n_rows))
    t[:, 0] = 0.0  # where the slope of a power is nothing
    y = 1 - np.exp(-((np.exp(phi[:, :1]) * t) ** np.exp(phi[:, 1:])))
    y += sd * rng.standard_normal(t.shape) * (y if relative else 1.0)
    mask = np.arange(n_rows) < rng.integers(1, n_rows + 1, n_tasks)[:, None] if ragged else np.ones(t.shape)
    t = np.where(mask > 0, t, t[:, :1])
    rows = (t[..., None], y, mask.astype(float))
    return Observations.stack(*map(torch.from_numpy, rows))


def arguments(model, observations):
    tasks = observations.y.shape[1]
    log_sigma = POPULATION.log_sigma[: model.noise.n_constants]
    return POPULATION.beta[:, None].expand(-1, tasks).contiguous(), POPULATION.factor, log_sigma, observations


@pytest.mark.parametrize("kind", ["additive", "proportional", "combined"])
@pytest.mark.parametrize(("n_rows", "ragged"), [(5, False), (7, False), (6, True), (11, True), (70, False)])
@pytest.mark.parametrize("n_tasks", [1, 8, 37])
def test_searches_end_where_those_of_torch_end(kind, n_rows, ragged, n_tasks):
    plain = model_of(kind)
    given = arguments(plain, curves(n_tasks, n_rows, ragged=ragged, relative=kind == "proportional"))
    solver, lanes = GaussNewton(), CompiledHierarchicalModel.of(plain)
    compiled, expected = solver.solve(lanes, *given), solver.solve(plain, *given)
    assert lanes.programs
    np.testing.assert_array_equal(compiled.code, expected.code)
    np.testing.assert_allclose(compiled.u, expected.u, atol=1e-8)
    np.testing.assert_allclose(compiled.loss, expected.loss, rtol=1e-9, atol=1e-9)
    phi = given[0] + given[1] @ expected.u
    for own, other in zip(lanes.information(phi, *given[2:]), plain.information(phi, *given[2:]), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))
    curved, true = (searcher.posterior_at(*given, expected.u) for searcher in (lanes, plain))
    for own, other in zip(curved, true, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6 * float(other.abs().max()))
    points = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 9)))
    np.testing.assert_allclose(lanes.losses_at(*given, points), plain.losses_at(*given, points), rtol=1e-9, atol=1e-9)


def test_searches_that_need_the_true_curvature_are_the_same():
    plain = model_of()
    observations = curves(60, 6, ragged=False, sd=0.5)  # far from any curve: Gauss-Newton steps swing
    given = arguments(plain, observations)
    solver = GaussNewton()
    compiled, expected = solver.solve(CompiledHierarchicalModel.of(plain), *given), solver.solve(plain, *given)
    few = GaussNewton(max_iter=solver.newton_after).solve(plain, *given)
    assert (few.code == SolveCode.MAX_ITER).sum() > 3
    done = expected.code == SolveCode.CONVERGED
    np.testing.assert_array_equal(compiled.code == SolveCode.CONVERGED, done)
    np.testing.assert_allclose(compiled.loss[done], expected.loss[done], rtol=1e-7)
    assert done.sum() > 40


def test_tasks_do_not_depend_on_their_neighbours():
    lanes = CompiledHierarchicalModel.of(model_of())
    given = arguments(lanes, curves(30, 5, ragged=True))
    together = GaussNewton().solve(lanes, *given)
    for t in (0, 17, 29):
        alone = GaussNewton().solve(lanes, given[0][:, [t]], *given[1:3], given[3].take(torch.tensor([t])))
        assert_agree(alone.u[:, 0], together.u[:, t], "float64")


def test_rows_that_are_not_finite_end_as_such_alone():
    plain = model_of()
    observations = curves(10, 5, ragged=False)
    observations.y[2, 3] = torch.nan
    compiled = GaussNewton().solve(CompiledHierarchicalModel.of(plain), *arguments(plain, observations))
    assert compiled.code.tolist() == [SolveCode.NOT_FINITE if t == 3 else SolveCode.CONVERGED for t in range(10)]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda X, k, n: torch.erf(k * X[:, 0]) * n, "erf.default cannot be compiled"),
        (lambda X, k, n: k * X[:, 0] if float(k.sum()) > 0 else n * X[:, 0], "cannot trace"),
        (lambda X, k, n: k * X[:, 0] + n * torch.rand(len(X), dtype=DOUBLE), "draws at random"),
    ],
)
def test_what_lanes_cannot_do_is_said_and_left_to_torch(function, words, caplog):
    plain = model_of(function=function)
    given = arguments(plain, curves(5, 4, ragged=False))
    lanes = CompiledHierarchicalModel.of(plain)
    with pytest.raises(UnsupportedError, match=words):
        lanes.prepare(*given)
    with caplog.at_level(logging.WARNING, logger="metaest"):
        torch.manual_seed(0)
        compiled = GaussNewton().solve(lanes, *given)
    assert words in caplog.text
    torch.manual_seed(0)
    np.testing.assert_array_equal(compiled.u, GaussNewton().solve(plain, *given).u)


def test_an_equation_that_is_another_one_each_time_is_found_out():
    calls = []

    def fickle(X, k, n):
        calls.append(0)
        return k * X[:, 0] + n * len(calls)

    plain = model_of(function=fickle)
    with pytest.raises(UnsupportedError, match="another result"):
        CompiledHierarchicalModel.of(plain).prepare(*arguments(plain, curves(5, 4, ragged=False)))


def test_rows_that_see_each_other_are_refused():
    model = model_of()
    loop = HierarchicalModel(Equation(avrami, ["k", "n"], "loop"), model.transforms, model.noise)
    with pytest.raises(UnsupportedError, match="see each other"):
        CompiledHierarchicalModel.of(loop)
