"""From an estimator's settings and tasks to a fitted equation."""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from torch import Tensor
from tqdm.auto import tqdm

from metaest.estimators.equation.batches import evenly, rows_of, whole
from metaest.estimators.equation.calibrate import evidence_of, first_population, without_variation
from metaest.estimators.equation.covariates import Covariates
from metaest.estimators.equation.descent import meta_descend
from metaest.estimators.equation.expectation import linearise
from metaest.estimators.equation.maximise import Maximum, Scope, maximise
from metaest.estimators.equation.parameter import check_names, check_parameters, transforms_of
from metaest.estimators.equation.posterior import Calibrated, Posterior
from metaest.estimators.equation.solving import most_probable
from metaest.estimators.equation.verify import require_usable, warn_of_codes
from metaest.exceptions import DivergenceError, TaskError
from metaest.functional import (
    Equation,
    GaussNewton,
    GradientDescent,
    HierarchicalModel,
    Noise,
    Observations,
    Population,
    SolveCode,
    choose_mode,
)
from metaest.tasks import TaskSet, split_tasks

__all__ = ["Fitted", "calibrate"]

# the noise is never taken as smaller than this share of the largest target
FLOOR = 1e-6
DELTA = 1e-3
PROBE_TASKS, PROBE_ROWS = 4, 5
ALL_EPISODES, LEAST_EPISODES = 400, 4


class Fitted(NamedTuple):
    """What a fit returns.

    Attributes
    ----------
    calibrated : Calibrated
    posterior : Posterior
        Of the training tasks.
    log_likelihood : float
    n_iter : int
    history : list of (int, float)
    mode, reason : str
        How many tasks are evaluated at once, and why.
    """

    calibrated: Calibrated
    posterior: Posterior
    log_likelihood: float
    n_iter: int
    history: list[tuple[int, float]]
    mode: str
    reason: str


def calibrate(settings: Any, tasks: TaskSet, rng: np.random.Generator, *, flat: bool) -> Fitted:
    """Fit the equation of `settings` (an estimator) to tasks, which may have come as flat rows; `settings` is kept."""
    table = check_parameters(settings.parameters, settings.equation)
    names = list(table)
    random = [names.index(name) for name in check_names(settings.random, table, "random")]
    if tasks.y.ndim == 2 and tasks.y.shape[1] != 1:
        raise TaskError(f"y has {tasks.y.shape[1]} targets; an equation gives one value a row.")
    if tasks.y.ndim == 2 and flat:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected; it is taken as y.ravel().",
            DataConversionWarning,
            stacklevel=3,
        )
    if len(tasks) == 1 and random:
        warnings.warn(
            "one task says nothing about the variation between tasks: all constants are taken as shared, and adapting "
            "changes nothing.",
            UserWarning,
            stacklevel=3,
        )
        random = []
    covariates = Covariates.learn(settings.covariates, names, tasks)
    design = covariates.design(covariates.of_tasks(tasks), len(names))
    y = tasks.y.astype(np.float64)
    noise = Noise(settings.noise, DELTA * float(np.sqrt(np.square(y).mean())))
    transforms = transforms_of(table)
    equation = Equation(settings.equation, names)
    initial = transforms.unconstrain(torch.tensor([float(parameter.initial) for parameter in table.values()]).double())
    observations = whole(tasks)
    model = HierarchicalModel(equation, transforms, noise)
    mode, reason = _probe(model, initial, observations, tasks)
    model = replace(model, equation=replace(equation, mode=mode))

    size = float(np.abs(y).max()) or 1.0
    floor = torch.tensor([{"additive": FLOOR * size}.get(settings.noise, FLOOR)] * noise.n_constants).double()
    if settings.noise == "combined":
        floor[0] = FLOOR * size
    scope = Scope(
        model, design, observations, None, random, settings.covariance == "diagonal", floor.log(), GaussNewton()
    )
    history: list[tuple[int, float]] = []
    maximum, solver, message = _search(settings, scope, initial, tasks, rng, history)
    maximum, still = without_variation(scope, maximum)
    return _finish(table, covariates, scope, maximum, still, solver, tasks, Report(history, mode, reason, message))


class Report(NamedTuple):
    """What the search leaves to be told."""

    history: list[tuple[int, float]]
    mode: str
    reason: str
    message: str


def _search(
    settings: Any,
    scope: Scope,
    initial: Tensor,
    tasks: TaskSet,
    rng: np.random.Generator,
    history: list[tuple[int, float]],
) -> tuple[Maximum, GaussNewton | GradientDescent, str]:
    """Run the search the settings ask for."""
    population, u = first_population(scope, initial, len(scope.design.constant))
    if not np.isfinite(evidence_of(scope, population, u)):
        _explain(scope, initial, population, tasks)
    solver: GaussNewton | GradientDescent = scope.solver
    fixed = False
    with tqdm(total=None, disable=not settings.verbose, desc="iterations", leave=False) as bar:

        def report(step: int, loss: float) -> None:
            if step == 1:
                history.clear()  # a search that began anew
            history.append((step, loss))
            bar.update()
            bar.set_postfix(loss=f"{loss:.5g}")

        if settings.inner_solver == "gradient":
            population, solver = meta_descend(settings, scope, population, u, tasks, rng, report)
            fixed = True
        elif settings.objective == "query":
            episodes = _episodes(settings, scope, tasks, rng)
            start = torch.zeros(len(scope.random), episodes.observations.y.shape[1], dtype=torch.float64)
            found = maximise(episodes, population, start, max_iter=settings.max_iter, report=report)
            population, message = found.population, found.message
            u = scope.solver.solve(
                scope.model,
                scope.design.center(population.beta, len(population.factor)),
                population.factor,
                population.log_sigma,
                scope.observations,
            ).u
            loss = -evidence_of(scope, population, u)
            return Maximum(population, u, loss, found.n_iter, message), solver, message
        maximum = maximise(
            scope, population, u, max_iter=settings.max_iter, fixed_beta=fixed, report=None if fixed else report
        )
    return maximum, solver, maximum.message


def _episodes(settings: Any, scope: Scope, tasks: TaskSet, rng: np.random.Generator) -> Scope:
    """Split every task a few times into support and query rows."""
    n = settings.n_episodes if settings.n_episodes is not None else max(LEAST_EPISODES, -(-ALL_EPISODES // len(tasks)))
    chosen = np.tile(np.arange(len(tasks)), n)
    split = split_tasks(tasks, chosen, settings.support_size, settings.split, rng)
    return scope._replace(
        design=scope.design.take(torch.from_numpy(chosen)),
        observations=rows_of(tasks, split.support, split.support_mask),
        query=rows_of(tasks, split.query, split.query_mask),
    )


def _probe(model: HierarchicalModel, initial: Tensor, observations: Observations, tasks: TaskSet) -> tuple[Any, str]:
    """Try the equation on a few rows, with a word about what is wrong where it fails, and choose how to batch it."""
    several = evenly(len(tasks), PROBE_TASKS)
    few = observations.take(several)
    rows = evenly(len(few.y), PROBE_ROWS)
    X, y, mask = few.by_task()[:, rows], few.y.T[:, rows], few.mask.T[:, rows]
    # one row of padding in every task gives away an equation whose rows see each other
    X, y = torch.cat([X, X[:, :1]], dim=1), torch.cat([y, y[:, :1]], dim=1)
    mask = torch.cat([mask, torch.zeros(len(mask), 1, dtype=mask.dtype)], dim=1)
    wobble = 0.1 * torch.sin(torch.arange(1.0, 1 + len(initial) * len(several)).double()).reshape(len(initial), -1)
    theta = model.transforms.constrain(initial[:, None] + wobble)
    # the equation's own errors, for all rows of one task
    task = tasks[0]
    model.equation(theta[:, 0].unbind(0), torch.from_numpy(task.X.astype(np.float64)))
    return choose_mode(model.equation, theta, Observations.stack(X, y, mask))


def _explain(scope: Scope, initial: Tensor, population: Population, tasks: TaskSet) -> None:
    """Raise an error that names the task in which the equation fails."""
    center = scope.design.center(population.beta, len(population.factor))
    for phi in (initial[:, None].expand_as(center), center):
        for i in range(len(tasks)):
            require_usable(scope.model, phi[:, i : i + 1], tasks[i].X, f"task {tasks.names[i : i + 1].tolist()[0]!r}")
    raise DivergenceError(
        "the evidence is not finite anywhere near the initial values; give initial values for which the equation fits "
        "the data roughly, and bounds that keep it finite."
    )


def _finish(
    table: Any,
    covariates: Covariates,
    scope: Scope,
    maximum: Maximum,
    flat: list[int],
    solver: GaussNewton | GradientDescent,
    tasks: TaskSet,
    report: Report,
) -> Fitted:
    population = maximum.population
    normal = linearise(scope.model, population, scope.design, scope.observations, maximum.u).normal
    covariance = torch.linalg.pinv(normal, hermitian=True, rtol=1e-12)
    y = tasks.y.astype(np.float64)
    unit = float(y.std()) or 1.0
    calibrated = Calibrated(
        table, scope.model, population, covariates, covariance, tuple(scope.random), tuple(flat), solver, unit
    )
    center = scope.design.center(population.beta, len(table))
    if isinstance(solver, GradientDescent):
        posterior = calibrated.posterior(scope.design, scope.observations)
    else:
        found = most_probable(
            solver, scope.model, center, population.factor, population.log_sigma, scope.observations, maximum.u
        )
        phi = center + population.factor @ found.u
        known = scope.model.information(phi, population.log_sigma, scope.observations)
        posterior = calibrated._posterior(phi, scope.design, known.matrix, found.loss, found.code)
    if bool((population.log_sigma <= scope.smallest_log_sigma + 1e-3).any()):
        warnings.warn(
            "the noise has shrunk to its floor: the equation fits these data exactly, or they hold no noise; standard "
            "errors and log-likelihood mean little.",
            ConvergenceWarning,
            stacklevel=4,
        )
    elif report.message:
        warnings.warn(f"{report.message}; raise max_iter, or look at history_.", ConvergenceWarning, stacklevel=4)
    if not isinstance(solver, GradientDescent) or bool((posterior.code == SolveCode.NOT_FINITE).any()):
        warn_of_codes(posterior.code, tasks.names, "fit", stacklevel=5)
    return Fitted(
        calibrated,
        posterior,
        -maximum.loss,
        max(1, maximum.n_iter, len(report.history)),
        report.history,
        report.mode,
        report.reason,
    )
