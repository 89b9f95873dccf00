"""The levels of a fitted equation, and what a model with levels answers; the model asks it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.units.adapted import AdaptedUnits, adapted_units
from metaest.estimators.equations.units.adapted_many import AdaptedManyUnits, adapted_many_units
from metaest.estimators.equations.units.levels import LevelColumns, Variation
from metaest.estimators.equations.units.posterior import UnitPosterior
from metaest.estimators.equations.units.problem import LevelPopulation
from metaest.estimators.equations.units.scores import unit_predictions
from metaest.estimators.equations.units.tables import summary_with_levels, with_levels
from metaest.estimators.seen_tasks import hashed
from metaest.exceptions import IdentifiabilityWarning, quiet
from metaest.tasks import TaskSet

__all__ = ["FittedLevels"]


@dataclass(frozen=True, eq=False)
class FittedLevels:
    """The levels of a fitted equation.

    Attributes
    ----------
    columns : LevelColumns
    variation : Variation
    factors : tuple of Tensor of shape (constants, random)
        Roots of the covariances, from the outermost level inwards.
    none : tuple of tuple of int
        By level, constants that show no variation there.
    trained : UnitPosterior
        The units of the training tasks; no row is in it.
    task_hashes : ndarray of shape (tasks,)
        Hashes of the names of the training tasks.
    """

    columns: LevelColumns
    variation: Variation
    factors: tuple[Tensor, ...]
    none: tuple[tuple[int, ...], ...]
    trained: UnitPosterior
    task_hashes: NDArray[np.uint64]

    def population(self, fitted: FittedEquation) -> LevelPopulation:
        """Return the population of an equation, with its levels."""
        return LevelPopulation(fitted.population.beta, self.factors, fitted.population.log_sigma)

    def adapted(
        self,
        columns: Columns,
        fitted: FittedEquation,
        X: Any,
        y: Any,
        sample_weight: Any,
        within: Any,
        conformal: Calibration | None,
    ) -> AdaptedUnits:
        """Adapt to rows of one task, of the training task `within` where that is not None; `columns` are of the fit."""
        earlier = None if within is None else self._trained(within)
        return adapted_units(columns, fitted, X, y, sample_weight, "adapt", earlier=earlier, conformal=conformal)

    def _trained(self, name: Any) -> UnitPosterior:
        """Return the units of a training task, by its name."""
        same = np.flatnonzero(self.task_hashes == hashed([name])[0])
        if not len(same):
            raise ValueError(f"adapt: within={name!r} is no training task; task_params_ has their names.")
        return self.trained.of_task(int(same[0]))

    def adapted_many(
        self,
        columns: Columns,
        fitted: FittedEquation,
        tasks: Any,
        sample_weight: Any,
        conformal: Calibration | None,
    ) -> AdaptedManyUnits:
        """Adapt to the units of many tasks."""
        return adapted_many_units(columns, fitted, tasks, sample_weight, conformal)

    def log_evidence(
        self, columns: Columns, fitted: FittedEquation, tasks: Any, sample_weight: Any
    ) -> tuple[Tensor, NDArray[Any]]:
        """Return the logarithm of the evidence of tasks by Laplace's approximation, and their names."""
        with quiet(IdentifiabilityWarning):
            adapted = adapted_many_units(columns, fitted, tasks, sample_weight)
        return adapted.log_evidence, adapted.tasks.names

    def simulated(
        self, columns: Columns, fitted: FittedEquation, X: Any, n: int, random_state: Any, sample_weight: Any
    ) -> NDArray[np.float64]:
        """Draw observations of new tasks with rows X."""
        new_task = adapted_units(columns, fitted, [], [], None, "simulate")
        return np.asarray(new_task.simulate(X, n, random_state, sample_weight))

    def query_predictions(
        self, columns: Columns, fitted: FittedEquation, tasks: TaskSet, split: tuple[Any, str, np.random.Generator]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """Adapt to the support of every task and predict its query; `split` says how these are drawn."""
        return unit_predictions(columns, fitted, tasks, *split)

    def attributes(self, fitted: FittedEquation, learned: dict[str, Any], tasks: TaskSet) -> dict[str, Any]:
        """Return fitted attributes with what levels change and add."""
        return with_levels(fitted, learned, tasks)

    def summarise(self, fitted: FittedEquation, text: str, learned: Mapping[str, Any]) -> str:
        """Return a summary with the variation at each level."""
        return summary_with_levels(fitted, text, learned)
