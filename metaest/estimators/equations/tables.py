"""Tables of constants in the user's units, of the population, of one task and of many; the summary of a fit."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.answers import quantity_table
from metaest.estimators.equations.draws import Draws, weighted_quantile
from metaest.estimators.equations.fit.pipeline import FitResult
from metaest.estimators.equations.fitted import IDENTIFIED, FittedEquation, Posterior
from metaest.estimators.equations.mixture_draws import draws_of_coefficients
from metaest.estimators.equations.settings import OUTERMOST, FitSettings
from metaest.exceptions import filters_kept
from metaest.functional import Correlation, Noise, Outcome, SolveCode
from metaest.tasks import TaskSet

__all__ = ["LEVEL", "attributes", "many_table", "summarise", "task_table"]

# probability inside the intervals of tables
LEVEL = 0.9
# information of the rows about a constant, times its variance between tasks, below which the curve does not respond
NO_RESPONSE = 1e-3
# correlation from which a constant is told only together with another one
STRONG = 0.5
# correlation between tasks from which a summary notes that two constants vary together
TOGETHER = 0.99
# settings of the fit that a summary reports, whatever is set afterwards
REPORTED = ("objective", "inner_solver", "covariance", "noise", "n_nodes")
# what is reported of each kind of noise
NOISE_CONSTANTS = {
    "additive": ["sd"],
    "proportional": ["cv"],
    "combined": ["sd", "cv"],
    "combined1": ["sd", "cv"],
    "power": ["sd_at_1", "power"],
    "lognormal": ["sd_log"],
}
# by the objective
METHOD = {
    "evidence": "maximum of the Laplace-approximate evidence (expected second derivative)",
    "outcome": "maximum of the Laplace-approximate evidence (true second derivative)",
    "query": "largest density of query rows predicted from support rows",
}


def _population_table(fitted: FittedEquation, omega_error: Tensor) -> pd.DataFrame:
    """Return one row a constant: value, standard error, variation between tasks, unit, bounds; also unconstrained."""
    p = len(fitted.table)
    phi = fitted.population.beta[:p]
    slope = fitted.model.transforms.slope(phi).numpy()
    se = fitted.beta_error[:p].numpy()
    sd = fitted.prior_variance.sqrt().numpy()
    bounds = [parameter.bounds for parameter in fitted.table.values()]
    kinds = list(fitted.model.transforms.kinds)
    lognormal = np.array([kind in ("log", "upper") for kind in kinds])
    lower, upper = fitted.model.transforms.constrain(_coefficient_intervals(fitted)[:, :p].T).T.numpy()
    with np.errstate(over="ignore"):  # infinite where omega is huge
        cv = np.sqrt(np.expm1(sd**2))
    return pd.DataFrame(
        {
            "value": fitted.model.transforms.constrain(phi).numpy(),
            "standard_error": np.where(np.isinf(se), np.inf, slope * np.where(np.isinf(se), 0.0, se)),
            "lower_90": lower,
            "upper_90": upper,
            "between_task_sd": slope * sd,
            "omega": sd,
            "omega_standard_error": omega_error.numpy(),
            "cv": np.where(lognormal, cv, np.nan),
            "unit": [parameter.unit for parameter in fitted.table.values()],
            "lower": [low for low, _ in bounds],
            "upper": [high for _, high in bounds],
            "scale": kinds,
            "scaled_value": phi.numpy(),
            "scaled_standard_error": se,
            "scaled_sd": sd,
        },
        index=pd.Index(fitted.names, name="constant"),
    ).iloc[: len(fitted.given_names)]


def _coefficient_intervals(fitted: FittedEquation) -> Tensor:
    """Return the ends of intervals of the coefficients, of shape (2, coefficients); infinite for undetermined ones."""
    tails = torch.tensor([0.5 - LEVEL / 2, 0.5 + LEVEL / 2], dtype=torch.float64)
    if fitted.uncertain is None:
        ends: Tensor = fitted.population.beta + torch.special.ndtri(tails)[:, None] * fitted.beta_error
    else:
        drawn = draws_of_coefficients(fitted.uncertain)
        ends = weighted_quantile(drawn, torch.ones(drawn.shape[1], dtype=drawn.dtype), tails)
    unbounded = list(fitted.undetermined)
    ends[0, unbounded], ends[1, unbounded] = -torch.inf, torch.inf
    return ends


def _coefficient_table(fitted: FittedEquation) -> pd.DataFrame:
    """Return one row a covariate of a constant: its coefficient per unit of the column, in the unconstrained space."""
    parts, first = [], len(fitted.table)
    for covariates in (fitted.covariates, *(() if fitted.by_row is None else (fitted.by_row.covariates,))):
        first = first if covariates is fitted.covariates else len(fitted.given_names)
        learned = slice(first, first + len(covariates.constants))
        value = fitted.population.beta[learned].numpy() / covariates.scale
        se = fitted.beta_error[learned].numpy() / covariates.scale
        parts.append(
            pd.DataFrame(
                {
                    "constant": [fitted.names[k] for k in covariates.constants],
                    "covariate": list(covariates.labels[: len(covariates.constants)]),
                    "coefficient": value,
                    "standard_error": se,
                    "z": value / se,
                    "mean": covariates.mean,
                }
            )
        )
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _matrix_table(fitted: FittedEquation, *, correlation: bool) -> pd.DataFrame:
    """Return covariance or correlation between tasks of the constants that vary, in the unconstrained space."""
    random = list(fitted.random)
    factor = fitted.population.factor[random]
    matrix = (factor @ factor.T).numpy()
    if correlation:
        sd = np.sqrt(matrix.diagonal())
        scale = np.where(sd > 0, sd, np.nan)
        matrix = matrix / scale / scale[:, None]
        matrix[np.diag_indices(len(matrix))] = 1.0
    names = [fitted.names[k] for k in random]
    return pd.DataFrame(matrix, index=pd.Index(names, name="constant"), columns=names)


def task_table(fitted: FittedEquation, posterior: Posterior, draws: Draws, n_rows: int) -> pd.DataFrame:
    """Return one row a constant of one task: value, standard error, interval, shrinkage, whether it is identified."""
    transforms = fitted.model.transforms
    phi = posterior.phi[:, 0]
    sd = posterior.covariance[:, :, 0].diagonal().clamp(min=0).sqrt()
    tails = torch.tensor([0.5 - LEVEL / 2, 0.5 + LEVEL / 2], dtype=torch.float64)
    lower, upper = transforms.constrain(weighted_quantile(draws.phi, draws.weight, tails).T).T
    shrinkage = fitted.shrinkage(posterior)[:, 0].numpy()
    verdicts = [(False, "there are no rows: the value is the population's")] * len(phi)
    if n_rows:
        verdicts = [_verdict(fitted, posterior, k, float(shrinkage[k])) for k in range(len(phi))]
    return pd.DataFrame(
        {
            "value": transforms.constrain(phi).numpy(),
            "standard_error": (transforms.slope(phi) * sd).numpy(),
            "lower_90": lower.numpy(),
            "upper_90": upper.numpy(),
            "unit": [parameter.unit for parameter in fitted.table.values()],
            "shrinkage": shrinkage,
            "identified": [identified for identified, _ in verdicts],
            "reason": [reason for _, reason in verdicts],
        },
        index=pd.Index(fitted.names, name="constant"),
    ).iloc[: len(fitted.given_names)]


def _verdict(fitted: FittedEquation, posterior: Posterior, k: int, shrinkage: float) -> tuple[bool, str]:
    """Return whether a constant is identified, and why or why not."""
    if k not in fitted.random:
        return False, "shared by all tasks: the rows do not move it"
    if k in fitted.flat:
        return False, "it shows no variation between tasks: everyone has the population's value"
    told = f"the rows take away {100 * (1 - shrinkage):.0f} % of its variance between tasks"
    if shrinkage <= IDENTIFIED:
        return True, told
    information = float(posterior.information[k, k, 0])
    shrinkage_alone = 1 / (1 + information * float(fitted.prior_variance[k]))
    if shrinkage_alone <= IDENTIFIED:
        partner = _partner(fitted, posterior, k)
        if partner is not None:
            return False, f"{told}; they tell it only together with {partner}"
    if information * float(fitted.prior_variance[k]) < NO_RESPONSE:
        return False, f"{told}; the curve at these rows does not respond to it"
    return False, f"{told}; the curve at these rows responds to it too little for this noise"


def _partner(fitted: FittedEquation, posterior: Posterior, k: int) -> str | None:
    """Return the other constant with the strongest correlation after the rows were seen."""
    covariance = posterior.covariance[:, :, 0]
    sd = covariance.diagonal().clamp(min=0).sqrt()
    correlation = (covariance[k] / (sd * sd[k]).clamp(min=1e-300)).abs()
    correlation[k] = 0.0
    partner = int(correlation.argmax())
    return fitted.names[partner] if float(correlation[partner]) > STRONG else None


def many_table(fitted: FittedEquation, posterior: Posterior, names: NDArray[Any]) -> pd.DataFrame:
    """Return one row a task: each constant with its standard error and shrinkage, and how the search ended."""
    transforms = fitted.model.transforms
    value = transforms.constrain(posterior.phi).numpy()
    sd = torch.stack([posterior.covariance[k, k] for k in range(len(value))]).clamp(min=0).sqrt()
    se = (transforms.slope(posterior.phi) * sd).numpy()
    shrinkage = fitted.shrinkage(posterior).numpy()
    columns: dict[str, Any] = {}
    for k, name in enumerate(fitted.given_names):
        columns[name] = value[k]
        columns[f"{name}_standard_error"] = se[k]
        columns[f"{name}_shrinkage"] = shrinkage[k]
    columns["status"] = [SolveCode(code).name.lower() for code in posterior.code.tolist()]
    return pd.DataFrame(columns, index=pd.Index(names, name="task", tupleize_cols=False))


def _noise_table(fitted: FittedEquation) -> Any:
    """Return the noise constants: a standard deviation in units of y or of log y, a share of the curve, or both.

    Of several outputs a row each.

    After them comes the constant of the correlation of the residuals, where there is one.
    """
    noise, log_sigma = fitted.model.noise, fitted.population.log_sigma
    if fitted.outputs:
        rows = [_noise_series(part, own) for _, part, own in noise.each(log_sigma)]
        return pd.DataFrame(rows, index=pd.Index(fitted.outputs, name="output"))
    return _noise_series(noise, log_sigma)


def _noise_series(noise: Noise, log_sigma: Tensor) -> pd.Series:
    """Return the constants of the noise of one output."""
    if isinstance(noise, Outcome):
        return pd.Series(noise.shown(log_sigma), name="noise", dtype=np.float64)
    index = NOISE_CONSTANTS[noise.kind]
    values = log_sigma[: noise.n_scales].exp().tolist()
    if noise.kind == "power":
        power = float(log_sigma[1])
        values = [math.exp(float(log_sigma[0]) - power * math.log(noise.reference)), power]
    if noise.correlation is not None:
        index, values = [*index, noise.correlation.name], [*values, float(noise.correlation.constant(log_sigma[-1]))]
    return pd.Series(values, index=index, name="noise")


def _information_criteria(
    fitted: FittedEquation, log_likelihood: float, diagonal: bool, n_rows: int, kept: bool
) -> tuple[float, float]:
    """Return AIC and BIC (by the number of rows, as nlme counts); no number of a population that is kept was fitted."""
    m = len(fitted.random)
    k = len(fitted.population.beta) + (m if diagonal else m * (m + 1) // 2) + len(fitted.population.log_sigma)
    k = 0 if kept else k
    return 2 * k - 2 * log_likelihood, math.log(max(n_rows, 1)) * k - 2 * log_likelihood


def attributes(
    result: FitResult,
    tasks: TaskSet | None,
    settings: FitSettings,
    source: str | None = None,
) -> dict[str, Any]:
    """Return the fitted attributes by name; of a population that is kept, `source` says where it is from."""
    fitted = result.fitted
    n_rows = 0 if tasks is None else len(tasks.X)
    names = np.empty(0, dtype=object) if tasks is None else tasks.names
    names = names if fitted.levels is None else np.arange(result.posterior.phi.shape[1])
    kept = source is not None and not result.n_iter
    aic, bic = _information_criteria(fitted, result.log_likelihood, settings.diagonal, n_rows, kept)
    noise = _noise_table(fitted)
    learned = {
        "n_iter_": result.n_iter,
        "n_tasks_": 0 if tasks is None else len(tasks),
        "n_rows_": n_rows,
        "n_outputs_": 1,
        "_fitted_settings": {
            **{name: getattr(settings, name) for name in REPORTED},
            **({} if fitted.model.noise.normal else {"noise": fitted.model.noise.kind}),
            **({} if source is None else {"source": source}),
        },
        "batching_": result.mode,
        "batching_reason_": result.reason,
        "compiled_": result.compiled,
        "compiled_reason_": result.compiled_reason,
        "population_": _population_table(fitted, result.omega_error),
        "derived_": quantity_table(fitted),
        "coefficients_": _coefficient_table(fitted),
        "covariance_": _matrix_table(fitted, correlation=False),
        "correlation_": _matrix_table(fitted, correlation=True),
        "noise_": noise,
        "task_params_": many_table(fitted, result.posterior, names),
        "log_likelihood_": result.log_likelihood,
        "aic_": aic,
        "bic_": bic,
        "history_": pd.DataFrame(result.history, columns=["iteration", "loss"]),
    }
    return learned if fitted.levels is None else dict(fitted.levels.attributes(fitted, learned, tasks))


@filters_kept()
def summarise(fitted: FittedEquation, learned: Mapping[str, Any]) -> str:
    """Return the summary of a fitted equation, from the attributes that :func:`attributes` returned."""
    settings, population = learned["_fitted_settings"], learned["population_"]
    name = getattr(fitted.function, "__name__", "equation").replace("<lambda>", "equation")
    lines = [
        f"{name}({', '.join(['X', *fitted.given_names])}): constants that vary between tasks",
        settings["source"]
        if "source" in settings
        else f"Fitted by {_method(fitted, settings)}" + (", gradient steps (MAML)" if fitted.by_gradient_steps else ""),
        *_likelihood_lines(learned, settings["noise"], "noise" if fitted.model.noise.normal else "outcomes"),
        "",
        "Population: the median task"
        + (", at the mean of the covariates" if len(learned["coefficients_"]) else "")
        + "; standard errors and between-task SDs to first order",
        "omega: SD between tasks on the scale on which the constant is normal; cv: of a lognormal constant",
    ]
    columns = ["value", "standard_error", "between_task_sd", "omega", "cv", "unit"]
    shown = population[columns].copy()
    shared = [name for k, name in enumerate(fitted.names) if k not in fitted.random]
    shown["between_task_sd"] = [
        "shared" if name in shared else f"{sd:.4g}" for name, sd in shown["between_task_sd"].items()
    ]
    for column, form in (("omega", "{:.4g}"), ("cv", "{:.1%}")):
        shown[column] = [
            "-" if name in shared or np.isnan(value) else form.format(value) for name, value in shown[column].items()
        ]
    shown["bounds"] = [_bounds(low, high) for low, high in zip(population["lower"], population["upper"], strict=True)]
    meanings = [parameter.meaning for parameter in fitted.given_table.values()]
    if any(meanings):
        shown["meaning"] = meanings
    lines += _table(shown)
    if (population["scale"] != "identity").any():
        scaled = population[["scale", "scaled_value", "scaled_standard_error", "scaled_sd"]]
        lines += ["", "The same on the scale on which constants are normal between tasks", *_table(scaled)]
    if len(learned["derived_"]):
        lines += ["", "Computed from the constants, of the median task", *_table(learned["derived_"])]
    if len(learned["coefficients_"]):
        by_row = () if fitted.by_row is None else fitted.by_row.covariates.labels
        lines += ["", "Covariates: shift of the constant, on that scale, per unit of the column"]
        lines[-1] += f"; from row to row with {', '.join(map(str, dict.fromkeys(by_row)))}" * bool(by_row)
        lines += _table(learned["coefficients_"], index=False)
    correlation = outermost_correlation(learned["correlation_"])
    if len(correlation) > 1:
        lines += ["", "Correlation between tasks", *_table(correlation.round(3))]
    lines += ["", *_noise_lines(fitted, learned["noise_"])]
    row_accuracy = fitted.row_accuracy
    if row_accuracy.weights is not None:
        low, high = row_accuracy.weights
        lines[-1] += f", of a row of weight 1 (weights {low:.3g} to {high:.3g})"
    if row_accuracy.column is not None:
        lines[-1] += f", beside the standard deviations of the column {row_accuracy.label!r}"
    if fitted.model.noise.correlation is not None:
        lines.append(_correlation_line(fitted.model.noise.correlation, learned["noise_"].iloc[-1]))
    lines += _structure_lines(learned.get("structures_"))
    notes = _notes(fitted, learned)
    if notes:
        lines += ["", *notes]
    text = "\n".join(lines)
    return text if fitted.levels is None else str(fitted.levels.summarise(fitted, text, learned))


def outermost_correlation(correlation: pd.DataFrame) -> pd.DataFrame:
    """Return the correlations between tasks, of those of all levels where there are several."""
    if correlation.index.nlevels == 1:
        return correlation
    outermost = pd.DataFrame(correlation.xs(OUTERMOST, level=0))
    return outermost[list(outermost.index)]


def _noise_lines(fitted: FittedEquation, table: Any) -> list[str]:
    """Return lines of the summary about the noise, of each output one."""
    noise = fitted.model.noise
    if isinstance(noise, Outcome):
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in table.items())
        return [
            f"Observations: {noise.kind}{': ' * bool(numbers)}{numbers}; the equation returns {noise.what_curve_is}"
        ]
    forms = {"sd": "SD {:.4g} (unit of y)", "cv": "{:.3%} of the curve", "sd_log": "SD {:.4g} of log y"}
    lines = []
    for output, noise, _ in fitted.model.noise.each(fitted.population.log_sigma):
        values = table if output is None else table.loc[output].dropna()
        parts = [forms[name].format(value) for name, value in values.items() if name in forms]
        text = (" plus " if noise.kind == "combined1" else ", ").join(parts)
        if "power" in values:
            text = "SD {sd_at_1:.4g} |f|^{power:.4g} (unit of y), f the curve".format(**values)
        lines.append("Noise: " + text if output is None else f"Noise of output {output}: {text}")
    return lines


def _method(fitted: FittedEquation, settings: Mapping[str, Any]) -> str:
    """Return what was maximised, in words."""
    if settings["n_nodes"] > 1:
        return f"maximum of the likelihood by adaptive Gauss-Hermite quadrature, {settings['n_nodes']} nodes a constant"
    return (
        METHOD["evidence" if fitted.model.noise.normal else "outcome"]
        if settings["objective"] == "evidence"
        else (METHOD["query"])
    )


def _likelihood_lines(learned: Mapping[str, Any], noise: Any, what: str) -> list[str]:
    """Return lines of the summary about the tasks of the fit and their likelihood."""
    if not isinstance(noise, str):
        noise = ", ".join(f"{kind} ({output})" for output, kind in noise.items())
    if not learned["n_tasks_"]:
        return [f"{noise} {what}"]
    tasks = f"{learned['n_tasks_']} task{'s' * (learned['n_tasks_'] != 1)}"
    return [
        f"{tasks}, {learned['n_rows_']} rows, {noise} {what}",
        "",
        f"{'log-likelihood':>15} {'AIC':>10} {'BIC':>10}   (compare fits to the same rows only)",
        f"{learned['log_likelihood_']:15.2f} {learned['aic_']:10.2f} {learned['bic_']:10.2f}",
    ]


def _structure_lines(structures: pd.DataFrame | None) -> list[str]:
    """Return the structures that were compared, in lines of the summary."""
    if structures is None:
        return []
    count = int((structures["weight"] > 0).sum())
    what = f"curves of {count} are averaged, and all above is of the best of them" if count > 1 else "one is taken"
    return ["", f"Structures compared on left-out tasks: {what}", *_table(structures, index=False)]


def _correlation_line(correlation: Correlation, value: float) -> str:
    """Return a line of the summary about the correlation of the residuals of a task."""
    if correlation.kind == "ar1":
        return f"Residuals of neighbouring rows of a task have the correlation {value:.4g} (ar1)"
    return (
        f"Residuals of a task at a distance of {value:.4g} in column {correlation.label!r} have the correlation 1/e "
        "(car1)"
    )


def _bounds(low: float, high: float) -> str:
    if np.isinf(low):
        return "" if np.isinf(high) else f"below {high:.4g}"
    return f"above {low:.4g}" if np.isinf(high) else f"{low:.4g} to {high:.4g}"


def _table(frame: Any, *, index: bool = True) -> list[str]:
    text = frame.rename_axis(index=None).to_string(index=index, float_format="{:.4g}".format, na_rep="-")
    return [f"  {line}" for line in text.splitlines()]


def _notes(fitted: FittedEquation, learned: Mapping[str, Any]) -> list[str]:
    """Return sentences on what the tasks do not determine."""
    names = fitted.names
    undetermined = [k for k in fitted.undetermined if k < len(names)]
    notes = [
        f"Note: {names[k]} is not determined by these tasks; look at its units, bounds and initial value."
        for k in undetermined
    ]
    notes += [
        f"Note: {names[k]} shows no between-task variation (its SD is zero); consider random= without it."
        for k in fitted.flat
        if k not in undetermined
    ]
    table = outermost_correlation(learned["correlation_"])
    correlation = table.to_numpy()
    for i in range(len(correlation)):
        for j in range(i):
            if np.abs(correlation[i, j]) > TOGETHER:
                one, other = table.index[[j, i]]
                notes.append(
                    f"Note: {one} and {other} vary together (correlation {correlation[i, j]:.3f}); these tasks cannot "
                    "tell one's variation from the other's."
                )
    for k in fitted.random:
        if k not in fitted.flat:
            mean = float(learned["task_params_"][f"{names[k]}_shrinkage"].mean())
            if mean > IDENTIFIED:
                notes.append(
                    f"Note: on average the rows of a task leave {100 * mean:.0f} % of the between-task variance of "
                    f"{names[k]}: its values of single tasks are mostly the population's."
                )
    return notes
