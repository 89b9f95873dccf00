r"""The choice of noise, covariance and varying constants by tasks left out, and which structures are averaged.

A structure is a kind of noise, a kind of covariance and the constants that vary between tasks. The loss of a task under
a structure is the mean squared error of its other rows, after adapting to the support rows that the settings say, from
a fit without the task. Structures within one standard error (over tasks, of the difference) of the best are averaged;
their mean curve is taken only where its loss is one standard error below that of the default structure: additive noise,
a full covariance, all constants. On which structures a task is averaged to be judged is decided by the other tasks.

Where fits without tasks would take too long, by a formula of shapes, the loss is that of AICc, from one fit each: twice
the negative log-evidence of a task and its share of the penalty :math:`2k + 2k(k + 1)/(n - k - 1)` for k fitted numbers
and n tasks (Hurvich and Tsai, 1989, :doi:`10.1093/biomet/76.2.297`).
"""

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.equations.batches import whole
from metaest.estimators.equations.fit.pipeline import FitResult, fit_population
from metaest.estimators.equations.many_tasks import query_predictions
from metaest.estimators.equations.map_estimate import map_estimate
from metaest.estimators.equations.settings import FitSettings
from metaest.exceptions import DivergenceError, quiet
from metaest.functional import negative_log_evidence
from metaest.functional.progress import progress
from metaest.population.parameter import Parameter
from metaest.tasks import Task, TaskSet

__all__ = ["Average", "fit_structures"]

_logger = logging.getLogger("metaest.fit")

NOISES = ("additive", "proportional", "combined", "power")
COVARIANCES = ("full", "diagonal")
# constants that backward steps make shared at most, one after the other
MOST_DROPPED = 3
FOLDS = 4
# tasks from which structures are compared: fewer say nothing about the error of their losses
FEWEST_TASKS = 5
# episodes in all for which each task's support is drawn again, and draws of a task at most
EPISODES = 100
MOST_DRAWS = 20
# work of a fit, in rows, that does not depend on how many there are; and of the equation one task at a time
OF_A_FIT = 1000
ONE_BY_ONE = 30
# work of all fits, in rows, from which AICc is taken
MOST_WORK = 1_000_000

Array = NDArray[np.float64]
GivenEquation = tuple[Callable[..., Tensor], Mapping[str, Parameter | float]]


class Average(NamedTuple):
    """What was chosen: the fits that are averaged, the best first, the settings of the best, and what was compared.

    Attributes
    ----------
    members : tuple of FitResult
        One where nothing is averaged.
    settings : FitSettings
    table : DataFrame or None
        None where nothing was to be chosen.
    """

    members: tuple[FitResult, ...]
    settings: FitSettings
    table: pd.DataFrame | None


class _Fold(NamedTuple):
    """Tasks to fit on, and episodes of those left out."""

    train: TaskSet
    episodes: TaskSet
    # the number of the task of each row of the episodes
    task: NDArray[np.intp]


class _Structure:
    """A structure with its fit on all tasks, and the losses of tasks by it."""

    def __init__(self, settings: FitSettings, result: FitResult) -> None:
        self.settings, self.result = settings, result
        self.failure = f"not converged: {result.doubt}" if result.doubt else ""
        self.truth: Array = np.empty(0)
        self.prediction: Array = np.empty(0)
        self.task: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.losses: Array = np.empty(0)


def fit_structures(
    settings: FitSettings,
    equation_of: Callable[[TaskSet], GivenEquation],
    tasks: TaskSet,
    seed: int,
    *,
    flat: bool,
    checkpoint: Checkpoint | None = None,
) -> Average:
    """Fit the equation of some tasks; where settings are "auto", in several structures, and choose among them.

    A checkpoint keeps the fit of the default structure; after an interrupt the others are fitted again.
    """
    equation = equation_of(tasks)
    fit = partial(fit_population, equation=equation, tasks=tasks, flat=flat)
    default = _default(settings)
    result = fit(default, rng=np.random.default_rng(seed), checkpoint=checkpoint)
    if default == settings:
        return Average((result,), settings, None)
    first = _Structure(default, result)
    if len(tasks) < FEWEST_TASKS:
        first.failure = f"not compared: {len(tasks)} tasks, and {FEWEST_TASKS} are wanted"
        return Average((result,), default, _table([first], None, [first]))
    pairs, subsets = _kinds(settings, default), MOST_DROPPED if settings.random == "auto" else 0
    n_fits = (len(pairs) + subsets) * FOLDS
    work = n_fits * (OF_A_FIT + len(tasks.X)) * (1 if result.mode == "rows" else ONE_BY_ONE)
    folds = [] if work > MOST_WORK else _folds(tasks, seed)
    judge = partial(_judged, equation=equation, tasks=tasks, folds=folds, seed=seed, flat=flat, default=result)
    structures = [judge(default, result=result)]
    with quiet(Warning):
        for noise, covariance in progress(pairs[1:], bool(settings.verbose), "structures", "structure"):
            structures.append(judge(replace(default, noise=noise, covariance=covariance)))
        if settings.random == "auto":
            structures += _backwards(structures, judge)
    return _choice(structures, by_folds=bool(folds))


def _default(settings: FitSettings) -> FitSettings:
    """Return the settings with the default structure in place of "auto"."""
    defaults = {"noise": "additive", "covariance": "full", "random": None}
    asked = {
        k: v for k, v in defaults.items() if isinstance(getattr(settings, k), str) and getattr(settings, k) == "auto"
    }
    return replace(settings, **asked) if asked else settings  # type: ignore[arg-type]


def _kinds(settings: FitSettings, default: FitSettings) -> list[tuple[str, str]]:
    """Return pairs of noise and covariance, the default first."""
    noises: tuple[Any, ...] = NOISES if settings.noise == "auto" else (default.noise,)
    several = default.random is None or len(default.random) > 1
    covariances = COVARIANCES if settings.covariance == "auto" and several else (str(default.covariance),)
    return list(itertools.product(noises, covariances))


def _backwards(structures: list[_Structure], judge: Callable[..., _Structure]) -> list[_Structure]:
    """Return structures in which more and more constants are shared, those of which rows say least first."""
    able = [s for s in structures if not s.failure] or structures[:1]
    best = min(able, key=lambda s: s.losses.mean() if len(s.losses) else np.inf)
    added: list[_Structure] = []
    for _ in range(MOST_DROPPED):
        fitted = best.result.fitted
        if len(fitted.random) < 2:
            break
        left = fitted.shrinkage(best.result.posterior).mean(dim=1)
        dropped = max(fitted.random, key=lambda k: float(left[k]))
        names = [fitted.names[k] for k in fitted.random if k != dropped]
        best = judge(replace(best.settings, random=names))
        added.append(best)
    return added


def _folds(tasks: TaskSet, seed: int) -> list[_Fold]:
    """Return folds of tasks; each task left out stands as often in the episodes as its support is drawn."""
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(tasks)) % FOLDS
    draws = int(np.clip(-(-EPISODES // len(tasks)), 1, MOST_DRAWS))
    folds = []
    for i in range(FOLDS):
        left_out = np.flatnonzero(fold == i)
        copies = [(int(t), _named(tasks[int(t)], f"{t}, draw {d}")) for t in left_out for d in range(draws)]
        numbers = np.repeat([t for t, _ in copies], [len(task) for _, task in copies])
        train = TaskSet([tasks[int(t)] for t in np.flatnonzero(fold != i)])
        folds.append(_Fold(train, TaskSet([task for _, task in copies]), numbers))
    return folds


def _named(task: Task, name: str) -> Task:
    """Return a task under another name."""
    return Task(
        name,
        task.X,
        task.y,
        support=task.support,
        feature_names=task.feature_names,
        target_names=task.target_names,
        sample_weight=task.sample_weight,
        level_labels=task.level_labels,
    )


def _judged(
    settings: FitSettings,
    *,
    equation: GivenEquation,
    tasks: TaskSet,
    folds: list[_Fold],
    seed: int,
    flat: bool,
    default: FitResult,
    result: FitResult | None = None,
) -> _Structure:
    """Fit a structure to all tasks, where that was not done, and to the folds; return it with the losses of tasks."""
    fit = partial(fit_population, settings, equation, flat=flat)
    with quiet(Warning):
        try:
            result = result or fit(tasks, np.random.default_rng(seed))
        except DivergenceError as error:
            return _failed(settings, default, f"failed: {error}")
    structure = _Structure(settings, result)
    if not folds:
        structure.losses = _losses_by_aicc(result, tasks, settings)
        return structure
    truths, predictions, numbers = [], [], []
    for i, (train, episodes, task) in enumerate(folds):
        try:
            with quiet(Warning):
                fitted = fit(train, np.random.default_rng(seed)).fitted
                truth, prediction, rows = query_predictions(
                    fitted, episodes, settings.support_size, settings.split, np.random.default_rng([seed, i])
                )
        except (DivergenceError, ArithmeticError) as error:
            structure.failure = structure.failure or f"failed on left-out tasks: {error}"
            return structure
        truths.append(truth)
        predictions.append(prediction)
        numbers.append(task[rows])
    structure.truth, structure.prediction = np.concatenate(truths), np.concatenate(predictions)
    structure.task = np.concatenate(numbers)
    structure.losses = _losses(structure.truth - structure.prediction, structure.task)
    return structure


def _failed(settings: FitSettings, default: FitResult, failure: str) -> _Structure:
    """Return a structure without a fit; what stands in its place is never used."""
    structure = _Structure(settings, default)
    structure.failure = failure
    return structure


def _losses(residuals: Array, task: NDArray[np.intp]) -> Array:
    """Return the mean squared residual of each task."""
    _, owner = np.unique(task, return_inverse=True)
    return np.asarray(np.bincount(owner, residuals**2) / np.bincount(owner))


def _losses_by_aicc(result: FitResult, tasks: TaskSet, settings: FitSettings) -> Array:
    """Return the share of each task in AICc."""
    fitted, n = result.fitted, len(tasks)
    design, observations = fitted.design_of_tasks(tasks), whole(tasks)
    found = map_estimate(fitted.map_solver, fitted.model, fitted.point(design), observations)
    evidence = negative_log_evidence(fitted.model, fitted.population, design, observations, found.u).detach().numpy()
    m = len(fitted.random)
    k = len(fitted.population.beta) + (m if settings.diagonal else m * (m + 1) // 2) + len(fitted.population.log_sigma)
    penalty = 2 * k + (2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf)
    return np.asarray(2 * evidence + penalty / n)


def _choice(structures: list[_Structure], *, by_folds: bool) -> Average:
    """Return the average of structures as good as the best, where it is better than the default structure."""
    default = structures[0]
    able = [s for s in structures if not s.failure and np.isfinite(s.losses).all()]
    if not len(default.losses) or not able or not np.isfinite(default.losses).all():
        return Average((default.result,), default.settings, _table(structures, None, [default]))
    losses = np.stack([s.losses for s in able])
    near = _near_best(losses)
    n = losses.shape[1]
    if by_folds:
        _, owner = np.unique(default.task, return_inverse=True)
        predictions = np.stack([s.prediction for s in able])
        judged = np.empty(len(owner))
        for t in range(n):  # the task itself has no say in what predicts it
            rows = owner == t
            judged[rows] = predictions[_near_best(np.delete(losses, t, axis=1))][:, rows].mean(axis=0)
        average = _losses(default.truth - judged, default.task)
    else:
        average = losses[near].mean(axis=0)
    saved = default.losses - average
    if not _is_better(saved):
        return Average((default.result,), default.settings, _table(structures, losses, [default]))
    chosen = sorted((able[i] for i in near), key=lambda s: float(s.losses.mean()))
    return Average(tuple(s.result for s in chosen), chosen[0].settings, _table(structures, losses, chosen))


def _is_better(saved: Array) -> bool:
    """Tell whether what an average saves of the loss of each task is more than its standard error."""
    error = float(saved.std(ddof=1) / np.sqrt(len(saved)))
    _logger.info("an average of structures saves %.4g of the default's loss, +- %.4g", float(saved.mean()), error)
    return bool(saved.mean() > error)


def _near_best(losses: Array) -> NDArray[np.intp]:
    """Return the structures, of (structures, tasks), within a standard error of the best."""
    more = losses - losses[losses.mean(axis=1).argmin()]
    error = more.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    return np.flatnonzero(more.mean(axis=1) <= error)


def _table(structures: list[_Structure], losses: Array | None, chosen: list[_Structure]) -> pd.DataFrame:
    """Return one row a structure: its loss, the standard error of the difference from the best, weight and status."""
    best = None if losses is None else losses[losses.mean(axis=1).argmin()]
    rows = []
    for structure in structures:
        fitted, compared = structure.result.fitted, len(structure.losses) > 0
        random = structure.settings.random
        varying = [fitted.names[k] for k in fitted.random] if random is None else random
        more = structure.losses - best if compared and best is not None else None
        rows.append(
            {
                "noise": structure.settings.noise,
                "covariance": structure.settings.covariance,
                "random": ", ".join(varying),
                "loss": float(structure.losses.mean()) if compared else np.nan,
                "standard_error": np.nan if more is None else float(more.std(ddof=1) / np.sqrt(len(more))),
                "weight": 1 / len(chosen) if structure in chosen else 0.0,
                "converged": not structure.failure.startswith(("not converged", "failed:")),
                "status": structure.failure or ("compared" if compared else "not compared"),
            }
        )
    return pd.DataFrame(rows)
