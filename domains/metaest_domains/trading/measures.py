"""Measures of a series of returns, and how sure they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from metaest_domains.trading.features import DAYS

__all__ = ["Difference", "deflated_sharpe", "difference", "drawdown", "sharpe", "sortino"]

EULER = 0.5772156649015329


def sharpe(returns: Any) -> float:
    r"""Mean over standard deviation, a year: :math:`\sqrt{252}\,\bar r / \mathrm{sd}(r)`; 0 where nothing moves."""
    values = np.asarray(returns, dtype=np.float64)
    spread = values.std()
    return float(np.sqrt(DAYS) * values.mean() / spread) if spread > 1e-12 else 0.0


def sortino(returns: Any) -> float:
    r"""Mean over the root mean square of losses, a year; 0 where nothing is lost and nothing moves."""
    values = np.asarray(returns, dtype=np.float64)
    loss = np.sqrt(np.square(np.minimum(values, 0)).mean())
    return float(np.sqrt(DAYS) * values.mean() / loss) if loss > 1e-12 else 0.0


def drawdown(returns: Any) -> float:
    """Largest fall of the compounded value below its highest before, as a share of that."""
    value = np.cumprod(1 + np.asarray(returns, dtype=np.float64))
    highest = np.maximum.accumulate(np.r_[1.0, value])[1:]
    return float((1 - value / highest).max(initial=0.0))


def deflated_sharpe(returns: Any, trials: Sequence[float]) -> float:
    r"""Probability that the true Sharpe ratio is above what the best of as many worthless trials would have shown.

    .. math:: \Phi\Bigl(\frac{(\hat S - S_0) \sqrt{n - 1}}{\sqrt{1 - g_3 \hat S + \frac{g_4 - 1}{4} \hat S^2}}\Bigr),
              \; S_0 = \sigma_S \bigl[(1 - \gamma) \Phi^{-1}(1 - \tfrac1N) + \gamma \Phi^{-1}(1 - \tfrac1{N e})\bigr],

    with the ratio of a day, skewness g3 and kurtosis g4 of the returns, N trials and the standard deviation of their
    Sharpe ratios (Bailey and Lopez de Prado, 2014, :doi:`10.3905/jpm.2014.40.5.094`).

    Parameters
    ----------
    returns : array-like of shape (n_days,)
    trials : sequence of float
        Sharpe ratios a year of everything that was tried, this one among them; at least one.

    Returns
    -------
    float
    """
    values, tried = np.asarray(returns, dtype=np.float64), np.asarray(trials, dtype=np.float64) / np.sqrt(DAYS)
    if not len(tried):
        raise ValueError("trials: at least the strategy itself was tried.")
    own = sharpe(values) / np.sqrt(DAYS)
    standard = (values - values.mean()) / max(values.std(), 1e-300)
    skewness, kurtosis = float((standard**3).mean()), float((standard**4).mean())
    n = len(tried)
    best = 0.0
    if n > 1:
        best = tried.std() * ((1 - EULER) * norm.ppf(1 - 1 / n) + EULER * norm.ppf(1 - 1 / (n * np.e)))
    error = np.sqrt(max(1 - skewness * own + (kurtosis - 1) / 4 * own**2, 1e-12))
    return float(norm.cdf((own - best) * np.sqrt(len(values) - 1) / error))


class Difference(NamedTuple):
    """A difference with the ends of an interval."""

    value: float
    lower: float
    upper: float


def difference(
    ours: "pd.Series[float]",
    theirs: "pd.Series[float]",
    *,
    measure: Any = sharpe,
    level: float = 0.95,
    block: float = 21.0,
    n: int = 2000,
    random_state: int = 0,
) -> Difference:
    """Return by how much a measure of our returns is above that of theirs, with a stationary-bootstrap interval.

    Days are drawn in blocks of random length with mean `block`, the same for both (Politis and Romano, 1994,
    :doi:`10.1080/01621459.1994.10476870`).

    Parameters
    ----------
    ours, theirs : Series
        Returns by day; days that both have count.
    measure : callable, default=sharpe
    level : float, default=0.95
    block : float, default=21.0
        Days.
    n : int, default=2000
        Draws.
    random_state : int, default=0

    Returns
    -------
    Difference
    """
    both = pd.concat([ours, theirs], axis=1, join="inner").dropna().to_numpy()
    if len(both) < 2:
        raise ValueError("difference: the two have no days in common.")
    rng = np.random.default_rng(random_state)
    drawn = np.array([_apart(both[rows], measure) for rows in _blocks(len(both), block, n, rng)])
    lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Difference(_apart(both, measure), float(lower), float(upper))


def _apart(both: NDArray[np.float64], measure: Any) -> float:
    return float(measure(both[:, 0]) - measure(both[:, 1]))


def _blocks(n_days: int, block: float, n: int, rng: np.random.Generator) -> Any:
    """Yield row numbers of bootstrap samples: runs of days around the circle, of geometric length."""
    for _ in range(n):
        begins = rng.random(n_days) < 1 / block
        begins[0] = True
        starts = rng.integers(0, n_days, n_days)
        run = np.flatnonzero(begins)
        since = np.arange(n_days) - run[np.cumsum(begins) - 1]
        yield (starts[np.cumsum(begins) - 1] + since) % n_days
