"""Prices and positions as users have them: read right, or refused with a sentence that is enough."""

import warnings

import numpy as np
import pandas as pd
import pytest

from metaest import MAMLPolicy
from metaest_datasets import make_market
from metaest_domains.trading import PriceFeatures, TradingPolicy, buy_and_hold, earn, momentum, sharpe, walk_forward


@pytest.fixture(scope="module")
def prices():
    frame = make_market(3, 120, random_state=4)[0]
    return frame.set_axis(["A", "B", "C"], axis=1)


@pytest.fixture(scope="module")
def policy(prices):
    learner = MAMLPolicy(support_size=20, query_size=30, max_iter=2, random_state=0)
    return TradingPolicy(learner, PriceFeatures((1, 2), 5), volatility_target=0.1).fit(prices)


def alone(prices):
    return prices["A"]


@pytest.mark.parametrize(
    ("positions", "of"),
    [
        (lambda frame: buy_and_hold(frame)["A"], alone),
        (lambda frame: buy_and_hold(frame).rename(columns={"A": "mine"}), lambda frame: frame["A"].rename(None)),
        (lambda frame: buy_and_hold(frame)["A"].rename(None), alone),
        (lambda frame: np.ones(120), alone),
        (lambda frame: np.ones((120, 1)), lambda frame: frame["A"].to_numpy()),
        (lambda frame: buy_and_hold(frame), lambda frame: frame[["A"]]),
        (lambda frame: buy_and_hold(frame).astype("Float64").astype(object), lambda frame: frame[["C", "A"]]),
    ],
)
def test_one_asset_in_any_form(prices, positions, of):
    result = earn(positions(prices[["A"]]), of(prices), cost=0.001)
    assert result.returns.shape == (118, 1)
    expected = prices["A"].pct_change().iloc[2:] - 0.001 * (np.arange(118) == 0)
    np.testing.assert_allclose(result.returns.iloc[:, 0], expected, atol=1e-15)


@pytest.mark.parametrize("index", [
    lambda dates: dates.strftime("%Y-%m-%d"), lambda dates: dates.date, lambda dates: dates.to_period("B"),
    lambda dates: dates.tz_localize("Asia/Tokyo"),
])  # fmt: skip
def test_dates_in_any_form(prices, index):
    with warnings.catch_warnings():
        # pandas: business days as periods will go
        warnings.simplefilter("ignore", FutureWarning)
        other = prices.set_axis(index(prices.index))
        summary = earn(buy_and_hold(other), other).summary()
    pd.testing.assert_frame_equal(summary, earn(buy_and_hold(prices), prices).summary())


@pytest.mark.parametrize(
    ("positions", "of", "message"),
    [
        (lambda frame: frame * 0, lambda frame: frame[["A", "B"]], "a position in asset 'C', but no price"),
        (lambda frame: frame["A"].rename(None) * 0, lambda frame: frame, "one series without a name"),
        (lambda frame: frame["A"].rename("mine"), alone, "position in asset 'mine', but no price; .* 'A'"),
        (
            lambda frame: frame.iloc[:-1] * 0,
            lambda frame: frame,
            "1 day.s. have a price but no position, the first of them 2000-06-16",
        ),
        (
            lambda frame: frame * 0,
            lambda frame: frame.iloc[1:],
            "1 day.s. have a position but no price, the first of them 2000-01-03",
        ),
        (
            lambda frame: frame.tz_localize("UTC") * 0,
            lambda frame: frame,
            "time zone of positions is UTC, that of prices None",
        ),
        (
            lambda frame: frame.tz_localize("UTC").tz_convert("US/Eastern") * 0,
            lambda frame: frame.tz_localize("UTC"),
            "time zone of positions is US/Eastern, that of prices UTC",
        ),
        (
            lambda frame: frame.reset_index(drop=True) * 0,
            lambda frame: frame,
            "prices have dates, but positions have none",
        ),
        (lambda frame: frame.iloc[::-1] * 0, lambda frame: frame, "2000-06-15 comes after 2000-06-16; sort by date"),
        (lambda frame: frame * 0 + np.inf, lambda frame: frame, "the position in asset 'A' on 2000-01-03 is infinite"),
        (
            lambda frame: frame.assign(A="long"),
            lambda frame: frame,
            "positions must be numbers; column 'A': value 0 is 'long'",
        ),
        (
            lambda frame: np.ones((120, 2)),
            lambda frame: frame,
            r"positions have shape \(120, 2\), but prices",
        ),
        (
            lambda frame: frame.iloc[:2] * 0,
            lambda frame: frame.iloc[:2],
            "lag=1 requires at least 3 days of prices, got 2",
        ),
    ],
)
def test_positions_that_do_not_fit_are_said(prices, positions, of, message):
    with pytest.raises(ValueError, match=message):
        earn(positions(prices), of(prices))


@pytest.mark.parametrize("cost", [-0.001, 5, np.nan, 1.0, "5 bp"])
def test_a_cost_is_a_share(prices, cost):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        earn(buy_and_hold(prices), prices, cost=cost)


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_an_exit_to_a_missing_position_is_paid(prices, lag):
    """A position of 0 and none at all cost the same."""
    positions = pd.DataFrame(np.nan, prices.index, prices.columns)
    positions.loc[prices.index[10:30], "A"] = 1.0
    positions.loc[prices.index[50:60], "A"] = -0.5
    positions.loc[prices.index[20:], "B"] = 2.0
    missing, zero = (earn(frame, prices, lag=lag, cost=0.01) for frame in (positions, positions.fillna(0.0)))
    np.testing.assert_allclose(missing.returns.sum(), zero.returns.sum(), atol=1e-14)
    np.testing.assert_allclose(
        zero.returns.sum() - earn(positions, prices, lag=lag).returns.sum(),
        -0.01 * np.array([3.0, 2.0, 0.0]),
        atol=1e-14,
    )
    # the day after the exit earns nothing and pays; later days are not traded
    exit_day = 30 + 1 + lag
    assert missing.returns["A"].loc[prices.index[exit_day]] == pytest.approx(-0.01)
    assert np.isnan(missing.returns["A"].loc[prices.index[exit_day + 1]])
    assert np.isnan(missing.summary().loc["C", "sharpe"])
    # entries and exits are turnover: 3 changes of A on the 33 days with a position or a change
    assert missing.summary().loc["A", "turnover"] == pytest.approx(252 * (1 + 0.5 + 0.5) / (19 + 1 + 10 + 1))
    assert missing.positions.index[0] == prices.index[10]


def test_nothing_is_held_before_it_is_listed(prices):
    late = prices.copy()
    late.loc[late.index[:40], "B"] = np.nan
    with pytest.raises(ValueError, match="the position in asset 'B' decided on 2000-01-03 has no price"):
        earn(pd.DataFrame(1.0, late.index, late.columns), late)
    held = earn(pd.DataFrame(1.0, late.index, late.columns).where(late.notna()), late, cost=0.001)
    assert held.returns["B"].first_valid_index() == late.index[42]
    pd.testing.assert_frame_equal(held.returns, earn(buy_and_hold(late), late, cost=0.001).returns)


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_an_asset_that_ends_is_sold_at_its_last_price(prices, policy, lag):
    """It earns what it earns in a table that ends with it, and the sale is paid on the day after."""
    ended = prices.copy()
    ended.loc[ended.index[90:], "B"] = np.nan
    together = earn(buy_and_hold(ended), ended, lag=lag, cost=0.01)
    short = prices[["B"]].iloc[:90]
    alone = earn(buy_and_hold(short), short, lag=lag, cost=0.01).returns["B"]
    np.testing.assert_allclose(together.returns["B"].loc[alone.index], alone, atol=1e-15)
    after = together.returns["B"].loc[ended.index[90:]].dropna()
    assert after.to_dict() == {ended.index[90]: pytest.approx(-0.01)}
    pd.testing.assert_frame_equal(
        together.returns[["A", "C"]], earn(buy_and_hold(prices), prices, lag=lag, cost=0.01).returns[["A", "C"]]
    )
    with pytest.raises(
        ValueError, match="position in asset 'B' decided on 2000-05-08 has no price at which it could be traded"
    ):
        earn(pd.DataFrame(1.0, ended.index, ended.columns), ended, lag=lag)
    walk, whole = (walk_forward(policy, frame, adapt_window=20, lag=lag) for frame in (ended, prices))
    np.testing.assert_allclose(walk.positions["B"].iloc[:50], whole.positions["B"].iloc[:50], rtol=1e-5)
    assert walk.positions["B"].last_valid_index() == ended.index[89]
    np.testing.assert_allclose(walk.positions["A"], whole.positions["A"], rtol=1e-5)
    assert policy.positions(ended)["B"].last_valid_index() == ended.index[89]


@pytest.mark.parametrize("name", ["A", "C"])
def test_every_number_counts(prices, name):
    """Prices and positions are all read: another one is another answer."""
    positions = buy_and_hold(prices)
    before = earn(positions, prices, cost=0.001).returns
    for day in (0, 50, 117):
        other = positions.copy()
        other.loc[other.index[day], name] = 0.5
        assert not earn(other, prices, cost=0.001).returns[name].equals(before[name])
        other = prices.copy()
        other.loc[other.index[day + 2], name] *= 1.01
        assert not earn(positions, other, cost=0.001).returns[name].equals(before[name])


def test_a_backtest_of_nothing_prints_and_has_no_measures(prices):
    for nothing in (earn(prices * np.nan, prices), earn(buy_and_hold(prices), prices).between("2030-01-01")):
        assert "no days" in repr(nothing)
        summary = nothing.summary()
        assert summary.index.tolist() == ["A", "B", "C", "portfolio"]
        assert summary.drop(columns=["lag", "cost"]).isna().all(axis=None)


@pytest.mark.parametrize(("frequency", "periods"), [("ME", 12), ("W-FRI", 52), ("D", 365), ("QE", 4)])
def test_a_year_is_that_of_the_dates(prices, policy, frequency, periods):
    other = prices.set_axis(pd.date_range("1990-01-01", periods=120, freq=frequency))
    result = earn(buy_and_hold(other), other)
    summary = result.summary()
    moves = other["A"].pct_change().iloc[2:]
    assert summary.loc["A", "sharpe"] == pytest.approx(np.sqrt(periods) * moves.mean() / moves.std(ddof=0))
    assert summary.loc["A", "return"] == pytest.approx(periods * moves.mean())
    assert summary.loc["A", "volatility"] == pytest.approx(np.sqrt(periods) * moves.std(ddof=0))
    # two months of the walk have no spacing of their frame
    assert result.between(other.index[5], other.index[6]).summary().loc["A", "return"] == pytest.approx(
        periods * moves.iloc[3:5].mean()
    )
    # a position of ten per cent a year is one of ten per cent a year
    plain, scaled = (buy_and_hold(frame, volatility_target=0.1, max_leverage=1e9) for frame in (prices, other))
    np.testing.assert_allclose(scaled, plain * np.sqrt(252 / periods), rtol=1e-12)
    given = buy_and_hold(other, volatility_target=0.1, max_leverage=1e9, periods_per_year=252)
    np.testing.assert_allclose(given, plain, rtol=1e-12)
    if periods < 100:
        for call in (
            policy.positions,
            lambda frame: policy.adapt(frame["A"]),
            lambda frame: walk_forward(policy, frame),
        ):
            with pytest.raises(
                ValueError, match=f"{periods} rows a year by their dates, but the policy was fitted to 252"
            ):
                call(other)


def test_a_summary_of_dates_that_do_not_tell_has_all_but_the_year(prices):
    hourly = prices.set_axis(pd.date_range("2020-01-01", periods=120, freq="h"))
    with pytest.warns(UserWarning, match=r"median spacing is 0.0417 days, .* Annualised figures are missing"):
        summary = earn(buy_and_hold(hourly), hourly).summary()
    assert summary[["sharpe", "sortino", "return", "volatility", "turnover"]].isna().all(axis=None)
    columns = ["max_drawdown", "hit_rate", "exposure"]
    expected = earn(buy_and_hold(prices), prices).summary()
    pd.testing.assert_frame_equal(summary[columns], expected[columns])
    assert earn(buy_and_hold(hourly), hourly, periods_per_year=252).summary().equals(expected)
    with pytest.raises(ValueError, match="periods_per_year: a number above 0 is wanted, got 0"):
        earn(buy_and_hold(hourly), hourly, periods_per_year=0)


def test_without_dates_a_word_is_said(prices):
    plain = prices.reset_index(drop=True)
    result = earn(buy_and_hold(plain), plain)
    with pytest.warns(UserWarning, match="summary: rows have no dates; 252 rows a year"):
        summary = result.summary()
    pd.testing.assert_frame_equal(summary, earn(buy_and_hold(prices), prices).summary())
    with pytest.warns(UserWarning, match="buy_and_hold: rows have no dates"):
        buy_and_hold(plain, volatility_target=0.1)
    assert earn(buy_and_hold(plain), plain, periods_per_year=52).summary().loc["A", "sharpe"] == pytest.approx(
        sharpe(prices["A"].pct_change().iloc[2:], periods_per_year=52)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda frame: momentum(frame, horizon=120),
            "momentum: horizon=120 requires more than 120 days of prices, got 120",
        ),
        (lambda frame: momentum(frame.iloc[:40]), "horizon=250 requires more than 250 days of prices, got 40"),
        (lambda frame: momentum(frame, horizon=-5), "horizon must be a whole number of days, at least 1, got -5"),
        (lambda frame: momentum(frame, horizon=2.5), "horizon must be a whole number"),
        (lambda frame: buy_and_hold(frame.iloc[:20], volatility_target=0.1), "window=20 requires more than 20 days"),
        (lambda frame: buy_and_hold(frame, volatility_target=-0.1), "volatility_target: a number above 0 is wanted"),
        (
            lambda frame: buy_and_hold(frame, volatility_target=0.1, max_leverage=0),
            "max_leverage: a number above 0 is wanted",
        ),
    ],
)
def test_what_a_baseline_cannot_do_is_said(prices, call, message):
    with pytest.raises(ValueError, match=message):
        call(prices)
    assert momentum(prices, horizon=119).notna().sum().tolist() == [1, 1, 1]


def split(prices, ratio, day=70, name="B"):
    other = prices.copy()
    other.loc[other.index[day] :, name] /= ratio
    return other


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (7, "a 7:1 split"), (2, "a 2:1 split"), (3, "a 3:1 split"), (1.5, "a 3:2 split"), (20, "a 20:1 split"),
        (0.5, "a reverse split of 1:2"), (0.1, "a reverse split of 1:10"),
    ],
)  # fmt: skip
def test_a_split_is_named_with_asset_and_day(prices, policy, ratio, words):
    other = split(prices, ratio)
    held = buy_and_hold(prices)
    message = f"the price of asset 'B' jumps from .* on 2000-04-10, which looks like {words}"
    for call in (
        lambda: earn(held, other), lambda: buy_and_hold(other), lambda: momentum(other, horizon=5),
        lambda: policy.positions(other), lambda: walk_forward(policy, other, adapt_window=20),
        lambda: policy.adapt(other["B"]), lambda: PriceFeatures((1, 2), 5).fit_transform(other["B"]),
        lambda: policy.adapt(prices["B"]).positions(other["B"]), lambda: policy.tasks(other),
    ):  # fmt: skip
        with pytest.warns(UserWarning, match=message) as said:
            call()
        assert len(said) == 1
    # a switch, and no word about prices without a jump
    earn(held, other, check_plausibility=False)
    momentum(other, horizon=5, check_plausibility=False)
    PriceFeatures(check_plausibility=False).fit_transform(other["B"])


def test_jumps_that_markets_make_are_no_splits(prices):
    for fall in (0.75, 0.6, 0.55, 0.45, 1.3, 1.8):
        buy_and_hold(split(prices, 1 / fall))
    # a wild asset, and prices of years
    rng = np.random.default_rng(0)
    for spread, n in ((0.3, 400), (0.5, 60)):
        wild = pd.Series(np.exp(np.cumsum(spread * rng.standard_normal(n))), pd.bdate_range("2000-01-03", periods=n))
        buy_and_hold(wild)


def test_a_price_in_another_unit_for_a_day_is_named(prices):
    other = prices.copy()
    other.iloc[33, 2] *= 100
    with pytest.warns(UserWarning, match="asset 'C' jumps .* on 2000-02-17, which looks like an error"):
        buy_and_hold(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.pct_change().iloc[1:], "these look like returns, not prices"),
        (lambda frame: frame.set_axis(["Open", "Close", "Volume"], axis=1), "look like fields of one asset"),
        (lambda frame: pd.concat({"Close": frame}, axis=1), "have 2 levels"),
        (lambda frame: frame.reset_index(), "column 'date' holds dates, which must be in the index"),
        (lambda frame: frame.stack().rename("price").reset_index(), "column 'date' holds dates"),
        (lambda frame: frame.stack(), "unstack the assets into columns"),
        (lambda frame: frame.set_axis(frame.index.strftime("%Y%m%d").astype(int)), "look like dates"),
        (lambda frame: frame.set_axis(frame.index.strftime("%m/%d/%Y")), "not dates like 2020-01-31"),
        (lambda frame: frame.set_axis([pd.NaT, *frame.index[1:]]), "the date of row 0 is missing"),
    ],
)
def test_invalid_prices_are_named(prices, change, message):
    with pytest.raises(ValueError, match=message):
        buy_and_hold(change(prices))


def test_the_exit_to_no_position_of_the_only_asset_is_turnover(prices):
    positions = pd.Series(1.0, index=prices.index, name="A")
    positions.iloc[:10] = positions.iloc[50:61] = positions.iloc[80:] = np.nan
    row = earn(positions, prices, cost=0.01).summary().loc["A"]
    held = 40 + 19
    # three changes, out, in and out again, on the days with a position or a change but the first
    assert row["turnover"] == pytest.approx(252 * 3 / (held + 2 - 1))
    assert earn(positions, prices, cost=0.01).positions.index[0] == prices.index[10]
