"""What is said of constants, in the user's units: of the population, of one task, of many."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from metaest.estimators.equations.draws import Draws, weighted_quantile
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.functional import SolveCode

__all__ = ["ENOUGH", "coefficient_table", "many_table", "matrix_table", "population_table", "task_table"]

# a constant is identified when the rows tell as much about it as the population does: half of the variance is gone
ENOUGH = 0.5
LEVEL = 0.9


def population_table(calibrated: Calibrated) -> pd.DataFrame:
    """One row a constant: value, standard error, between-task SD, omega, CV, unit, bounds; the same unconstrained."""
    p = len(calibrated.table)
    phi = calibrated.population.beta[:p]
    slope = calibrated.model.transforms.slope(phi).numpy()
    se = calibrated.beta_error[:p].numpy()
    sd = calibrated.prior_variance.sqrt().numpy()
    bounds = [parameter.bounds for parameter in calibrated.table.values()]
    kinds = list(calibrated.model.transforms.kinds)
    lognormal = np.array([kind in ("log", "upper") for kind in kinds])
    with np.errstate(over="ignore"):  # infinite where omega is huge
        cv = np.sqrt(np.expm1(sd**2))
    return pd.DataFrame(
        {
            "value": calibrated.model.transforms.constrain(phi).numpy(),
            "standard_error": np.where(np.isinf(se), np.inf, slope * np.where(np.isinf(se), 0.0, se)),
            "between_task_sd": slope * sd,
            "omega": sd,
            "cv": np.where(lognormal, cv, np.nan),
            "unit": [parameter.unit for parameter in calibrated.table.values()],
            "lower": [low for low, _ in bounds],
            "upper": [high for _, high in bounds],
            "scale": kinds,
            "scaled_value": phi.numpy(),
            "scaled_standard_error": se,
            "scaled_sd": sd,
        },
        index=pd.Index(calibrated.names, name="constant"),
    )


def coefficient_table(calibrated: Calibrated) -> pd.DataFrame:
    """One row a covariate of a constant: its coefficient per unit of the column, in the unconstrained space."""
    covariates, p = calibrated.covariates, len(calibrated.table)
    value = calibrated.population.beta[p:].numpy() / covariates.scale
    se = calibrated.beta_error[p:].numpy() / covariates.scale
    return pd.DataFrame(
        {
            "constant": [calibrated.names[k] for k in covariates.constants],
            "covariate": list(covariates.labels),
            "coefficient": value,
            "standard_error": se,
            "z": value / se,
            "mean": covariates.mean,
        }
    )


def matrix_table(calibrated: Calibrated, *, correlation: bool) -> pd.DataFrame:
    """Covariance or correlation between tasks of the constants that vary, in the unconstrained space."""
    random = list(calibrated.random)
    factor = calibrated.population.factor[random]
    matrix = (factor @ factor.T).numpy()
    if correlation:
        sd = np.sqrt(matrix.diagonal())
        scale = np.where(sd > 0, sd, np.nan)
        matrix = matrix / scale / scale[:, None]
        matrix[np.diag_indices(len(matrix))] = 1.0
    names = [calibrated.names[k] for k in random]
    return pd.DataFrame(matrix, index=pd.Index(names, name="constant"), columns=names)


def task_table(calibrated: Calibrated, posterior: Posterior, draws: Draws, n_rows: int) -> pd.DataFrame:
    """One row a constant of one task: value, standard error, 90 % interval, shrinkage, whether and why identified."""
    transforms = calibrated.model.transforms
    phi = posterior.phi[:, 0]
    sd = posterior.covariance[:, :, 0].diagonal().clamp(min=0).sqrt()
    tails = torch.tensor([0.5 - LEVEL / 2, 0.5 + LEVEL / 2], dtype=torch.float64)
    lower, upper = transforms.constrain(weighted_quantile(draws.phi, draws.weight, tails).T).T
    shrinkage = calibrated.shrinkage(posterior)[:, 0].numpy()
    verdicts = [(False, "there are no rows: the value is the population's")] * len(phi)
    if n_rows:
        verdicts = [_verdict(calibrated, posterior, k, float(shrinkage[k])) for k in range(len(phi))]
    return pd.DataFrame(
        {
            "value": transforms.constrain(phi).numpy(),
            "standard_error": (transforms.slope(phi) * sd).numpy(),
            "lower_90": lower.numpy(),
            "upper_90": upper.numpy(),
            "unit": [parameter.unit for parameter in calibrated.table.values()],
            "shrinkage": shrinkage,
            "identified": [identified for identified, _ in verdicts],
            "reason": [reason for _, reason in verdicts],
        },
        index=pd.Index(calibrated.names, name="constant"),
    )


def _verdict(calibrated: Calibrated, posterior: Posterior, k: int, shrinkage: float) -> tuple[bool, str]:
    if k not in calibrated.random:
        return False, "shared by all tasks: the rows do not move it"
    if k in calibrated.flat:
        return False, "it shows no variation between tasks: everyone has the population's value"
    told = f"the rows take away {100 * (1 - shrinkage):.0f} % of its variance between tasks"
    if shrinkage <= ENOUGH:
        return True, told
    information = float(posterior.information[k, k, 0])
    alone = 1 / (1 + information * float(calibrated.prior_variance[k]))
    if alone <= ENOUGH:
        partner = _partner(calibrated, posterior, k)
        if partner is not None:
            return False, f"{told}; they tell it only together with {partner}"
    if information * float(calibrated.prior_variance[k]) < 1e-3:
        return False, f"{told}; the curve at these rows does not respond to it"
    return False, f"{told}; the curve at these rows responds to it too little for this noise"


def _partner(calibrated: Calibrated, posterior: Posterior, k: int) -> str | None:
    """Return the other constant with the strongest correlation after the rows were seen."""
    covariance = posterior.covariance[:, :, 0]
    sd = covariance.diagonal().clamp(min=0).sqrt()
    correlation = (covariance[k] / (sd * sd[k]).clamp(min=1e-300)).abs()
    correlation[k] = 0.0
    partner = int(correlation.argmax())
    return calibrated.names[partner] if float(correlation[partner]) > 0.5 else None


def many_table(calibrated: Calibrated, posterior: Posterior, names: NDArray[Any]) -> pd.DataFrame:
    """One row a task: each constant with its standard error and shrinkage, and how the search ended."""
    transforms = calibrated.model.transforms
    value = transforms.constrain(posterior.phi).numpy()
    sd = torch.stack([posterior.covariance[k, k] for k in range(len(value))]).clamp(min=0).sqrt()
    se = (transforms.slope(posterior.phi) * sd).numpy()
    shrinkage = calibrated.shrinkage(posterior).numpy()
    columns: dict[str, Any] = {}
    for k, name in enumerate(calibrated.names):
        columns[name] = value[k]
        columns[f"{name}_standard_error"] = se[k]
        columns[f"{name}_shrinkage"] = shrinkage[k]
    columns["status"] = [SolveCode(int(code)).name.lower() for code in posterior.code]
    return pd.DataFrame(columns, index=pd.Index(names, name="task", tupleize_cols=False))


def noise_names(kind: str) -> list[str]:
    """Names of the noise constants: a standard deviation in units of y, a coefficient of variation, or both."""
    return {"additive": ["sd"], "proportional": ["cv"], "combined": ["sd", "cv"]}[kind]


def information_criteria(
    calibrated: Calibrated, log_likelihood: float, diagonal: bool, n_rows: int
) -> tuple[float, float, int]:
    """Return AIC, BIC (by the number of rows, as nlme counts) and the number of fitted numbers."""
    m = len(calibrated.random)
    k = len(calibrated.population.beta) + (m if diagonal else m * (m + 1) // 2) + len(calibrated.population.log_sigma)
    return 2 * k - 2 * log_likelihood, math.log(n_rows) * k - 2 * log_likelihood, k
