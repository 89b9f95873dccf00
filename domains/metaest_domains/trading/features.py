"""Features of the prices of an asset: returns over several horizons by past volatility, trend, volatility ratio."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval

from metaest.estimators.atomic import atomic
from metaest.tasks.numbers import as_vector
from metaest_domains.trading.prices import one_asset

__all__ = ["PriceFeatures", "risk_scale", "volatility"]


class PriceFeatures(TransformerMixin, BaseEstimator):
    r"""Causal features of the prices of one asset: a row depends only on prices up to its day.

    With the volatility :math:`\sigma_t`, the root mean square of the last `window` log-returns, these are for every
    horizon h the scaled return :math:`\log(p_t / p_{t-h}) / (\sigma_t \sqrt h)`; the trend, the distance of the
    log-price from its mean over the window in units of :math:`\sigma_t \sqrt{window}`; and the logarithm of the ratio
    of volatilities over a quarter of the window and the whole window. If a price did not move over the whole window,
    all features are 0.

    Parameters
    ----------
    horizons : sequence of int, default=(1, 5, 20)
        Days over which returns are computed.
    window : int, default=20
        Days over which volatility and trend are computed; at least 4.
    check_plausibility : bool, default=True
        True warns of price jumps that look like share splits for which prices are not adjusted.

    Attributes
    ----------
    warmup_ : int
        Number of rows at the beginning with missing values, since they lack the required past.

    Examples
    --------
    >>> from metaest_datasets import make_market
    >>> from metaest_domains.trading import PriceFeatures
    >>> prices, _ = make_market(1, 50, random_state=0)
    >>> PriceFeatures().fit_transform(prices).dropna().shape
    (30, 5)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "horizons": ["array-like"],
        "window": [Interval(Integral, 4, 10**9, closed="both")],
        "check_plausibility": ["boolean"],
    }

    def __init__(
        self, horizons: Sequence[int] = (1, 5, 20), window: int = 20, *, check_plausibility: bool = True
    ) -> None:
        self.horizons = horizons
        self.window = window
        self.check_plausibility = check_plausibility

    @atomic
    def fit(self, X: Any, y: Any = None) -> "PriceFeatures":
        """Check the settings and the prices; nothing is learned.

        Parameters
        ----------
        X : Series, or DataFrame or array-like of one column
            Prices in order of time.
        y : None
        """
        self._validate_params()
        horizons = self._days()
        one_asset(X, "PriceFeatures", check_plausibility=False)
        self.warmup_ = max(*horizons, int(self.window))
        self.n_features_in_ = 1
        return self

    def _days(self) -> list[int]:
        """Return the checked horizons."""
        horizons = as_vector(self.horizons, "PriceFeatures: horizons")
        if not len(horizons) or (horizons != np.floor(horizons)).any() or (horizons < 1).any() or horizons.max() > 1e9:
            raise ValueError(f"horizons must be whole numbers of days, at least 1, got {horizons.tolist()}.")
        return [int(h) for h in horizons]

    def transform(self, X: Any) -> pd.DataFrame:
        """Return the features, one row for each day.

        Parameters
        ----------
        X : Series, or DataFrame or array-like of one column

        Returns
        -------
        DataFrame of shape (n_days, n_features)
            Features; missing in the first `warmup_` rows.

        Warns
        -----
        UserWarning
            When a price jumps as in a share split.
        """
        prices = one_asset(X, "PriceFeatures", check_plausibility=self.check_plausibility)
        horizons = self._days()
        log = np.log(prices.to_numpy())
        sigma = volatility(log, self.window)
        quarter = volatility(log, max(2, self.window // 4))
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = {
                f"return_{h}": np.where(sigma > 0, _change(log, h) / (sigma * np.sqrt(h)), 0.0 * sigma)
                for h in horizons
            }
            columns["trend"] = np.where(
                sigma > 0, (log - _mean(log, self.window)) / (sigma * float(self.window) ** 0.5), 0.0 * sigma
            )
            columns["volatility_ratio"] = np.where((sigma > 0) & (quarter > 0), np.log(quarter / sigma), 0.0 * sigma)
        features = pd.DataFrame(columns, index=prices.index)
        features.iloc[: min(len(features), max(*horizons, self.window))] = np.nan
        return features

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns."""
        return np.array([*(f"return_{h}" for h in self._days()), "trend", "volatility_ratio"], dtype=object)


def volatility(log: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the root mean square of the last `window` log-returns on every day; missing if there are fewer."""
    return np.sqrt(_mean(np.square(_change(log, 1)), window))


def risk_scale(
    prices: NDArray[Any], window: int, target: float, most: float, periods_per_year: float
) -> NDArray[np.float64]:
    """Return the position whose annualised standard deviation is `target`, by the asset's past volatility.

    The position is missing without enough past, and 0 if the price did not move at all.
    """
    sigma = volatility(np.log(prices), window)
    with np.errstate(divide="ignore"):
        scale = np.minimum(target / np.sqrt(periods_per_year) / sigma, most)
    return np.where(sigma > 0, scale, np.where(np.isnan(sigma), np.nan, 0.0))


def _mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean of the last `window` values; each window is summed anew, so that no rounding accumulates."""
    means = np.full(len(values), np.nan)
    if len(values) >= window:
        means[window - 1 :] = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return means


def _change(log: NDArray[np.float64], h: int) -> NDArray[np.float64]:
    change = np.full(len(log), np.nan)
    change[h:] = log[h:] - log[: max(0, len(log) - h)]
    return change
