"""A first population near the maximum of the evidence, and the constants that show no variation at it."""

import logging
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equations.batches import evenly
from metaest.estimators.equations.fit.laplace import Maximum, Scope
from metaest.estimators.equations.fit.linearised import expectation_step, linearise
from metaest.estimators.equations.fit.starts import Start, pooled_starts, scales, spread_around, spread_of
from metaest.estimators.equations.fit.two_stage import alone
from metaest.estimators.equations.map_estimate import search_widely
from metaest.functional import GaussNewton, Population, negative_log_evidence
from metaest.functional.equations import small_matrices
from metaest.functional.progress import progress

__all__ = ["evidence_of", "first_population", "settle", "without_variation"]

_logger = logging.getLogger("metaest.fit")

N_CANDIDATES, CANDIDATE_STEPS, STEPS = 3, 6, 12
NEGLIGIBLE = 1e-3
# a variation that the rows of the average task see so well, in units of what they leave, is none to be missed
PLAIN = 1.0
# differences in log-evidence within which populations fit alike, and within which they are looked at more closely
PREFERENCE, NEAR = 3.0, 30.0
# standard errors of a task's rows within which two populations put it in one place
SAME = 1.0
SEARCH_TASKS, SEARCH_ROWS = 100, 60
ROUGH = GaussNewton(max_iter=30, tol=1e-2, newton_after=30)
# how often tasks are looked for everywhere, and the gain in log-density that shows that one was not where it belongs
REPEATS, WORTHWHILE = 5, 2.0


class Settled(NamedTuple):
    """A population with the most probable constants of the tasks, and its log-evidence as far as these are exact."""

    evidence: float
    population: Population
    u: Tensor

    @classmethod
    def of(cls, kept: Any) -> "Settled":
        """Return it from what a journal has kept."""
        evidence, population, u = kept
        return cls(evidence, Population(*population), u)


def evidence_of(scope: Scope, population: Population, u: Tensor) -> float:
    """Log-evidence of all tasks; minus infinity where it is not finite."""
    losses = negative_log_evidence(scope.model, population, scope.design, scope.observations, u)
    value = -float(losses.detach().sum())
    return value if np.isfinite(value) else -np.inf


def first_population(
    scope: Scope, initial: Tensor, n_coefficients: int, *, verbose: bool = False
) -> tuple[Population, Tensor]:
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
    verbose : bool, default=False
        Whether to show progress bars.
    """
    tasks = scope.observations.y.shape[1]
    few = evenly(tasks, SEARCH_TASKS)
    observations = scope.observations.take(few)
    if scope.model.equation.mode == "rows":
        observations = observations.thin(SEARCH_ROWS)
    small = scope._replace(observations=observations, design=scope.design.take(few), query=None)
    journal = scope.journal
    pooled = partial(pooled_starts, scope.model, initial, small.observations, N_CANDIDATES)
    starts = journal.step(pooled, lambda kept: [Start(*own) for own in kept])
    starts = starts or [Start(initial, spread_of(small.observations))]
    smallest = float(scope.smallest_log_sigma.exp()[0])
    candidates = [spread_around(scope.model, start, scope.random, small.observations, smallest) for start in starts]
    separate = journal.step(
        partial(alone, scope.model, initial, scope.random, small.observations, smallest),
        lambda kept: None if kept is None else (Population(*kept[0]), kept[1]),
    )
    if separate is not None:
        candidates.append(separate)
    settled = []
    for population, u in progress(candidates, verbose, "populations to start from"):
        padding = torch.zeros(n_coefficients - len(population.beta), dtype=torch.float64)
        population = population._replace(beta=torch.cat([population.beta, padding]))
        settled.append(journal.step(partial(settle, small, population, u, CANDIDATE_STEPS), Settled.of))
    found, several = [], separate is not None
    for own in progress(_different(small, settled), verbose, "tasks looked for everywhere"):
        wide = partial(look_widely, small, own, CANDIDATE_STEPS)
        widely, moved = journal.step(wide, lambda kept: (Settled.of(kept[0]), bool(kept[1])))
        found.append(widely)
        several = several or moved
    found = _different(small, found)
    best = max(own.evidence for own in found)
    if len(found) > 1:
        found = [
            journal.step(partial(settle, small, own.population, own.u, STEPS), Settled.of)
            if best - NEAR < own.evidence < np.inf
            else own
            for own in found
        ]
    # an equation may have mirror images (two rates that change places, an alias of a frequency)
    best = max(own.evidence for own in found)
    size = scales(scope.model, initial, small.observations)
    _logger.info(
        "%d starting populations, of which %d end apart; the best has log-evidence %.6g on %d of %d tasks",
        *(len(candidates), len(found), best, len(few), tasks),
    )
    alike = [own for own in found if own.evidence >= best - PREFERENCE]
    _, population, own_u = min(alike, key=lambda own: _distance(own.population, initial, size))
    scope = scope._replace(query=None)
    if small.observations.y.shape == scope.observations.y.shape:
        return population, own_u  # settled on all there is
    u = torch.zeros(len(scope.random), tasks, dtype=torch.float64)
    u[:, few] = own_u
    if several and len(few) < tasks:
        center = scope.design.center(population.beta, len(population.factor))
        log_sigma = population.log_sigma
        wide_of_all = partial(
            search_widely, ROUGH, scope.model, center, population.factor, log_sigma, scope.observations, u
        )
        u = journal.step(lambda: wide_of_all()[0].u, lambda kept: kept)
    _, population, u = journal.step(partial(settle, scope, population, u, STEPS), Settled.of)
    return population, u


def _different(scope: Scope, found: list[Settled]) -> list[Settled]:
    """Leave out populations that put all tasks where a better one puts them."""
    kept: list[Settled] = []
    places: list[Tensor] = []
    for own in sorted(found, key=lambda own: -own.evidence):
        population = own.population
        phi = scope.design.center(population.beta, len(population.factor)) + population.factor @ own.u
        known = scope.model.information(phi, population.log_sigma, scope.observations)
        # in units of what the rows of a task tell of each constant
        unit = known.matrix.diagonal().T.clamp(min=1e-300).rsqrt()
        if all(bool(((phi - other).abs() > SAME * unit).any()) for other in places):
            kept.append(own)
            places.append(phi)
    return kept


def _distance(population: Population, initial: Tensor, size: Tensor) -> float:
    return float(((population.beta[: len(initial)] - initial) / size).square().sum())


def look_widely(scope: Scope, found: Settled, steps: int) -> tuple[Settled, bool]:
    """Settle again as long as tasks turn out to fit much better elsewhere.

    A task stuck in a side valley of its posterior passes for noise, and noise taken for large hides that it is stuck:
    every task is looked for everywhere, however well it seems to fit.

    Returns
    -------
    Settled
    moved : bool
        Whether a task was found elsewhere.
    """
    for i in range(REPEATS):
        population = found.population
        center = scope.design.center(population.beta, len(population.factor))
        other, gain = search_widely(
            ROUGH, scope.model, center, population.factor, population.log_sigma, scope.observations, found.u
        )
        if not bool((gain > WORTHWHILE).any()):
            return found, i > 0
        found = settle(scope, population, other.u, steps)
    return found, True


def settle(scope: Scope, population: Population, u: Tensor, steps: int) -> Settled:
    """Take expectation-maximisation steps until the evidence hardly rises, and return the best population.

    A step may lower the evidence a little on its way, since it linearises; after a fall by more than ten it ends.
    """
    best: Settled | None = None
    for _ in range(steps + 1):
        center = scope.design.center(population.beta, len(population.factor))
        u = ROUGH.solve(scope.model, center, population.factor, population.log_sigma, scope.observations, u).u
        found = linearise(scope.model, population, scope.design, scope.observations, u)
        value = -float(found.loss.sum())
        value = value if np.isfinite(value) else -np.inf
        if best is None or value > best.evidence:
            gain = np.inf if best is None else value - best.evidence
            best = Settled(value, population, u)
            if gain < 1e-2:
                break
        elif value < best.evidence - 10:
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
    return best


def without_variation(scope: Scope, maximum: Maximum) -> tuple[Maximum, list[int]]:
    """Set to exactly zero the between-task variation of constants that the evidence does not miss.

    Returns
    -------
    Maximum
    constants : list of int
        Those that show no variation between tasks.
    """
    none = []
    told = _told(scope, maximum)
    for k in scope.random:
        if float(told[k]) > PLAIN:
            continue
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


def _told(scope: Scope, maximum: Maximum) -> Tensor:
    """Return the variance between tasks of each constant, in units of what the rows of the average task leave of it."""
    population = maximum.population
    found = linearise(scope.model, population, scope.design, scope.observations, maximum.u)
    left = small_matrices.sandwich(population.factor, found.posterior).mean(dim=2).diagonal()
    return population.factor.square().sum(dim=1) / left.clamp(min=1e-300) - 1
