"""Trading: nothing is known early, what is earned is right to the cent, and bad prices are said."""

import datetime
import pickle
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest

from metaest import MAMLPolicy, TaskError
from metaest_datasets import load_index_prices, load_sp500_prices, make_market
from metaest_domains.trading import (
    PriceFeatures,
    TradingPolicy,
    buy_and_hold,
    earn,
    momentum,
    sharpe,
    walk_forward,
)
from metaest_domains.trading.optimal import best_policy

pytestmark = pytest.mark.filterwarnings("ignore::metaest.OvershootWarning")
COST = 0.0005


@pytest.fixture(scope="module")
def market():
    return make_market(16, 200, personalities=["trending", "mean-reverting"], random_state=0)[0]


def learner(**settings):
    return MAMLPolicy(
        **{"support_size": 40, "query_size": 60, "max_iter": 30, "cost": COST, "random_state": 0, **settings}
    )


@pytest.fixture(scope="module", params=[None, 0.1], ids=["shares", "scaled"])
def model(request, market):
    features = PriceFeatures((1, 2, 5), 10)
    return TradingPolicy(learner(), features, volatility_target=request.param).fit(market.iloc[:, :12])


def changed(prices, t, seed=0):
    """The same prices up to day t, and others after it."""
    other = prices.copy()
    other.iloc[t + 1 :] *= np.exp(0.2 * np.random.default_rng(seed).standard_normal(other.iloc[t + 1 :].shape))
    return other


@pytest.mark.parametrize("t", [30, 77, 150])
@pytest.mark.parametrize("features", [PriceFeatures(), PriceFeatures((1, 3, 40), 30), PriceFeatures((2,), 4)])
def test_no_feature_knows_what_comes(market, features, t):
    own = market.iloc[:, 0]
    before = features.fit_transform(own)
    after = features.fit_transform(changed(own, t))
    pd.testing.assert_frame_equal(before.iloc[: t + 1], after.iloc[: t + 1], check_exact=True)
    assert (before.iloc[t + 1] != after.iloc[t + 1]).all()
    assert before.iloc[: features.warmup_].isna().all(axis=None)
    assert before.iloc[features.warmup_ :].notna().all(axis=None)


@pytest.mark.parametrize("t", [75, 120, 181])
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_no_position_of_a_walk_knows_what_comes(model, market, t, lag):
    prices = market.iloc[:, 12:]
    settings = {"adapt_window": 40, "readapt_every": 10, "lag": lag}
    before = walk_forward(model, prices, **settings).positions
    after = walk_forward(model, changed(prices, t), **settings).positions
    pd.testing.assert_frame_equal(before.loc[: prices.index[t]], after.loc[: prices.index[t]], check_exact=True)
    later = before.loc[prices.index[t + 1] :].to_numpy(), after.loc[prices.index[t + 1] :].to_numpy()
    assert (later[0] != later[1]).any()


def test_no_baseline_knows_what_comes(market):
    for positions in (buy_and_hold, momentum, lambda own: buy_and_hold(own, volatility_target=0.1)):
        settings = {"horizon": 20} if positions is momentum else {}
        before, after = (positions(own, **settings) for own in (market, changed(market, 100)))
        pd.testing.assert_frame_equal(before.iloc[:101], after.iloc[:101], check_exact=True)


def test_the_best_policy_does_not_know_what_comes(market):
    best = best_policy("regime-switching", 0.35)
    own = market.iloc[:, 0]
    before = best.positions(own)
    after = best.positions(changed(own, 90))
    np.testing.assert_array_equal(before[:91], after[:91])


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_what_is_earned_by_hand(lag):
    prices = pd.DataFrame({"a": [100.0, 110.0, 99.0, 99.0, 108.9, 119.79]})
    positions = pd.DataFrame({"a": [np.nan, 1.0, -0.5, 0.5, 0.5, 0.0]})
    found = earn(positions, prices, lag=lag, cost=0.01).returns["a"]
    moves = [np.nan, 0.1, -0.1, 0.0, 0.1, 0.1]
    expected = {}
    before = 0.0
    for t in range(1, 6):
        held = positions["a"][t]
        if t + 1 + lag < 6:
            expected[t + 1 + lag] = held * moves[t + 1 + lag] - 0.01 * abs(held - before)
        before = held
    np.testing.assert_allclose(found.to_numpy(), list(expected.values()), atol=1e-12)
    assert found.index.tolist() == list(expected)


def test_outcomes_are_what_backtests_earn(model, market):
    """What a policy learns from is what it would have earned."""
    own = market.iloc[:, 0]
    seen = model.see(own)
    held = pd.DataFrame({own.name: seen.scale}, index=own.index)
    earned = earn(held, own.to_frame(), lag=1).returns[own.name]
    expected = pd.Series(seen.scale * seen.outcome, index=own.index).shift(2).dropna()
    np.testing.assert_allclose(earned, expected, atol=1e-15)


def test_a_walk_adapts_to_what_is_known_and_no_more(model, market):
    """One adaptation of a walk, by hand."""
    prices = market.iloc[:, [12]]
    lag = 1
    window = 40
    walk = walk_forward(model, prices, adapt_window=window, readapt_every=1000, lag=lag)
    day = int(np.flatnonzero(walk.positions.reindex(prices.index).notna().to_numpy())[0])
    # the last outcome known on that day is of the decision lag + 1 days before
    trader = model.adapt(prices.iloc[: day + 1])
    assert len(trader.policy.X_support_) == window
    np.testing.assert_allclose(trader.positions(prices)[day:], walk.positions.iloc[:, 0], rtol=1e-5)


def test_a_lag_of_nothing_is_marked_everywhere(model, market):
    walk = walk_forward(model, market.iloc[:, 12:], adapt_window=40, lag=0)
    assert "decides and trades at the same close" in repr(walk)
    assert (walk.summary()["lag"] == 0).all()
    assert "same close" not in repr(walk_forward(model, market.iloc[:, 12:], adapt_window=40))


def test_on_returns_without_memory_a_policy_earns_minus_its_costs():
    prices, _ = make_market(16, 400, personalities=["trending", "mean-reverting"], random_state=3)
    model = TradingPolicy(learner(max_iter=100), PriceFeatures((1, 2, 5), 10), lag=0).fit(prices)
    returns = prices.iloc[:, 0].pct_change().dropna().to_numpy()
    rng = np.random.default_rng(0)
    shuffled = {}
    for i in range(60):
        shuffled[i] = 100 * np.cumprod(1 + rng.permutation(returns - returns.mean()))
    frame = pd.DataFrame(shuffled, index=prices.index[1:])
    walk = walk_forward(model, frame, adapt_window=60, readapt_every=20, lag=0)
    drag = COST * walk.positions.diff().abs().mean() * 252
    mean = 252 * walk.returns.mean()
    assert drag.mean() > 0.01
    error = mean.std() / np.sqrt(len(mean))
    assert abs(mean.mean() + drag.mean()) < 3 * error


def test_a_policy_tells_a_trend_from_its_reversal():
    prices, _ = make_market(80, 300, personalities=["trending", "mean-reverting"], random_state=1)
    features = PriceFeatures((1, 2, 5), 10)
    model = TradingPolicy(learner(max_iter=300), features, lag=0).fit(prices.iloc[:, :60])
    other = prices.iloc[:, 60:]
    adapted = walk_forward(model, other, adapt_window=40, readapt_every=500, lag=0).summary()["sharpe"].iloc[:-1]
    plain = earn(model.positions(other), other, lag=0, cost=COST).summary()["sharpe"].iloc[:-1]
    assert adapted.mean() > 2.5
    assert adapted.mean() > plain.mean() + 1


@pytest.mark.parametrize("personality", ["trending", "mean-reverting", "regime-switching"])
def test_the_best_policy_is_better_than_simple_ones(personality):
    prices, _ = make_market(20, 2000, personalities=[personality], random_state=2)
    best = best_policy(personality, 0.35, cost=COST, risk_aversion=10.0)

    def reward(positions):
        held = positions.fillna(0.0)
        moves = prices.pct_change().shift(-1)
        earned = held * moves - COST * held.diff().abs() - 10.0 * (held * moves) ** 2
        return float(np.nanmean(earned.to_numpy()))

    ours = reward(pd.DataFrame({name: best.positions(prices[name]) for name in prices}))
    assert ours == pytest.approx(best.reward, rel=0.15)
    moves = prices.pct_change()
    sign = {"mean-reverting": -1.0}.get(personality, 1.0)
    for gain in (10.0, 30.0, 100.0, 1000.0):
        assert reward((sign * gain * moves).clip(-1, 1)) < ours
    assert best_policy("random walk", 0.0).reward == pytest.approx(0.0, abs=1e-9)


def test_markets_are_what_they_say():
    prices, assets = make_market(40, 3000, strength=0.35, volatility=0.02, random_state=0)
    moves = prices.pct_change().dropna()
    first = moves.apply(lambda own: own.autocorr(1)).groupby(assets["personality"]).mean()
    assert first["trending"] == pytest.approx(0.35, abs=0.02)
    assert first["mean-reverting"] == pytest.approx(-0.35, abs=0.02)
    assert abs(first["random walk"]) < 0.02
    np.testing.assert_allclose(moves.std(), 0.02, rtol=0.1)
    pd.testing.assert_frame_equal(prices, make_market(40, 3000, volatility=0.02, random_state=0)[0])
    with pytest.raises(ValueError, match="there is no 'bold'"):
        make_market(personalities=["bold"])
    with pytest.raises(ValueError, match="strength"):
        make_market(strength=1.0)


def test_one_asset_at_a_time_is_all_at_once(model, market):
    prices = market.iloc[:, 12:]
    together = walk_forward(model, prices, adapt_window=40).positions
    for name in prices:
        alone = walk_forward(model, prices[[name]], adapt_window=40).positions
        np.testing.assert_allclose(alone[name].dropna(), together[name].dropna(), rtol=1e-4, atol=1e-6)


def test_an_asset_that_was_listed_later_is_traded_later(model, market):
    prices = market.iloc[:, 12:14].copy()
    prices.iloc[:60, 1] = np.nan
    walk = walk_forward(model, prices, adapt_window=40)
    first = walk.positions.apply(pd.Series.first_valid_index)
    assert (prices.index.get_loc(first.iloc[1]) - prices.index.get_loc(first.iloc[0])) == 60
    # the first asset does not notice
    alone = walk_forward(model, prices.iloc[:, [0]], adapt_window=40).positions
    np.testing.assert_allclose(alone.iloc[:, 0], walk.positions.iloc[:, 0].loc[alone.index], rtol=1e-4, atol=1e-6)


def test_a_price_that_does_not_move_is_left_alone(market):
    still = pd.Series(100.0, index=market.index, name="still")
    features = PriceFeatures().fit_transform(still).dropna()
    assert (features == 0).all(axis=None)
    scaled = TradingPolicy(learner(), PriceFeatures((1, 2, 5), 10), volatility_target=0.1).fit(market.iloc[:, :12])
    assert (walk_forward(scaled, still, adapt_window=40).positions.dropna() == 0).all(axis=None)
    assert (buy_and_hold(still, volatility_target=0.1).dropna() == 0).all(axis=None)


def broken(market, how):
    prices = market.iloc[:, :2].copy()
    name = prices.columns[1]
    day = prices.index[50]
    if how == "gap":
        prices.loc[day, name] = np.nan
    elif how == "negative":
        prices.loc[day, name] = -3.0
    elif how == "zero":
        prices.loc[day, name] = 0.0
    elif how == "infinite":
        prices.loc[day, name] = np.inf
    elif how == "unsorted":
        prices = prices.iloc[[0, 2, 1, *range(3, 200)]]
    elif how == "twice":
        prices = prices.iloc[[0, 1, 1, *range(2, 200)]]
    elif how == "words":
        prices = prices.astype(object)
        prices.loc[day, name] = "high"
    elif how == "no price":
        prices[name] = np.nan
    return prices


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("gap", "the price of asset 'mean-reverting 1' on 2000-03-13 is missing"),
        ("negative", "'mean-reverting 1' on 2000-03-13 is -3; prices must be above 0"),
        ("zero", "is 0; prices must be above 0"),
        ("infinite", "is inf; prices must be above 0"),
        ("unsorted", "2000-01-04 comes after 2000-01-05; sort by date"),
        ("twice", "2000-01-04 occurs twice"),
        ("words", "prices must be numbers"),
        ("no price", "asset 'mean-reverting 1' has no price"),
    ],
)
def test_bad_prices_are_said(model, market, how, message):
    prices = broken(market, how)
    for call in (model.positions, lambda own: walk_forward(model, own), buy_and_hold, TradingPolicy(learner()).fit):
        with pytest.raises(ValueError, match=message):
            call(prices)


def test_a_look_that_is_too_short_is_said(model, market):
    with pytest.raises(TaskError, match="asset 'trending 0': 11 days are too few"):
        model.adapt(market.iloc[:11, 0])
    with pytest.raises(TaskError, match="no asset has adapt_window=250 days"):
        walk_forward(model, market)
    with pytest.raises(ValueError, match="prices must be those of one asset"):
        model.adapt(market)
    with pytest.raises(ValueError, match="adapt_window must be a whole number of days, at least 1"):
        walk_forward(model, market, adapt_window=0)
    for lag in (-1, 1.5, True):
        with pytest.raises(ValueError, match="lag must be a whole number"):
            earn(buy_and_hold(market), market, lag=lag)
    with pytest.raises(ValueError, match="start='2030-01-01' is after the last day"):
        walk_forward(model, market, adapt_window=40, start="2030-01-01")
    with pytest.raises(TaskError, match="positions: 9 days of prices are too few"):
        model.positions(market.iloc[:9])
    with pytest.raises(TaskError, match="positions: 9 days of prices are too few"):
        model.adapt(market.iloc[:80, 0]).positions(market.iloc[:9, 0])


@pytest.mark.parametrize("setting", [{"lag": -1}, {"volatility_target": 0}, {"max_leverage": 0}, {"policy": "long"}])
def test_bad_settings_are_refused(market, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TradingPolicy(**setting).fit(market)


@pytest.mark.parametrize("settings", [{"horizons": ()}, {"horizons": (0,)}, {"window": 1}])
def test_bad_features_are_refused(market, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PriceFeatures(**settings).fit(market.iloc[:, 0])


def test_traders_travel(model, market):
    trader = model.adapt(market.iloc[:80, 13])
    again = pickle.loads(pickle.dumps(trader))
    pd.testing.assert_series_equal(again.positions(market.iloc[:, 13]), trader.positions(market.iloc[:, 13]))


def test_real_prices_are_there():
    pytest.importorskip("skfolio")
    stocks = load_sp500_prices()
    assert stocks.shape == (8313, 20)
    # a stale price that falls to a third, and a true fall by a third; AAPL's half on 2000-09-29 is none
    with pytest.warns(UserWarning, match="'BBY' jumps from 0.49 to 0.323 on 1991-12-19") as said:
        held = buy_and_hold(stocks)
    assert [name for name in stocks if f"asset {name!r}" in str(said[0].message)] == ["BBY", "RRC"]
    result = earn(held, stocks, lag=1, check_plausibility=False).between("2010-01-01")
    assert sharpe(result.portfolio) == pytest.approx(0.93, abs=0.01)
    assert result.to_skfolio().annualized_sharpe_ratio == pytest.approx(0.93, abs=0.02)
    pytest.importorskip("arch")
    assert buy_and_hold(load_index_prices()).columns.tolist() == ["S&P 500", "NASDAQ", "WTI crude oil"]


@pytest.mark.parametrize("start", ["2000-07-03", pd.Timestamp("2000-07-03"), datetime.date(2000, 7, 3)])
def test_a_walk_begins_on_a_date_of_any_form(model, market, start):
    walk = walk_forward(model, market.iloc[:, 12:14], adapt_window=40, start=start)
    assert walk.positions.index[0] == pd.Timestamp("2000-07-03")


@pytest.mark.parametrize("start", [120, "midsummer", pd.Timestamp("2000-07-03", tz="UTC")])
def test_a_start_that_is_none_of_the_rows_is_said(model, market, start):
    with pytest.raises(
        ValueError, match="walk_forward: start=.* cannot be compared with the rows, which have dates wi"
    ):
        walk_forward(model, market.iloc[:, 12:14], adapt_window=40, start=start)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lag": 7}, "lag is 7, but was . in the fit; fit again"),
        ({"volatility_target": 0.33}, "volatility_target is 0.33, but was .* in the fit"),
        ({"features": PriceFeatures((1, 2, 5), 11)}, "features__window is 11, but was 10 in the fit"),
    ],
)
def test_settings_that_a_policy_learned_with_do_not_change_after_the_fit(model, market, setting, message):
    changed_model = deepcopy(model).set_params(**setting)
    for call in (
        lambda: changed_model.adapt(market.iloc[:80, 12]),
        lambda: changed_model.positions(market),
        lambda: walk_forward(changed_model, market, adapt_window=40),
    ):
        with pytest.raises(ValueError, match=message):
            call()
