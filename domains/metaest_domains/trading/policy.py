"""TradingPolicy decides positions in an asset from its prices; it is meta-learned over assets and adapted to each."""

from copy import deepcopy
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from metaest import AdaptedPolicy, MAMLPolicy, Task, TaskError, TaskSet
from metaest.estimators.arguments import Whole
from metaest.estimators.atomic import atomic
from metaest_domains.fitted_settings import require_unchanged
from metaest_domains.trading.dates import periods_of, yearly
from metaest_domains.trading.features import PriceFeatures, risk_scale
from metaest_domains.trading.prices import as_prices, one_asset

__all__ = ["AdaptedTrader", "Seen", "TradingPolicy"]


class Seen(NamedTuple):
    """Inputs and outcomes of the days of one asset.

    Attributes
    ----------
    X : DataFrame of shape (n_days, n_features)
        Features; missing in the first rows.
    scale : ndarray of shape (n_days,)
        Position in the asset that corresponds to an action of one; missing in the first rows.
    outcome : ndarray of shape (n_days,)
        Return of a position of one that is decided at the close of a day; missing in the last rows, since it lies in
        the future.
    """

    X: pd.DataFrame
    scale: NDArray[np.float64]
    outcome: NDArray[np.float64]


class TradingPolicy(BaseEstimator):
    r"""Positions in assets, decided by a policy that is meta-learned over many assets and adapted to each.

    A position decided with prices up to the close of day t is taken at the close of day t + lag and earns the return
    from that close to the next, :math:`p_{t+lag+1} / p_{t+lag} - 1`. It is a share of capital between minus and plus
    the policy's `limit`. With `volatility_target` it is divided by the asset's past volatility, so that an action of
    one has that annualised standard deviation. Costs are proportional to the change of the position.

    Parameters
    ----------
    policy : MAMLPolicy, optional
        Learner of the positions; its ``gap`` is set to the lag. By default it maximises the Sharpe ratio at costs of 5
        basis points.
    features : transformer, optional
        Transforms prices of one asset into causal features; :class:`PriceFeatures` by default.
    lag : int, default=1
        Days between a decision and the close at which it is taken. With 0, positions are decided and traded at the same
        close, which is impossible in practice.
    volatility_target : float or None, default=None
        Annualised standard deviation of an action of one; None for positions as shares of capital.
    max_leverage : float, default=3.0
        Largest position of an action of one, with `volatility_target`.
    periods_per_year : float, optional
        Number of rows per year, for `volatility_target`; by default counted from the dates, as in :func:`sharpe`.
    check_plausibility : bool, default=True
        True warns of price jumps that look like share splits for which prices are not adjusted.

    Attributes
    ----------
    policy_ : MAMLPolicy
        The fitted policy.
    assets_ : list
        Assets of the fit.
    periods_per_year_ : float or None
        Number of rows per year of the prices of the fit; None if neither the dates nor the user determined it.

    Examples
    --------
    >>> from metaest import MAMLPolicy
    >>> from metaest_datasets import make_market
    >>> from metaest_domains.trading import PriceFeatures, TradingPolicy
    >>> prices, _ = make_market(20, 200, personalities=["trending", "mean-reverting"], random_state=0)
    >>> learner = MAMLPolicy(support_size=40, query_size=60, max_iter=20, random_state=0)
    >>> model = TradingPolicy(learner, PriceFeatures((1, 2, 5), 10), lag=0).fit(prices.iloc[:, :16])
    >>> trader = model.adapt(prices.iloc[:60, 16])
    >>> bool(trader.positions(prices.iloc[:, 16]).dropna().between(-1, 1).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "policy": [MAMLPolicy, None],
        "features": "no_validation",
        "lag": [Whole(0, None, closed="left")],
        "volatility_target": [Interval(Real, 0, None, closed="neither"), None],
        "max_leverage": [Interval(Real, 0, None, closed="neither")],
        "periods_per_year": [Interval(Real, 0, None, closed="neither"), None],
        "check_plausibility": ["boolean"],
    }

    def __init__(
        self,
        policy: MAMLPolicy | None = None,
        features: Any = None,
        *,
        lag: int = 1,
        volatility_target: float | None = None,
        max_leverage: float = 3.0,
        periods_per_year: float | None = None,
        check_plausibility: bool = True,
    ) -> None:
        self.policy = policy
        self.features = features
        self.lag = lag
        self.volatility_target = volatility_target
        self.max_leverage = max_leverage
        self.periods_per_year = periods_per_year
        self.check_plausibility = check_plausibility

    @atomic
    def fit(self, prices: Any, y: Any = None) -> "TradingPolicy":
        """Learn from the prices of many assets.

        Parameters
        ----------
        prices : DataFrame or array-like of shape (n_days, n_assets)
            Prices by date; leading missing values of an asset are days before its listing, trailing ones days after its
            delisting.
        y : None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            When prices are invalid; the message names asset and day.
        TaskError
            When an asset has too few days.

        Warns
        -----
        UserWarning
            When a price jumps as in a share split; with `volatility_target`, when rows have no dates.
        """
        self._validate_params()
        frame = as_prices(prices, "fit", check_plausibility=self.check_plausibility)
        periods = self._periods(frame.index, "fit")
        learner = MAMLPolicy(utility="sharpe", cost=0.0005) if self.policy is None else clone(self.policy)
        tasks = TaskSet([self._task(name, self._see(frame[name], None, periods)) for name in frame.columns])
        self.policy_ = learner.set_params(gap=int(self.lag)).fit(tasks)
        self.assets_ = list(frame.columns)
        self.periods_per_year_ = periods
        self._fitted_settings = self._of_the_fit()
        return self

    @atomic
    def fit_from(self, policy: MAMLPolicy, settings: dict[str, Any]) -> "TradingPolicy":
        """Take a copy of a fitted policy, with other settings of the adaptation.

        Parameters
        ----------
        policy : MAMLPolicy
            A policy fitted to tasks with the same features, lag and scale.
        settings : dict
            Settings of the policy that apply after the fit, such as ``inner_steps``.
        """
        self._validate_params()
        self.policy_ = deepcopy(policy).set_params(**settings)
        self.assets_ = []
        self.periods_per_year_ = None if self.periods_per_year is None else float(self.periods_per_year)
        self._fitted_settings = self._of_the_fit()
        return self

    def learn_guard(self) -> None:
        """Do nothing: policies are not judged."""

    def shared_parts(self) -> dict[str, Any]:
        """Return the parts that a model and its adapted predictors share, by name; `inner` is the model inside."""
        return {"inner": self.policy_, "model": self, "of_the_fit": self._fitted_settings}

    def _of_the_fit(self) -> dict[str, Any]:
        """Return the settings that define the policy's inputs and its positions."""
        features = PriceFeatures() if self.features is None else self.features
        settings = {name: getattr(self, name) for name in ("lag", "volatility_target", "max_leverage")}
        return settings | {f"features__{name}": value for name, value in _settings_of(features).items()}

    def _require_settings_of_the_fit(self) -> None:
        if hasattr(self, "_fitted_settings"):
            require_unchanged(self._of_the_fit(), self._fitted_settings)

    def tasks(self, prices: Any) -> TaskSet:
        """Return the assets as tasks: features, outcomes and scales of the days for which all are available."""
        frame = as_prices(prices, "tasks", check_plausibility=self.check_plausibility)
        periods = self._periods(frame.index, "tasks")
        return TaskSet([self._task(name, self._see(frame[name], None, periods)) for name in frame.columns])

    def see(self, prices: "pd.Series[float]", lag: int | None = None) -> Seen:
        """Return inputs and outcomes of the days of one asset; missing on days on which it is not listed."""
        self._require_settings_of_the_fit()
        return self._see(prices, lag, self._periods(prices.index, "see"))

    def _see(self, prices: "pd.Series[float]", lag: int | None, periods: float | None) -> Seen:
        lag = int(self.lag) if lag is None else lag
        there = prices.dropna()
        features = PriceFeatures() if self.features is None else clone(self.features)
        if isinstance(features, PriceFeatures):
            # the prices were checked by the callers
            features.set_params(check_plausibility=False)
        X = features.fit(there).transform(there)
        values = there.to_numpy(dtype=np.float64)
        n = len(there)
        outcome = np.full(n, np.nan)
        outcome[: max(0, n - 1 - lag)] = values[1 + lag :] / values[lag : n - 1] - 1
        scale = np.ones(n)
        if self.volatility_target is not None and periods is not None:
            window = int(getattr(features, "window", 20))
            scale = risk_scale(values, window, self.volatility_target, self.max_leverage, periods)
        listed = prices.notna().to_numpy()
        columns = np.full((2, len(prices)), np.nan)
        columns[:, listed] = scale, outcome
        return Seen(X.reindex(prices.index), *columns)

    def adapt(self, prices: Any) -> "AdaptedTrader":
        """Adapt to one asset, by the days whose outcomes are available.

        Parameters
        ----------
        prices : Series, or DataFrame or array-like of one column
            Prices of the asset.

        Returns
        -------
        AdaptedTrader

        Raises
        ------
        TaskError
            When there are fewer days than the features require.
        """
        check_is_fitted(self)
        frame = as_prices(prices, "adapt", check_plausibility=self.check_plausibility)
        if frame.shape[1] != 1:
            raise ValueError(f"adapt: prices must be those of one asset, got {frame.shape[1]}; see walk_forward.")
        name = frame.columns[0]
        task = self._task(name, self.see(frame[name]))
        return AdaptedTrader(self, self.policy_.adapt(task.X, task.y))

    def positions(self, prices: Any) -> pd.DataFrame:
        """Return the positions of the policy without adaptation, by the day of the decision.

        Parameters
        ----------
        prices : DataFrame, Series or array-like of shape (n_days, n_assets)

        Returns
        -------
        DataFrame of shape (n_days, n_assets)
            Positions; missing in the first rows.
        """
        check_is_fitted(self)
        self._require_settings_of_the_fit()
        frame = as_prices(prices, "positions", check_plausibility=self.check_plausibility)
        periods = self._periods(frame.index, "positions")
        decided = {name: held(self.policy_, self._see(frame[name], None, periods)) for name in frame}
        positions = pd.DataFrame(decided, index=frame.index, columns=frame.columns)
        _check_long_enough(positions, frame)
        return positions

    def _periods(self, index: pd.Index, where: str) -> float | None:
        """Return the rows per year: as set, as in the fit, or by dates; raise if dates differ by a factor of 2."""
        by_dates = periods_of(index)
        periods = self.periods_per_year
        if periods is None:
            periods = getattr(self, "periods_per_year_", None) if where != "fit" else None
        if periods is not None:
            if by_dates is not None and not 0.5 < by_dates / periods < 2:
                raise ValueError(
                    f"{where}: these prices have {by_dates:g} rows a year by their dates, but the policy was fitted to "
                    f"{periods:g}; pass prices with the same spacing."
                )
            return float(periods)
        return by_dates if self.volatility_target is None else yearly(index, None, where)

    def _task(self, name: Any, seen: Seen) -> Task:
        y = seen.outcome if self.volatility_target is None else np.column_stack([seen.outcome, seen.scale])
        usable = seen.X.notna().all(axis=1).to_numpy() & np.isfinite(y.reshape(len(y), -1)).all(axis=1)
        if not usable.any():
            blank = int(seen.X.isna().any(axis=1).sum())
            raise TaskError(
                f"asset {name!r}: {len(seen.X)} days are too few: features are missing on {blank} of them, and "
                f"outcomes on the last {1 + int(self.lag)}."
            )
        return Task(name, seen.X.to_numpy()[usable], y[usable], feature_names=tuple(seen.X.columns))


class AdaptedTrader(NamedTuple):
    """A trading policy adapted to one asset.

    Attributes
    ----------
    model : TradingPolicy
    policy : AdaptedPolicy
    """

    model: TradingPolicy
    policy: AdaptedPolicy

    @property
    def is_adapted(self) -> bool:
        """True: a file of this object holds only what its model lacks."""
        return True

    def shared_parts(self) -> dict[str, Any]:
        """Return the parts that a model and its adapted predictors share, by name; `inner` is the model inside."""
        return {**self.model.shared_parts(), "inner": self.policy}

    def positions(self, prices: Any) -> "pd.Series[float]":
        """Return the position in the asset by the day of the decision; missing in the first rows.

        Parameters
        ----------
        prices : Series, or DataFrame or array-like of one column
            Prices of the asset.
        """
        series = one_asset(prices, "positions", check_plausibility=self.model.check_plausibility)
        positions = pd.Series(held(self.policy, self.model.see(series)), index=series.index, name=series.name)
        _check_long_enough(positions.to_frame(), series.to_frame())
        return positions


def _settings_of(features: Any) -> dict[str, Any]:
    """Return the settings of a transformer in a form that can be compared by value."""
    settings = features.get_params(deep=True) if hasattr(features, "get_params") else {}
    kept = {name: repr(value) for name, value in settings.items() if name != "check_plausibility"}
    return {"class": type(features).__name__, **kept}


def held(policy: Any, seen: Seen, days: slice = slice(None)) -> NDArray[np.float64]:
    """Return the positions of a policy in an asset on some days; missing on days without all features."""
    X = seen.X.iloc[days]
    scale = seen.scale[days]
    there = X.notna().all(axis=1).to_numpy() & np.isfinite(scale)
    positions = np.full(len(X), np.nan)
    if there.any():
        positions[there] = policy.predict(X[there]) * scale[there]
    return positions


def _check_long_enough(positions: pd.DataFrame, prices: pd.DataFrame) -> None:
    if not positions.notna().any(axis=None):
        longest = int(prices.notna().sum().max())
        raise TaskError(
            f"positions: {longest} days of prices are too few for the features, which require a longer past."
        )
