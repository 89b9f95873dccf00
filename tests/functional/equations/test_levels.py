"""Deviations at several levels: the linear algebra of their tree, the search, and the evidence."""

import numpy as np
import pytest
import torch

from metaest.functional import Equation, GaussNewton, HierarchicalModel, Noise, Observations, SolveCode, Transforms
from metaest.functional.equations.evidence import negative_log_evidence
from metaest.functional.equations.hierarchical import Design, PopulationParameters
from metaest.functional.equations.levels import Tree
from metaest.functional.equations.nested import negative_log_evidence_of_units, search_units

DOUBLE = torch.float64
# three tasks of one, two and three units, these of one to three units each
OUTER, INNER = torch.tensor([0, 1, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 3, 4, 4, 5, 5, 5])


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).standard_normal(shape))


def tree_of_three_levels():
    return Tree((normal(3, 2), normal(3, 3, seed=1), normal(3, 1, seed=2)), (OUTER, INNER), 3)


def dense(tree, task, matrix, gradient, u):
    """Return matrix and gradient of all deviations of a task, their places by level, and the paths of its units."""
    members = [[k for k, t in enumerate(tree.task_of(level).tolist()) if t == task] for level in range(3)]
    places, size = [], 0
    for level, factor in enumerate(tree.factors):
        places.append({k: slice(size + i * factor.shape[1], size + (i + 1) * factor.shape[1])
                       for i, k in enumerate(members[level])})  # fmt: skip
        size += factor.shape[1] * len(members[level])
    H, g, paths = torch.eye(size, dtype=DOUBLE), torch.zeros(size, dtype=DOUBLE), {}
    for level in range(3):
        for k, place in places[level].items():
            g[place] += u[level][:, k]
    for unit in members[2]:
        path = torch.zeros(3, size, dtype=DOUBLE)
        for level, k in enumerate((task, int(INNER[unit]), unit)):
            path[:, places[level][k]] = tree.factors[level]
        H, g, paths[unit] = H + path.T @ matrix[:, :, unit] @ path, g + path.T @ gradient[:, unit], path
    return H, g, places, paths


def test_the_tree_solves_what_one_dense_system_says():
    tree, root = tree_of_three_levels(), normal(3, 3, 10)
    matrix, gradient = torch.einsum("ikt,jkt->ijt", root, root), normal(3, 10)
    u = [normal(2, 3), normal(3, 6), normal(1, 10)]
    system = tree.eliminate(u, gradient, matrix)
    steps, slope, taken = tree.step(system)
    solved = tree.solve(
        system, [system.right[0] * 0 + 1.0, torch.ones(3, 6, dtype=DOUBLE), torch.ones(1, 10, dtype=DOUBLE)]
    )
    deviations, of_paths = tree.covariances(system)
    for task in range(3):
        H, g, places, paths = dense(tree, task, matrix, gradient, u)
        x, inverse, ones = torch.linalg.solve(H, -g), torch.linalg.inv(H), torch.linalg.solve(H, torch.ones_like(g))
        torch.testing.assert_close(tree.log_determinant(system)[task], torch.logdet(H))
        torch.testing.assert_close(slope[task], -(g @ x))
        assert taken[task] == 0
        for level in range(3):
            for k, place in places[level].items():
                torch.testing.assert_close(steps[level][:, k], x[place])
                torch.testing.assert_close(solved[level][:, k], ones[place])
                torch.testing.assert_close(deviations[level][:, :, k], inverse[place, place])
        for unit, path in paths.items():
            torch.testing.assert_close(of_paths[:, :, unit], path @ inverse @ path.T)


def test_a_damped_step_goes_down_by_what_it_says():
    tree, root = tree_of_three_levels(), normal(3, 3, 10)
    matrix, gradient = torch.einsum("ikt,jkt->ijt", root, root), normal(3, 10)
    u = [normal(2, 3), normal(3, 6), normal(1, 10)]
    steps, slope, taken = tree.step(tree.eliminate(u, gradient, matrix, torch.tensor([0.1, 2.0, 30.0], dtype=DOUBLE)))
    for task in range(3):
        H, g, places, _ = dense(tree, task, matrix, gradient, u)
        x = torch.zeros_like(g)
        for level in range(3):
            for k, place in places[level].items():
                x[place] = steps[level][:, k]
        torch.testing.assert_close(-(g @ x), slope[task])
        torch.testing.assert_close(x @ H @ x, slope[task] - taken[task])


def decay(X, a, k):
    return a * torch.exp(-k * X[:, 0])


def line(X, a, k):
    return a + k * X[:, 0]


def model_of(function, lower):
    transforms = Transforms((lower, lower), (np.inf, np.inf))
    return HierarchicalModel(Equation(function, ["a", "k"], "rows"), transforms, Noise("additive", 1e-3))


def rows(n_units, n_rows=4):
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 3, (n_units, n_rows))
    y = np.exp(-0.6 * x * np.exp(0.3 * rng.standard_normal((n_units, 1)))) * np.exp(
        0.4 * rng.standard_normal((n_units, 1))
    )
    mask = torch.ones(n_units, n_rows, dtype=DOUBLE)
    mask[0, 2:] = 0
    y += 0.1 * rng.standard_normal(x.shape)
    return Observations.stack(torch.from_numpy(x)[..., None], torch.from_numpy(y), mask)


FACTORS = torch.tensor([[0.5, 0.0], [0.1, 0.3]], dtype=DOUBLE), torch.tensor([[0.3], [0.2]], dtype=DOUBLE)
BETA, LOG_SIGMA = torch.tensor([0.1, -0.5], dtype=DOUBLE), torch.tensor([-1.8], dtype=DOUBLE)


def evidence(model, observations, beta, outer, inner, log_sigma):
    fixed = Tree((outer.detach(), inner.detach()), (OUTER,), 3)
    center = beta[:, None].expand(-1, 6)
    result = search_units(GaussNewton(tol=1e-16), model, fixed, center.detach(), log_sigma.detach(), observations)
    assert (result.code == SolveCode.CONVERGED).all()
    tree = fixed._replace(factors=(outer, inner))
    return negative_log_evidence_of_units(model, tree, center, log_sigma, observations, result.u)


def test_the_evidence_of_lines_is_the_density_of_a_normal_vector():
    model, observations = model_of(line, -np.inf), rows(6)
    got = evidence(model, observations, BETA, *FACTORS, LOG_SIGMA)
    between, within = (factor @ factor.T for factor in FACTORS)
    X, mask = observations.by_task(), observations.mask.T > 0
    for task in range(3):
        units = [k for k in range(6) if OUTER[k] == task]
        designs = [torch.cat([torch.ones_like(X[k]), X[k]], dim=1)[mask[k]] for k in units]
        y, design = torch.cat([observations.y.T[k][mask[k]] for k in units]), torch.cat(designs)
        covariance = design @ between @ design.T + (2 * LOG_SIGMA).exp() * torch.eye(len(y), dtype=DOUBLE)
        covariance += torch.block_diag(*(part @ within @ part.T for part in designs))
        density = torch.distributions.MultivariateNormal(design @ BETA, covariance)
        torch.testing.assert_close(got[task], -density.log_prob(y))


def test_gradients_of_the_evidence_are_those_of_differences():
    model, observations = model_of(decay, 0.0), rows(6)
    arguments = [BETA.clone(), FACTORS[0].clone(), FACTORS[1].clone(), LOG_SIGMA.clone()]
    leaves = [part.clone().requires_grad_() for part in arguments]
    gradients = torch.autograd.grad(evidence(model, observations, *leaves).sum(), leaves)
    for j, part in enumerate(arguments):
        for place in np.ndindex(*part.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [other.clone() for other in arguments]
                moved[j][place] += sign * 1e-5
                ends.append(evidence(model, observations, *moved).sum())
            torch.testing.assert_close(gradients[j][place], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-5)


def test_units_that_are_their_tasks_are_tasks_of_both_variations():
    model, observations = model_of(decay, 0.0), rows(6)
    tree = Tree(FACTORS, (torch.arange(6),), 6)
    center = BETA[:, None].expand(-1, 6)
    u = search_units(GaussNewton(tol=1e-16), model, tree, center, LOG_SIGMA, observations).u
    got = negative_log_evidence_of_units(model, tree, center, LOG_SIGMA, observations, u)
    population = PopulationParameters(BETA, torch.cat(FACTORS, dim=1), LOG_SIGMA)
    design = Design(torch.arange(2), torch.ones(2, 6, dtype=DOUBLE))
    alone = GaussNewton(tol=1e-16).solve(model, center, population.factor, LOG_SIGMA, observations)
    expected = negative_log_evidence(model, population, design, observations, alone.u)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.cat(u), alone.u, rtol=1e-6, atol=1e-6)


def test_a_task_whose_curve_is_not_finite_is_told_and_others_are_found():
    observations = rows(6)
    broken = observations._replace(y=torch.where(torch.arange(6) == 4, torch.nan, observations.y))
    model = model_of(decay, 0.0)
    center = BETA[:, None].expand(-1, 6)
    result = search_units(GaussNewton(), model, Tree(FACTORS, (OUTER,), 3), center, LOG_SIGMA, broken)
    assert result.code.tolist() == [SolveCode.CONVERGED, SolveCode.CONVERGED, SolveCode.NOT_FINITE]


@pytest.mark.parametrize("level", [0, 1])
def test_a_level_without_variation_changes_nothing(level):
    model, observations = model_of(decay, 0.0), rows(6)
    still = torch.zeros(2, 0, dtype=DOUBLE)
    factors = [still, FACTORS[1]] if level == 0 else [FACTORS[0], still]
    zeros = (
        [torch.zeros(2, 1, dtype=DOUBLE), FACTORS[1]] if level == 0 else [FACTORS[0], torch.zeros(2, 1, dtype=DOUBLE)]
    )
    torch.testing.assert_close(
        evidence(model, observations, BETA, *factors, LOG_SIGMA), evidence(model, observations, BETA, *zeros, LOG_SIGMA)
    )
