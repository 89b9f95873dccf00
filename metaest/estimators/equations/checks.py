"""What an equation was given and how its constants came out: errors and warnings in the user's words."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.estimators.arguments import require_choice, require_flag, require_level
from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.estimators.equations.tables import ENOUGH
from metaest.estimators.inputs import as_rows
from metaest.exceptions import IdentifiabilityWarning, OvershootWarning, TaskError, UnlikelyTaskWarning, warn
from metaest.functional import GradientDescent, HierarchicalModel, Observations, SolveCode
from metaest.tasks import TaskSet
from metaest.tasks.reading import rows_of

__all__ = [
    "adapt_rows",
    "arranged",
    "check_interval",
    "check_rows",
    "check_tasks",
    "check_values",
    "joined_rows",
    "require_finite_curve",
    "require_usable",
    "warn_of_codes",
    "warn_of_many",
    "warn_of_outliers",
    "warn_of_shrinkage",
]

SHOWN = 5
# a row of a normal sample in a thousand million; a task in robust, and in the population's own, standard deviations
FAR, FAR_TASK, FAR_IN_POPULATION, LEAST_TASKS = 6.0, 8.0, 3.0, 8


def check_interval(level: Any, method: Any, of: Any, simultaneous: Any) -> None:
    """Raise a ValueError when a setting of ``predict_interval`` has no meaning."""
    require_level(level)
    require_choice(method, "method", ["posterior", "conformal"])
    require_choice(of, "of", ["observation", "curve"])
    require_flag(simultaneous, "simultaneous")
    if method == "conformal" and of == "curve":
        raise ValueError("a conformal interval is one of observations: nobody observes the curve itself.")
    if method == "posterior" and simultaneous:
        raise ValueError("simultaneous=True needs method='conformal'.")


def require_usable(model: HierarchicalModel, phi: Tensor, X: NDArray[Any], where: str) -> None:
    """Raise when the equation, or its slopes, are not finite at the rows of one task, naming row and constant.

    Parameters
    ----------
    model : HierarchicalModel
    phi : Tensor of shape (constants, 1)
    X : ndarray of shape (rows, features)
    where : str
        How the message begins.
    """
    values, slopes = model.curve_and_slopes(phi, one_task(X))
    check_values(model.equation.function, X, values[:, 0].detach().numpy(), where)
    theta = model.transforms.constrain(phi)[:, 0].tolist()
    at = ", ".join(f"{name}={value:.4g}" for name, value in zip(model.equation.names, theta, strict=True))
    bad = torch.nonzero(~torch.isfinite(values[:, 0]))
    if len(bad):
        row = int(bad[0])
        raise TaskError(
            f"{where}: the equation is {float(values[row, 0])} in row {row}, X = {X[row].tolist()}, at {at}; check "
            "units, bounds and initial values, or leave the row out."
        )
    bad = torch.nonzero(~torch.isfinite(slopes[:, :, 0]))
    if len(bad):
        k, row = (int(i) for i in bad[0])
        raise TaskError(
            f"{where}: the derivative of the equation in {model.equation.names[k]!r} is {float(slopes[k, row, 0])} in "
            f"row {row}, X = {X[row].tolist()}, at {at}; an overflow, or a logarithm, root or power of zero, does "
            "that; keep what these are taken of above zero, as by torch.clamp(u, min=...), or leave the row out."
        )


def check_tasks(equation: Any, tasks: TaskSet) -> None:
    """Let an equation with a method ``check_rows(X, y)`` refuse the rows of a task; the error names the task."""
    if hasattr(equation, "check_rows"):
        for task in tasks:
            check_rows(equation, task.X, task.y.reshape(-1), f"task {task.name!r}")


def arranged(model: Any, equation: Any, X: Any, where: str) -> tuple[Any, NDArray[Any] | None]:
    """Let an equation with a method ``arrange(X, names)`` take columns of a data frame that the fit did not have.

    Parameters
    ----------
    model : object
        Has ``n_features_in_``, and ``feature_names_in_`` where it was fitted on named columns.
    equation : callable
    X : array-like or data frame
    where : str

    Returns
    -------
    X : array-like or data frame of pandas
        With the columns of the fit.
    further : ndarray of shape (n_rows, n) or None
        What the equation takes beside them, as further columns of X.
    """
    X = rows_of(X, where, "X") if X is not None else X
    if not hasattr(equation, "arrange") or not hasattr(X, "columns") or not len(X):
        return X, None
    names = getattr(model, "feature_names_in_", None)
    try:
        answer = equation.arrange(X, None if names is None else list(names))
    except ValueError as error:
        raise TaskError(f"{where}: {error}") from error
    if answer is None:
        return X, None
    frame, further = answer
    rows, _, _ = as_rows(further, None, where)
    return (frame if names is not None else frame.to_numpy()), rows


def joined_rows(X: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
    """Return rows one after the other, the narrower ones with zeros in further columns."""
    width = max(X.shape[1], more.shape[1])
    return np.concatenate([np.pad(part, [(0, 0), (0, width - part.shape[1])]) for part in (X, more)])


def check_rows(equation: Any, X: NDArray[Any], y: NDArray[Any] | None, where: str) -> None:
    """Let an equation refuse rows; y is None for rows to be predicted."""
    if hasattr(equation, "check_rows"):
        try:
            equation.check_rows(X, y)
        except ValueError as error:
            raise TaskError(f"{where}: {error}") from error


def check_values(equation: Any, X: NDArray[Any], values: NDArray[Any], where: str) -> None:
    """Let an equation with a method ``check_values(X, values)`` refuse what it gave for the rows of one task."""
    if hasattr(equation, "check_values"):
        try:
            equation.check_values(X, values)
        except ValueError as error:
            raise TaskError(f"{where}: {error}") from error


def require_finite_curve(equation: Any, X: NDArray[Any], values: NDArray[Any], where: str) -> NDArray[Any]:
    """Return the predictions of the rows X of one task, or raise a TaskError that names the first row without one."""
    check_values(equation, X, values, where)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        raise TaskError(
            f"{where}: the equation is {float(values[row])} in row {row}, X = {X[row].tolist()}; an overflow, a "
            "division by zero, or a logarithm or root of what is not positive does that; leave the row out, or check "
            "its units."
        )
    return values


def adapt_rows(
    calibrated: Calibrated, X: NDArray[Any], y: NDArray[Any], where: str, weight: NDArray[np.float64] | None = None
) -> Posterior:
    """Adapt to the rows of one task, with an error where the equation fails and warnings where the rows say little."""
    covariates, p = calibrated.covariates, len(calibrated.table)
    check_rows(calibrated.model.equation.function, X, y, where)
    calibrated.weighing.check(X, where)
    design = covariates.design(covariates.of_rows(X, where)[None], p)
    posterior = calibrated.posterior(design, one_task(X, y, weight=weight))
    if int(posterior.code[0]) == SolveCode.NOT_FINITE:
        require_usable(calibrated.model, design.center(calibrated.population.beta, p), X, where)
        with np.errstate(over="ignore"):
            squared = np.square(y * 1e50) * (1.0 if weight is None else weight.reshape(-1, *[1] * (y.ndim - 1)))
        if not np.isfinite(squared).all():  # the search squares y, in units of its standard deviation
            row = int(np.argmax(squared.reshape(len(y), -1).max(axis=1)))
            weighted = "" if weight is None else f" with sample_weight {weight[row]:.3g}"
            raise TaskError(
                f"{where}: y is {y[row]} in support row {row}{weighted}, too large for its square; check its unit."
            )
        raise TaskError(f"{where}: the equation is not finite near the population's constants, in some row of X.")
    if int(posterior.code[0]) != SolveCode.CONVERGED and isinstance(calibrated.solver, GradientDescent):
        warn(
            f"{where}: the learned rates overshoot on this task (its support loss rose); it was adapted at lower "
            "ones. It may be unlike the tasks of the fit.",
            OvershootWarning,
        )
    elif int(posterior.code[0]) != SolveCode.CONVERGED:
        warn(
            f"{where}: the search for the constants of this task ended as {_word(int(posterior.code[0]))}; treat them "
            "with care.",
            ConvergenceWarning,
        )
    if bool(posterior.unlikely[0]):
        warn(
            f"{where}: no curve of this population comes near these rows; check their units, or treat the task as "
            "unlike those of the fit.",
            UnlikelyTaskWarning,
        )
    warn_of_shrinkage(calibrated, posterior, len(X), where)
    return posterior


def warn_of_shrinkage(calibrated: Calibrated, posterior: Posterior, n_rows: int, where: str) -> None:
    """Warn of the constants of one task that its rows do not tell."""
    shrinkage = calibrated.shrinkage(posterior)[:, 0]
    untold = [
        f"{calibrated.names[k]} (they take away {100 * (1 - float(shrinkage[k])):.0f} % of its variance between tasks)"
        for k in calibrated.random
        if k not in calibrated.flat and float(shrinkage[k]) > ENOUGH
    ]
    if untold:
        warn(
            f"{where}: {n_rows} row{'s' * (n_rows != 1)} cannot tell {', '.join(untold)}; the population decides "
            "more. See params_ and suggest.",
            IdentifiabilityWarning,
        )


def warn_of_outliers(calibrated: Calibrated, posterior: Posterior, observations: Observations, names: Any) -> None:
    """Warn after a fit of rows far from the curve of their task, and of tasks far from all others."""
    if isinstance(calibrated.solver, GradientDescent):  # its steps end short of the best curve
        return
    with torch.no_grad():
        curve = calibrated.model.curve(posterior.phi, observations)
        noise = calibrated.model.noise
        sd = noise.variance(curve, calibrated.population.log_sigma, noise.accuracy(observations)).sqrt()
        seen = noise.nearest(curve, observations.y)
        away = observations.masked((seen - curve).abs() / sd).numpy()
    rows = np.argwhere(away.T > FAR)
    if len(rows):
        task, row = max(rows, key=lambda place: float(away[place[1], place[0]]))
        warn(
            f"fit: row {row} of task {names[task : task + 1].tolist()[0]!r} lies {away[row, task]:.0f} standard "
            f"deviations of the noise from its curve ({len(rows)} such row{'s' * (len(rows) != 1)} in all): a mistyped "
            "value, or an equation that does not hold there. Noise and constants suffer from it.",
            UnlikelyTaskWarning,
        )
    for k in calibrated.random:
        own = (posterior.phi[k] - (posterior.phi[k]).median()).numpy()
        spread = 1.4826 * float(np.median(np.abs(own)))
        population = float(calibrated.prior_variance[k].sqrt())
        if calibrated.covariates.columns or k in calibrated.flat or len(own) < LEAST_TASKS or not spread > 0:
            continue
        far = np.flatnonzero((np.abs(own) > FAR_TASK * spread) & (np.abs(own) > FAR_IN_POPULATION * population))
        if len(far):
            some = ", ".join(repr(name) for name in names[far[:SHOWN]].tolist())
            warn(
                f"fit: task {some}{' and others' * (len(far) > SHOWN)} has a value of {calibrated.names[k]!r} unlike "
                "all others; check its units. The variation between tasks is overrated because of it.",
                UnlikelyTaskWarning,
            )


def warn_of_many(calibrated: Calibrated, posterior: Posterior, names: NDArray[Any]) -> None:
    """Say once for many tasks what `adapt` says for each."""
    stalled = int((posterior.code == SolveCode.STALLED).sum())
    if not isinstance(calibrated.solver, GradientDescent):
        warn_of_codes(posterior.code, names, "adapt_many")
    elif stalled:
        warn(
            f"adapt_many: the learned rates overshoot on {stalled} of {len(names)} tasks (their support loss rose); "
            "they were adapted at lower ones.",
            OvershootWarning,
        )
    unlikely = names[posterior.unlikely.numpy()].tolist()
    # of very many tasks a few are that improbable by chance
    if len(unlikely) > max(0.0, 1e-4 * len(names)):
        warn(
            f"adapt_many: no curve of this population comes near the rows of {len(unlikely)} of {len(names)} tasks: "
            f"task {', '.join(map(repr, unlikely[:SHOWN]))}{' and others' * (len(unlikely) > SHOWN)}; check their "
            "units.",
            UnlikelyTaskWarning,
        )
    shrinkage = calibrated.shrinkage(posterior)
    counts = {
        calibrated.names[k]: int((shrinkage[k] > ENOUGH).sum()) for k in calibrated.random if k not in calibrated.flat
    }
    untold = [f"{name} of {n}" for name, n in counts.items() if n]
    if untold:
        warn(
            f"adapt_many: of {shrinkage.shape[1]} tasks the rows cannot tell {', '.join(untold)}; see the shrinkage "
            "in params_.",
            IdentifiabilityWarning,
        )


def warn_of_codes(code: Tensor, names: NDArray[Any], where: str) -> None:
    """Warn of tasks whose search did not converge, by name."""
    bad = np.flatnonzero(code.numpy() != SolveCode.CONVERGED)
    if len(bad):
        some = ", ".join(f"{names[i : i + 1].tolist()[0]!r} ({_word(int(code[i]))})" for i in bad[:SHOWN])
        warn(
            f"{where}: the search for the constants of {len(bad)} of {len(code)} tasks did not converge: task {some}"
            f"{' and others' * (len(bad) > SHOWN)}.",
            ConvergenceWarning,
        )


def _word(code: int) -> str:
    return SolveCode(code).name.lower()
