"""From an estimator's settings and tasks to a fitted equation."""

import logging
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.equations.batches import evenly, whole
from metaest.estimators.equations.censoring import check_data
from metaest.estimators.equations.checks import check_tasks, warn_of_codes, warn_of_outliers
from metaest.estimators.equations.compiled import lane_model
from metaest.estimators.equations.covariates import Covariates
from metaest.estimators.equations.fit.em import without_variation
from metaest.estimators.equations.fit.laplace import Maximum, Scope
from metaest.estimators.equations.fit.linearised import invert, linearise
from metaest.estimators.equations.fit.search import search
from metaest.estimators.equations.fit.starts import sizes, spread_of
from metaest.estimators.equations.fit_checkpoint import Journal
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.estimators.equations.map_estimate import most_probable
from metaest.estimators.equations.parameter import check_names, check_parameters, transforms_of
from metaest.estimators.equations.row_accuracy import Weighing, evened
from metaest.exceptions import warn
from metaest.functional import (
    Equation,
    GaussNewton,
    GradientDescent,
    HierarchicalModel,
    Noise,
    Observations,
    SolveCode,
)
from metaest.functional.equations.probing import agrees_one_by_one, check_equation, choose_mode
from metaest.tasks import TaskSet

__all__ = ["Fitted", "calibrate"]

_logger = logging.getLogger("metaest.fit")

# the noise is never taken as smaller than this share of the spread of the targets
FLOOR = 1e-6
DELTA = 1e-3
PROBE_TASKS, PROBE_ROWS = 4, 5
# how far the constants of the probe lie from the user's, in the unconstrained space
WOBBLES = (0.1, 2.0)
CHECKED = 200
RUNAWAY = 20.0
# response of the curve to a constant, as a share of the spread of the data, below which there is none
FLAT = 1e-6


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
    compiled : bool
    compiled_reason : str
    """

    calibrated: Calibrated
    posterior: Posterior
    log_likelihood: float
    n_iter: int
    history: list[tuple[int, float]]
    mode: str
    reason: str
    compiled: bool
    compiled_reason: str


def calibrate(
    settings: Any, tasks: TaskSet, rng: np.random.Generator, *, flat: bool, checkpoint: Checkpoint | None = None
) -> Fitted:
    """Fit the equation of `settings` (an estimator) to tasks, which may have come as flat rows; `settings` is kept."""
    given, (tasks, shift) = tasks, evened(tasks)
    function, parameters = settings.problem(tasks)
    table = check_parameters(parameters, function)
    names = list(table)
    check_tasks(function, tasks)
    weighing = Weighing.learn(settings.measurement_sd, given)
    random = [names.index(name) for name in check_names(settings.random, table, "random")]
    covariates = Covariates.learn(settings.covariates, names, tasks)
    random = check_data(settings, tasks, names, random, flat=flat)
    design = covariates.design(covariates.of_tasks(tasks), len(names))
    y = tasks.y.astype(np.float64)
    limit = None if settings.limit is None else float(settings.limit)
    noise = Noise(settings.noise, DELTA * float(np.sqrt(np.square(y).mean())), limit, weighing.column)
    transforms = transforms_of(table)
    equation = Equation(function, names)
    initial = transforms.unconstrain(
        torch.tensor([float(parameter.initial) for parameter in table.values()], dtype=torch.float64)
    )
    observations = whole(tasks)
    model = HierarchicalModel(equation, transforms, noise)
    mode, reason = _probe(model, initial, observations, tasks)
    _logger.info("%d tasks, %d rows, noise=%r, objective=%r", len(tasks), len(y), settings.noise, settings.objective)
    _logger.info("the equation is evaluated by %s", reason)
    model = replace(model, equation=replace(equation, mode=mode))
    lanes = lane_model(settings, model, initial, len(random), observations)

    size = spread_of(observations)
    floor = torch.tensor(
        [{"additive": FLOOR * size}.get(settings.noise, FLOOR)] * noise.n_constants, dtype=torch.float64
    )
    if settings.noise == "combined":
        floor[0] = FLOOR * size
    diagonal, journal = settings.covariance == "diagonal", Journal(checkpoint)
    scope = Scope(lanes.model, design, observations, None, random, diagonal, floor.log(), GaussNewton(), journal)
    history: list[tuple[int, float]] = []
    maximum, solver = search(settings, scope, initial, tasks, rng, history)
    if not _still_agrees(scope, maximum):
        # the constants found let the equation branch as the probe did not
        mode, reason = "loop", f"{mode}: gives another result than one task at a time at the constants found"
        lanes = lanes._replace(compiled=False, reason=reason)
        model = replace(model, equation=replace(model.equation, mode="loop"))
        scope = scope._replace(model=model)
        history.clear()
        maximum, solver = search(settings, scope, initial, tasks, rng, history)
    maximum, still = without_variation(scope, maximum)
    ended = maximum.message or "converged"
    _logger.info("%d iterations, log-evidence %.6g: %s", maximum.n_iter, -maximum.loss, ended)
    if still:
        _logger.info("no variation between tasks: %s", ", ".join(names[k] for k in still))
    report = Report(history, mode, reason, maximum.message, lanes.compiled, lanes.reason)
    if shift:
        scope, maximum = _in_given_weights(scope, maximum, given, shift)
    return _finish(table, covariates, scope, maximum, still, solver, given, model, report, weighing)


def _in_given_weights(scope: Scope, maximum: Maximum, tasks: TaskSet, shift: float) -> tuple[Scope, Maximum]:
    """Return the same maximum for the weights as they were given: the noise is that of a row of weight 1."""
    population = maximum.population._replace(log_sigma=maximum.population.log_sigma + 0.5 * shift)
    smallest = scope.smallest_log_sigma + 0.5 * shift
    scope = scope._replace(observations=whole(tasks), smallest_log_sigma=smallest)
    return scope, maximum._replace(population=population)


def _still_agrees(scope: Scope, maximum: Maximum) -> bool:
    few = evenly(maximum.u.shape[1], CHECKED) if len(maximum.u) else evenly(scope.observations.y.shape[1], CHECKED)
    population = maximum.population
    center = scope.design.take(few).center(population.beta, len(population.factor))
    theta = scope.model.transforms.constrain(center + population.factor @ maximum.u[:, few])
    return agrees_one_by_one(scope.model.equation, theta, scope.observations.take(few))


class Report(NamedTuple):
    """What the search leaves to be told."""

    history: list[tuple[int, float]]
    mode: str
    reason: str
    message: str
    compiled: bool
    compiled_reason: str


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
    for wide in WOBBLES:
        wobble = wide * torch.sin(torch.arange(1.0, 1 + len(initial) * len(several)).double())
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
    wobble = WOBBLES[0] * torch.sin(torch.arange(1.0, 1 + len(initial)).double())
    return (initial + wobble * size)[:, None]


def _extreme_rows(tasks: TaskSet) -> Tensor:
    """Return rows in which a column is least or greatest over all tasks, and a few between."""
    numbers = {*tasks.X.argmin(axis=0).tolist(), *tasks.X.argmax(axis=0).tolist(), *evenly(len(tasks.X), 4).tolist()}
    return torch.from_numpy(tasks.X[sorted(numbers)].astype(np.float64))


def _word_on_start(table: Any, scope: Scope, tasks: TaskSet) -> str:
    """Return a sentence on the constants to which no curve responds at the initial values, where there are such."""
    values = torch.tensor([float(parameter.initial) for parameter in table.values()], dtype=torch.float64)
    phi = scope.model.transforms.unconstrain(values)
    curves, slopes = scope.model.curve_and_slopes(phi[:, None].expand(-1, len(tasks)), scope.observations)
    real = scope.observations.mask > 0
    # by how much a curve changes with a constant by its own size, or on a log or logit scale by one
    own = torch.tensor(
        [
            abs(float(v)) if kind == "identity" else 1.0
            for v, kind in zip(phi, scope.model.transforms.kinds, strict=True)
        ]
    )
    moves = (slopes.detach() * own[:, None, None])[:, real].abs()
    flat = ~(torch.nan_to_num(moves, nan=0.0, posinf=0.0).amax(dim=1) > FLAT * spread_of(scope.observations))
    which = [name for name, still in zip(table, flat.tolist(), strict=True) if still]
    if not which:
        return ""
    name, first = tasks.name_of(0), curves.detach()[:, 0][real[:, 0]]
    return (
        f" At the initial values ({', '.join(f'{name}={float(table[name].initial):.3g}' for name in which)}) no curve "
        f"responds to {', '.join(which)}: that of task {name!r} lies from {float(first.min()):.3g} to "
        f"{float(first.max()):.3g}. Give initial values at which the curve has the shape of the data."
    )


def _finish(
    table: Any,
    covariates: Covariates,
    scope: Scope,
    maximum: Maximum,
    flat: list[int],
    solver: GaussNewton | GradientDescent,
    tasks: TaskSet,
    model: HierarchicalModel,
    report: Report,
    weighing: Weighing,
) -> Fitted:
    population = maximum.population
    normal = linearise(scope.model, population, scope.design, scope.observations, maximum.u).normal
    covariance, undetermined = invert(normal)
    # on a log or logit scale an error of many units says that the constant has run to its bound
    bounded = torch.tensor([kind != "identity" for kind in scope.model.transforms.kinds])[scope.design.constant]
    runaway = bounded & (covariance.diagonal().clamp(min=0).sqrt() > RUNAWAY) & ~undetermined
    undetermined = undetermined | runaway
    covariance[runaway] = covariance[:, runaway] = 0.0
    calibrated = Calibrated(
        table,
        model,
        population,
        covariates,
        covariance,
        tuple(torch.nonzero(undetermined)[:, 0].tolist()),
        tuple(scope.random),
        tuple(flat),
        solver,
        spread_of(scope.observations),
        weighing,
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
        posterior = calibrated.posterior_at(phi, scope.design, known.matrix, found.loss, found.code)
    # of two noise constants one may well not be needed, nor any where errors of the measurement explain all
    if weighing.column is None and bool((population.log_sigma <= scope.smallest_log_sigma + 1e-3).all()):
        warn(
            "the noise has shrunk to its floor: the equation fits these data exactly, or they hold no noise; standard "
            "errors and log-likelihood mean little.",
            ConvergenceWarning,
        )
    elif undetermined.any():
        names = list(table)
        which = dict.fromkeys(names[int(k)] for k in scope.design.constant[undetermined])
        warn(
            f"the tasks do not determine {', '.join(which)} at the population found: the curve does not respond to "
            "it, it can be traded for another constant, or it has run to a bound. Look at units, initial values and "
            f"bounds; its standard error means nothing.{_word_on_start(table, scope, tasks)}",
            ConvergenceWarning,
        )
    elif report.message:
        warn(f"{report.message}; raise max_iter, or look at history_.", ConvergenceWarning)
    if not isinstance(solver, GradientDescent) or bool((posterior.code == SolveCode.NOT_FINITE).any()):
        warn_of_codes(posterior.code, tasks.names, "fit")
    warn_of_outliers(calibrated, posterior, scope.observations, tasks.names)
    return Fitted(
        calibrated,
        posterior,
        -maximum.loss,
        max(1, maximum.n_iter, len(report.history)),
        report.history,
        report.mode,
        report.reason,
        report.compiled,
        report.compiled_reason,
    )
