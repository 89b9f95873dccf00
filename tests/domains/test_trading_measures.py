"""Measures of returns: right by hand and by their laws, and never 0 for what cannot be told."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from metaest_domains.trading import deflated_sharpe, difference, drawdown, sharpe, sortino

RATIOS = [sharpe, sortino]


@pytest.fixture
def returns():
    dates = pd.bdate_range("2021-01-04", periods=300)
    return pd.Series(np.random.default_rng(0).normal(0.001, 0.01, 300), index=dates)


def test_measures_by_hand():
    returns = np.array([0.01, -0.02, 0.03, 0.0])
    assert sharpe(returns, periods_per_year=252) == pytest.approx(np.sqrt(252) * 0.005 / returns.std())
    assert sortino(returns, periods_per_year=12) == pytest.approx(np.sqrt(12) * 0.005 / 0.01)
    assert drawdown(returns) == pytest.approx(0.02)
    assert drawdown([-0.5, 0.1]) == pytest.approx(0.5)
    assert drawdown([0.1]) == 0.0


@pytest.mark.parametrize("measure", [sharpe, sortino, drawdown, lambda returns: deflated_sharpe(returns, [0.3, 1.2])])
def test_missing_returns_are_left_out(returns, measure):
    holes = returns.copy()
    holes.iloc[[0, 17, 18, 299]] = np.nan
    expected = measure(returns[holes.notna()])
    assert measure(holes) == pytest.approx(expected, rel=1e-12)
    assert measure(holes.astype("Float64")) == pytest.approx(expected, rel=1e-12)
    assert measure(holes.astype(object).where(holes.notna(), None)) == pytest.approx(expected, rel=1e-12)
    assert measure(holes.to_frame("an asset")) == pytest.approx(expected, rel=1e-12)
    with pytest.warns(UserWarning, match="the result is NaN, since there are no returns"):
        assert np.isnan(measure(holes * np.nan))


@pytest.mark.parametrize("measure", RATIOS)
def test_a_frame_of_assets_with_different_holes_is_measured_asset_by_asset(returns, measure):
    frame = pd.DataFrame({"A": returns, "B": returns.shift(30), "C": np.nan})
    with pytest.warns(UserWarning, match="the result is NaN, since there are no returns"):
        each = frame.apply(measure)
    assert each["A"] == measure(returns)
    assert each["B"] == pytest.approx(measure(returns[:-30]), rel=1e-12)
    assert np.isnan(each["C"])
    with pytest.raises(ValueError, match=r"returns must be one series, got shape \(300, 3\)"):
        measure(frame)


@pytest.mark.parametrize("measure", RATIOS)
@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e4])
def test_a_ratio_has_no_unit(returns, measure, unit):
    assert measure(unit * returns) == pytest.approx(measure(returns), rel=1e-9)


@pytest.mark.parametrize("measure", RATIOS)
@pytest.mark.parametrize("unit", [1e-9, 1.0])
def test_without_a_spread_a_ratio_is_infinite_and_of_nothing_it_is_not_a_number(measure, unit):
    prices = pd.Series(100 * 1.0003 ** np.arange(400), index=pd.bdate_range("2020-01-01", periods=400))
    growth = unit * prices.pct_change()  # the same every day but for rounding
    assert measure(growth) == np.inf
    with pytest.warns(UserWarning, match="the result is NaN, since all returns are equal"):
        assert np.isnan(measure(0 * growth))
    assert sharpe(-growth) == -np.inf
    assert sortino(-growth) == pytest.approx(-np.sqrt(252))


def test_a_few_returns():
    for measure, few in ((sharpe, [0.01]), (sharpe, []), (sharpe, None), (sortino, []), (sortino, None)):
        with pytest.warns(UserWarning, match="the result is NaN, since there (is one|are no) return"):
            assert np.isnan(measure(few, periods_per_year=12))
    with pytest.warns(UserWarning, match="since there are no returns"):
        assert np.isnan(drawdown([]))
    with pytest.warns(UserWarning, match="since there is one return"):
        assert np.isnan(deflated_sharpe([0.01], [1.0], periods_per_year=12))
    assert sortino([-0.01], periods_per_year=4) == pytest.approx(-2.0)
    assert sharpe([Fraction(1, 10), Fraction(3, 10)], periods_per_year=1) == pytest.approx(2.0)


def test_who_gained_every_day_is_ahead():
    assert sortino([0.01, 0.02, 0.03], periods_per_year=52) > sortino([0.01, 0.02, -1e-9, 0.03], periods_per_year=52)


@pytest.mark.parametrize(
    ("frequency", "periods"),
    [
        ("B", 252), ("D", 365), ("W-FRI", 52), ("W-SUN", 52), ("ME", 12), ("BME", 12), ("MS", 12), ("QE", 4),
        ("2QE", 2), ("YE", 1),
    ],
)  # fmt: skip
def test_a_year_has_as_many_returns_as_its_dates_say(frequency, periods):
    dates = pd.date_range("2000-01-01", periods=80, freq=frequency)
    values = np.random.default_rng(1).normal(0.01, 0.05, len(dates))
    expected = np.sqrt(periods) * values.mean() / values.std()
    for index in (dates, dates.tz_localize("America/New_York"), dates.strftime("%Y-%m-%d"), dates.date):
        assert sharpe(pd.Series(values, index=index)) == pytest.approx(expected)
    assert sharpe(pd.Series(values, index=dates), periods_per_year=10.0) == pytest.approx(
        expected * np.sqrt(10 / periods)
    )
    # some months, some weeks are missing
    kept = np.delete(np.arange(80), [5, 40, 41])
    chosen = values[kept]
    ratio = sharpe(pd.Series(chosen, index=dates[kept]))
    assert ratio == pytest.approx(np.sqrt(periods) * chosen.mean() / chosen.std())


def test_monthly_periods_are_dates():
    values = pd.Series([0.1, -0.1, 0.2], index=pd.period_range("2020-01", periods=3, freq="M"))
    assert sharpe(values) == pytest.approx(sharpe(values.to_numpy(), periods_per_year=12))


def test_what_dates_do_not_tell_is_asked_for(returns):
    hours = pd.Series(0.01 * np.arange(9), index=pd.date_range("2020-01-01", periods=9, freq="h"))
    odd = pd.Series(
        0.01 * np.arange(5),
        index=pd.to_datetime(["2020-01-01", "2020-01-20", "2020-02-10", "2020-03-02", "2020-03-22"]),
    )
    irregular = returns.iloc[np.sort(np.random.default_rng(0).choice(300, 40, replace=False))]
    for undecided in (hours, odd, irregular, returns.iloc[:1]):
        with pytest.raises(ValueError, match="do not determine the number of rows per year; pass periods_per_year="):
            sharpe(undecided)
        sortino(undecided, periods_per_year=252)
    with pytest.warns(UserWarning, match="rows have no dates; 252 rows a year are assumed"):
        assert sharpe(returns.to_numpy()) == sharpe(returns)
    with pytest.warns(UserWarning, match="rows have no dates"):
        sortino(returns.reset_index(drop=True))
    for wrong in (0, -12, np.nan, np.inf):
        with pytest.raises(ValueError, match="periods_per_year: a number above 0 is wanted"):
            sharpe(returns, periods_per_year=wrong)


@pytest.mark.parametrize("measure", [sharpe, sortino, drawdown, lambda returns: deflated_sharpe(returns, [1.0])])
def test_what_are_no_returns_is_refused(returns, measure):
    infinite = returns.copy()
    infinite.iloc[3] = np.inf
    with pytest.raises(ValueError, match="the return of 2021-01-07 is inf"):
        measure(infinite)
    with pytest.raises(ValueError, match="returns must be numbers"):
        measure(pd.Series(["high", "low"], index=returns.index[:2]))
    with pytest.raises(ValueError, match="dates of the returns are not in order"):
        measure(returns[::-1])
    with pytest.raises(ValueError, match="2021-01-04 occurs twice"):
        measure(returns.iloc[[0, 0, 1]])
    with pytest.raises(ValueError, match="20210104, ..., which look like dates"):
        measure(returns.set_axis(returns.index.strftime("%Y%m%d").astype(int)))
    with pytest.raises(ValueError, match="which are not dates like 2020-01-31"):
        measure(returns.set_axis(returns.index.strftime("%d/%m/%Y")))


def test_drawdown_after_a_total_loss_is_1():
    with pytest.warns(UserWarning, match="a return of -1.2 is a total loss"):
        assert drawdown([0.5, -1.2, -3.0, 0.1]) == 1.0
    with pytest.warns(UserWarning, match="divide them by 100"):
        assert drawdown([0.5, -1.0]) == 1.0
    assert drawdown([0.5, -0.999]) == pytest.approx(0.999)


def test_a_deflated_ratio_asks_more_of_many_trials():
    returns = 0.0005 + 0.01 * np.random.default_rng(0).standard_normal(1000)
    one, ten, thousand = (
        deflated_sharpe(returns, np.linspace(-0.5, 0.5, n), periods_per_year=252) for n in (1, 10, 1000)
    )
    assert one > ten > thousand
    # of a single trial and normal returns it is the probability that the ratio is above 0
    assert one == pytest.approx(deflated_sharpe(returns, [0.3], periods_per_year=252))
    assert one == pytest.approx(norm.cdf(np.sqrt(999) * returns.mean() / returns.std()), abs=2e-3)
    # trials that are all the same say nothing of how far luck reaches
    assert one == pytest.approx(deflated_sharpe(returns, [0.3] * 9, periods_per_year=252))


def test_a_deflated_ratio_does_not_depend_on_what_a_period_is(returns):
    days = deflated_sharpe(returns, [0.5, 1.0, -0.2])
    years = deflated_sharpe(returns.to_numpy(), np.array([0.5, 1.0, -0.2]) / np.sqrt(252), periods_per_year=1)
    assert days == pytest.approx(years, rel=1e-12)


def test_trials_that_cannot_be_are_refused(returns):
    with pytest.warns(UserWarning, match="since all returns are equal"):
        assert np.isnan(deflated_sharpe(0 * returns + 0.01, [1.0]))
    for trials, message in (
        ([], "must include at least the strategy itself"), ([1.0, np.nan], "ratio 1 is nan"), ([np.inf], "ratio 0 is inf"),
        (10, "must be the Sharpe ratios of all strategies tried"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            deflated_sharpe(returns, trials)


def test_an_interval_of_a_difference_covers_it():
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(60):
        common = 0.01 * rng.standard_normal(500)
        ours, theirs = (pd.Series(common + 0.01 * rng.standard_normal(500)) for _ in range(2))
        interval = difference(ours, theirs, n=200, random_state=i, periods_per_year=252)
        covered += interval.lower <= 0 <= interval.upper
    assert covered >= 52
    with pytest.raises(ValueError, match="fewer than two days in common"):
        difference(ours, pd.Series([1.0], index=[-1]))


def test_a_difference_is_of_the_days_that_both_have(returns):
    ours = returns.copy()
    theirs = returns.to_numpy()[::-1] * pd.Series(1.0, returns.index)
    ours.iloc[:9] = np.nan
    theirs.iloc[250:] = np.nan
    apart = difference(ours, theirs, n=50)
    both = slice(9, 250)
    assert apart.value == pytest.approx(sharpe(ours[both]) - sharpe(theirs[both]), rel=1e-12)
    monthly = [
        pd.Series(series.to_numpy()[:48], pd.date_range("2020-01-31", periods=48, freq="ME"))
        for series in (ours, theirs)
    ]
    apart = difference(*monthly, n=50)
    assert apart.value == pytest.approx(sharpe(monthly[0][9:]) - sharpe(monthly[1][9:]), rel=1e-12)
    # a measure of one's series gets arrays alone
    assert difference(ours, theirs, measure=np.mean, n=50).value == pytest.approx((ours - theirs).mean())


def test_a_difference_of_what_is_not_finite_is_not_a_number(returns):
    with pytest.warns(UserWarning, match="the measure of one of the two is not finite"):
        apart = difference(returns, 0 * returns, n=20)
    assert np.isnan([apart.value, apart.lower, apart.upper]).all()
    with pytest.raises(ValueError, match="time zone"):
        difference(returns, returns.tz_localize("UTC"))
    for setting in ({"level": 95}, {"block": 0}, {"n": 0}):
        with pytest.raises(ValueError, match=f"difference: {next(iter(setting))}"):
            difference(returns, returns, **setting)


@pytest.mark.parametrize("measure", [sharpe, sortino, drawdown])
def test_prices_in_place_of_returns_are_asked_about(returns, measure):
    prices = 30 * (1 + returns).cumprod()
    settings = {} if measure is drawdown else {"periods_per_year": 252}
    for form in (prices, prices.to_numpy()):
        with pytest.warns(UserWarning, match=rf"{measure.__name__}: all returns are above 1, .* look like prices"):
            measure(form[:20], **settings)
    measure(100 * returns.abs())  # gains in percent alone are no prices


@pytest.mark.parametrize("measure", RATIOS)
def test_what_is_no_number_is_no_return(measure):
    with pytest.raises(ValueError, match=rf"{measure.__name__}: returns must be numbers: time differences were passed"):
        measure(pd.to_timedelta([1, 2, 3], unit="h"))
    with pytest.raises(ValueError, match="returns must be numbers: True and False were passed"):
        measure([True, False, True])


def test_returns_that_cannot_be_matched_by_day_are_refused(returns):
    with pytest.raises(ValueError, match="300 and 299 returns, not both with dates, cannot be matched by day"):
        difference(returns.to_numpy(), returns.to_numpy()[1:], periods_per_year=252)
    with pytest.raises(ValueError, match="cannot be matched by day"):
        difference(returns, returns.to_numpy())
    with pytest.raises(ValueError, match="measure must be a function of returns, such as sharpe, got 'sharpe'"):
        difference(returns, returns, measure="sharpe")
    with pytest.raises(ValueError, match="trials must be the Sharpe ratios of all strategies tried"):
        deflated_sharpe(returns, {"this": 0.5, "that": 0.7})
