"""The fit of an equation whose constants vary between tasks and between units within them.

The units stand where a fit without levels has its tasks: checks, starts and a first population are the same
(`fit.pipeline`). Expectation-maximisation divides its covariance among the levels (`unit_em`), L-BFGS ends at the
maximum of the evidence of all levels together (`unit_search`), and the rest of a fit's end is that of any other.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.equations.fit.em import first_population, with_first_correlation
from metaest.estimators.equations.fit.linearised import invert
from metaest.estimators.equations.fit.pipeline import (
    FitResult,
    Setting,
    doubt_of,
    explain,
    in_given_weights,
    problem_of,
    searched,
    warn_of_fit,
)
from metaest.estimators.equations.fit.problem import Optimum, Problem
from metaest.estimators.equations.fit.starts import spread_of
from metaest.estimators.equations.fit_checkpoint import FitCheckpoint
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.row_accuracy import with_mean_weight_one
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.equations.structures import Average
from metaest.estimators.equations.units.em import em_of_units, first_levels
from metaest.estimators.equations.units.fitted import FittedLevels
from metaest.estimators.equations.units.levels import LevelColumns, Units, Variation
from metaest.estimators.equations.units.posterior import posterior_of_units, unit_posterior_of
from metaest.estimators.equations.units.problem import LevelPopulation, UnitProblem
from metaest.estimators.equations.units.search import (
    UnitOptimum,
    maximise_units,
    revive_levels,
    without_level_variation,
)
from metaest.estimators.seen_tasks import hashed
from metaest.exceptions import warn
from metaest.functional import PopulationParameters
from metaest.functional.progress import Bar
from metaest.population import Parameter
from metaest.tasks import TaskSet

__all__ = ["fit_levels", "fit_units", "settings_of_units"]

_logger = logging.getLogger("metaest.fit")


def settings_of_units(settings: FitSettings, variation: Variation, columns: LevelColumns, names: list[str]) -> Any:
    """Return the settings of a fit whose tasks are the units: what varies anywhere, and columns without levels."""

    def moved(label: Any, argument: str) -> Any:
        return columns.place_in_rest(int(label), argument) if isinstance(label, (int, np.integer)) else label

    covariates = None
    if settings.covariates is not None:
        covariates = {
            name: moved(given, "covariates")
            if isinstance(given, (str, int))
            else [moved(label, "covariates") for label in given]
            for name, given in settings.covariates.items()
        }
    varying = settings.time_varying
    if varying is not None and not isinstance(varying, (str, int)):
        varying = [moved(label, "time_varying") for label in varying]
    return replace(
        settings,
        time_varying=moved(varying, "time_varying"),
        random=[names[k] for k in variation.union],
        covariance="diagonal" if all(variation.diagonal) else "full",
        covariates=covariates,
        measurement_sd=moved(settings.measurement_sd, "measurement_sd"),
        correlation_time=moved(settings.correlation_time, "correlation_time"),
        levels=None,
    )


def fit_units(
    settings: FitSettings,
    equation: tuple[Callable[..., Tensor], Mapping[str, Parameter | float]],
    tasks: TaskSet,
    units: Units,
    columns: LevelColumns,
    rng: np.random.Generator,
    *,
    flat: bool,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit an equation to the units of tasks.

    Parameters
    ----------
    settings : FitSettings
    equation : (callable, dict of str to Parameter or float)
        The equation, of the columns that are no levels, and its parameters.
    tasks : TaskSet
    units : Units
        Of these tasks.
    columns : LevelColumns
    rng : Generator
    flat : bool
        Whether the tasks came as flat rows.
    checkpoint : Checkpoint, optional

    Returns
    -------
    FitResult
        Its posterior is that of the units.
    """
    variation = _variation(settings, equation[1], tasks, units)
    of_units = settings_of_units(settings, variation, columns, list(equation[1]))
    given, (weighted, shift) = units.tasks, with_mean_weight_one(units.tasks)
    problem, setting = problem_of(of_units, equation, weighted, given, flat, FitCheckpoint(checkpoint))
    history: list[tuple[int, float]] = []
    search = partial(_search, of_units, setting.initial, weighted, units, variation, history)
    problem, setting, optimum, _ = searched(problem, setting, search)
    whole = UnitProblem(problem, units.places, variation)
    optimum, none = without_level_variation(whole, optimum)
    _logger.info("%d iterations, log-evidence %.6g: %s", optimum.n_iter, -optimum.loss, optimum.message or "converged")
    if shift:
        log_sigma = problem.model.noise.scaled(optimum.levels.log_sigma, 0.5 * shift)
        problem, _ = in_given_weights(problem, _as_units(optimum), given, shift)
        whole = whole._replace(units=problem)
        levels = optimum.levels._replace(log_sigma=log_sigma)
        loss, n_iter, message = optimum.loss, optimum.n_iter, optimum.message
        optimum = UnitOptimum.of(whole, levels, optimum.by_level, loss, n_iter, message)
    fitted, posterior = _finished(whole, optimum, setting, none, columns, tasks)
    doubt = doubt_of(problem, _as_units(optimum), fitted, given)
    warn_of_fit(problem, _as_units(optimum), fitted, posterior, given, doubt)
    error = torch.full((len(setting.table),), torch.nan, dtype=torch.float64)
    how = setting.mode, setting.reason, setting.compiled.compiled, setting.compiled.reason
    n_iter = max(1, optimum.n_iter, len(history))
    return FitResult(fitted, posterior, -optimum.loss, n_iter, history, *how, error, doubt)


def _variation(settings: FitSettings, parameters: Mapping[str, Any], tasks: TaskSet, units: Units) -> Variation:
    """Return which constants vary where, with a warning where a level has nothing to tell from."""
    variation = Variation.of(settings, parameters)
    sizes = [len(paths) for paths in units.places.paths]
    if len(tasks) == 1 and variation.random[0]:
        warn(
            "one task says nothing about the variation between tasks: at that level all constants are taken as shared.",
        )
        variation = replace(variation, random=((), *variation.random[1:]))
    for level in range(1, len(sizes)):
        if sizes[level] == sizes[level - 1] and variation.random[level]:
            warn(
                f"levels: each unit outside {variation.names[level]!r} has one unit there, so that the two variances "
                "cannot be told apart; leave the level out."
            )
    return variation


def _as_units(optimum: UnitOptimum) -> Optimum:
    """Return the optimum as that of innermost units."""
    return Optimum(optimum.population, optimum.u, optimum.loss, optimum.n_iter, optimum.message)


def _search(
    settings: FitSettings,
    initial: Tensor,
    tasks: TaskSet,
    units: Units,
    variation: Variation,
    history: list[tuple[int, float]],
    problem: Problem,
) -> tuple[UnitOptimum, None]:
    """Search for the population; `problem`, `settings` and `tasks` are those of the units."""
    history.clear()
    start, u = first_population(
        problem.with_independent_rows(), initial, len(problem.design.constant), verbose=settings.verbose
    )
    start, u = with_first_correlation(problem, start, u)
    if not np.isfinite(problem.log_evidence(start, u)):
        explain(problem, initial, start, tasks)
    whole = UnitProblem(problem, units.places, variation)
    with Bar(settings.verbose, None, "iterations") as bar:

        def report(step: int, loss: float) -> None:
            if step == 1:
                history.clear()  # a search that began anew
            history.append((step, loss))
            bar.advance()
            bar.say(loss=f"{loss:.5g}")

        levels = first_levels(whole, start)
        population, by_level = em_of_units(whole, levels, whole.divided(levels, problem.at(start).constants(u)))
        optimum = maximise_units(whole, population, by_level, max_iter=settings.max_iter, report=report)
        return revive_levels(whole, optimum, max_iter=settings.max_iter, report=report), None


def _finished(
    problem: UnitProblem,
    optimum: UnitOptimum,
    setting: Setting,
    none: tuple[tuple[int, ...], ...],
    columns: LevelColumns,
    tasks: TaskSet,
) -> tuple[FittedEquation, Posterior]:
    """Return the fitted equation with its levels and standard errors, and the posterior of the training units."""
    levels, units = optimum.levels, problem.units
    result = problem.search(levels, optimum.by_level)
    normal, _, _ = problem.coefficients(levels, result.u)
    covariance, undetermined = invert(normal.numpy())
    trained = unit_posterior_of(problem, levels, result.u, result.loss, result.code)
    variation = problem.variation
    random = variation.union
    flat = tuple(
        k for k in random if all(k in none[level] for level, chosen in enumerate(variation.random) if k in chosen)
    )
    fitted = FittedEquation(
        setting.table,
        setting.model,
        PopulationParameters(levels.beta, _factor_of_all(levels, random), levels.log_sigma),
        setting.covariates,
        covariance,
        tuple(torch.nonzero(undetermined)[:, 0].tolist()),
        random,
        flat,
        units.solver,
        spread_of(units.observations),
        setting.row_accuracy,
        None,
        FittedLevels(columns, variation, levels.factors, none, trained, hashed(tasks.names)),
    )
    return fitted, posterior_of_units(fitted, trained)


def _factor_of_all(levels: LevelPopulation, random: tuple[int, ...]) -> Tensor:
    """Return a root of the covariance of all levels together, (constants, random)."""
    rows = torch.cat(levels.factors, dim=1)[list(random)]
    factor = rows.new_zeros(len(levels.factors[0]), len(random))
    if random:
        values, vectors = torch.linalg.eigh(rows @ rows.T)
        factor[list(random)] = vectors * values.clamp(min=0).sqrt()
    return factor


def fit_levels(
    settings: FitSettings,
    equation_of: Callable[[TaskSet], Any],
    tasks: TaskSet,
    seed: int,
    *,
    flat: bool,
    checkpoint: Checkpoint | None = None,
) -> Average:
    """Take tasks apart into units, and fit the equation of these; see :func:`fit_units`."""
    assert settings.levels is not None
    columns = LevelColumns.learn(settings.levels, tasks)
    units, rng = columns.units(tasks, "fit"), np.random.default_rng(seed)
    equation = equation_of(units.tasks)
    result = fit_units(settings, equation, tasks, units, columns, rng, flat=flat, checkpoint=checkpoint)
    return Average((result,), settings, None)
