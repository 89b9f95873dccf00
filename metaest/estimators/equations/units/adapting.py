"""The search for the constants of all units of new tasks, under a population with levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.batches import whole
from metaest.estimators.equations.checks import check_rows, check_tasks, require_usable, warn_of_codes
from metaest.estimators.equations.correlation import check_times_of_tasks
from metaest.estimators.equations.fit.problem import Problem
from metaest.estimators.equations.fitted import IDENTIFIED, UNLIKELY, FittedEquation
from metaest.estimators.equations.map_estimate import map_estimate_and_misfit
from metaest.estimators.equations.noises import check_outputs
from metaest.estimators.equations.units.levels import LevelColumns, UnitPlaces, Units
from metaest.estimators.equations.units.posterior import UnitPosterior, posterior_of_units, unit_posterior_of
from metaest.estimators.equations.units.problem import UnitProblem, linear_posterior
from metaest.exceptions import IdentifiabilityWarning, TaskError, UnlikelyTaskWarning, warn
from metaest.functional import HierarchicalModel, Observations, SolveCode
from metaest.functional.equations.hierarchical import Information
from metaest.functional.equations.nested import NestedResult

__all__ = ["adapt_units", "with_earlier_rows"]


@dataclass(frozen=True)
class _WithEarlierRows(HierarchicalModel):
    """A model of units whose earlier rows are known by what they said: a quadratic form in the constants."""

    earlier: UnitPosterior | None = None

    def information(
        self, phi: Tensor, log_sigma: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> Information:
        """Return what the rows say together with the earlier ones."""
        rows = super().information(phi, log_sigma, observations, differentiable=differentiable)
        assert self.earlier is not None
        n = self.earlier.phi.shape[1]
        copies = phi.shape[1] // n  # points around the units are further ones, one set of units after the other
        matrix = self.earlier.information.repeat(1, 1, copies)
        away = phi - self.earlier.phi.repeat(1, copies)
        pulled, gradient = torch.einsum("pqt,qt->pt", matrix, away), self.earlier.gradient.repeat(1, copies)
        return Information(
            rows.loss + ((gradient + 0.5 * pulled) * away).sum(dim=0),
            rows.gradient + gradient + pulled,
            rows.matrix + matrix,
        )


def with_earlier_rows(
    fitted: FittedEquation, units: Units, earlier: UnitPosterior
) -> tuple[UnitProblem, UnitPosterior]:
    """Return the problem of units of one task some of which have earlier rows, new rows, or both."""
    design = fitted.design_of_tasks(units.tasks)
    new = list(units.places.paths[-1])
    paths = sorted({*new, *earlier.paths})
    of_rows = [new.index(path) if path in new else 0 for path in paths]
    observations = whole(units.tasks, np.array(of_rows))
    empty = torch.tensor([path not in new for path in paths])
    mask = torch.where(empty, 0.0, observations.mask)
    observations = observations._replace(mask=mask, full=bool((mask == 1).all()))
    before = [earlier.paths.index(path) if path in earlier.paths else None for path in paths]
    multiplier = torch.stack(
        [
            design.multiplier[:, k] if at is None else earlier.multiplier[:, at]
            for k, at in zip(of_rows, before, strict=True)
        ],
        dim=1,
    )
    remembered = earlier.at(paths, multiplier)
    model = _WithEarlierRows(fitted.model.equation, fitted.model.transforms, fitted.model.noise, remembered)
    problem = _problem(fitted, model, design._replace(multiplier=multiplier), observations)
    return UnitProblem(problem, UnitPlaces.of(paths), fitted.levels.variation), remembered


def _problem(fitted: FittedEquation, model: HierarchicalModel, design: Any, observations: Observations) -> Problem:
    none = torch.full_like(fitted.population.log_sigma, -torch.inf)
    return Problem(model, design, observations, None, list(fitted.random), False, none, fitted.map_solver)


def _best(problem: UnitProblem, fitted: FittedEquation, starts: list[list[Tensor] | None]) -> NestedResult:
    """Return for each task the most probable end of searches from several starts."""
    levels = fitted.levels.population(fitted)
    best: NestedResult | None = None
    for start in starts:
        result = problem.search(levels, start)
        if best is None:
            best = result
            continue
        before = torch.where(torch.isfinite(best.loss), best.loss, torch.inf)
        better, tree = result.loss < before - 1e-6, problem.tree(levels)
        at = [better[tree.task_of(level)] for level in range(len(result.u))]
        u = [torch.where(here, new, old) for here, new, old in zip(at, result.u, best.u, strict=True)]
        best = NestedResult(u, torch.where(better, result.loss, best.loss), torch.where(better, result.code, best.code))
    assert best is not None
    return best


def adapt_units(
    fitted: FittedEquation, units: Units, columns: LevelColumns, where: str, earlier: UnitPosterior | None = None
) -> UnitPosterior:
    """Adapt to the rows of all units of tasks, with the errors and warnings of `adapt`.

    Parameters
    ----------
    fitted : FittedEquation
        With levels.
    units : Units
    columns : LevelColumns
    where : str
        How messages begin.
    earlier : UnitPosterior, optional
        Of the one task these units belong to: what earlier rows said.
    """
    check_tasks(fitted.function, units.tasks)
    fitted.row_accuracy.check_tasks(units.tasks)
    check_times_of_tasks(fitted.model.noise.correlation, units.tasks)
    levels = fitted.levels.population(fitted)
    if earlier is None:
        design, observations = fitted.design_of_tasks(units.tasks), whole(units.tasks)
        problem = UnitProblem(
            _problem(fitted, fitted.model, design, observations), units.places, fitted.levels.variation
        )
        remembered = None
    else:
        if fitted.model.noise.correlation is not None:
            raise ValueError(f"{where}: within= and noise_correlation do not go together yet.")
        problem, remembered = with_earlier_rows(fitted, units, earlier)
    if remembered is None:
        phi, gradient, matrix, far = _alone(fitted, problem)
    else:
        phi, gradient, matrix, far = remembered.phi, remembered.gradient, remembered.information, torch.zeros(0)
    usable = bool(torch.isfinite(gradient).all() and torch.isfinite(matrix).all())
    tree, center = problem.tree(levels), problem.center(levels)
    start = linear_posterior(tree, center, phi, gradient, matrix).u if usable else None
    result = _best(problem, fitted, [None] if start is None else [start, None])
    lost = torch.nonzero(result.code == SolveCode.NOT_FINITE)[:, 0].tolist()
    if lost:
        _refuse(fitted, problem, units, lost[0], where)
    u = problem.search_again(levels, result.u) if remembered is None else result.u
    posterior = unit_posterior_of(problem, levels, u, result.loss, result.code)
    if remembered is not None:
        posterior = replace(posterior, earlier=remembered)
    names = np.array([str(path[1:]) for path in posterior.paths]) if remembered is not None else units.tasks.names
    _warn(fitted, posterior, names, far, where)
    return posterior


def _alone(fitted: FittedEquation, problem: UnitProblem) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return each unit's constants as if it were the one unit of its task, what its rows say there, and its misfit."""
    units = problem.units
    point = fitted.point(units.design)
    alone, far = map_estimate_and_misfit(fitted.map_solver, units.model, point, units.observations)
    phi = point.constants(alone.u)
    with torch.no_grad():
        _, gradient, matrix = units.model.information(phi, point.log_sigma, units.observations)
    return phi, gradient, matrix, far


def _refuse(fitted: FittedEquation, problem: UnitProblem, units: Units, task: int, where: str) -> None:
    """Raise a TaskError for a task at which nothing finite was found; it names the unit."""
    center = problem.center(fitted.levels.population(fitted))
    for k, path in enumerate(units.places.paths[-1]):
        if path[0] == task:
            unit = units.tasks[k]
            require_usable(fitted.model, center[:, :1], unit.X, f"{where}: unit {unit.name!r}")
    raise TaskError(f"{where}: the equation is not finite near the population's constants, in some row of X.")


def _warn(fitted: FittedEquation, units: UnitPosterior, names: NDArray[Any], far: Tensor, where: str) -> None:
    """Warn of searches that did not converge, units unlike those of the fit, and constants that rows do not tell."""
    posterior = posterior_of_units(fitted, units)
    warn_of_codes(posterior.code, names, where)
    unlikely = [names[k] for k in torch.nonzero(far > UNLIKELY)[:, 0].tolist()]
    if unlikely:
        warn(
            f"{where}: no curve of this population comes near the rows of {unlikely[0]!r} ({len(unlikely)} of "
            f"{len(names)} units in all); check their units of measurement, or treat the task as unlike those of the "
            "fit.",
            UnlikelyTaskWarning,
        )
    left = fitted.shrinkage(posterior).mean(dim=1)
    untold = [
        f"{fitted.names[k]} (they take away {100 * (1 - float(left[k])):.0f} % of its variance)"
        for k in fitted.varying
        if float(left[k]) > IDENTIFIED
    ]
    if untold:
        warn(
            f"{where}: the rows cannot tell {', '.join(untold)} of a unit; the population decides more. See params_.",
            IdentifiabilityWarning,
        )


def checked_rows(fitted: FittedEquation, X: NDArray[Any], where: str) -> None:
    """Let equation and accuracy refuse rows without levels that are to be predicted."""
    check_rows(fitted.function, X, None, where)
    fitted.row_accuracy.check(X, where)
    check_outputs(fitted.model.noise, X, where)
