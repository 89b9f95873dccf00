"""Adapt to a few rows of a left-out task, predict the rest, and put errors and coverage in a table."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Method", "Prediction", "compare", "draw_supports", "evaluate", "table_of"]

RESAMPLED = 4000
# rows of a task at which intervals are looked at: the rows of a curve are close together
INTERVAL_ROWS = 40


class Prediction(NamedTuple):
    """What a method says after it has seen a few rows.

    Attributes
    ----------
    curve : callable
        X -> y.
    interval : callable or None
        X -> (lower, upper), 90 %.
    constants : dict of str to float
        Empty for methods without any.
    """

    curve: Callable[[NDArray[Any]], NDArray[Any]]
    interval: Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]] | None = None
    constants: Mapping[str, float] = {}


Method = Callable[[NDArray[Any], NDArray[Any]], Prediction]


def draw_supports(n_rows: int, size: int, repetitions: int, key: list[int]) -> Iterator[NDArray[np.intp]]:
    """Yield row numbers of random supports, the same for a key whatever else was drawn."""
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
    """Return one row a method, size and repetition: mean squared error, coverage, errors of constants.

    Parameters
    ----------
    methods : dict of str to callable
    X, y : ndarray
        All rows of the left-out task.
    name : str
        Of the task.
    sizes : list of int
    repetitions : int
    key : list of int
        Of the random supports.
    truth : dict of str to float
        Constants of the fit to the whole task.
    """
    found = []
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
                found.append(record)
    return found


def table_of(records: pd.DataFrame, column: str = "mse") -> pd.DataFrame:
    """Return methods by sizes: the root of the mean over tasks for squared errors, the mean for the rest."""
    means = records.groupby(["method", "k"], sort=False)[column].mean().unstack("k")
    return means**0.5 if column == "mse" else means


def compare(records: pd.DataFrame, method: str, others: list[str]) -> pd.DataFrame:
    """Return the ratio of a method's RMSE to that of others, with 95 % intervals over resampled tasks.

    Parameters
    ----------
    records : DataFrame
        As :func:`evaluate` returns it.
    method : str
    others : list of str

    Returns
    -------
    DataFrame
        A row a rival and size: ``ratio``, ``lower``, ``upper``, and ``ahead``, the share of tasks on which the
        method's mean squared error is the lower one.
    """
    rng = np.random.default_rng(0)
    found = []
    for other in others:
        for k, own in records.groupby("k"):
            errors = own.groupby(["task", "method"])["mse"].mean().unstack("method")[[method, other]].dropna()
            if errors.empty:
                continue
            ours, theirs = errors.to_numpy(float).T
            drawn = rng.integers(0, len(ours), (RESAMPLED, len(ours)))
            ratios = (ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1)) ** 0.5
            lower, upper = np.quantile(ratios, [0.025, 0.975])
            ratio = float((ours.mean() / theirs.mean()) ** 0.5)
            found.append([other, k, ratio, lower, upper, float(np.mean(ours < theirs))])
    return pd.DataFrame(found, columns=["rival", "k", "ratio", "lower", "upper", "ahead"]).set_index(["rival", "k"])
