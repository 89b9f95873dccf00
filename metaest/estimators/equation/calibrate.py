"""A first population near the maximum of the evidence, and the constants that show no variation at it."""

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equation.batches import evenly
from metaest.estimators.equation.expectation import expectation_step, linearise
from metaest.estimators.equation.maximise import Maximum, Scope
from metaest.estimators.equation.solving import search_widely
from metaest.estimators.equation.start import Start, pooled_starts, scales, spread_around
from metaest.estimators.equation.two_stage import alone
from metaest.functional import GaussNewton, Population, negative_log_evidence

__all__ = ["evidence_of", "first_population", "settle", "without_variation"]

N_CANDIDATES, CANDIDATE_STEPS, STEPS = 3, 6, 12
NEGLIGIBLE = 1e-3
# differences in log-evidence within which populations fit alike, and within which they are looked at more closely
PREFERENCE, NEAR = 3.0, 30.0
# standard errors of a task's rows within which two populations put it in one place
SAME = 1.0
SEARCH_TASKS, SEARCH_ROWS = 100, 60
ROUGH = GaussNewton(max_iter=30, tol=1e-2, newton_after=30)
# how often tasks are looked for everywhere, and the gain in log-density that shows that one was not where it belongs
REPEATS, WORTHWHILE = 5, 2.0


def evidence_of(scope: Scope, population: Population, u: Tensor) -> float:
    """Log-evidence of all tasks; minus infinity where it is not finite."""
    losses = negative_log_evidence(scope.model, population, scope.design, scope.observations, u)
    value = -float(losses.detach().sum())
    return value if np.isfinite(value) else -np.inf


def first_population(scope: Scope, initial: Tensor, n_coefficients: int) -> tuple[Population, Tensor]:
    """Return a population near the maximum of the evidence, and the most probable constants of the tasks under it.

    A pooled fit from many starts gives a few candidates, fits of single tasks another one. Each becomes a population
    that a few expectation-maximisation steps narrow down, on at most a hundred tasks of at most sixty rows. Of those of
    about the largest evidence, the one nearest to the user's values goes on.

    Parameters
    ----------
    scope : Scope
    initial : Tensor of shape (constants,)
        The user's values, unconstrained.
    n_coefficients : int
        Constants and coefficients of covariates.
    """
    tasks = scope.observations.y.shape[1]
    few = evenly(tasks, SEARCH_TASKS)
    observations = scope.observations.take(few)
    if scope.model.equation.mode == "rows":
        observations = observations.thin(SEARCH_ROWS)
    small = scope._replace(observations=observations, design=scope.design.take(few), query=None)
    starts = pooled_starts(scope.model, initial, small.observations, N_CANDIDATES)
    starts = starts or [Start(initial, float(small.observations.y.std()))]
    smallest = float(scope.smallest_log_sigma.exp()[0])
    candidates = [spread_around(scope.model, start, scope.random, small.observations, smallest) for start in starts]
    separate = alone(scope.model, initial, scope.random, small.observations, smallest)
    if separate is not None:
        candidates.append(separate)
    found, several = [], separate is not None
    for population, u in candidates:
        padding = torch.zeros(n_coefficients - len(population.beta), dtype=torch.float64)
        population = population._replace(beta=torch.cat([population.beta, padding]))
        population, u, moved = settle_widely(small, population, u, CANDIDATE_STEPS)
        found.append((evidence_of(small, population, u), population, u))
        several = several or moved
    found = _different(small, found)
    best = max(value for value, _, _ in found)
    for i, (value, population, u) in enumerate(found):
        if best - NEAR < value < np.inf and len(found) > 1:
            population, u = settle(small, population, u, STEPS)
            found[i] = evidence_of(small, population, u), population, u
    # an equation may have mirror images (two rates that change places, an alias of a frequency)
    best = max(value for value, _, _ in found)
    size = scales(scope.model, initial, small.observations, float(small.observations.y.std()) or 1.0)
    alike = [(population, u) for value, population, u in found if value >= best - PREFERENCE]
    population, own = min(alike, key=lambda pair: _distance(pair[0], initial, size))
    scope = scope._replace(query=None)
    if small.observations.y.shape == scope.observations.y.shape:
        return population, own  # settled on all there is
    u = torch.zeros(len(scope.random), tasks, dtype=torch.float64)
    u[:, few] = own
    if several and len(few) < tasks:
        center = scope.design.center(population.beta, len(population.factor))
        log_sigma = population.log_sigma
        found_widely, _ = search_widely(ROUGH, scope.model, center, population.factor, log_sigma, scope.observations, u)
        u = found_widely.u
    return settle(scope, population, u, STEPS)


def _different(scope: Scope, found: list[tuple[float, Population, Tensor]]) -> list[tuple[float, Population, Tensor]]:
    """Leave out populations that put all tasks where a better one puts them."""
    kept: list[tuple[float, Population, Tensor]] = []
    places: list[Tensor] = []
    for value, population, u in sorted(found, key=lambda own: -own[0]):
        phi = scope.design.center(population.beta, len(population.factor)) + population.factor @ u
        known = scope.model.information(phi, population.log_sigma, scope.observations)
        # in units of what the rows of a task tell of each constant
        unit = known.matrix.diagonal().T.clamp(min=1e-300).rsqrt()
        if all(bool(((phi - other).abs() > SAME * unit).any()) for other in places):
            kept.append((value, population, u))
            places.append(phi)
    return kept


def _distance(population: Population, initial: Tensor, size: Tensor) -> float:
    return float(((population.beta[: len(initial)] - initial) / size).square().sum())


def settle_widely(scope: Scope, population: Population, u: Tensor, steps: int) -> tuple[Population, Tensor, bool]:
    """Settle, and again as long as tasks turn out to fit much better elsewhere.

    A task stuck in a side valley of its posterior passes for noise, and noise taken for large hides that it is stuck:
    every task is looked for everywhere, however well it seems to fit.

    Returns
    -------
    Population
    u : Tensor of shape (random, tasks)
    moved : bool
        Whether a task was found elsewhere.
    """
    population, u = settle(scope, population, u, steps)
    for i in range(REPEATS):
        center = scope.design.center(population.beta, len(population.factor))
        other, gain = search_widely(
            ROUGH, scope.model, center, population.factor, population.log_sigma, scope.observations, u
        )
        if not bool((gain > WORTHWHILE).any()):
            return population, u, i > 0
        population, u = settle(scope, population, other.u, steps)
    return population, u, True


def settle(scope: Scope, population: Population, u: Tensor, steps: int) -> tuple[Population, Tensor]:
    """Take expectation-maximisation steps until the evidence hardly rises, and return the best population.

    A step may lower the evidence a little on its way, since it linearises; after a fall by more than ten it ends.
    """
    best: tuple[float, Population, Tensor] | None = None
    for _ in range(steps + 1):
        center = scope.design.center(population.beta, len(population.factor))
        u = ROUGH.solve(scope.model, center, population.factor, population.log_sigma, scope.observations, u).u
        found = linearise(scope.model, population, scope.design, scope.observations, u)
        value = -float(found.loss.sum())
        value = value if np.isfinite(value) else -np.inf
        if best is None or value > best[0]:
            gain = np.inf if best is None else value - best[0]
            best = value, population, u
            if gain < 1e-2:
                break
        elif value < best[0] - 10:
            break
        population = expectation_step(
            scope.model,
            population,
            scope.design,
            scope.observations,
            u,
            found,
            scope.diagonal,
            scope.smallest_log_sigma,
        )
    assert best is not None
    return best[1], best[2]


def without_variation(scope: Scope, maximum: Maximum) -> tuple[Maximum, list[int]]:
    """Set to exactly zero the between-task variation of constants that the evidence does not miss.

    Returns
    -------
    Maximum
    constants : list of int
        Those that show no variation between tasks.
    """
    none = []
    for k in scope.random:
        factor = maximum.population.factor.clone()
        factor[k] = 0.0
        population = maximum.population._replace(factor=factor)
        center = scope.design.center(population.beta, len(factor))
        u = scope.solver.solve(scope.model, center, factor, population.log_sigma, scope.observations, maximum.u).u
        loss = -evidence_of(scope, population, u)
        if loss < maximum.loss + NEGLIGIBLE:
            none.append(k)
            maximum = maximum._replace(population=population, u=u, loss=loss)
    return maximum, none
