"""The fit of an equation from settings and tasks to a fitted equation; its steps are the other files of this folder.

1. The equation is tried on a few rows, which decides how it is batched (`_probe`) and whether it is compiled.
2. Starts: pooled fits and fits of single tasks (`starts`), as if residuals did not correlate.
3. Each start becomes a population that expectation-maximisation brings near the maximum (`em`, on equations linearised
   at each task's constants, `linearised`); tasks are searched widely, and one population is chosen.
4. L-BFGS on the Laplace-approximate evidence, or on the density of query rows (`laplace`), ends at the optimum; so does
   (4') meta-training of gradient steps (`maml`).
5. A second search starts from independent constants (`_by_diagonal`), and variations between tasks that vanished on the
   way are tried once more (`_revive`).
6. Variances between tasks without which the evidence is as large become zero (`em.without_variation`).
7. Standard errors, the posterior of the training tasks (`_finished`), and warnings (`warn_of_fit`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.equations.batches import evenly, rows_of, whole
from metaest.estimators.equations.censoring import bounds_of
from metaest.estimators.equations.checks import (
    check_data,
    check_tasks,
    note_on_initial_values,
    require_likely,
    require_usable,
    warn_of_codes,
    warn_of_outliers,
)
from metaest.estimators.equations.compiled import CompiledEquation, agrees_with_torch, compiled_for_fit
from metaest.estimators.equations.correlation import correlation_of, time_column
from metaest.estimators.equations.covariates import Covariates
from metaest.estimators.equations.few_tasks import population_of
from metaest.estimators.equations.fit.em import (
    EMResult,
    em_steps,
    first_population,
    with_first_correlation,
    without_variation,
)
from metaest.estimators.equations.fit.laplace import maximise
from metaest.estimators.equations.fit.linearised import invert, linearise
from metaest.estimators.equations.fit.maml import meta_train
from metaest.estimators.equations.fit.problem import Optimum, Problem, runs_off
from metaest.estimators.equations.fit.starts import sizes, spread_of
from metaest.estimators.equations.fit_checkpoint import FitCheckpoint
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.noises import noise_of, smallest_noise
from metaest.estimators.equations.residuals import warn_of_correlation
from metaest.estimators.equations.row_accuracy import RowAccuracy, with_mean_weight_one
from metaest.estimators.equations.row_model import RowModel
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.equations.time_varying import by_learned_coefficients
from metaest.estimators.equations.uncertain import UncertainPopulation
from metaest.exceptions import DivergenceError, warn
from metaest.functional import (
    Equation,
    GaussNewton,
    GradientDescent,
    HierarchicalModel,
    Observations,
    PopulationParameters,
    SolveCode,
)
from metaest.functional.equations.noise import MOST_POWER
from metaest.functional.equations.probing import agrees_one_by_one, check_equation, choose_mode
from metaest.functional.progress import Bar
from metaest.population.parameter import Parameter, check_names, check_parameters, transforms_of
from metaest.tasks import TaskSet, split_tasks

__all__ = [
    "FitResult",
    "Setting",
    "doubt_of",
    "explain",
    "fit_population",
    "in_given_weights",
    "problem_of",
    "searched",
    "warn_of_fit",
]

_logger = logging.getLogger("metaest.fit")

# difference of the logarithm of a noise from its floor, up to which it has shrunk to it
AT_FLOOR = 1e-3
# tasks and rows of the probe
PROBE_TASKS = 4
PROBE_ROWS = 5
# distance of the constants of the probe from the user's, in sizes of a constant: near ones must work, far ones may fail
PROBE_NEAR = 0.1
PROBE_FAR = 2.0
# rows beside the extreme ones on which a batched equation is compared with one task at a time
ROWS_BETWEEN = 4
# tasks on which it is compared at the optimum
CHECKED_TASKS = 200
# standard error on a log or logit scale from which a constant has run to its bound
RUNAWAY = 20.0
# episodes in all of objective="query"
EPISODES = 400
# episodes of each task at least
LEAST_EPISODES = 4
# constants from which a full covariance is also searched for from the diagonal one
SECOND_SEARCH = 4
# standard deviation between tasks, as a share of the first one, at which one that vanished is tried again
REVIVED = 0.1
# share of the first one below which it has vanished
VANISHED = 1e-3
# EM steps of such a trial
REVIVAL_STEPS = 6
# gain in log-evidence by which it goes on
REVIVAL_GAIN = 0.5


# an optimum whose population and deviations are those of tasks, and how tasks adapt
Ended = TypeVar("Ended", bound=Any)
Solver = TypeVar("Solver")


class FitResult(NamedTuple):
    """A fitted equation, and how its fit went.

    Attributes
    ----------
    fitted : FittedEquation
    posterior : Posterior
        The posterior of the training tasks.
    log_likelihood : float
    n_iter : int
    history : list of (int, float)
    mode, reason : str
        How many tasks are evaluated at once, and why.
    compiled : bool
    compiled_reason : str
    omega_error : Tensor of shape (constants,)
        Standard errors of the standard deviations between tasks.
    doubt : str
        Why the fit is none to rely on: it did not converge, or constants are not determined; empty where it is.
    """

    fitted: FittedEquation
    posterior: Posterior
    log_likelihood: float
    n_iter: int
    history: list[tuple[int, float]]
    mode: str
    reason: str
    compiled: bool
    compiled_reason: str
    omega_error: Tensor
    doubt: str


class Setting(NamedTuple):
    """The parts of a fit that its search does not change."""

    table: dict[str, Parameter]
    covariates: Covariates
    row_accuracy: RowAccuracy
    initial: Tensor
    # as torch evaluates it, in or out of a compiled fit
    model: HierarchicalModel
    mode: str
    reason: str
    compiled: CompiledEquation


def fit_population(
    settings: FitSettings,
    equation: tuple[Callable[..., Tensor], Mapping[str, Parameter | float]],
    tasks: TaskSet,
    rng: np.random.Generator,
    *,
    flat: bool,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit an equation to tasks.

    Parameters
    ----------
    settings : FitSettings
    equation : (callable, dict of str to Parameter or float)
        The equation and its parameters.
    tasks : TaskSet
    rng : Generator
    flat : bool
        Whether the tasks came as flat rows: a y of one column is then warned of.
    checkpoint : Checkpoint, optional

    Returns
    -------
    FitResult
    """
    given, (tasks, shift) = tasks, with_mean_weight_one(tasks)
    problem, setting = problem_of(settings, equation, tasks, given, flat, FitCheckpoint(checkpoint))
    history: list[tuple[int, float]] = []

    def search(problem: Problem) -> tuple[Optimum, GaussNewton | GradientDescent]:
        history.clear()
        return _search(settings, problem, setting.initial, tasks, rng, history)

    problem, setting, optimum, solver = searched(problem, setting, search)
    optimum, no_variation = without_variation(problem, optimum)
    ended = optimum.message or "converged"
    _logger.info("%d iterations, log-evidence %.6g: %s", optimum.n_iter, -optimum.loss, ended)
    if no_variation:
        _logger.info("no variation between tasks: %s", ", ".join(list(setting.table)[k] for k in no_variation))
    if shift:
        problem, optimum = in_given_weights(problem, optimum, given, shift)
    optimum, uncertain, omega_error = population_of(settings.small_sample, problem, optimum, no_variation)
    no_variation = [] if uncertain else no_variation
    fitted, posterior = _finished(problem, optimum, setting, no_variation, solver, uncertain)
    doubt = doubt_of(problem, optimum, fitted, given)
    warn_of_fit(problem, optimum, fitted, posterior, given, doubt)
    return FitResult(
        fitted,
        posterior,
        -optimum.loss,
        max(1, optimum.n_iter, len(history)),
        history,
        setting.mode,
        setting.reason,
        setting.compiled.compiled,
        setting.compiled.reason,
        omega_error,
        doubt,
    )


def searched(
    problem: Problem, setting: Setting, search: Callable[[Problem], tuple[Ended, Solver]]
) -> tuple[Problem, Setting, Ended, Solver]:
    """Search, once more by torch or one task at a time where what is faster gives something else at the optimum."""
    optimum, solver = search(problem)
    if not _programs_agree(problem, optimum):
        reason = "its program gives another result than torch at the fitted constants"
        _logger.warning("the equation is fitted again by torch: %s", reason)
        setting = setting._replace(compiled=setting.compiled._replace(compiled=False, reason=reason))
        problem = problem._replace(model=setting.model)
        optimum, solver = search(problem)
    if not _still_agrees(problem, optimum):
        # the fitted constants let the equation branch as the probe did not
        reason = f"{setting.mode}: gives another result than one task at a time at the fitted constants"
        model = replace(setting.model, equation=replace(setting.model.equation, mode="loop"))
        compiled = setting.compiled._replace(compiled=False, reason=reason)
        setting = setting._replace(model=model, mode="loop", reason=reason, compiled=compiled)
        problem = problem._replace(model=model)
        optimum, solver = search(problem)
    return problem, setting, optimum, solver


def problem_of(
    settings: FitSettings,
    given_equation: tuple[Callable[..., Tensor], Mapping[str, Parameter | float]],
    tasks: TaskSet,
    given: TaskSet,
    flat: bool,
    checkpoint: FitCheckpoint,
) -> tuple[Problem, Setting]:
    """Check equation and tasks, and return what is fitted to what; `given` are the tasks with the weights as given."""
    function, parameters = given_equation
    table = check_parameters(parameters, function)
    names = list(table)
    check_tasks(function, tasks)
    row_accuracy = RowAccuracy.learn(settings.measurement_sd, given)
    random = [names.index(name) for name in check_names(settings.random, table, "random")]
    function, table, constant = by_learned_coefficients(settings, function, table, tasks)
    covariates = Covariates.learn(constant, names, tasks, function)
    random = check_data(settings, tasks, names, random, flat=flat)
    design = covariates.design(covariates.of_tasks(tasks), len(table))
    bounds, correlation = bounds_of(settings, tasks.feature_names), correlation_of(settings, function, tasks)
    noise = noise_of(settings, tasks, bounds, row_accuracy.column, correlation)
    transforms = transforms_of(table)
    equation = Equation(function, list(table))
    initial = transforms.unconstrain(_initial(table))
    observations = whole(tasks)
    model = HierarchicalModel(equation, transforms, noise)
    mode, reason = _probe(model, initial, observations, tasks)
    _logger.info(
        "%d tasks, %d rows, noise=%r, objective=%r", len(tasks), len(tasks.y), settings.noise, settings.objective
    )
    _logger.info("the equation is evaluated by %s", reason)
    model = replace(model, equation=replace(equation, mode=mode))
    compiled = compiled_for_fit(settings, model, initial, len(random), observations)

    smallest = smallest_noise(noise, spread_of(observations, noise))
    parts = design, observations, None, random, settings.diagonal, smallest, GaussNewton(), checkpoint
    n_nodes = settings.nodes_for([list(table)[k] for k in random])
    problem = Problem(compiled.model, *parts, n_nodes=n_nodes)
    return problem, Setting(table, covariates, row_accuracy, initial, model, mode, reason, compiled)


def _initial(table: Mapping[str, Parameter]) -> Tensor:
    return torch.tensor([float(parameter.initial) for parameter in table.values()], dtype=torch.float64)


def _probe(model: HierarchicalModel, initial: Tensor, observations: Observations, tasks: TaskSet) -> tuple[Any, str]:
    """Try the equation on a few rows, with a word about what is wrong where it fails, and choose how to batch it."""
    several = evenly(len(tasks), PROBE_TASKS)
    few = observations.take(several)
    rows = evenly(len(few.y), PROBE_ROWS)
    X, y, mask = few.by_task()[:, rows], few.y.T[:, rows], few.mask.T[:, rows]
    # one row of padding in every task gives away an equation whose rows see each other
    X, y = torch.cat([X, X[:, -1:]], dim=1), torch.cat([y, y[:, -1:]], dim=1)
    mask = torch.cat([mask, torch.zeros(len(mask), 1, dtype=mask.dtype)], dim=1)
    size = sizes(model, initial, few)
    near = _near_initial(initial, size)
    reach = model.transforms.slope(near) * size[:, None]
    theta, first = model.transforms.constrain(near)[:, 0], torch.from_numpy(tasks[0].X.astype(np.float64))
    check_equation(model.equation, theta, first, reach[:, 0])
    choices: list[tuple[Any, str]] = []
    for distance in (PROBE_NEAR, PROBE_FAR):
        wobble = distance * torch.sin(torch.arange(1.0, 1 + len(initial) * len(several)).double())
        away = wobble.reshape(len(initial), -1) * size[:, None]
        theta = model.transforms.constrain(initial[:, None] + away)
        try:
            choices.append(choose_mode(model.equation, theta, Observations.stack(X, y, mask), _extreme_rows(tasks)))
        except Exception:
            if not choices:  # far from the user's values an equation may refuse
                raise
    return max(choices, key=lambda choice: ("rows", "vmap", "loop").index(choice[0]))


def _near_initial(initial: Tensor, size: Tensor) -> Tensor:
    """Return the user's values, a little off, as one column: at a round number an equation may have a kink."""
    wobble = PROBE_NEAR * torch.sin(torch.arange(1.0, 1 + len(initial)).double())
    return (initial + wobble * size)[:, None]


def _extreme_rows(tasks: TaskSet) -> Tensor:
    """Return rows in which a column is least or greatest over all tasks, and a few between."""
    between = evenly(len(tasks.X), ROWS_BETWEEN).tolist()
    numbers = {*tasks.X.argmin(axis=0).tolist(), *tasks.X.argmax(axis=0).tolist(), *between}
    return torch.from_numpy(tasks.X[sorted(numbers)].astype(np.float64))


def _search(
    settings: FitSettings,
    problem: Problem,
    initial: Tensor,
    tasks: TaskSet,
    rng: np.random.Generator,
    history: list[tuple[int, float]],
) -> tuple[Optimum, GaussNewton | GradientDescent]:
    """Search for the population, and how tasks adapt from it.

    Parameters
    ----------
    settings : FitSettings
    problem : Problem
        With all rows.
    initial : Tensor of shape (constants,)
        The user's values, unconstrained.
    tasks : TaskSet
    rng : Generator
    history : list of (int, float)
        Iterations and losses are appended.

    Returns
    -------
    Optimum
        Its loss is the negative log-evidence of all rows, whatever the objective was.
    GaussNewton or GradientDescent
    """
    rows_apart = problem.with_independent_rows()
    start, u = first_population(rows_apart, initial, len(problem.design.constant), verbose=settings.verbose)
    start, u = with_first_correlation(problem, start, u)
    if not np.isfinite(problem.log_evidence(start, u)):
        explain(problem, initial, start, tasks)
    with Bar(settings.verbose, None, "iterations") as bar:

        def report(step: int, loss: float) -> None:
            if step == 1:
                history.clear()  # a search that began anew
            history.append((step, loss))
            bar.advance()
            bar.say(loss=f"{loss:.5g}")

        if settings.by_gradient_steps:
            population, solver = meta_train(settings, problem, start, u, tasks, rng, report)
            return maximise(problem, population, u, max_iter=settings.max_iter, fixed_beta=True), solver
        if settings.by_query:
            return _by_query(settings, problem, start, tasks, rng, report), problem.solver
        optimum = maximise(problem, start, u, max_iter=settings.max_iter, report=report)
        if len(problem.random) >= SECOND_SEARCH and not problem.diagonal:
            other = _by_diagonal(problem, start, u, settings.max_iter)
            better = other.loss < optimum.loss
            _logger.info("a second search, by independent constants, ended %s", "higher" if better else "no higher")
            optimum = other if better else optimum
        return _revive(problem, optimum, start, settings.max_iter, report), problem.solver


def _by_query(
    settings: FitSettings,
    problem: Problem,
    population: PopulationParameters,
    tasks: TaskSet,
    rng: np.random.Generator,
    report: Callable[[int, float], None],
) -> Optimum:
    """Maximise the density of the query rows of fixed episodes."""
    n = settings.n_episodes if settings.n_episodes is not None else max(LEAST_EPISODES, -(-EPISODES // len(tasks)))
    chosen = np.tile(np.arange(len(tasks)), n)
    split = split_tasks(tasks, chosen, settings.support_size, settings.split, rng)
    episodes = problem._replace(
        design=problem.design.take(torch.from_numpy(chosen)),
        observations=rows_of(tasks, split.support, split.support_mask),
        query=rows_of(tasks, split.query, split.query_mask),
    )
    zeros = torch.zeros(len(problem.random), len(chosen), dtype=torch.float64)
    optimum = maximise(episodes, population, zeros, max_iter=settings.max_iter, whole=problem, report=report)
    u = problem.solve(optimum.population).u
    return optimum._replace(u=u, loss=-problem.log_evidence(optimum.population, u))


def _by_diagonal(problem: Problem, population: PopulationParameters, u: Tensor, max_iter: int) -> Optimum:
    """Maximise with independent constants first, then let them be correlated; variations that vanished are revived."""
    first = maximise(problem._replace(diagonal=True), population, u, max_iter=max_iter)
    before = population.factor[problem.random].square().sum(dim=1).sqrt()
    factor = first.population.factor.clone()
    for j, k in enumerate(problem.random):
        if float(factor[k, j].abs()) < REVIVED * float(before[j]):
            factor[k, j] = REVIVED * before[j]
    start = first.population._replace(factor=factor)
    return maximise(problem, start, problem.solve(start, first.u).u, max_iter=max_iter)


def _revive(
    problem: Problem, optimum: Optimum, start: PopulationParameters, max_iter: int, report: Callable[[int, float], None]
) -> Optimum:
    """Give variations that vanished on the way another chance: at zero the evidence is flat, may it rise or not."""
    size = sizes(problem.model, start.beta[: len(start.factor)], problem.observations)
    before = torch.maximum(start.factor.square().sum(dim=1).sqrt(), size)
    for k in problem.random:
        if float(optimum.population.factor[k].abs().max()) > VANISHED * float(before[k]):
            continue
        factor = optimum.population.factor.clone()
        factor[k, problem.random.index(k)] = REVIVED * before[k]
        revived = optimum.population._replace(factor=factor)
        u = problem.solve(revived, optimum.u).u
        steps = partial(em_steps, problem, revived, u, REVIVAL_STEPS)
        _, population, u = problem.checkpoint.step(steps, EMResult.rebuild)
        if problem.log_evidence(population, u) > -optimum.loss + REVIVAL_GAIN:
            name = problem.model.equation.names[k]
            _logger.info("the variation of %s between tasks had vanished, and is revived", name)
            optimum = maximise(problem, population, u, max_iter=max_iter, report=report)
    return optimum


def explain(problem: Problem, initial: Tensor, population: PopulationParameters, tasks: TaskSet) -> None:
    """Raise an error that names the task in which the equation fails."""
    center = problem.at(population).center
    for phi in (initial[:, None].expand_as(center), center):
        for i in range(len(tasks)):
            here, where = phi[:, i : i + 1], f"task {tasks.name_of(i)!r}"
            require_usable(problem.model, here, tasks[i].X, where)
            require_likely(problem.model, population.log_sigma, here, tasks[i], where)
    raise DivergenceError(
        "the evidence is not finite anywhere near the initial values; give initial values for which the equation fits "
        "the data roughly, and bounds that keep it finite."
    )


def _programs_agree(problem: Problem, optimum: Optimum) -> bool:
    """Return whether compiled rows give at the optimum what torch gives."""
    if not isinstance(problem.model, RowModel):
        return True
    point = problem.at(optimum.population)
    return agrees_with_torch(problem.model, point.constants(optimum.u), point.log_sigma, problem.observations)


def _still_agrees(problem: Problem, optimum: Optimum) -> bool:
    """Return whether the batched equation gives at the optimum what one task at a time gives."""
    tasks = optimum.u.shape[1] if len(optimum.u) else problem.n_tasks
    few = evenly(tasks, CHECKED_TASKS)
    point = problem._replace(design=problem.design.take(few)).at(optimum.population)
    theta = problem.model.transforms.constrain(point.constants(optimum.u[:, few]))
    return agrees_one_by_one(problem.model.equation, theta, problem.observations.take(few))


def in_given_weights(problem: Problem, optimum: Optimum, tasks: TaskSet, shift: float) -> tuple[Problem, Optimum]:
    """Return the same optimum for the weights as they were given: the noise is that of a row of weight 1."""
    noise = problem.model.noise
    population = optimum.population._replace(log_sigma=noise.scaled(optimum.population.log_sigma, 0.5 * shift))
    smallest = noise.scaled(problem.smallest_log_sigma, 0.5 * shift)
    problem = problem._replace(observations=whole(tasks), smallest_log_sigma=smallest)
    return problem, optimum._replace(population=population)


def _finished(
    problem: Problem,
    optimum: Optimum,
    setting: Setting,
    no_variation: list[int],
    solver: GaussNewton | GradientDescent,
    uncertain: UncertainPopulation | None,
) -> tuple[FittedEquation, Posterior]:
    """Return the fitted equation with its standard errors, and the posterior of the training tasks."""
    population, model = optimum.population, problem.model
    normal = linearise(model, problem.at(population), problem.design, problem.observations, optimum.u).normal
    covariance, undetermined = invert(normal)
    bounded = torch.tensor([kind != "identity" for kind in model.transforms.kinds])[problem.design.constant]
    runaway = bounded & (covariance.diagonal().clamp(min=0).sqrt() > RUNAWAY) & ~undetermined
    undetermined = undetermined | runaway
    covariance[runaway] = covariance[:, runaway] = 0.0
    fitted = FittedEquation(
        setting.table,
        setting.model,
        population,
        setting.covariates,
        covariance,
        tuple(torch.nonzero(undetermined)[:, 0].tolist()),
        tuple(problem.random),
        tuple(no_variation),
        solver,
        spread_of(problem.observations),
        setting.row_accuracy,
        uncertain,
    )
    if fitted.by_gradient_steps:
        return fitted, fitted.posterior(problem.design, problem.observations)
    result = problem.map_estimate(population, optimum.u)
    phi = problem.at(population).constants(result.u)
    info = model.information(phi, population.log_sigma, problem.observations)
    return fitted, fitted.posterior_at(phi, problem.design, info.matrix, result.loss, result.code)


def doubt_of(problem: Problem, optimum: Optimum, fitted: FittedEquation, tasks: TaskSet) -> str:
    """Return a sentence on a fit that did not converge to anything of use; empty for one that did."""
    population = optimum.population
    # of two noise constants one may well not be needed, nor any where errors of the measurement explain all
    if fitted.row_accuracy.column is None and (label := _at_floor(problem, population)) is not None:
        return (
            f"the noise {label}has shrunk to its floor: the equation fits these data exactly, or they hold no noise; "
            "standard errors and log-likelihood mean little."
        )
    for output, noise, log_sigma in problem.model.noise.each(population.log_sigma):
        if noise.kind == "power" and abs(power := float(log_sigma[1])) > MOST_POWER - AT_FLOOR:
            return (
                f"the power of the noise {_of(output)}has run to its bound, {power:.3g}: these rows "
                "do not say how the noise follows the curve; take noise='additive' or 'proportional'."
            )
    if fitted.undetermined:
        which = dict.fromkeys(fitted.names[int(problem.design.constant[j])] for j in fitted.undetermined)
        return (
            f"the tasks do not determine {', '.join(which)} at the fitted population: the curve does not respond to "
            "it, it can be traded for another constant, or it has run to a bound. Look at units, initial values and "
            f"bounds; its standard error means nothing.{note_on_initial_values(fitted, problem.observations, tasks)}"
        )
    if optimum.message:
        return f"{optimum.message}; raise max_iter, or look at history_."
    return "" if problem.model.noise.normal else runs_off(problem, optimum, fitted.beta_error, fitted.names)


def _at_floor(problem: Problem, population: PopulationParameters) -> str | None:
    """Return of which output the noise has shrunk to its floor, in words; None where none has."""
    noise = problem.model.noise
    pairs = zip(noise.each(population.log_sigma), noise.each(problem.smallest_log_sigma), strict=True)
    for (output, part, log_sigma), (_, _, smallest) in pairs:
        if part.n_scales and bool((log_sigma <= smallest + AT_FLOOR)[: part.n_scales].all()):
            return _of(output)
    return None


def _of(output: Any) -> str:
    return "" if output is None else f"of output {output!r} "


def warn_of_fit(
    problem: Problem, optimum: Optimum, fitted: FittedEquation, posterior: Posterior, tasks: TaskSet, doubt: str
) -> None:
    """Warn of a fit that did not converge, of constants that are not determined, and of rows and tasks far off."""
    if doubt:
        warn(doubt, ConvergenceWarning)
    if not fitted.by_gradient_steps or bool((posterior.code == SolveCode.NOT_FINITE).any()):
        warn_of_codes(posterior.code, tasks.names, "fit")
    warn_of_outliers(fitted, posterior, problem.observations, tasks.names)
    # residuals of data without noise are rounding, and what the searches left
    if _at_floor(problem, optimum.population) is None:
        column, updated = time_column(fitted.function, tasks), problem.prior is not None
        warn_of_correlation(fitted, posterior, problem.observations, column, updated=updated)
