"""Compare a suggested next measurement with a random one, on tasks left out in turn."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from metaest import IdentifiabilityWarning, TaskSet, UnlikelyTaskWarning
from metaest_domains.kinetics.catalogue import KineticRegressor
from metaest_domains.kinetics.study.evaluation import draw_supports

__all__ = ["gains_of", "study_next_point"]

# number of rows that may be suggested: the rows of a curve are close together
CANDIDATES = 30
Constants = dict[str, float]


def study_next_point(
    tasks: TaskSet,
    model: KineticRegressor,
    report: Callable[[Constants], Constants],
    whole: Callable[[NDArray[Any], NDArray[Any]], Constants] | None = None,
    *,
    repetitions: int = 5,
    jobs: int = 1,
) -> pd.DataFrame:
    """Adapt to two random rows of each left-out task, then add a third: a random one, or the suggested one.

    Parameters
    ----------
    tasks : TaskSet
    model : KineticRegressor
        Fitted to the other tasks each time.
    report : callable
        ``report(constants)`` returns the values whose errors count.
    whole : callable, optional
        ``whole(X, y)`` returns the constants of a whole task; by default the model adapted to all of its rows.
    repetitions : int, default=5
        Random pairs of rows for each task.
    jobs : int, default=1
        Processes.

    Returns
    -------
    DataFrame
        A row for each plan, task and repetition: absolute errors of the reported values, and ``mse`` over the rows not
        used.
    """
    records = Parallel(jobs)(delayed(_fold)(tasks, i, model, report, whole, repetitions) for i in range(len(tasks)))
    return pd.DataFrame([record for fold in records for record in fold])


def gains_of(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each plan: mean absolute errors, and the root of the mean squared error in y."""
    means = records.drop(columns="task").groupby("plan", sort=False).mean()
    return means.assign(rmse=means["mse"] ** 0.5).drop(columns="mse")


def _fold(
    tasks: TaskSet,
    held: int,
    model: KineticRegressor,
    report: Callable[[Constants], Constants],
    whole: Callable[[NDArray[Any], NDArray[Any]], Constants] | None,
    repetitions: int,
) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    for kind in (IdentifiabilityWarning, UnlikelyTaskWarning):
        warnings.simplefilter("ignore", kind)
    model.fit(tasks[[i for i in range(len(tasks)) if i != held]])
    X = tasks[held].X
    y = tasks[held].y.reshape(-1)
    truth = report(whole(X, y) if whole else _constants(model.adapt(X, y)))
    records = []
    for repetition, rows in enumerate(draw_supports(len(y), 2, repetitions, [held])):
        first = model.adapt(X[rows], y[rows])
        left = np.setdiff1d(np.arange(len(y)), rows)
        candidates = left[np.linspace(0, len(left) - 1, min(CANDIDATES, len(left))).astype(int)]
        rng = np.random.default_rng([held, repetition])
        plans = {
            "two points": rows,
            "a third at random": np.append(rows, rng.choice(left)),
            "a third as suggested": np.append(rows, candidates[first.suggest(X[candidates])[0]]),
        }
        for plan, chosen in plans.items():
            adapted = model.adapt(X[chosen], y[chosen])
            values = report(_constants(adapted))
            rest = np.setdiff1d(np.arange(len(y)), chosen)
            errors = {name: abs(values[name] - value) for name, value in truth.items()}
            mse = float(np.square(adapted.predict(X[rest]) - y[rest]).mean())
            records.append({"plan": plan, "task": held, **errors, "mse": mse})
    return records


def _constants(adapted: Any) -> Constants:
    return {str(name): float(value) for name, value in adapted.params_["value"].items()}
