"""Answers of a fitted equation about a task without rows, from the population alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.arguments import require_count
from metaest.estimators.equations.answers import MOST_SIMULATED, curve, curve_and_sd
from metaest.estimators.equations.average import Part, intervals, mean_curves, mixture, simulations
from metaest.estimators.equations.checks import require_finite_curve
from metaest.estimators.equations.draws import draws_of_prior
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.next_rows import suggest_rows
from metaest.tasks.random_state import generator_of

__all__ = ["predict", "predict_interval", "predict_mean", "simulate", "suggest"]

# one equation in the structures that are averaged, the best first
Members = Sequence[FittedEquation]


def predict(members: Members, X: NDArray[Any], return_std: bool) -> Any:
    """Return the curve of the median task, and its standard deviation where that is asked for."""
    function = members[0].function
    if return_std:
        mean, std = mixture([_by_covariates(f, X, partial(_curve_and_sd, f)) for f in members])
        return require_finite_curve(function, X, mean, "predict"), std
    curves = [_by_covariates(f, X, partial(_curve, f))[0] for f in members]
    mean = curves[0] if len(curves) == 1 else np.mean(curves, axis=0)
    return require_finite_curve(function, X, mean, "predict")


def _curve(fitted: FittedEquation, prior: Posterior, X: NDArray[Any], _: Any) -> tuple[NDArray[Any], ...]:
    return (curve(fitted, prior, X),)


def _curve_and_sd(fitted: FittedEquation, prior: Posterior, X: NDArray[Any], _: Any) -> tuple[NDArray[Any], ...]:
    return curve_and_sd(fitted, prior, X)


def predict_interval(
    members: Members, X: NDArray[Any], level: float, of: str, sample_weight: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ends of an interval for every row."""
    weight = members[0].row_accuracy.of_predicted(sample_weight, len(X), of)

    def answer(_: Posterior, rows: NDArray[Any], chosen: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        weights = None if weight is None else weight[chosen]
        return intervals(_parts(members, rows, "predict_interval"), rows, level, of, weights)

    low, high = _by_covariates(members[0], X, answer)
    require_finite_curve(members[0].function, X, high - low, "predict_interval")
    return low, high


def predict_mean(members: Members, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the curves of the population."""

    def answer(_: Posterior, rows: NDArray[Any], chosen: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        return (mean_curves(_parts(members, rows, "predict_mean"), rows),)

    return _by_covariates(members[0], X, answer)[0]


def simulate(members: Members, X: NDArray[Any], n: int, random_state: Any, sample_weight: Any) -> NDArray[np.float64]:
    """Return observations of n tasks with the rows X, of shape (n, rows)."""
    weight = members[0].row_accuracy.of_new_rows(sample_weight, len(X), "simulate")
    require_count(n, "n", 1, most=MOST_SIMULATED)
    rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
    return simulations(_parts(members, X, "simulate"), X, n, rng, weight)


def _parts(members: Members, X: NDArray[Any], where: str) -> list[Part]:
    """Return the members with draws of their priors, of the one task that the rows X belong to."""
    return [Part(fitted, draws_of_prior(_prior_of_rows(fitted, X, where))) for fitted in members]


def suggest(
    members: Members, X: NDArray[Any], n: int, target: str | None, cost: Any, sample_weight: Any
) -> NDArray[np.intp]:
    """Return the numbers of the n rows whose measurement would teach most; of an average, by its best structure."""
    fitted = members[0]
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
