"""Plots of backtests draw the computed values, in the axes of the user."""

import numpy as np
import pandas as pd
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from metaest_datasets import make_market  # noqa: E402
from metaest_domains.trading import (  # noqa: E402
    buy_and_hold,
    drawdown,
    earn,
    momentum,
    plot_drawdown,
    plot_equity,
    plot_positions,
    plot_sharpe,
)

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture(scope="module")
def backtests():
    prices = make_market(3, 150, random_state=5)[0]
    return {
        "held": earn(buy_and_hold(prices), prices),
        "momentum": earn(momentum(prices, horizon=20), prices, cost=0.001),
    }


def lines(ax):
    return {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for line in ax.lines}


def test_equity_is_compounded(backtests, ax):
    assert plot_equity(backtests) is ax
    for name, value in lines(ax).items():
        np.testing.assert_allclose(value, (1 + backtests[name].portfolio).cumprod())
    assert ax.get_ylabel() == "value of 1 invested"
    assert ax.get_xlabel() == "date"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["held", "momentum"]


def test_at_equal_risk_all_move_as_much(backtests, ax):
    plot_equity(backtests, volatility=0.1, colors={"held": "black"}, ax=ax)
    for value in lines(ax).values():
        assert np.std(value[1:] / value[:-1] - 1) == pytest.approx(0.1 / np.sqrt(252), rel=0.05)
    assert ax.lines[0].get_color() == "black"
    assert "annualised risk of 10 %" in ax.get_ylabel()
    assert lines(plot_equity(backtests["held"], ax=ax.figure.axes[1])).keys() >= {"portfolio"}


def test_the_lowest_point_is_the_drawdown(backtests, ax):
    plot_drawdown(backtests)
    for name, value in lines(ax).items():
        assert value.max() <= 0
        assert -value.min() / 100 == pytest.approx(drawdown(backtests[name].portfolio))


def test_who_lost_all_stays_at_nothing(ax):
    prices = pd.DataFrame({"A": [1.0, 1.2, 1.9, 1.5, 1.0, 1.1]}, index=pd.bdate_range("2020-01-01", periods=6))
    ruined = earn(-2 * buy_and_hold(prices), prices, lag=0)
    plot_drawdown(ruined)
    assert (next(iter(lines(ax).values()))[1:] == -100).all()
    plot_equity(ruined, ax=ax)


def test_positions_are_steps(backtests, ax):
    plot_positions(backtests["momentum"])
    drawn = lines(ax)
    for name, held in backtests["momentum"].positions.items():
        np.testing.assert_array_equal(drawn[name], held)
    assert ax.lines[0].get_drawstyle() == "steps-post"
    assert ax.get_ylabel() == "position (share of capital)"


def test_positions_of_one_asset_before_and_after(backtests, ax):
    name = backtests["held"].positions.columns[1]
    plot_positions(backtests, asset=name)
    np.testing.assert_array_equal(lines(ax)["momentum"], backtests["momentum"].positions[name])
    plot_positions({"one": backtests["held"].positions[name].rename(None)}, ax=ax)
    with pytest.raises(ValueError, match="'held' has positions in 3 assets; pass asset="):
        plot_positions(backtests, ax=ax)
    with pytest.raises(ValueError, match="no positions in asset 'XYZ'"):
        plot_positions(backtests["held"], asset="XYZ", ax=ax)


def test_sharpe_by_what_was_varied(ax):
    ratios = pd.DataFrame(
        {"ours": [1.0, 0.5], "theirs": [0.7, 0.7]}, index=pd.Index([0, 10], name="cost (basis points)")
    )
    plot_sharpe(ratios)
    np.testing.assert_array_equal(lines(ax)["ours"], [1.0, 0.5])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("cost (basis points)", "annualised Sharpe ratio")


def test_what_cannot_be_drawn_is_said(backtests, ax):
    with pytest.raises(ValueError, match="the backtest 'held' has no days"):
        plot_equity({"held": backtests["held"].between("2040")})
    with pytest.raises(ValueError, match="backtests must be those of earn or walk_forward"):
        plot_drawdown(backtests["held"].returns)
    still = pd.DataFrame({"A": 1.0}, index=pd.bdate_range("2020-01-01", periods=9))
    with pytest.raises(ValueError, match="has constant returns"):
        plot_equity(earn(buy_and_hold(still), still), volatility=0.1)
