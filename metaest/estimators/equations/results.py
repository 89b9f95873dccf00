"""The fitted attributes of an equation, and the predictions its score is made of."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from metaest.estimators.equations.batches import chunks, rows_of
from metaest.estimators.equations.censoring import as_recorded, without_codes
from metaest.estimators.equations.checks import check_values
from metaest.estimators.equations.derived import quantity_table
from metaest.estimators.equations.fit.pipeline import Fitted
from metaest.estimators.equations.fitted import Calibrated
from metaest.estimators.equations.tables import (
    coefficient_table,
    information_criteria,
    many_table,
    matrix_table,
    noise_names,
    population_table,
)
from metaest.exceptions import DivergenceError
from metaest.functional.progress import progress
from metaest.tasks import TaskSet, split_tasks

__all__ = ["attributes", "query_predictions"]


def attributes(fitted: Fitted, tasks: TaskSet, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes by name."""
    calibrated = fitted.calibrated
    aic, bic, _ = information_criteria(
        calibrated, fitted.log_likelihood, settings["covariance"] == "diagonal", len(tasks.X)
    )
    noise = calibrated.population.log_sigma.exp().numpy()
    return {
        "n_iter_": fitted.n_iter,
        "n_tasks_": len(tasks),
        "n_rows_": len(tasks.X),
        "n_features_in_": tasks.X.shape[1],
        "n_outputs_": 1,
        "_fitted_settings": settings,
        "batching_": fitted.mode,
        "batching_reason_": fitted.reason,
        "compiled_": fitted.compiled,
        "compiled_reason_": fitted.compiled_reason,
        "population_": population_table(calibrated),
        "derived_": quantity_table(calibrated),
        "coefficients_": coefficient_table(calibrated),
        "covariance_": matrix_table(calibrated, correlation=False),
        "correlation_": matrix_table(calibrated, correlation=True),
        "noise_": pd.Series(noise, index=noise_names(calibrated.model.noise.kind), name="noise"),
        "task_params_": many_table(calibrated, fitted.posterior, tasks.names),
        "log_likelihood_": fitted.log_likelihood,
        "aic_": aic,
        "bic_": bic,
        "history_": pd.DataFrame(fitted.history, columns=["iteration", "loss"]),
    }


def query_predictions(
    calibrated: Calibrated,
    tasks: TaskSet,
    support_size: Any,
    split: str,
    rng: np.random.Generator,
    *,
    verbose: bool = False,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Adapt to the support of every task and predict its query; `verbose` shows a progress bar.

    Returns
    -------
    truth, prediction : ndarray of shape (n_query_rows,)
        Both no lower than the limit of quantification in rows whose observation lies below it.
    rows : ndarray of shape (n_query_rows,)
        Their row numbers in the TaskSet.

    Raises
    ------
    DivergenceError
        When a prediction is not finite; the message names the task.
    """
    limit = calibrated.model.noise.limit
    tasks = without_codes(tasks, limit)
    drawn = split_tasks(tasks, np.arange(len(tasks)), support_size, split, rng)
    design = calibrated.covariates.design(calibrated.covariates.of_tasks(tasks), len(calibrated.table))
    predictions, numbers = [], []
    for chosen in progress(chunks(tasks.sizes), verbose, "tasks scored", "task", len(tasks), len):
        support = rows_of(tasks, drawn.support[chosen], drawn.support_mask[chosen])
        query = rows_of(tasks, drawn.query[chosen], drawn.query_mask[chosen])
        posterior = calibrated.posterior(design.take(torch.from_numpy(chosen)), support)
        with torch.no_grad():
            curves = calibrated.model.curve(posterior.phi, query).T.numpy()
        mask = drawn.query_mask[chosen]
        bad = np.flatnonzero((~np.isfinite(curves) & mask).any(axis=1))
        if len(bad):
            name = tasks.name_of(int(chosen[bad[0]]))
            rows = drawn.query[chosen[bad[0]]][drawn.query_mask[chosen[bad[0]]]]
            values = curves[bad[0]][mask[bad[0]]]
            check_values(calibrated.model.equation.function, tasks.X[rows], values, f"task {name!r}")
            raise DivergenceError(f"task {name!r}: the equation is not finite in a row that is to be predicted.")
        predictions.append(curves[mask])
        numbers.append(drawn.query[chosen][mask])
    rows = np.concatenate(numbers)
    truth, prediction = tasks.y[rows].astype(np.float64).reshape(-1), np.concatenate(predictions)
    return truth, as_recorded(limit, truth, prediction), rows
