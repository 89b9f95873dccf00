"""Study theophylline, leaving out one patient at a time: networks and equations beside a mixed-effects model."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from sklearn.base import clone

from metaest import MAMLRegressor
from metaest.diagnostics import LeaveOneOut, fine_tuned, from_scratch, leave_one_task_out, pooled
from metaest_datasets import load_reference, load_theophylline
from metaest_domains.physiology.pharmacokinetics import OneCompartmentRegressor
from metaest_domains.physiology.study.guarding import guarded

__all__ = ["METHODS", "leave_one_patient_out", "rmse_table"]

# the same random constants and noise as in the reference
EQUATION = OneCompartmentRegressor(
    parametrization="rate", random=["clearance", "absorption"], covariance="full", noise="additive", random_state=0
)
METHODS = {
    "maml": "meta-learned, adapted (MAMLRegressor)",
    "maml_guarded": "meta-learned, guarded",
    "fine_tuned": "pooled network, fine-tuned",
    "pooled": "pooled network, not adapted",
    "scratch": "network fitted to the samples alone",
    "equation": "one compartment (OneCompartmentRegressor)",
    "equation_guarded": "one compartment, guarded",
    "nlme_mse": "mixed-effects model, nlme (reference)",
}


def leave_one_patient_out(
    model: MAMLRegressor | None = None,
    *,
    methods: Sequence[str] | None = None,
    n_jobs: int = -1,
    progress: bool = False,
) -> LeaveOneOut:
    """Predict each of the twelve patients from 0, 1, 2, 3 and 5 samples, on the support sets of the nlme reference.

    Parameters
    ----------
    model : MAMLRegressor, optional
        The network; None takes the defaults of the library, which were chosen on simulated tasks.
    methods : sequence of str, optional
        Some of METHODS; all by default.
    n_jobs : int, default=-1
        Number of processes; -1 for all processors.
    progress : bool, default=False
        True shows a progress bar.

    Returns
    -------
    LeaveOneOut
        ``errors`` has a column for each of the methods, in (mg/L)^2.
    """
    model = MAMLRegressor(random_state=0) if model is None else model
    fits = {
        "maml": clone(model).fit,
        "maml_guarded": partial(guarded, model),
        "fine_tuned": partial(fine_tuned, model),
        "pooled": partial(pooled, model),
        "scratch": partial(from_scratch, model),
        "equation": partial(guarded, EQUATION, guard=False),
        "equation_guarded": partial(guarded, EQUATION),
    }
    chosen = {name: fit for name, fit in fits.items() if methods is None or name in methods}
    tasks = load_theophylline(exclude_time_zero=True)
    return leave_one_task_out(chosen, tasks, load_reference("theophylline"), n_jobs=n_jobs, progress=progress)


def rmse_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Return the root mean squared error over patients and repetitions, by method and support size.

    Parameters
    ----------
    errors : DataFrame
        Errors of :func:`leave_one_patient_out`.

    Returns
    -------
    DataFrame
        One row for each method, one column for each support size; in mg/L.
    """
    methods = [name for name in METHODS if name in errors]
    table = errors.groupby("k")[methods].mean().pow(0.5).rename(columns=METHODS).T
    if "scratch" in methods:
        table.loc[METHODS["scratch"], 0] = np.nan  # without a sample there is nothing to fit
    table.columns.name = "samples"
    return table
