"""Checks of objects from a file: shapes that agree, finite numbers, no negative variances."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.conformal import Scores
from metaest.estimators.equations.covariates import TimeVaryingEquation
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.gaussian.prior import TaskPrior
from metaest.estimators.networks.adapted import HoldsNetwork
from metaest.estimators.networks.adapted_many import AdaptedRegressors
from metaest.estimators.networks.base import BaseMAML
from metaest.estimators.predictor import AdaptedPredictor
from metaest.exceptions import ModelFileError
from metaest.functional import Scaling

__all__ = ["require_sound"]


def require_sound(thing: Any) -> None:
    """Raise a ModelFileError where an object from a file contradicts itself."""
    for kind, check in _CHECKS:
        if isinstance(thing, kind) and (fault := check(thing)):
            raise ModelFileError(f"its {type(thing).__name__} is inconsistent: {fault}.")


def _scaling(scaling: Scaling) -> str:
    if scaling.mean.shape != scaling.scale.shape or not scaling.mean.ndim:
        return "mean and scale have other shapes"
    return "" if _finite(scaling) and bool((scaling.scale > 0).all()) else "a scale is not above 0"


def _scores(scores: Scores) -> str:
    values, task = scores.values, scores.task
    if values.ndim != 2 or task.shape != (len(values),) or task.dtype.kind != "i":
        return "it has other numbers of scores and tasks"
    in_range = len(task) and task.min() >= 0 and task.max() < scores.n_tasks <= len(task)
    return "" if in_range and not (values < 0).any() else "a score belongs to no task, or is negative"


def _fitted(fitted: FittedEquation) -> str:
    p, population, covariates = len(fitted.table), fitted.population, fitted.covariates
    n = p + covariates.n_coefficients
    equation, transforms = fitted.model.equation, fitted.model.transforms
    shapes = (
        population.beta.shape == (n,)
        and fitted.beta_covariance.shape == (n, n)
        and population.factor.shape == (p, len(fitted.random))
        and population.log_sigma.shape == (fitted.model.noise.n_constants,)
        and len(transforms.lower) == len(transforms.upper) == p
        and len(covariates.mean) == len(covariates.scale) == len(covariates.constants) <= len(covariates.columns)
        and len(covariates.labels) == len(covariates.columns)
        and list(equation.names) == list(fitted.table)
    )
    by_row = fitted.by_row
    if by_row is not None:
        shapes = shapes and list(equation.names) == [*by_row.names, *by_row.slopes]
    if not shapes:
        return "constants, covariances and names are not equally many"
    shifted = (*covariates.constants, *(formulas.constant for formulas in covariates.formulas))
    if not all(0 <= k < p for k in (*fitted.random, *fitted.flat, *shifted)):
        return "it speaks of constants that are not there"
    if not _finite([*population, fitted.beta_covariance, *(fitted.uncertain or ())]):
        return "a constant or a covariance is not finite"
    if fitted.uncertain is not None:
        s = len(fitted.uncertain.log_scale)
        wanted = (s,), (s, n), (s, n, n), (s, p, len(fitted.random)), (s,)
        if not s or any(part.shape != shape for part, shape in zip(fitted.uncertain, wanted, strict=True)):
            return "the populations that it may be have other shapes"
    return "a variance is negative" if bool((fitted.beta_covariance.diagonal() < 0).any()) else ""


def _time_varying(equation: TimeVaryingEquation) -> str:
    n, covariates = len(equation.names), equation.covariates
    learned = len(covariates.constants)
    shapes = (
        len(equation.transforms.lower) == len(equation.transforms.upper) == n
        and covariates.mean.shape == covariates.scale.shape == (learned,)
        and learned <= len(covariates.columns) == len(covariates.labels)
    )
    if not shapes:
        return "constants and columns are not equally many"
    if not all(0 <= k < n for k in (*covariates.constants, *(formulas.constant for formulas in covariates.formulas))):
        return "it speaks of constants that are not there"
    sound = np.isfinite(covariates.mean).all() and np.isfinite(covariates.scale).all() and (covariates.scale > 0).all()
    return "" if sound else "a mean or a scale is no number"


def _posterior(posterior: Posterior) -> str:
    p, tasks = posterior.phi.shape
    m = posterior.deviation.shape[0]
    wanted = (p, tasks), (p, p, tasks), (m, m, tasks), (p, p, tasks), (tasks,), (tasks,), (tasks,)
    return (
        "" if all(tensor.shape == shape for tensor, shape in zip(posterior, wanted, strict=True)) else "shapes differ"
    )


def _network(model: BaseMAML) -> str:
    if not hasattr(model, "_network"):
        return ""
    network = model._network
    if network.collate_fn is None and len(network.features_scaling.mean) != model.n_features_in_:
        return "it has another number of features than its scaling"
    direct = getattr(network.forward, "direct", ())
    if not all(type(place) is int and 0 <= place < model.n_features_in_ for place in direct):
        return "its head reads columns that are not there"
    return _weights(model._params.values())


def _weights(weights: Iterable[Tensor]) -> str:
    if len({tensor.dtype for tensor in weights}) > 1:
        return "its weights are numbers of several types"
    return "" if _finite(weights) else "a weight is not finite"


def _predictor(predictor: AdaptedPredictor) -> str:
    rows, y = predictor.X_support_, predictor.y_support_
    if rows.ndim < 2 or len(rows) != len(y) or rows.shape[1] < (predictor.n_features_in_ or 0):
        return "its rows do not fit to its features and targets"
    if isinstance(predictor, HoldsNetwork):
        assert predictor.module_ is not None  # made from the weights, which raises where they are another network's
        return _weights(predictor._params.values())
    return ""


def _many(predictors: AdaptedRegressors) -> str:
    one = predictors[0].module_ if len(predictors) else None
    whole = all(len(tensor) == len(predictors) for tensor in predictors._params.values())
    return (
        "" if one is not None and whole and _finite(predictors._params.values()) else "its weights are not its tasks'"
    )


def _finite(values: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in values if isinstance(tensor, Tensor))


_CHECKS: tuple[tuple[type, Any], ...] = (
    (Scaling, _scaling),
    (Scores, _scores),
    (FittedEquation, _fitted),
    (TimeVaryingEquation, _time_varying),
    (Posterior, _posterior),
    (TaskPrior, TaskPrior.fault),
    (BaseMAML, _network),
    (AdaptedPredictor, _predictor),
    (AdaptedRegressors, _many),
)
