"""Answers of a fitted equation about a task without rows, from the population alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.arguments import require_count
from metaest.estimators.equations.answers import (
    MOST_SIMULATED,
    curve,
    curve_and_sd,
    interval,
    mean_curve,
    simulated,
)
from metaest.estimators.equations.checks import require_finite_curve
from metaest.estimators.equations.draws import draws_of_prior
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.next_rows import suggest_rows
from metaest.tasks.random_state import generator_of

__all__ = ["predict", "predict_interval", "predict_mean", "simulate", "suggest"]


def predict(fitted: FittedEquation, X: NDArray[Any], return_std: bool) -> Any:
    """Return the curve of the median task, and its standard deviation where that is asked for."""
    if return_std:
        mean, std = _by_covariates(fitted, X, lambda prior, rows, _: curve_and_sd(fitted, prior, rows))
        return require_finite_curve(fitted.function, X, mean, "predict"), std
    [mean] = _by_covariates(fitted, X, lambda prior, rows, _: (curve(fitted, prior, rows),))
    return require_finite_curve(fitted.function, X, mean, "predict")


def predict_interval(
    fitted: FittedEquation, X: NDArray[Any], level: float, of: str, sample_weight: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ends of an interval for every row."""
    weight = fitted.row_accuracy.of_predicted(sample_weight, len(X), of)

    def answer(prior: Posterior, rows: NDArray[Any], chosen: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        weights = None if weight is None else weight[chosen]
        return interval(fitted, draws_of_prior(prior), rows, level, of, weights)

    low, high = _by_covariates(fitted, X, answer)
    require_finite_curve(fitted.function, X, high - low, "predict_interval")
    return low, high


def predict_mean(fitted: FittedEquation, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the curves of the population."""
    return _by_covariates(fitted, X, lambda prior, rows, _: (mean_curve(fitted, draws_of_prior(prior), rows),))[0]


def simulate(
    fitted: FittedEquation, X: NDArray[Any], n: int, random_state: Any, sample_weight: Any
) -> NDArray[np.float64]:
    """Return observations of n tasks with the rows X, of shape (n, rows)."""
    weight = fitted.row_accuracy.of_new_rows(sample_weight, len(X), "simulate")
    require_count(n, "n", 1, most=MOST_SIMULATED)
    rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
    return simulated(fitted, draws_of_prior(_prior_of_rows(fitted, X, "simulate")), X, n, rng, weight)


def suggest(
    fitted: FittedEquation, X: NDArray[Any], n: int, target: str | None, cost: Any, sample_weight: Any
) -> NDArray[np.intp]:
    """Return the numbers of the n rows whose measurement would teach most."""
    weight = fitted.row_accuracy.of_new_rows(sample_weight, len(X), "suggest")
    return suggest_rows(fitted, _prior_of_rows(fitted, X, "suggest"), X, n, target, cost, weight)


def _prior_of_rows(fitted: FittedEquation, X: NDArray[Any], where: str) -> Posterior:
    """Return the prior of the one task that the rows X belong to."""
    return fitted.prior_of(fitted.covariates.of_rows(X, where))


def _by_covariates(
    fitted: FittedEquation,
    X: NDArray[Any],
    answer: Callable[[Posterior, NDArray[Any], NDArray[np.intp]], tuple[NDArray[Any], ...]],
) -> list[NDArray[Any]]:
    """Answer for each combination of covariates as for one task, and return the answers in the order of the rows."""
    covariates = fitted.covariates
    groups, member = np.unique(X[:, list(covariates.columns)].astype(np.float64), axis=0, return_inverse=True)
    if not covariates.columns:
        groups, member = np.zeros((1, 0)), np.zeros(len(X), dtype=np.intp)
    parts: list[NDArray[Any]] = []
    for g, values in enumerate(groups):
        rows = np.flatnonzero(member == g)
        results = answer(fitted.prior_of(values), X[rows], rows)
        parts = parts or [np.empty(len(X)) for _ in results]
        for whole, part in zip(parts, results, strict=True):
            whole[rows] = part
    return parts
