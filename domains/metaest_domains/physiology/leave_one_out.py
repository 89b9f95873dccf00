"""Leave-one-patient-out on theophylline: each patient predicted from a few samples by a model that never saw them."""

from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from tqdm.auto import tqdm

from metaest import MAMLRegressor, Task, TaskSet
from metaest.diagnostics import ScratchRegressor, fine_tuned, from_scratch, pooled
from metaest_datasets import load_reference, load_theophylline

__all__ = ["METHODS", "LeaveOneOut", "leave_one_patient_out", "rmse_table"]

METHODS = {
    "maml": "meta-learned, adapted (MAMLRegressor)",
    "fine_tuned": "pooled network, fine-tuned",
    "pooled": "pooled network, not adapted",
    "scratch": "network fitted to the samples alone",
}


class LeaveOneOut(NamedTuple):
    """Results of :func:`leave_one_patient_out`.

    Attributes
    ----------
    errors : DataFrame
        One row a patient and support set: ``task``, ``k``, ``rep``, ``support``, and the mean squared error of each
        method and of nlme over the patient's other samples, in (mg/L)^2.
    models : dict of str to MAMLRegressor
        For each patient, the model meta-learned from all the others.
    tasks : TaskSet
    """

    errors: pd.DataFrame
    models: dict[str, MAMLRegressor]
    tasks: TaskSet


def leave_one_patient_out(
    model: MAMLRegressor | None = None, *, n_jobs: int = -1, progress: bool = False
) -> LeaveOneOut:
    """Predict each of the twelve patients from 0, 1, 2, 3 and 5 samples, on the support sets of the nlme reference.

    Parameters
    ----------
    model : MAMLRegressor, optional
        None takes the library's defaults, which were chosen on simulated tasks.
    n_jobs : int, default=-1
        Processes; each fits on one thread.
    progress : bool, default=False

    Returns
    -------
    LeaveOneOut
    """
    tasks = load_theophylline(exclude_time_zero=True)
    reference = load_reference("theophylline")
    model = MAMLRegressor(random_state=0) if model is None else model
    names = tasks.names.tolist()
    jobs = (joblib.delayed(_one_patient)(clone(model), tasks, i, reference) for i in range(len(tasks)))
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    results = list(tqdm(parallel(jobs), total=len(tasks), desc="patients", unit="patient", disable=not progress))
    errors = pd.concat([frame for frame, _ in results], ignore_index=True)
    return LeaveOneOut(errors, {name: fitted for name, (_, fitted) in zip(names, results, strict=True)}, tasks)


def rmse_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Root of the mean squared error over patients and repetitions, one row a method, one column a support size.

    Parameters
    ----------
    errors : DataFrame
        As in :class:`LeaveOneOut`.

    Returns
    -------
    DataFrame
        In mg/L.
    """
    labels = {**METHODS, "nlme_mse": "mixed-effects model, nlme (reference)"}
    mean = errors.groupby("k")[list(labels)].mean()
    table = np.sqrt(mean).rename(columns=labels).T
    table.loc[METHODS["scratch"], 0] = np.nan  # without a sample there is nothing to fit
    return table.rename_axis(columns="samples")


def _one_patient(
    model: MAMLRegressor, tasks: TaskSet, i: int, reference: pd.DataFrame
) -> tuple[pd.DataFrame, MAMLRegressor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks are slower on several, and twelve fits fill the machine
    try:
        others, patient = tasks[np.delete(np.arange(len(tasks)), i)], tasks[i]
        fitted = {
            "maml": model.fit(others),
            "pooled": pooled(model, others),
            "fine_tuned": fine_tuned(model, others),
            "scratch": from_scratch(model, others),
        }
        sets = reference[reference["task"] == patient.name]
        errors = [
            {name: _squared_error(method, patient, np.array(support, dtype=int)) for name, method in fitted.items()}
            for support in sets["support"]
        ]
    finally:
        torch.set_num_threads(threads)
    columns = sets[["task", "k", "rep", "support", "nlme_mse"]].reset_index(drop=True)
    return pd.concat([columns, pd.DataFrame(errors)], axis=1), model


def _squared_error(model: MAMLRegressor | ScratchRegressor, patient: Task, support: NDArray[Any]) -> float:
    query = np.setdiff1d(np.arange(len(patient)), support)
    predictor = model.adapt(patient.X[support], patient.y[support]) if len(support) else model
    return float(np.square(predictor.predict(patient.X[query]) - patient.y[query]).mean())
