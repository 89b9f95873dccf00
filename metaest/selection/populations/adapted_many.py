"""AdaptedPopulationAverages: the parts of an average adapted to many tasks, weighed anew for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.conformal import Calibration
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.inputs import tasks_by_name
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictors
from metaest.selection.populations.adapted import AdaptedPopulationAverage
from metaest.selection.populations.columns import PartColumns
from metaest.selection.populations.parts import speaking_for
from metaest.selection.populations.weighting import Weighting, log_evidence
from metaest.tasks import TaskSet

__all__ = ["AdaptedPopulationAverages"]


class AdaptedPopulationAverages(AdaptedPredictors[AdaptedPopulationAverage]):
    """The averages of many tasks, adapted in one call by ``adapt_many``; a sequence in the order of the tasks.

    Attributes
    ----------
    weights_ : DataFrame
        One row a task, one column a part: its weight given the rows of the task.
    log_evidence_ : DataFrame
        Logarithm of the evidence of the rows of each task under each part.
    members_ : dict of str to AdaptedEquations
        The parts, adapted to all tasks, by name.
    tasks : TaskSet
        The tasks that were adapted to, with the columns of all parts.
    """

    # attributes that a file holds
    _written_fields = (
        "_part_columns",
        "_weighting",
        "_adapted",
        "tasks",
        "_conformal",
        "n_features_in_",
        "feature_names_in_",
    )

    def __init__(
        self,
        columns: PartColumns,
        weighting: Weighting,
        adapted: Sequence[Any],
        tasks: TaskSet,
        conformal: Calibration | None = None,
    ) -> None:
        self._part_columns, self._weighting, self._adapted = columns, weighting, tuple(adapted)
        self.tasks, self._conformal, self.n_features_in_ = tasks, conformal, columns.n
        if columns.reads is not None:
            self.feature_names_in_ = np.array(columns.columns, dtype=object)

    @property
    def _evidence(self) -> NDArray[np.float64]:
        """Logarithms of the evidence, of shape (n_tasks, n_parts)."""
        return np.stack([log_evidence(one, "adapt_many") for one in self._adapted], axis=1)

    @property
    def _weights(self) -> NDArray[np.float64]:
        return self._weighting.weights(self._evidence)

    @property
    def _populations(self) -> list[tuple[FittedEquation, ...]]:
        """The equations of the parts, as the model has them."""
        return [(one._fitted, *getattr(one, "_further", ())) for one in self._adapted]

    @property
    def weights_(self) -> pd.DataFrame:
        """Weights of the parts, one row a task."""
        return self._by_task(self._weights)

    @property
    def log_evidence_(self) -> pd.DataFrame:
        """Logarithms of the evidence under the parts, one row a task."""
        return self._by_task(self._evidence)

    @property
    def members_(self) -> dict[str, Any]:
        """The adapted parts, by name."""
        return dict(zip(self._part_columns.parts, self._adapted, strict=True))

    def _one(self, i: int) -> AdaptedPopulationAverage:
        adapted = [many[i] for many in self._adapted]
        X = self.tasks[i].X
        return AdaptedPopulationAverage._make(self._part_columns, self._weighting, adapted, X, self._conformal)

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the same rows for every task, or each task's own rows, by the mean of the parts' curves.

        Parameters
        ----------
        X
            As :meth:`AdaptedEquations.predict` takes it, with the columns of all parts.

        Returns
        -------
        ndarray of shape (n_tasks, n_rows), or (n_rows_of_all_tasks,) for a TaskSet
        """
        X, weights = tasks_by_name(X), self._weights
        if isinstance(X, TaskSet):
            self._require_same(X)
            split: Sequence[Any] = self._part_columns.split_tasks(X, "predict")
            weights = np.repeat(weights, X.sizes, axis=0)
        else:
            X = self._part_columns.completed(X, [many._fitted.function for many in self._adapted], "predict")
            split, weights = self._part_columns.split(X, "predict"), weights[:, :, None]
        total = np.zeros(())
        for k, (name, many) in enumerate(zip(self._part_columns.parts, self._adapted, strict=True)):
            with speaking_for(name):
                total = total + weights[:, k] * many.predict(split[k])
        return total

    def _by_task(self, values: NDArray[np.float64]) -> pd.DataFrame:
        index = pd.Index(self.tasks.names, name="task", tupleize_cols=False)
        return pd.DataFrame(values, index=index, columns=pd.Index(self._part_columns.parts, name="part"))
