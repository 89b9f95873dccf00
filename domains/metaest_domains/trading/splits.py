"""Detect price jumps that a share split or a change of unit explains better than a market move."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import warn
from metaest_domains.trading.dates import day_of

__all__ = ["warn_of_splits"]

# price ratio of two successive rows above which a jump is reported: a 3:1 split less a market move of 9 % that day
LARGE = 2.75
# logarithms of the price ratios of splits 3:2 and 2:1 and of a reverse split 1:2; a reverse split 2:3 is rarer than a
# gain of that size
SMALL_SPLITS = (-np.log(1.5), -np.log(2.0), np.log(2.0))
# largest distance of a log return from one of these ratios
CLOSE = 0.03
# smallest ratio of a jump to the quantile QUANTILE of the asset's other moves
STANDS_OUT = 3.0
# quantile of the other moves that defines a usual large move
QUANTILE = 0.99
# rows on each side of a jump whose medians show whether the price stays at its new level
NEIGHBOURS = 5
# greatest number of jumps that a message lists
NAMED = 5


def warn_of_splits(prices: pd.DataFrame, where: str) -> None:
    """Warn of jumps that look like share splits for which prices are not adjusted, with asset and day.

    A jump is a price change from one row to the next by a factor of at least 2.75, or by 3:2, 2:1 or 1:2 within 3 %,
    that is also more than three times the 99 % quantile of the asset's other moves.
    """
    jumps = [text for name in prices for text in _jumps(name, prices[name])]
    if jumps:
        more = f", and {len(jumps) - NAMED} more" if len(jumps) > NAMED else ""
        warn(
            f"{where}: {'; '.join(jumps[:NAMED])}{more}. Adjust prices for splits, or pass check_plausibility=False if "
            "these are market moves."
        )


def _jumps(name: Any, prices: "pd.Series[float]") -> list[str]:
    there = prices.dropna()
    log: NDArray[np.float64] = np.log(there.to_numpy(dtype=np.float64))
    moves = np.diff(log)
    size = np.abs(moves)
    near_split = np.any([np.abs(moves - ratio) < CLOSE for ratio in SMALL_SPLITS], axis=0)
    candidates = near_split | (size > np.log(LARGE))
    if not candidates.any():
        return []
    others = size[~candidates]
    usual = float(np.quantile(others, QUANTILE)) if len(others) else 0.0
    jumps = []
    for i in np.flatnonzero(candidates & (size > STANDS_OUT * usual)):
        after = np.median(log[i + 1 : i + 1 + NEIGHBOURS]) - np.median(log[max(0, i + 1 - NEIGHBOURS) : i + 1])
        stays = abs(after - moves[i]) < abs(moves[i]) / 2
        before, value = there.iloc[i : i + 2].tolist()
        jumps.append(
            f"the price of asset {name!r} jumps from {before:g} to {value:g} on {day_of(there.index[int(i) + 1])}, "
            f"which looks like {_cause(before, value) if stays else 'an error, since it does not last'}"
        )
    return jumps


def _cause(before: float, after: float) -> str:
    factor = max(before, after) / min(before, after)
    ratio = "3:2" if abs(factor - 1.5) < 0.1 else f"{factor:.0f}:1"
    return f"a {ratio} split" if after < before else f"a reverse split of 1:{factor:.0f}"
