"""Adapt to a few rows of a left-out task, predict the rest, and put errors and coverage in a table."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Method", "Prediction", "compare", "draw_supports", "evaluate", "table_of"]

# bootstrap samples of the tasks for an interval: its ends move by less than 1 % between seeds
RESAMPLED = 4000
# rows of a task at which coverage is counted: the rows of a curve are close together
INTERVAL_ROWS = 40


class Prediction(NamedTuple):
    """Predictions and constants of a method that has seen a few rows.

    Attributes
    ----------
    curve : callable
        ``curve(X)`` returns y.
    interval : callable or None
        ``interval(X)`` returns the ends (lower, upper) of 90 % intervals.
    constants : dict of str to float
        Fitted constants; empty for methods without any.
    """

    curve: Callable[[NDArray[Any]], NDArray[Any]]
    interval: Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]] | None = None
    constants: Mapping[str, float] = {}


Method = Callable[[NDArray[Any], NDArray[Any]], Prediction]


def draw_supports(n_rows: int, size: int, repetitions: int, key: list[int]) -> Iterator[NDArray[np.intp]]:
    """Yield row numbers of random supports, which depend on the key, the size and the repetition only."""
    for repetition in range(repetitions):
        rng = np.random.default_rng([*key, size, repetition])
        yield np.sort(rng.permutation(n_rows)[:size])


def evaluate(
    methods: Mapping[str, Method],
    X: NDArray[Any],
    y: NDArray[Any],
    name: Any,
    sizes: list[int],
    repetitions: int,
    key: list[int],
    truth: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Return a record for each method, size and repetition: mean squared error, coverage, errors of constants.

    Parameters
    ----------
    methods : dict of str to callable
    X, y : ndarray
        All rows of the left-out task.
    name : str
        Name of the task.
    sizes : list of int
        Numbers of support rows.
    repetitions : int
        Random supports of each size.
    key : list of int
        Seed of the random supports.
    truth : dict of str to float
        Constants of the fit to the whole task.
    """
    records = []
    for size in sizes:
        for repetition, rows in enumerate(draw_supports(len(y), size, repetitions if size else 1, key)):
            rest = np.setdiff1d(np.arange(len(y)), rows)
            few = rest[np.linspace(0, len(rest) - 1, min(INTERVAL_ROWS, len(rest))).astype(int)]
            for method, adapt in methods.items():
                prediction = adapt(X[rows], y[rows])
                record = {"method": method, "task": name, "k": size, "repetition": repetition}
                record["mse"] = float(np.mean(np.square(prediction.curve(X[rest]) - y[rest])))
                if prediction.interval is not None:
                    low, high = prediction.interval(X[few])
                    record["covered"] = float(np.mean((low <= y[few]) & (y[few] <= high)))
                for constant, value in truth.items():
                    if constant in prediction.constants:
                        record[constant] = abs(prediction.constants[constant] - value)
                records.append(record)
    return records


def table_of(records: pd.DataFrame, column: str = "mse") -> pd.DataFrame:
    """Return methods by sizes: the root of the mean over tasks for squared errors, the mean for the rest."""
    means = records.groupby(["method", "k"], sort=False)[column].mean().unstack("k")
    return means**0.5 if column == "mse" else means


def compare(records: pd.DataFrame, method: str, others: list[str]) -> pd.DataFrame:
    """Return the ratio of a method's RMSE to that of others, with 95 % intervals over resampled tasks.

    Parameters
    ----------
    records : DataFrame
        Records of :func:`evaluate`.
    method : str
    others : list of str

    Returns
    -------
    DataFrame
        A row for each rival and size: ``ratio``, ``lower``, ``upper``, and ``ahead``, the share of tasks on which the
        method has the lower mean squared error.
    """
    rng = np.random.default_rng(0)
    rows = []
    for other in others:
        for k, of_size in records.groupby("k"):
            errors = of_size.groupby(["task", "method"])["mse"].mean().unstack("method")[[method, other]].dropna()
            if errors.empty:
                continue
            mse, rival_mse = errors.to_numpy(float).T
            drawn = rng.integers(0, len(mse), (RESAMPLED, len(mse)))
            ratios = (mse[drawn].mean(axis=1) / rival_mse[drawn].mean(axis=1)) ** 0.5
            lower, upper = np.quantile(ratios, [0.025, 0.975])
            ratio = float((mse.mean() / rival_mse.mean()) ** 0.5)
            rows.append([other, k, ratio, lower, upper, float(np.mean(mse < rival_mse))])
    return pd.DataFrame(rows, columns=["rival", "k", "ratio", "lower", "upper", "ahead"]).set_index(["rival", "k"])
