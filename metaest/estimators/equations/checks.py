"""Errors and warnings about the data of a fit, the rows an equation is given, and the constants that come out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.censoring import bounds_of, is_beyond
from metaest.estimators.equations.fitted import IDENTIFIED, FittedEquation, Posterior
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.inputs import as_rows, require_one_target
from metaest.exceptions import IdentifiabilityWarning, OvershootWarning, TaskError, UnlikelyTaskWarning, warn
from metaest.functional import HierarchicalModel, Observations, Outcome, SolveCode
from metaest.tasks import Task, TaskSet
from metaest.tasks.reading import rows_of

__all__ = [
    "arranged",
    "check_data",
    "check_rows",
    "check_tasks",
    "check_values",
    "joined_rows",
    "note_on_initial_values",
    "require_finite_curve",
    "require_likely",
    "require_positive",
    "require_positive_tasks",
    "require_possible_curve",
    "require_usable",
    "unlikely_tasks",
    "warn_of_adaptation",
    "warn_of_codes",
    "warn_of_many",
    "warn_of_outliers",
    "warn_of_shrinkage",
    "warn_of_unlikely",
]

# names of tasks that a message lists
SHOWN = 5
# distance of a row from its curve, in standard deviations of the noise, that one row in a thousand million exceeds
FAR_ROW = 6.0
# distance of a task's constant from the median, in robust standard deviations, from which the task is an outlier
FAR_TASK = 8.0
# the same in standard deviations between tasks, as fitted: both have to be exceeded
FAR_IN_POPULATION = 3.0
# tasks from which a robust standard deviation is worth something
LEAST_TASKS = 8
# standard deviation of a normal distribution over the median of its absolute deviations
MAD_TO_SD = 1.4826
# share of very many tasks that are unlikely by chance, and reported only beyond that
UNLIKELY_BY_CHANCE = 1e-4
# cells of padding from which a fit gets slow and large, and times the rows that they are then
MUCH_PADDING = 1_000_000
PADDING_RATIO = 20
# change of the curve with a constant, as a share of the spread of the data, below which it does not respond
NO_RESPONSE = 1e-6


def check_data(settings: FitSettings, tasks: TaskSet, names: list[str], random: list[int], *, flat: bool) -> list[int]:
    """Warn of data that do not determine the model, and return the constants that may vary between the tasks.

    Parameters
    ----------
    settings : FitSettings
    tasks : TaskSet
    names : list of str
        The names of all constants.
    random : list of int
        Constants that the user lets vary.
    flat : bool
        Whether the tasks came as flat rows.

    Returns
    -------
    list of int

    Raises
    ------
    TaskError
        When there are several targets, or too few tasks for ``small_sample="integrate"``.
    """
    require_one_target(tasks, "an equation gives one value a row", flat=flat)
    y = tasks.y.reshape(-1)
    if settings.censors:
        below, above = is_beyond(bounds_of(settings, tasks.feature_names), tasks.X, y)
        y = y[~below & ~above]
        if len(y) == 0:
            which = f"below limit={settings.limit}" if below.all() else "beyond limits"
            raise TaskError(f"y: all {len(tasks.y)} observations lie {which}; some have to be within.")
    if settings.logarithmic:
        require_positive_tasks(tasks)
    if not settings.censors and settings.noise == "proportional" and (y <= 0).any():
        row = int(np.flatnonzero(y <= 0)[0])
        task, row_in_task = tasks.place_of(row)
        warn(
            f"noise='proportional', but y is {y[row]:g} in row {row_in_task} of task "
            f"{tasks.name_of(task)!r} ({int((y <= 0).sum())} rows in all are not above 0): noise in proportion "
            "to the curve hardly allows that; 'combined' does."
        )
    padding = len(tasks) * int(tasks.sizes.max()) - len(tasks.y)
    if padding > max(MUCH_PADDING, PADDING_RATIO * len(tasks.y)):
        longest = int(tasks.sizes.argmax())
        warn(
            f"task {tasks.name_of(longest)!r} has {tasks.sizes[longest]} rows, half of the tasks at most "
            f"{np.median(tasks.sizes):.0f}: all are padded to the longest, which takes time and memory; thin out its "
            "rows, or split it."
        )
    if settings.small_sample == "integrate":
        _require_enough_tasks(settings, tasks, names, random)
    return _may_vary(tasks, names, random, diagonal=settings.diagonal)


def require_positive_tasks(tasks: TaskSet) -> None:
    """Raise a TaskError where lognormal noise meets an observation that is not above zero, naming task and row."""
    y = tasks.y.reshape(-1)
    if (y <= 0).any():
        task, _ = tasks.place_of(int(np.flatnonzero(y <= 0)[0]))
        require_positive(tasks[task].y.reshape(-1), f"task {tasks.name_of(task)!r}")


def require_positive(y: NDArray[Any], where: str) -> None:
    """Raise a TaskError where an observation of one task is not above zero; the message begins with `where`."""
    bad = np.flatnonzero(y <= 0)
    if len(bad):
        raise TaskError(
            f"{where}: y is {y[bad[0]]:g} in row {bad[0]} ({len(bad)} of {len(y)} rows are not above 0), but "
            "noise='lognormal' is that of the logarithm of y: leave them out, give limit= where they stand for "
            "values below a limit of quantification, or take noise='combined'."
        )


def _require_enough_tasks(settings: FitSettings, tasks: TaskSet, names: list[str], random: list[int]) -> None:
    """Raise where so few tasks leave the variation between them open altogether."""
    varying = [names[k] for k in random]
    # Student's distribution of a new task's constants has this many degrees of freedom less than there are tasks
    taken = 1 + max((len((settings.covariates or {}).get(name, ())) for name in varying), default=0)
    taken += 0 if settings.diagonal else max(0, len(random) - 1)
    if random and len(tasks) < taken + 2:
        raise TaskError(
            f"small_sample='integrate' needs more tasks: from {len(tasks)} nothing can be said of how "
            f"{', '.join(varying)} vary{'' if settings.diagonal else ' together'}; {taken + 2} are wanted. Let fewer "
            f"vary (random=){'' if settings.diagonal else ', or take covariance=' + repr('diagonal')}."
        )


def _may_vary(tasks: TaskSet, names: list[str], random: list[int], *, diagonal: bool) -> list[int]:
    """Return the constants that may vary between tasks, with a warning where there are too few tasks or rows."""
    if not random:
        return random
    if len(tasks) == 1:
        warn(
            "one task says nothing about the variation between tasks: all constants are taken as shared, and adapting "
            "changes nothing."
        )
        return []
    m = len(random)
    if not diagonal and len(tasks) <= m:
        warn(
            f"{len(tasks)} tasks cannot tell how {m} constants vary together ({', '.join(names[k] for k in random)}); "
            "let fewer vary (random=), or take covariance='diagonal'."
        )
    elif len(tasks.y) <= len(names) + m + 1:
        warn(
            f"{len(tasks.y)} rows in all cannot tell {len(names)} constants, the variation of {m} of them and the "
            "noise apart; let fewer vary (random=)."
        )
    elif tasks.sizes.max() == 1 and m == len(names):
        warn(
            "no task has more than one row, and all constants vary: variation between tasks and noise can hardly be "
            "told apart; standard errors and intervals mean little."
        )
    return random


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
    require_possible(model, phi, X, where, at)
    bad = torch.nonzero(values[:, 0] <= 0)
    if len(bad) and model.noise.logarithmic and not model.noise.bounds.censors:
        row = int(bad[0])
        raise TaskError(
            f"{where}: the equation is {float(values[row, 0]):g} in row {row}, X = {X[row].tolist()}, at {at}; with "
            "noise='lognormal' a curve has to be above 0 in every row: leave the row out (such as one before the first "
            "dose), check bounds and initial values, or take noise='combined'."
        )
    bad = torch.nonzero(values[:, 0] == 0)
    if len(bad) and model.noise.kind in ("proportional", "power") and not model.noise.delta:
        row = int(bad[0])
        raise TaskError(
            f"{where}: the equation is 0 in row {row}, X = {X[row].tolist()}, at {at}, where {model.noise.kind} noise "
            "has no width: leave the row out (such as one before the first dose), or give the population's NoiseModel "
            "a floor."
        )
    bad = torch.nonzero(~torch.isfinite(slopes[:, :, 0]))
    if len(bad):
        k, row = (int(i) for i in bad[0])
        raise TaskError(
            f"{where}: the derivative of the equation in {model.equation.names[k]!r} is {float(slopes[k, row, 0])} in "
            f"row {row}, X = {X[row].tolist()}, at {at}; an overflow, or a logarithm, root or power of zero, does "
            "that; keep what these are taken of above zero, as by torch.clamp(u, min=...), or leave the row out."
        )


def require_possible(
    model: HierarchicalModel,
    phi: Tensor,
    X: NDArray[Any],
    where: str,
    at: str,
    numbers: NDArray[np.intp] | None = None,
) -> None:
    """Raise where the equation returns what no distribution of the outcome has, such as a probability above 1."""
    noise = model.noise
    if not isinstance(noise, Outcome):
        return
    rows = noise.evaluated_at(one_task(X))
    with torch.no_grad():
        values = model.curve(phi, rows)[:, 0]
    bad = torch.nonzero(noise.impossible(values) | ~torch.isfinite(values))
    if len(bad):
        place = int(bad[0])
        row = place % len(X) if numbers is None else int(numbers[place % len(X)])
        raise TaskError(
            f"{where}: the equation is {float(values[place]):.6g} in row {row}, X = "
            f"{rows.X[place].tolist()}, at {at}; with noise={noise.kind!r} it returns {noise.what_curve_is}. Keep "
            "it in range, as by torch.sigmoid or torch.exp, or check bounds and initial values."
        )


def require_likely(model: HierarchicalModel, log_sigma: Tensor, phi: Tensor, task: Task, where: str) -> None:
    """Raise where an outcome has no probability at all, such as a count above 0 of a mean of 0; it names the row."""
    if not isinstance(model.noise, Outcome):
        return
    y = task.y.reshape(-1)
    with torch.no_grad():
        if bool(torch.isfinite(model.loss(phi, log_sigma, one_task(task.X, y))).all()):
            return
        for row in range(len(y)):
            here = one_task(task.X[row : row + 1], y[row : row + 1])
            if not bool(torch.isfinite(model.loss(phi, log_sigma, here)).all()):
                raise TaskError(
                    f"{where}: y is {y[row]:g} in row {row}, X = {task.X[row].tolist()}, where the equation is "
                    f"{float(model.curve(phi, here)[0, 0]):g}; with noise={model.noise.kind!r} that cannot be. Leave "
                    "the row out, or check the equation there."
                )


def require_possible_curve(fitted: FittedEquation, phi: Tensor, X: NDArray[Any], numbers: NDArray[np.intp]) -> None:
    """Let `predict` refuse rows X, with these numbers, where the equation is no probability, rate or hazard.

    Constants have the shape (constants, 1).
    """
    if len(X):
        require_possible(fitted.model, phi, X, "predict", "the most probable constants", numbers)


def check_tasks(equation: Any, tasks: TaskSet) -> None:
    """Let an equation with a method ``check_rows(X, y)`` refuse the rows of a task; the error names the task."""
    if hasattr(equation, "check_rows"):
        for task in tasks:
            check_rows(equation, task.X, task.y.reshape(-1), f"task {task.name!r}")


def arranged(
    names: Sequence[str] | NDArray[Any] | None, equation: Any, X: Any, where: str
) -> tuple[Any, NDArray[Any] | None]:
    """Let an equation with a method ``arrange(X, names)`` take columns of a data frame that the fit did not have.

    Parameters
    ----------
    names : sequence of str or None
        The columns of the fit, where they had names.
    equation : callable
    X : array-like or data frame
    where : str

    Returns
    -------
    X : array-like or data frame of pandas
        With the columns of the fit.
    further : ndarray of shape (n_rows, n) or None
        Further columns of X that the equation takes beside them.
    """
    X = rows_of(X, where, "X") if X is not None else X
    if not hasattr(equation, "arrange") or not hasattr(X, "columns") or not len(X):
        return X, None
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


def warn_of_adaptation(fitted: FittedEquation, posterior: Posterior, n_rows: int, where: str) -> None:
    """Warn of one task whose search did not converge, whose rows are unlikely, or say little."""
    code = int(posterior.code[0])
    if code != SolveCode.CONVERGED and fitted.by_gradient_steps:
        warn(
            f"{where}: the learned rates overshoot on this task (its support loss rose); it was adapted at lower "
            "ones. It may be unlike the tasks of the fit.",
            OvershootWarning,
        )
    elif code != SolveCode.CONVERGED:
        warn(
            f"{where}: the search for the constants of this task ended as {_word(code)}; treat them with care.",
            ConvergenceWarning,
        )
    if bool(posterior.unlikely[0]):
        warn(
            f"{where}: no curve of this population comes near these rows; check their units, or treat the task as "
            "unlike those of the fit.",
            UnlikelyTaskWarning,
        )
    warn_of_shrinkage(fitted, posterior, n_rows, where)


def warn_of_shrinkage(fitted: FittedEquation, posterior: Posterior, n_rows: int, where: str) -> None:
    """Warn of the constants of one task that its rows do not tell."""
    shrinkage = fitted.shrinkage(posterior)[:, 0]
    untold = [
        f"{fitted.names[k]} (they take away {100 * (1 - float(shrinkage[k])):.0f} % of its variance between tasks)"
        for k in fitted.varying
        if float(shrinkage[k]) > IDENTIFIED
    ]
    if untold:
        warn(
            f"{where}: {n_rows} row{'s' * (n_rows != 1)} cannot tell {', '.join(untold)}; the population decides "
            "more. See params_ and suggest.",
            IdentifiabilityWarning,
        )


def warn_of_outliers(fitted: FittedEquation, posterior: Posterior, observations: Observations, names: Any) -> None:
    """Warn after a fit of rows far from the curve of their task, and of tasks far from all others."""
    if fitted.by_gradient_steps:  # they end short of the best curve
        return
    rows: Any = ()
    if fitted.model.noise.normal:
        with torch.no_grad():
            curve = fitted.model.curve(posterior.phi, observations)
            noise = fitted.model.noise
            sd = noise.variance(curve, fitted.population.log_sigma, noise.accuracy(observations)).sqrt()
            residual = noise.residual(curve, observations.y, noise.accuracy(observations))
            away = observations.masked(residual.abs() / sd).numpy()
        rows = np.argwhere(away.T > FAR_ROW)
    if len(rows):
        task, row = max(rows, key=lambda place: float(away[place[1], place[0]]))
        warn(
            f"fit: row {row} of task {names[task : task + 1].tolist()[0]!r} lies {away[row, task]:.0f} standard "
            f"deviations of the noise from its curve ({len(rows)} such row{'s' * (len(rows) != 1)} in all): a mistyped "
            "value, or an equation that does not hold there. Noise and constants suffer from it.",
            UnlikelyTaskWarning,
        )
    for k in fitted.varying:
        from_median = (posterior.phi[k] - (posterior.phi[k]).median()).numpy()
        spread = MAD_TO_SD * float(np.median(np.abs(from_median)))
        population = float(fitted.prior_variance[k].sqrt())
        if fitted.covariates.columns or len(from_median) < LEAST_TASKS or not spread > 0:
            continue
        far = np.flatnonzero(
            (np.abs(from_median) > FAR_TASK * spread) & (np.abs(from_median) > FAR_IN_POPULATION * population)
        )
        if len(far):
            some = ", ".join(repr(name) for name in names[far[:SHOWN]].tolist())
            warn(
                f"fit: task {some}{' and others' * (len(far) > SHOWN)} has a value of {fitted.names[k]!r} unlike "
                "all others; check its units. The variation between tasks is overrated because of it.",
                UnlikelyTaskWarning,
            )


def warn_of_many(fitted: FittedEquation, posterior: Posterior, names: NDArray[Any]) -> None:
    """Warn once for many tasks, where `adapt` would warn for each."""
    stalled = int((posterior.code == SolveCode.STALLED).sum())
    if not fitted.by_gradient_steps:
        warn_of_codes(posterior.code, names, "adapt_many")
    elif stalled:
        warn(
            f"adapt_many: the learned rates overshoot on {stalled} of {len(names)} tasks (their support loss rose); "
            "they were adapted at lower ones.",
            OvershootWarning,
        )
    warn_of_unlikely(posterior, names, "adapt_many")
    shrinkage = fitted.shrinkage(posterior)
    counts = {fitted.names[k]: int((shrinkage[k] > IDENTIFIED).sum()) for k in fitted.varying}
    untold = [f"{name} of {n}" for name, n in counts.items() if n]
    if untold:
        warn(
            f"adapt_many: of {shrinkage.shape[1]} tasks the rows cannot tell {', '.join(untold)}; see the shrinkage "
            "in params_.",
            IdentifiabilityWarning,
        )


def unlikely_tasks(posterior: Posterior, names: NDArray[Any]) -> list[Any]:
    """Return the names of tasks that no curve of the population comes near."""
    unlikely = names[posterior.unlikely.numpy()].tolist()
    # of very many tasks a few are that improbable by chance
    return unlikely if len(unlikely) > UNLIKELY_BY_CHANCE * len(names) else []


def warn_of_unlikely(posterior: Posterior, names: NDArray[Any], where: str) -> None:
    """Warn of tasks that no curve of the population comes near, by name."""
    unlikely = unlikely_tasks(posterior, names)
    if unlikely:
        warn(
            f"{where}: no curve of this population comes near the rows of {len(unlikely)} of {len(names)} tasks: "
            f"task {', '.join(map(repr, unlikely[:SHOWN]))}{' and others' * (len(unlikely) > SHOWN)}; check their "
            "units.",
            UnlikelyTaskWarning,
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


def note_on_initial_values(fitted: FittedEquation, observations: Observations, tasks: TaskSet) -> str:
    """Return a sentence on the constants to which no curve responds at the initial values, where there are such."""
    model, table = fitted.model, fitted.table
    initial = torch.tensor([float(parameter.initial) for parameter in table.values()], dtype=torch.float64)
    phi = model.transforms.unconstrain(initial)
    curves, slopes = model.curve_and_slopes(phi[:, None].expand(-1, len(tasks)), observations)
    real = observations.mask > 0
    # by how much a curve changes with a constant by its size, or on a log or logit scale by one
    steps = torch.tensor(
        [abs(float(v)) if kind == "identity" else 1.0 for v, kind in zip(phi, model.transforms.kinds, strict=True)]
    )
    moves = (slopes.detach() * steps[:, None, None])[:, real].abs()
    flat = ~(torch.nan_to_num(moves, nan=0.0, posinf=0.0).amax(dim=1) > NO_RESPONSE * fitted.unit)
    which = [name for name, still in zip(table, flat.tolist(), strict=True) if still]
    if not which:
        return ""
    task, first = tasks.name_of(0), curves.detach()[:, 0][real[:, 0]]
    values = ", ".join(f"{name}={float(table[name].initial):.3g}" for name in which)
    return (
        f" At the initial values ({values}) no curve responds to {', '.join(which)}: that of task {task!r} lies from "
        f"{float(first.min()):.3g} to {float(first.max()):.3g}. Give initial values at which the curve has the shape "
        "of the data."
    )
