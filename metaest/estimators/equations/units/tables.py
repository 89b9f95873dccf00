"""Tables of a fit with levels: variation by level, shares of variance, one row a unit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from metaest.estimators.equations.fitted import FittedEquation
from metaest.tasks import TaskSet

__all__ = ["summary_with_levels", "unit_names", "with_levels"]


def unit_names(fitted: FittedEquation, tasks: TaskSet) -> list[tuple[Any, ...]]:
    """Return the names of the training units: their task's, and their labels."""
    levels = fitted.levels
    return [
        (tasks.name_of(int(task)), *(levels.columns.label(level, code) for level, code in enumerate(path)))
        for task, *path in levels.trained.paths
    ]


def with_levels(fitted: FittedEquation, learned: dict[str, Any], tasks: TaskSet) -> dict[str, Any]:
    """Return the fitted attributes with what levels change and add."""
    levels, log_likelihood = fitted.levels, learned["log_likelihood_"]
    learned["task_params_"].index = pd.MultiIndex.from_tuples(unit_names(fitted, tasks), names=levels.variation.names)
    sds = _sds(fitted)
    slope = fitted.model.transforms.slope(fitted.population.beta[: len(fitted.table)]).numpy()[: len(sds)]
    population = learned["population_"]
    for level, sd in sds.items():
        population[f"omega_{level}"] = sd
    outermost = sds[levels.variation.names[0]].to_numpy()
    population["omega"] = population["scaled_sd"] = outermost
    population["between_task_sd"] = slope * outermost
    population["cv"] = np.where(population["cv"].isna(), np.nan, np.sqrt(np.expm1(outermost**2)))
    learned["variance_split_"] = _variance_split(sds)
    for name, correlation in (("covariance_", False), ("correlation_", True)):
        learned[name] = pd.concat(
            {level: _matrix(fitted, k, correlation=correlation) for k, level in enumerate(levels.variation.names)},
            names=["level"],
        )
    k = _n_parameters(fitted)
    learned["aic_"] = 2 * k - 2 * log_likelihood
    learned["bic_"] = float(np.log(len(tasks.X))) * k - 2 * log_likelihood
    return learned


def _sds(fitted: FittedEquation) -> pd.DataFrame:
    """Return the standard deviation of each constant at each level, in the unconstrained space."""
    columns = {
        level: factor.square().sum(dim=1).sqrt().numpy()
        for level, factor in zip(fitted.levels.variation.names, fitted.levels.factors, strict=True)
    }
    return pd.DataFrame(columns, index=pd.Index(fitted.names, name="constant")).iloc[: len(fitted.given_names)]


def _variance_split(sds: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each level in the variance of each constant; NaN of one that does not vary."""
    variances = sds**2
    total = variances.sum(axis=1)
    return variances.div(total.where(total > 0), axis=0)


def _matrix(fitted: FittedEquation, level: int, *, correlation: bool) -> pd.DataFrame:
    """Return covariance or correlation of the constants that vary at a level."""
    random = list(fitted.levels.variation.random[level])
    factor: Tensor = fitted.levels.factors[level][random]
    matrix = (factor @ factor.T).numpy()
    if correlation:
        sd = np.sqrt(matrix.diagonal())
        scale = np.where(sd > 0, sd, np.nan)
        matrix = matrix / scale / scale[:, None]
        matrix[np.diag_indices(len(matrix))] = 1.0
    names = [fitted.names[k] for k in random]
    return pd.DataFrame(matrix, index=pd.Index(names, name="constant"), columns=names)


def _n_parameters(fitted: FittedEquation) -> int:
    """Return how many numbers were fitted."""
    variation = fitted.levels.variation
    sizes = [len(chosen) for chosen in variation.random]
    covariances = [m if diagonal else m * (m + 1) // 2 for m, diagonal in zip(sizes, variation.diagonal, strict=True)]
    return len(fitted.population.beta) + sum(covariances) + len(fitted.population.log_sigma)


def summary_with_levels(fitted: FittedEquation, text: str, learned: Mapping[str, Any]) -> str:
    """Return the summary of a fitted equation with the variation at each level."""
    variation = fitted.levels.variation
    sds, split = _sds(fitted), learned["variance_split_"]
    shown = pd.concat({"SD": sds, "share": split}, axis=1)
    shown.columns = [f"{what} {level}" for what, level in shown.columns]
    counts = [len(paths) for paths in fitted.levels.trained.places.paths]
    sizes = ", ".join(f"{n} at {name!r}" for n, name in zip(counts, variation.names, strict=True))
    lines = ["", f"Variation by level, on the scale on which constants are normal, and its shares; units: {sizes}"]
    table = shown[(sds > 0).any(axis=1)].rename_axis(index=None).to_string(float_format="{:.4g}".format, na_rep="-")
    lines += [f"  {line}" for line in table.splitlines()]
    lines += [
        f"Note: {fitted.names[k]} shows no variation at {name!r} (its SD is zero)."
        for name, none in zip(variation.names, fitted.levels.none, strict=True)
        for k in none
        if k not in fitted.flat
    ]
    return text + "\n" + "\n".join(lines)
