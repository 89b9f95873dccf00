"""A fitted equation in the words and columns statisticians know."""

from __future__ import annotations

from typing import Any

import numpy as np

from metaest.estimators.equation.tables import ENOUGH

__all__ = ["summarise"]

METHOD = {
    "evidence": "maximum of the Laplace-approximate evidence (expected second derivative)",
    "query": "largest density of query rows predicted from support rows",
}


def summarise(model: Any) -> str:
    """Return the summary of a fitted ``EquationRegressor``."""
    calibrated = model._calibrated
    population = model.population_
    lines = [
        "Equation with constants that vary between tasks",
        f"Fitted by {METHOD[model.objective]}"
        + ("" if model.inner_solver == "gauss-newton" else ", gradient steps (MAML)"),
        f"{model.n_tasks_} tasks, {model.n_rows_} rows, {model.noise} noise",
        "",
        f"{'log-likelihood':>15} {'AIC':>10} {'BIC':>10}",
        f"{model.log_likelihood_:15.2f} {model.aic_:10.2f} {model.bic_:10.2f}",
        "",
        "Population (between-task SD to first order, in the constant's own unit)",
    ]
    shown = population[["value", "standard_error", "between_task_sd", "unit", "lower", "upper"]].copy()
    shared = [name for k, name in enumerate(calibrated.names) if k not in calibrated.random]
    shown["between_task_sd"] = [
        "shared" if name in shared else f"{sd:.4g}" for name, sd in shown["between_task_sd"].items()
    ]
    lines += _table(shown)
    scaled = population.loc[
        population["scale"] != "identity", ["scale", "scaled_value", "scaled_standard_error", "scaled_sd"]
    ]
    if len(scaled):
        lines += ["", "Unconstrained, where constants are normal between tasks", *_table(scaled)]
    if len(model.coefficients_):
        lines += ["", "Covariates (shift of the unconstrained constant per unit of the column)"]
        lines += _table(model.coefficients_, index=False)
    if len(model.correlation_) > 1:
        lines += ["", "Correlation between tasks", *_table(model.correlation_.round(3))]
    lines += ["", "Noise: " + ", ".join(f"{name} {value:.4g}" for name, value in model.noise_.items())]
    notes = _notes(model)
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def _table(frame: Any, *, index: bool = True) -> list[str]:
    text = frame.rename_axis(index=None).to_string(index=index, float_format="{:.4g}".format, na_rep="-")
    return [f"  {line}" for line in text.splitlines()]


def _notes(model: Any) -> list[str]:
    calibrated = model._calibrated
    names = calibrated.names
    notes = [
        f"Note: {names[k]} shows no between-task variation (its SD is zero); consider random= without it."
        for k in calibrated.flat
    ]
    correlation = model.correlation_.to_numpy()
    for i in range(len(correlation)):
        for j in range(i):
            if np.abs(correlation[i, j]) > 0.99:
                one, other = model.correlation_.index[[j, i]]
                notes.append(
                    f"Note: {one} and {other} vary together (correlation {correlation[i, j]:.3f}); these tasks "
                    f"cannot tell "
                    "one's variation from the other's."
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
