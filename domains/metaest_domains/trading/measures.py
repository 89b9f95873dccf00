"""Measures of a series of returns, and their uncertainty.

Missing returns are left out. A ratio whose denominator is zero is infinite with the sign of the mean, and NaN if the
mean is zero as well. A measure of too few returns is NaN, with a warning that gives the reason.
"""

from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from metaest.exceptions import warn
from metaest.tasks.arguments import as_generator
from metaest.tasks.containers import plain
from metaest.tasks.numbers import as_number, as_vector
from metaest_domains.trading.dates import day_of, read_dates, yearly
from metaest_domains.trading.settings import as_days

__all__ = ["Difference", "deflated_sharpe", "difference", "drawdown", "sharpe", "sortino"]

# Euler's constant gamma, in the expected maximum of Sharpe ratios
EULER = 0.5772156649015329
# a standard deviation below this share of the largest return comes from rounding of prices and counts as 0
ROUNDING = 1e-10


def sharpe(returns: Any, *, periods_per_year: float | None = None) -> float:
    r"""Return the annualised Sharpe ratio, :math:`\sqrt{P}\,\bar r / \mathrm{sd}(r)` with P returns per year.

    Parameters
    ----------
    returns : Series, or array-like of shape (n_periods,)
        Returns; missing ones are left out.
    periods_per_year : float, optional
        P; by default from the dates: 252 for daily returns (365 with weekends), 52 for weekly, 12 for monthly, 4 for
        quarterly and 1 for yearly ones. Without dates 252 are assumed, with a warning.

    Returns
    -------
    float
        Infinite, with the sign of the mean, if all returns are equal; NaN if all are 0, or fewer than two.

    Raises
    ------
    ValueError
        When a return is infinite or not a number, or when dates do not determine the number of returns per year.

    Warns
    -----
    UserWarning
        When there are neither dates nor `periods_per_year`, when all returns are above 1, so that they may be prices,
        or when the measure is NaN.

    Examples
    --------
    >>> from metaest_domains.trading import sharpe
    >>> round(sharpe([0.01, -0.02, 0.03, 0.0], periods_per_year=12), 3)
    0.961
    """
    values, index = _read(returns, "sharpe")
    periods = yearly(index, periods_per_year, "sharpe")
    return _with_warning("sharpe", sharpe_of(values, periods), values, 2)


def sortino(returns: Any, *, periods_per_year: float | None = None) -> float:
    r"""Return the annualised Sortino ratio, :math:`\sqrt{P}\,\bar r / \sqrt{\overline{\min(r, 0)^2}}`.

    Parameters
    ----------
    returns : Series, or array-like of shape (n_periods,)
        Returns; missing ones are left out.
    periods_per_year : float, optional
        P; as in :func:`sharpe`.

    Returns
    -------
    float
        Infinite without any loss; NaN if all returns are 0, or there are none.

    Raises
    ------
    ValueError
        As in :func:`sharpe`.

    Warns
    -----
    UserWarning
        As in :func:`sharpe`.

    Examples
    --------
    >>> from metaest_domains.trading import sortino
    >>> sortino([0.01, 0.02, 0.03], periods_per_year=12)
    inf
    """
    values, index = _read(returns, "sortino")
    periods = yearly(index, periods_per_year, "sortino")
    return _with_warning("sortino", sortino_of(values, periods), values, 1)


def sharpe_of(values: NDArray[np.float64], periods: float) -> float:
    """Return the annualised Sharpe ratio of finite returns; NaN, without a warning, if it is undefined."""
    values = _scaled(values)
    return float(np.sqrt(periods) * _ratio(values, _spread(values))) if len(values) > 1 else np.nan


def sortino_of(values: NDArray[np.float64], periods: float) -> float:
    """Return the annualised Sortino ratio of finite returns; NaN, without a warning, if it is undefined."""
    if not len(values):
        return np.nan
    values = _scaled(values)
    losses = np.minimum(values, 0)
    # losses are scaled, since the squares of small ones would underflow
    largest = float(-losses.min()) or 1.0
    return float(np.sqrt(periods) * _ratio(values, largest * float(np.sqrt(np.square(losses / largest).mean()))))


def drawdown(returns: Any) -> float:
    """Return the maximum drawdown: the largest fall of the compounded value, as a share of its earlier maximum.

    Parameters
    ----------
    returns : Series, or array-like of shape (n_periods,)
        Returns in order of time, as fractions; missing ones are left out.

    Returns
    -------
    float
        Between 0 and 1; it is 1 if a return is -1 or below, a total loss. NaN without any return.

    Raises
    ------
    ValueError
        When a return is infinite or not a number, or when dates are not in order.

    Warns
    -----
    UserWarning
        When a return is -1 or below, when all are above 1, so that they may be prices, or when there are no returns.
    """
    values, _ = _read(returns, "drawdown")
    if not len(values):
        return _with_warning("drawdown", np.nan, values, 1)
    ruined = np.flatnonzero(values <= -1)
    if len(ruined):
        warn(
            f"drawdown: a return of {values[ruined[0]]:g} is a total loss; returns must be fractions: divide "
            "them by 100 if they are in percent."
        )
        return 1.0
    # logarithms, since a long product overflows
    value = np.cumsum(np.log1p(values))
    highest = np.maximum.accumulate(np.r_[0.0, value])[1:]
    return float(-np.expm1((value - highest).min(initial=0.0)))


def deflated_sharpe(returns: Any, trials: Sequence[float], *, periods_per_year: float | None = None) -> float:
    r"""Return the probability that the true Sharpe ratio exceeds the expected best of as many trials without skill.

    .. math:: \Phi\Bigl(\frac{(\hat S - S_0) \sqrt{n - 1}}{\sqrt{1 - g_3 \hat S + \frac{g_4 - 1}{4} \hat S^2}}\Bigr),
              \; S_0 = \sigma_S \bigl[(1 - \gamma) \Phi^{-1}(1 - \tfrac1N) + \gamma \Phi^{-1}(1 - \tfrac1{N e})\bigr],

    with the Sharpe ratio of one period, skewness g3 and kurtosis g4 of the returns, N trials and the standard deviation
    of their Sharpe ratios (Bailey and Lopez de Prado, 2014, :doi:`10.3905/jpm.2014.40.5.094`).

    Parameters
    ----------
    returns : Series, or array-like of shape (n_periods,)
        Returns; missing ones are left out.
    trials : sequence of float
        Annualised Sharpe ratios of all strategies that were tried, this one included; at least one.
    periods_per_year : float, optional
        Returns per year, for the returns and the trials; as in :func:`sharpe`.

    Returns
    -------
    float
        NaN if all returns are equal or there are fewer than two, since the ratio then has no standard error.

    Raises
    ------
    ValueError
        When there are no trials, or one is missing or infinite; otherwise as in :func:`sharpe`.

    Warns
    -----
    UserWarning
        As in :func:`sharpe`.
    """
    tried = as_vector(trials, "trials must be the Sharpe ratios of all strategies tried", missing=True, infinite=True)
    if not len(tried):
        raise ValueError("trials is empty; it must include at least the strategy itself.")
    wrong = np.flatnonzero(~np.isfinite(tried))
    if len(wrong):
        raise ValueError(
            f"trials: ratio {wrong[0]} is {tried[wrong[0]]}; the ratio of every strategy tried must be finite."
        )
    values, index = _read(returns, "deflated_sharpe")
    periods = yearly(index, periods_per_year, "deflated_sharpe")
    values = _scaled(values)
    spread = _spread(values)
    if spread == 0:
        return _with_warning("deflated_sharpe", np.nan, values, 2)
    ratio = float(values.mean() / spread)
    standard = (values - values.mean()) / spread
    skewness = float((standard**3).mean())
    kurtosis = float((standard**4).mean())
    n = len(tried)
    best = 0.0
    if n > 1:
        largest = float(np.abs(tried).max()) or 1.0  # ratios are scaled, since the squares of large ones overflow
        apart = largest * float((tried / largest).std()) / periods**0.5
        best = apart * ((1 - EULER) * norm.ppf(1 - 1 / n) + EULER * norm.ppf(1 - 1 / (n * np.e)))
    # at least (1 - skewness * ratio / 2) ** 2, since kurtosis is at least 1 + skewness ** 2
    variance = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(norm.cdf((ratio - best) * np.sqrt(len(values) - 1) / np.sqrt(np.maximum(variance, 0))))


class Difference(NamedTuple):
    """A difference with the ends of its interval."""

    value: float
    lower: float
    upper: float


def difference(
    ours: Any,
    theirs: Any,
    *,
    measure: Any = sharpe,
    level: float = 0.95,
    block: float = 21.0,
    n: int = 2000,
    random_state: int = 0,
    periods_per_year: float | None = None,
) -> Difference:
    """Return the difference of a measure between two series of returns, with a stationary-bootstrap interval.

    Days are drawn in blocks of random length with mean `block`, the same for both (Politis and Romano, 1994,
    :doi:`10.1080/01621459.1994.10476870`).

    Parameters
    ----------
    ours, theirs : Series, or array-like of shape (n_days,)
        Returns by day; only days that both have are used.
    measure : callable, default=sharpe
        Function from an array of returns to a number; `periods_per_year` is passed on if it has that argument.
    level : float, default=0.95
        Probability of the interval.
    block : float, default=21.0
        Mean length of a block in days; at least 1.
    n : int, default=2000
        Number of bootstrap samples.
    random_state : int, default=0
    periods_per_year : float, optional
        As in :func:`sharpe`.

    Returns
    -------
    Difference
        NaN if the measure of either is not finite; the ends are NaN if that of any sample is not.

    Raises
    ------
    ValueError
        When a setting is outside its range, when the two have fewer than two days in common, or as in :func:`sharpe`.

    Warns
    -----
    UserWarning
        As in :func:`sharpe`.
    """
    level = as_number(level, "difference: level", above=0, below=1, wanted="a number between 0 and 1")
    as_number(block, "difference: block", least=1, wanted="a number of days of at least 1")
    as_days(n, "n", "difference")
    rng = as_generator(random_state, "difference: random_state")
    if not callable(measure):
        raise ValueError(f"difference: measure must be a function of returns, such as sharpe, got {measure!r}.")
    ours, theirs = (plain(returns, "difference: returns") for returns in (ours, theirs))
    pair = [_series(returns, "difference") for returns in (ours, theirs)]
    zones = [getattr(returns.index, "tz", None) for returns in pair]
    if (zones[0] is None) != (zones[1] is None):
        raise ValueError("difference: the dates of one series have a time zone, those of the other have none.")
    dated = [isinstance(returns.index, pd.DatetimeIndex) for returns in pair]
    numbered = all(isinstance(returns, (pd.Series, pd.DataFrame)) for returns in (ours, theirs))
    if dated[0] != dated[1] or (not numbered and len(pair[0]) != len(pair[1])):
        raise ValueError(
            f"difference: {len(pair[0])} and {len(pair[1])} returns, not both with dates, cannot be matched by day; "
            "pass both as series with dates."
        )
    for series in pair:
        if series.index.has_duplicates:
            label = series.index[series.index.duplicated()][0]
            raise ValueError(f"difference: row {label!r} of the returns occurs twice, so days cannot be matched.")
    both = pd.concat(pair, axis=1, join="inner")
    index = both.index
    values = both.dropna().to_numpy()
    if len(values) < 2:
        raise ValueError("difference: the two series of returns have fewer than two days in common.")
    measured = measure
    if _takes_periods(measure):
        periods = yearly(index, periods_per_year, "difference")
        quiet = {sharpe: sharpe_of, sortino: sortino_of}.get(measure)
        measured = partial(quiet, periods=periods) if quiet else partial(measure, periods_per_year=periods)
    drawn = np.array([_apart(values[rows], measured) for rows in _blocks(len(values), block, n, rng)])
    lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if np.isfinite(drawn).all() else (np.nan,) * 2
    value = _apart(values, measured)
    if not np.isfinite([value, lower, upper]).all():
        where, result = ("one of the two", "the result") if np.isnan(value) else ("a bootstrap sample", "the interval")
        warn(f"difference: the measure of {where} is not finite, so {result} is NaN.")
    return Difference(value, float(lower), float(upper))


def _read(returns: Any, where: str) -> tuple[NDArray[np.float64], pd.Index | None]:
    """Return the returns that are not missing, and the dates of all rows."""
    if type(returns) is np.ndarray and returns.ndim == 1 and returns.dtype == np.float64 and np.isfinite(returns).all():
        # the short way for a bootstrap, which measures thousands of such arrays
        _ask_about_prices(returns, where)
        return returns, None
    series = _series(returns, where)
    values = np.asarray(series.dropna(), dtype=np.float64)
    _ask_about_prices(values, where)
    return values, series.index


def _ask_about_prices(values: NDArray[np.float64], where: str) -> None:
    """Warn if all returns are above 1: prices are, but returns hardly ever, even in percent."""
    if len(values) > 2 and values.min() > 1:
        warn(
            f"{where}: all returns are above 1, the lowest is {values.min():g}; these look like prices. "
            "prices.pct_change() converts prices to returns."
        )


def _series(returns: Any, where: str) -> "pd.Series[float]":
    """Return a checked series of returns; missing ones are kept."""
    returns = plain(returns, f"{where}: returns")
    if returns is None:
        returns = []
    if isinstance(returns, pd.DataFrame) and returns.shape[1] == 1:
        returns = returns.iloc[:, 0]
    if isinstance(returns, pd.DataFrame) or (isinstance(returns, np.ndarray) and returns.ndim != 1):
        raise ValueError(
            f"{where}: returns must be one series, got shape {np.shape(returns)}; measure each asset separately, for a "
            "data frame by frame.apply(...)."
        )
    values = as_vector(returns, f"{where}: returns must be numbers", missing=True, infinite=True)
    given = pd.Series(values, index=returns.index if isinstance(returns, pd.Series) else None)
    index = read_dates(given.index, where)
    if isinstance(index, pd.DatetimeIndex) and not index.is_monotonic_increasing:
        raise ValueError(f"{where}: the dates of the returns are not in order; sort by date.")
    if isinstance(index, pd.DatetimeIndex) and index.has_duplicates:
        raise ValueError(f"{where}: {day_of(index[index.duplicated()][0])} occurs twice.")
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise ValueError(f"{where}: the return of {day_of(index[infinite[0]])} is {values[infinite[0]]}.")
    return pd.Series(values, index=index)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return returns times a power of two, which cancels in ratios, so that squares neither overflow nor underflow."""
    exponent = int(np.frexp(np.abs(values).max(initial=0.0))[1])
    return np.asarray(np.ldexp(values, -exponent))


def _spread(values: NDArray[np.float64]) -> float:
    """Return the standard deviation, exactly 0 if returns differ only by rounding."""
    if len(values) < 2:
        return 0.0
    spread = float(values.std())
    return spread if spread > ROUNDING * float(np.abs(values).max()) else 0.0


def _ratio(values: NDArray[np.float64], denominator: float) -> float:
    mean = float(values.mean())
    if denominator > 0:
        return mean / denominator
    return float(np.copysign(np.inf, mean)) if mean else np.nan


def _with_warning(where: str, value: float, values: NDArray[np.float64], least: int) -> float:
    """Return a measure; warn if it is NaN."""
    if np.isnan(value):
        count = "is one return" if len(values) == 1 else f"are {len(values) or 'no'} returns"
        why = f"there {count}, and at least {least} are required" if len(values) < least else "all returns are equal"
        warn(f"{where}: the result is NaN, since {why}.")
    return float(value)


def _takes_periods(measure: Any) -> bool:
    try:
        return "periods_per_year" in signature(measure).parameters
    except (TypeError, ValueError):
        return False


def _apart(both: NDArray[np.float64], measure: Any) -> float:
    with np.errstate(invalid="ignore"):
        try:
            return float(np.subtract(measure(both[:, 0]), measure(both[:, 1])))
        except TypeError as error:
            raise TypeError("difference: measure must return one number for an array of returns.") from error


def _blocks(n_days: int, block: float, n: int, rng: np.random.Generator) -> Any:
    """Yield row numbers of bootstrap samples: runs of days around the circle, of geometric length."""
    for _ in range(n):
        begins = rng.random(n_days) < 1 / block
        begins[0] = True
        starts = rng.integers(0, n_days, n_days)
        run = np.flatnonzero(begins)
        since = np.arange(n_days) - run[np.cumsum(begins) - 1]
        yield (starts[np.cumsum(begins) - 1] + since) % n_days
