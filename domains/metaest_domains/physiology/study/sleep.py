"""Study reaction times over ten days of sleep deprivation, leaving out one person at a time, beside lme4."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from metaest import EquationRegressor, MAMLRegressor, Parameter, TaskSet
from metaest.diagnostics import LeaveOneOut, leave_one_task_out, pooled
from metaest_datasets import load_reference, load_sleepstudy
from metaest_domains.physiology.study.guarding import guarded

__all__ = ["METHODS", "leave_one_sleeper_out", "line", "sleep_table"]

METHODS = {
    "equation": "a line each (EquationRegressor)",
    "equation_guarded": "a line each, guarded",
    "maml": "meta-learned network",
    "maml_guarded": "meta-learned network, guarded",
    "pooled": "pooled network, not adapted",
    "lme4_mse": "mixed-effects model, lme4 (reference)",
}


def line(X: Tensor, start: Tensor, slope: Tensor) -> Tensor:
    """Return the reaction time after a number of days."""
    return start + slope * X[:, 0]


def leave_one_sleeper_out(*, n_jobs: int = -1, progress: bool = False) -> LeaveOneOut:
    """Predict each of the eighteen people from 0, 1, 2, 3 and 5 days, on the support sets of the lme4 reference.

    Parameters
    ----------
    n_jobs : int, default=-1
        Number of processes; -1 for all processors.
    progress : bool, default=False
        True shows a progress bar.

    Returns
    -------
    LeaveOneOut
        ``errors`` has a column for each method, in ms^2.
    """
    equation = EquationRegressor(line, {"start": Parameter(250.0, unit="ms"), "slope": Parameter(10.0, unit="ms/day")})
    network = MAMLRegressor(random_state=0)
    methods: dict[str, Callable[[TaskSet], Any]] = {
        "equation": equation.fit,
        "equation_guarded": partial(guarded, equation),
        "maml": network.fit,
        "maml_guarded": partial(guarded, network),
        "pooled": partial(pooled, network),
    }
    torch.set_num_threads(1)
    return leave_one_task_out(
        methods, load_sleepstudy(), load_reference("sleepstudy"), n_jobs=n_jobs, progress=progress
    )


def sleep_table(errors: pd.DataFrame, scheme: str) -> pd.DataFrame:
    """Return the root mean squared error over people and repetitions, by method and number of days.

    Parameters
    ----------
    errors : DataFrame
        Errors of :func:`leave_one_sleeper_out`.
    scheme : {"random", "first"}
        Days to adapt to: drawn at random, or the first ones.

    Returns
    -------
    DataFrame
        One row for each method, one column for each number of days; in ms.
    """
    of_scheme = errors[errors["scheme"] == scheme]
    table = of_scheme.groupby("k")[list(METHODS)].mean().pow(0.5).rename(columns=METHODS).T
    table.columns.name = "days"
    return table
