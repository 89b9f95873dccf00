"""Plot kinetics: curves with bands, constants against conditions, TTT diagrams, errors by number of points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from metaest import AdaptedEquation, AveragedEquation
from metaest.tasks.containers import plain
from metaest.tasks.numbers import as_number, as_one_or_more, as_rows, as_vector
from metaest_domains.axes import current_axes
from metaest_domains.kinetics.outputs import formula_of, ttt_curve

__all__ = ["plot_constants", "plot_curve", "plot_errors", "plot_ttt"]

# colours of measurements, of the adapted curve, of the support, and of the band before adaptation
INK = "#222222"
BLUE = "#2369bd"
ORANGE = "#d1701f"
GREY = "#8a8a8a"
# labels of inputs and targets on axes
UNITS = {"temperature": "temperature (K)", "start": "start temperature (K)", "rate": "rate of temperature (K per time)"}
AXIS_LABELS = {"fraction": "transformed fraction", "hardness": "hardness"}


def plot_curve(
    adapted: AdaptedEquation,
    rows: Any,
    *,
    model: Any = None,
    X: Any = None,
    y: Any = None,
    candidates: Any = None,
    against: str | None = None,
    level: float = 0.9,
    ax: Any = None,
) -> Any:
    """Draw an adapted curve with the band of new observations and the points used.

    A band covers the given share of new observations at each row.

    Parameters
    ----------
    adapted : AdaptedEquation
        From an estimator of the catalogue.
    rows : data frame or array of shape (n, n_features)
        Rows of X at which the curve is drawn.
    model : fitted estimator, optional
        The model that was adapted; its band before adaptation is drawn as well.
    X, y : array-like, optional
        Observations that were not used.
    candidates : array-like, optional
        Rows among which the next measurement would be taken; a dashed line marks the one `suggest` proposes.
    against : str, optional
        The input on the horizontal axis, such as ``"time"``; by default the one with most values in `rows`.
    level : float, default=0.9
        Share of new observations in the bands.
    ax : matplotlib.axes.Axes, optional
        The current axes of pyplot by default.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    ValueError
        When the equation is not one of the catalogue, or has no such input.
    """
    formula = formula_of(adapted)
    level = as_number(level, "level", above=0, below=1, wanted="a number between 0 and 1")
    inputs = formula.read(_array(rows))
    if against is None:
        against = max(inputs, key=lambda name: len(np.unique(inputs[name])))
    if against not in inputs:
        raise ValueError(
            f"plot_curve: against={against!r} is not an input of the equation, whose inputs are {', '.join(inputs)}."
        )

    def across(given: Any) -> NDArray[Any]:
        return formula.read(_array(given))[against]

    ax = current_axes(ax)
    order = np.argsort(inputs[against], kind="stable")
    x = inputs[against][order]
    if model is not None:
        low, high = model.predict_interval(rows, level=level)
        ax.fill_between(
            x, low[order], high[order], color=GREY, alpha=0.25, lw=0, label=_percent(level, "before adaptation")
        )
    low, high = adapted.predict_interval(rows, level=level)
    ax.fill_between(x, low[order], high[order], color=BLUE, alpha=0.3, lw=0, label=_percent(level, "adapted"))
    ax.plot(x, np.asarray(adapted.predict(rows))[order], color=BLUE, lw=1.4, label="adapted curve")
    if X is not None:
        ax.plot(
            across(X),
            as_rows(y, None, "plot_curve: y").reshape(-1) if np.ndim(y) == 2 else as_vector(y, "plot_curve: y"),
            "o",
            mfc="none",
            mec=INK,
            ms=3.5,
            mew=0.8,
            label="not used",
        )
    ax.plot(across(adapted.X_support_), adapted.y_support_, "o", color=ORANGE, ms=6, label="points used")
    if candidates is not None:
        proposed = across(candidates)[int(adapted.suggest(candidates)[0])]
        ax.axvline(proposed, color=ORANGE, ls="--", lw=1, label="measure next")
    ax.set(xlabel=UNITS.get(against, against), ylabel=AXIS_LABELS.get(formula.target, formula.target))
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_constants(
    tasks: Any,
    constant: str,
    x: ArrayLike,
    *,
    logarithm: bool = False,
    label: str | None = None,
    color: Any = None,
    ax: Any = None,
) -> Any:
    """Draw one constant of several tasks against a condition, such as 1000 K / T or a content, with its uncertainty.

    Parameters
    ----------
    tasks : fitted estimator, or sequence of AdaptedEquation
        A fitted estimator gives its training tasks with standard errors; adapted equations give 90 % intervals.
    constant : str
    x : array-like of shape (n_tasks,)
        The condition of each task; the name of a series becomes the label of the axis.
    logarithm : bool, default=False
        Draw the natural logarithm, in which Arrhenius' law is a straight line against 1 / T.
    label : str, optional
        For a legend.
    color : color, optional
    ax
        As in :func:`plot_curve`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    ValueError
        When there is no such constant, or there are not as many conditions as tasks.
    """
    value, low, high, unit = _with_intervals(tasks, constant)
    across = as_vector(x, "plot_constants: x")
    if len(across) != len(value):
        raise ValueError(f"plot_constants: x has {len(across)} values, but there are {len(value)} tasks.")
    if logarithm:
        if (value <= 0).any():
            raise ValueError(f"plot_constants: {constant} has values of 0 or below, which have no logarithm.")
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.log(value)
            low = np.log(np.maximum(low, 0))
            high = np.log(high)
    ax = current_axes(ax)
    ends = np.array([value - low, high - value])
    ends = np.where(np.isfinite(ends), np.maximum(ends, 0), 0)
    ax.errorbar(across, value, ends, fmt="o", ms=4, lw=1, label=label, color=color)
    name = f"{constant} ({unit})" if unit else constant
    if logarithm:
        name = f"ln ({constant} / ({unit}))" if unit else f"ln {constant}"
    ax.set(xlabel=str(x.name) if isinstance(x, pd.Series) and x.name is not None else ax.get_xlabel(), ylabel=name)
    if label is not None:
        ax.legend(frameon=False, fontsize=8)
    return ax


def plot_ttt(
    adapted: AdaptedEquation,
    temperatures: ArrayLike,
    fractions: Sequence[float] = (0.01, 0.5, 0.99),
    *,
    level: float = 0.9,
    ax: Any = None,
) -> Any:
    """Draw a time-temperature-transformation diagram with bands.

    Parameters
    ----------
    adapted : AdaptedEquation
        As in :func:`ttt_curve`.
    temperatures : array-like of shape (n,)
        Temperatures in K.
    fractions : sequence of float, default=(0.01, 0.5, 0.99)
        Transformed fractions; a curve is drawn for each.
    level : float, default=0.9
        Level of the bands of times.
    ax
        As in :func:`plot_curve`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    ValueError
        As :func:`ttt_curve` does.
    """
    at = np.sort(as_one_or_more(temperatures, "plot_ttt: temperatures"))
    table = ttt_curve(adapted, at, fractions, level=level)
    ax = current_axes(ax)
    # a logarithmic axis has no place for times of 0 (reached at the start) or infinity (never reached)
    table = table.replace({np.inf: np.nan, 0.0: np.nan})
    for fraction, curve in table.groupby("fraction"):
        [line] = ax.plot(curve["time"], curve["temperature"], lw=1.4, label=f"{100 * float(str(fraction)):g} %")
        ax.fill_betweenx(curve["temperature"], curve["lower"], curve["upper"], color=line.get_color(), alpha=0.2, lw=0)
    ax.set(xscale="log", xlabel="time", ylabel="temperature (K)")
    ax.legend(frameon=False, fontsize=8, title="transformed")
    return ax


def plot_errors(errors: pd.DataFrame, *, unit: str = "RMSE", ax: Any = None) -> Any:
    """Draw the errors of several methods by the number of points they were given, on a logarithmic scale.

    Parameters
    ----------
    errors : DataFrame
        A row for each method, a column for each number of points.
    unit : str, default="RMSE"
        The label of the vertical axis.
    ax
        As in :func:`plot_curve`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    errors = plain(errors, "plot_errors")
    if not isinstance(errors, pd.DataFrame) or errors.empty:
        raise TypeError(
            f"plot_errors: errors must be a data frame of methods and numbers of points, got {type(errors).__name__}."
        )
    for number in errors:
        as_vector(errors[number], f"plot_errors: errors with {number} points", missing=True, infinite=True)
    ax = current_axes(ax)
    for method, row in errors.iterrows():
        ax.plot(row.index, row, "o-", ms=4, lw=1.2, label=method)
    ax.set(xlabel="points of the new task", ylabel=unit, yscale="log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False, fontsize=8)
    return ax


def _array(rows: Any) -> NDArray[Any]:
    if isinstance(rows, np.ndarray) and rows.ndim == 1:
        rows = rows[:, None]
    array = as_rows(rows, None, "plot_curve: rows")
    if not array.shape[1]:
        raise ValueError("plot_curve: rows must have at least one column.")
    return array


def _percent(level: float, what: str) -> str:
    return f"{what} ({100 * level:g} %)"


def _with_intervals(tasks: Any, constant: str) -> tuple[Any, Any, Any, str]:
    """Return values of a constant of every task with the ends of bars, and its unit."""
    table = getattr(tasks, "task_params_", None)
    if table is not None:
        if not isinstance(constant, str) or f"{constant}_standard_error" not in table:
            raise ValueError(f"plot_constants: the estimator has no constant {constant!r} that was fitted.")
        value, error = (table[name].to_numpy(dtype=float) for name in (constant, f"{constant}_standard_error"))
        return value, value - error, value + error, _unit(tasks.population_, constant)
    if (
        not isinstance(tasks, Sequence)
        or not all(isinstance(task, (AdaptedEquation, AveragedEquation)) for task in tasks)
        or not tasks
    ):
        raise TypeError(
            "plot_constants: tasks must be a fitted estimator, or a list of results of its adapt, got "
            f"{type(tasks).__name__}."
        )
    for adapted in tasks:
        if not isinstance(constant, str) or constant not in adapted.params_.index:
            raise ValueError(
                f"plot_constants: there is no constant {constant!r}; there are {list(adapted.params_.index)}."
            )
    ends = [adapted.params_.loc[constant, ["value", "lower_90", "upper_90"]] for adapted in tasks]
    value, low, high = np.array(ends, dtype=float).reshape(-1, 3).T
    return value, low, high, _unit(tasks[0].params_, constant) if len(tasks) else ""


def _unit(table: pd.DataFrame, constant: str) -> str:
    unit = table["unit"].get(constant, "") if "unit" in table else ""
    return unit if isinstance(unit, str) else ""
