"""A fitted equation in the words and columns statisticians know."""

from __future__ import annotations

from typing import Any

import numpy as np

from metaest.estimators.equations.tables import ENOUGH
from metaest.exceptions import filters_kept

__all__ = ["summarise"]

METHOD = {
    "evidence": "maximum of the Laplace-approximate evidence (expected second derivative)",
    "query": "largest density of query rows predicted from support rows",
}


@filters_kept()
def summarise(model: Any) -> str:
    """Return the summary of a fitted ``EquationRegressor``."""
    calibrated, settings = model._calibrated, model._fitted_settings  # those of the fit, whatever was set since
    population = model.population_
    name = getattr(calibrated.model.equation.function, "__name__", "equation").replace("<lambda>", "equation")
    tasks = f"{model.n_tasks_} task{'s' * (model.n_tasks_ != 1)}"
    lines = [
        f"{name}({', '.join(['X', *calibrated.names])}): constants that vary between tasks",
        f"Fitted by {METHOD[settings['objective']]}"
        + ("" if settings["inner_solver"] == "gauss-newton" else ", gradient steps (MAML)"),
        f"{tasks}, {model.n_rows_} rows, {settings['noise']} noise",
        "",
        f"{'log-likelihood':>15} {'AIC':>10} {'BIC':>10}   (compare fits to the same rows only)",
        f"{model.log_likelihood_:15.2f} {model.aic_:10.2f} {model.bic_:10.2f}",
        "",
        "Population: the median task"
        + (", at the mean of the covariates" if len(model.coefficients_) else "")
        + "; standard errors and between-task SDs to first order",
        "omega: SD between tasks on the scale on which the constant is normal; cv: of a lognormal constant",
    ]
    columns = ["value", "standard_error", "between_task_sd", "omega", "cv", "unit"]
    shown = population[columns].copy()
    shared = [name for k, name in enumerate(calibrated.names) if k not in calibrated.random]
    shown["between_task_sd"] = [
        "shared" if name in shared else f"{sd:.4g}" for name, sd in shown["between_task_sd"].items()
    ]
    for column, form in (("omega", "{:.4g}"), ("cv", "{:.1%}")):
        shown[column] = [
            "-" if name in shared or np.isnan(value) else form.format(value) for name, value in shown[column].items()
        ]
    shown["bounds"] = [_bounds(low, high) for low, high in zip(population["lower"], population["upper"], strict=True)]
    if any(parameter.meaning for parameter in calibrated.table.values()):
        shown["meaning"] = [parameter.meaning for parameter in calibrated.table.values()]
    lines += _table(shown)
    if (population["scale"] != "identity").any():
        scaled = population[["scale", "scaled_value", "scaled_standard_error", "scaled_sd"]]
        lines += ["", "The same on the scale on which constants are normal between tasks", *_table(scaled)]
    if len(model.derived_):
        lines += ["", "Computed from the constants, of the median task", *_table(model.derived_)]
    if len(model.coefficients_):
        lines += ["", "Covariates: shift of the constant, on that scale, per unit of the column"]
        lines += _table(model.coefficients_, index=False)
    if len(model.correlation_) > 1:
        lines += ["", "Correlation between tasks", *_table(model.correlation_.round(3))]
    said = {"sd": "SD {:.4g} (unit of y)", "cv": "{:.3%} of the curve"}
    lines += ["", "Noise: " + ", ".join(said[name].format(value) for name, value in model.noise_.items())]
    weighing = calibrated.weighing
    if weighing.weights is not None:
        low, high = weighing.weights
        lines[-1] += f", of a row of weight 1 (weights {low:.3g} to {high:.3g})"
    if weighing.column is not None:
        lines[-1] += f", beside the standard deviations of the column {weighing.label!r}"
    notes = _notes(model)
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def _bounds(low: float, high: float) -> str:
    if np.isinf(low):
        return "" if np.isinf(high) else f"below {high:.4g}"
    return f"above {low:.4g}" if np.isinf(high) else f"{low:.4g} to {high:.4g}"


def _table(frame: Any, *, index: bool = True) -> list[str]:
    text = frame.rename_axis(index=None).to_string(index=index, float_format="{:.4g}".format, na_rep="-")
    return [f"  {line}" for line in text.splitlines()]


def _notes(model: Any) -> list[str]:
    calibrated = model._calibrated
    names = calibrated.names
    lost = [k for k in calibrated.undetermined if k < len(names)]
    notes = [
        f"Note: {names[k]} is not determined by these tasks; look at its units, bounds and initial value." for k in lost
    ]
    notes += [
        f"Note: {names[k]} shows no between-task variation (its SD is zero); consider random= without it."
        for k in calibrated.flat
        if k not in lost
    ]
    correlation = model.correlation_.to_numpy()
    for i in range(len(correlation)):
        for j in range(i):
            if np.abs(correlation[i, j]) > 0.99:
                one, other = model.correlation_.index[[j, i]]
                notes.append(
                    f"Note: {one} and {other} vary together (correlation {correlation[i, j]:.3f}); these tasks cannot "
                    "tell one's variation from the other's."
                )
    for k in calibrated.random:
        if k not in calibrated.flat:
            mean = float(model.task_params_[f"{names[k]}_shrinkage"].mean())
            if mean > ENOUGH:
                notes.append(
                    f"Note: on average the rows of a task leave {100 * mean:.0f} % of the between-task variance of "
                    f"{names[k]}: its values of single tasks are mostly the population's."
                )
    return notes
