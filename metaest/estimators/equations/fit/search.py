"""The search for the population that the settings ask for."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equations.batches import rows_of
from metaest.estimators.equations.checks import require_usable
from metaest.estimators.equations.fit.em import Settled, evidence_of, first_population, settle
from metaest.estimators.equations.fit.laplace import Maximum, Scope, maximise
from metaest.estimators.equations.fit.maml import meta_descend
from metaest.estimators.equations.fit.starts import sizes
from metaest.exceptions import DivergenceError
from metaest.functional import GaussNewton, GradientDescent, Population
from metaest.functional.progress import Bar
from metaest.tasks import TaskSet, split_tasks

__all__ = ["search"]

_logger = logging.getLogger("metaest.fit")

ALL_EPISODES, LEAST_EPISODES = 400, 4
# a full covariance of so many constants is also looked for from the diagonal one
MANY = 4
REVIVED, VANISHED = 0.1, 1e-3
REVIVALS, GAINED = 6, 0.5


def search(
    settings: Any,
    scope: Scope,
    initial: Tensor,
    tasks: TaskSet,
    rng: np.random.Generator,
    history: list[tuple[int, float]],
) -> tuple[Maximum, GaussNewton | GradientDescent]:
    """Find the population, and how tasks adapt from it.

    Parameters
    ----------
    settings : estimator
    scope : Scope
        All rows.
    initial : Tensor of shape (constants,)
        The user's values, unconstrained.
    tasks : TaskSet
    rng : Generator
    history : list of (int, float)
        Iterations and losses are appended.

    Returns
    -------
    Maximum
        Its loss is the negative log-evidence of all rows, whatever the objective was.
    GaussNewton or GradientDescent
    """
    population, u = first_population(scope, initial, len(scope.design.constant), verbose=settings.verbose)
    if not np.isfinite(evidence_of(scope, population, u)):
        _explain(scope, initial, population, tasks)
    with Bar(settings.verbose, None, "iterations") as bar:

        def report(step: int, loss: float) -> None:
            if step == 1:
                history.clear()  # a search that began anew
            history.append((step, loss))
            bar.advance()
            bar.say(loss=f"{loss:.5g}")

        if settings.inner_solver == "gradient":
            population, solver = meta_descend(settings, scope, population, u, tasks, rng, report)
            return maximise(scope, population, u, max_iter=settings.max_iter, fixed_beta=True), solver
        if settings.objective == "query":
            return _by_query(settings, scope, population, tasks, rng, report), scope.solver
        maximum = maximise(scope, population, u, max_iter=settings.max_iter, report=report)
        if len(scope.random) >= MANY and not scope.diagonal:
            other = _by_diagonal(scope, population, u, settings.max_iter)
            better = other.loss < maximum.loss
            _logger.info("a second search, by independent constants, ended %s", "higher" if better else "no higher")
            maximum = other if better else maximum
        return _revive(scope, maximum, population, settings.max_iter, report), scope.solver


def _by_query(
    settings: Any,
    scope: Scope,
    population: Population,
    tasks: TaskSet,
    rng: np.random.Generator,
    report: Callable[[int, float], None],
) -> Maximum:
    """Maximise the density of the query rows of fixed episodes."""
    n = settings.n_episodes if settings.n_episodes is not None else max(LEAST_EPISODES, -(-ALL_EPISODES // len(tasks)))
    chosen = np.tile(np.arange(len(tasks)), n)
    split = split_tasks(tasks, chosen, settings.support_size, settings.split, rng)
    episodes = scope._replace(
        design=scope.design.take(torch.from_numpy(chosen)),
        observations=rows_of(tasks, split.support, split.support_mask),
        query=rows_of(tasks, split.query, split.query_mask),
    )
    start = torch.zeros(len(scope.random), len(chosen), dtype=torch.float64)
    found = maximise(episodes, population, start, max_iter=settings.max_iter, whole=scope, report=report)
    beta, factor, log_sigma = found.population
    center = scope.design.center(beta, len(factor))
    u = scope.solver.solve(scope.model, center, factor, log_sigma, scope.observations).u
    return Maximum(found.population, u, -evidence_of(scope, found.population, u), found.n_iter, found.message)


def _by_diagonal(scope: Scope, population: Population, u: Tensor, max_iter: int) -> Maximum:
    """Maximise with independent constants first, then let them be correlated; variations that vanished are revived."""
    first = maximise(scope._replace(diagonal=True), population, u, max_iter=max_iter)
    before = population.factor[scope.random].square().sum(dim=1).sqrt()
    factor = first.population.factor.clone()
    for j, k in enumerate(scope.random):
        if float(factor[k, j].abs()) < REVIVED * float(before[j]):
            factor[k, j] = REVIVED * before[j]
    start = first.population._replace(factor=factor)
    center = scope.design.center(start.beta, len(factor))
    found = scope.solver.solve(scope.model, center, factor, start.log_sigma, scope.observations, first.u)
    return maximise(scope, start, found.u, max_iter=max_iter)


def _revive(
    scope: Scope, maximum: Maximum, start: Population, max_iter: int, report: Callable[[int, float], None]
) -> Maximum:
    """Give variations that vanished on the way another chance: at zero the evidence is flat, may it rise or not."""
    size = sizes(scope.model, start.beta[: len(start.factor)], scope.observations)
    before = torch.maximum(start.factor.square().sum(dim=1).sqrt(), size)
    for k in scope.random:
        found = maximum.population
        if float(found.factor[k].abs().max()) > VANISHED * float(before[k]):
            continue
        factor = found.factor.clone()
        factor[k, scope.random.index(k)] = REVIVED * before[k]
        center = scope.design.center(found.beta, len(factor))
        u = scope.solver.solve(scope.model, center, factor, found.log_sigma, scope.observations, maximum.u).u
        start_of = partial(settle, scope, found._replace(factor=factor), u, REVIVALS)
        _, population, u = scope.journal.step(start_of, Settled.of)
        if evidence_of(scope, population, u) > -maximum.loss + GAINED:
            name = scope.model.equation.names[k]
            _logger.info("the variation of %s between tasks had vanished, and is revived", name)
            maximum = maximise(scope, population, u, max_iter=max_iter, report=report)
    return maximum


def _explain(scope: Scope, initial: Tensor, population: Population, tasks: TaskSet) -> None:
    """Raise an error that names the task in which the equation fails."""
    center = scope.design.center(population.beta, len(population.factor))
    for phi in (initial[:, None].expand_as(center), center):
        for i in range(len(tasks)):
            require_usable(scope.model, phi[:, i : i + 1], tasks[i].X, f"task {tasks.name_of(i)!r}")
    raise DivergenceError(
        "the evidence is not finite anywhere near the initial values; give initial values for which the equation fits "
        "the data roughly, and bounds that keep it finite."
    )
