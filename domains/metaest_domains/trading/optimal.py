r"""The optimal policy for a simulated asset of known character, by dynamic programming.

In a Markov chain of states s (the last return, and for an asset that switches regimes the probability of each) and
positions a, the policy of largest average reward

.. math:: a' \mu_s - \lambda a'^2 m_s - c\,|a' - a|

solves :math:`V(s, a) + g = \max_{a'} [\cdot + E\,V(s', a')]`; :math:`\mu` and m are mean and mean square of the next
return. Relative value iteration on a grid computes it (Puterman, 1994, :doi:`10.1002/9780470316887`, section 8.5).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from metaest_datasets.markets import SWITCH

__all__ = ["BestPolicy", "best_policy"]

# points of the grids of the last return, of the probability of a trend, and of positions
N_RETURNS = 41
N_BELIEFS = 21
N_POSITIONS = 41
# standard deviations that the grid of returns covers on either side
REACH = 4.5
# nodes of the quadrature over the next return
NODES = 31
# range of the change of the values, relative to the volatility, at which the iteration stops
TOLERANCE = 1e-4
# greatest number of iterations
MOST = 2000


class BestPolicy(NamedTuple):
    """The optimal policy for a simulated asset.

    Attributes
    ----------
    personality : str
    returns : ndarray of shape (n_returns,)
        Grid of the last return.
    beliefs : ndarray of shape (n_beliefs,)
        Grid of the probability that the regime is a trend; one point if the character does not change.
    held : ndarray of shape (n_positions,)
        Grid of positions.
    choice : ndarray of int, shape (n_returns, n_beliefs, n_positions)
        Index of the next position.
    strength, volatility : float
    reward : float
        Average reward per day.
    """

    personality: str
    returns: NDArray[np.float64]
    beliefs: NDArray[np.float64]
    held: NDArray[np.float64]
    choice: NDArray[np.intp]
    strength: float
    volatility: float
    reward: float

    def positions(self, prices: "pd.Series[float]") -> "pd.Series[float]":
        """Return the positions by the day of the decision; missing on the first day."""
        moves = prices.pct_change(fill_method=None).to_numpy()
        positions = np.full(len(moves), np.nan)
        state = int(np.argmin(np.abs(self.held)))
        belief = 0.5
        for t in range(1, len(moves)):
            if len(self.beliefs) > 1 and t > 1:
                belief = _believed(belief, moves[t - 1], moves[t], self.strength, self.volatility)
            place = _nearest(self.returns, moves[t]), _nearest(self.beliefs, belief)
            state = int(self.choice[(*place, state)])
            positions[t] = self.held[state]
        return pd.Series(positions, index=prices.index, name=prices.name)


def best_policy(
    personality: str,
    strength: float,
    volatility: float = 0.01,
    *,
    cost: float = 0.0005,
    risk_aversion: float = 10.0,
    limit: float = 1.0,
) -> BestPolicy:
    """Return the optimal policy for an asset of :func:`metaest_datasets.make_market`, traded at the deciding close.

    Parameters
    ----------
    personality : {"trending", "mean-reverting", "regime-switching", "random walk"}
    strength, volatility : float
        As in `make_market`.
    cost : float, default=0.0005
        Cost of a change of position by one.
    risk_aversion : float, default=10.0
        lambda of the module's formula.
    limit : float, default=1.0
        Largest size of a position.

    Returns
    -------
    BestPolicy
    """
    returns = np.linspace(-REACH * volatility, REACH * volatility, N_RETURNS)
    switching = personality == "regime-switching"
    beliefs = np.linspace(0, 1, N_BELIEFS) if switching else np.array([0.5])
    sign = {"trending": 1.0, "mean-reverting": -1.0}.get(personality, 0.0)
    chances, moves = _quadrature()
    spread = volatility * np.sqrt(1 - (strength * (switching or sign != 0)) ** 2)
    mean, square = (np.zeros((N_RETURNS, len(beliefs))) for _ in range(2))
    transition = np.zeros((N_RETURNS * len(beliefs), N_RETURNS * len(beliefs)))
    for i, r in enumerate(returns):
        for j, belief in enumerate(beliefs):
            parts = [(belief, strength), (1 - belief, -strength)] if switching else [(1.0, sign * strength)]
            for share, phi in parts:
                to = phi * r + spread * moves
                mean[i, j] += share * phi * r
                square[i, j] += share * (phi**2 * r**2 + spread**2)
                after = [_believed(belief, r, new, strength, volatility) if switching else 0.5 for new in to]
                _spread_out(transition[i * len(beliefs) + j], share * chances, to, np.array(after), returns, beliefs)
    held = np.linspace(-limit, limit, N_POSITIONS)
    gain = mean.reshape(-1, 1) * held - risk_aversion * square.reshape(-1, 1) * held**2  # (states, next position)
    paid = cost * np.abs(held[:, None] - held)  # (position, next position)
    value = np.zeros((len(gain), N_POSITIONS))
    reward = 0.0
    choice = np.zeros((len(gain), N_POSITIONS), dtype=np.intp)
    for _ in range(MOST):
        ahead = gain + transition @ value
        whole = ahead[:, None] - paid
        choice = whole.argmax(axis=2)
        fresh = np.take_along_axis(whole, choice[..., None], axis=2)[..., 0]
        change = fresh - value
        reward = float(change.mean())
        value = fresh - fresh[0, 0]
        if np.ptp(change) < TOLERANCE * volatility:
            break
    shape = N_RETURNS, len(beliefs), N_POSITIONS
    return BestPolicy(personality, returns, beliefs, held, choice.reshape(shape), strength, volatility, reward)


def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return probabilities and values of a standard normal variable on a grid."""
    points = np.linspace(-REACH, REACH, NODES)
    chances = norm.pdf(points)
    return chances / chances.sum(), points


def _believed(belief: float, before: float, now: float, strength: float, volatility: float) -> float:
    """Return the probability of a trend after the next return, given that the regime may have switched since."""
    sd = volatility * np.sqrt(1 - strength**2)
    log_odds = ((now + strength * before) ** 2 - (now - strength * before) ** 2) / (2 * sd**2)
    odds = belief / max(1 - belief, 1e-12) * np.exp(np.clip(log_odds, -50, 50))
    after = odds / (1 + odds)
    return float(after * (1 - SWITCH) + (1 - after) * SWITCH)


def _nearest(grid: NDArray[np.float64], value: float) -> int:
    return int(np.argmin(np.abs(grid - value)))


def _spread_out(
    row: NDArray[np.float64],
    chances: NDArray[np.float64],
    to: NDArray[np.float64],
    after: NDArray[np.float64],
    returns: NDArray[np.float64],
    beliefs: NDArray[np.float64],
) -> None:
    """Add to a row of the transition matrix: each state is split between the points of the grid around it."""
    for chance, new, belief in zip(chances, to, after, strict=True):
        for i, part in _around(returns, new):
            for j, share in _around(beliefs, belief):
                row[i * len(beliefs) + j] += chance * part * share


def _around(grid: NDArray[np.float64], value: float) -> list[tuple[int, float]]:
    if len(grid) == 1:
        return [(0, 1.0)]
    place = np.clip((value - grid[0]) / (grid[1] - grid[0]), 0, len(grid) - 1)
    low = min(int(place), len(grid) - 2)
    return [(low, 1 - (place - low)), (low + 1, place - low)]
