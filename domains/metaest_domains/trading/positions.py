"""Check positions against the days and assets of their prices."""

from typing import Any

import numpy as np
import pandas as pd

from metaest.tasks.containers import plain
from metaest_domains.trading.dates import day_of
from metaest_domains.trading.prices import as_columns, as_frame

__all__ = ["as_positions", "changes"]


def as_positions(positions: Any, prices: pd.DataFrame, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return positions as a frame of float, and the prices of their assets.

    A single series or column without a name belongs to the only asset; an array of positions takes the days and assets
    of the prices.

    Raises
    ------
    ValueError
        When positions have other days or assets, or one is infinite; the message names asset and day.
    """
    given = plain(positions, f"{where}: positions")
    if isinstance(given, pd.DataFrame) and given is not positions:
        positions = as_frame(positions, where, "positions")
    elif isinstance(given, (pd.DataFrame, pd.Series)):
        positions = given
    else:
        values = as_columns(given, where, "positions")
        if values.shape != prices.shape:
            raise ValueError(f"{where}: positions have shape {values.shape}, but prices have shape {prices.shape}.")
        positions = pd.DataFrame(values, index=prices.index, columns=prices.columns)
    unnamed = isinstance(positions, pd.Series) and positions.name is None
    frame = as_frame(positions, where, "positions")
    if frame.shape[1] == prices.shape[1] == 1:
        if unnamed:
            frame.columns = prices.columns
        elif prices.columns[0] in (0, "asset"):
            # prices without a name
            prices = prices.set_axis(frame.columns, axis=1)
    if unnamed and prices.shape[1] > 1:
        raise ValueError(
            f"{where}: positions are one series without a name, but there are prices of {_first(prices.columns)}; name "
            "the series after its asset."
        )
    for name in frame.columns:
        if name not in prices:
            raise ValueError(
                f"{where}: there is a position in asset {name!r}, but no price; there are prices of "
                f"{_first(prices.columns)}."
            )
    _check_days(frame.index, prices.index, where)
    infinite = np.isinf(frame.to_numpy())
    if infinite.any():
        row, column = (int(place[0]) for place in np.nonzero(infinite))
        raise ValueError(
            f"{where}: the position in asset {frame.columns[column]!r} on {day_of(frame.index[row])} is infinite."
        )
    return frame, prices.loc[:, list(frame.columns)]


def changes(positions: pd.DataFrame) -> pd.DataFrame:
    """Return the absolute change of positions on every day; missing positions, and that before the first, are 0."""
    return positions.fillna(0.0).diff().abs().fillna(positions.abs()).fillna(0.0)


def _check_days(held: pd.Index, priced: pd.Index, where: str) -> None:
    """Raise if positions and prices have different days."""
    if held.equals(priced):
        return
    zones = [getattr(index, "tz", None) for index in (held, priced)]
    kinds = [isinstance(index, pd.DatetimeIndex) for index in (held, priced)]
    reason = ""
    if all(kinds) and zones[0] != zones[1]:
        reason = f"the time zone of positions is {zones[0]}, that of prices {zones[1]}"
    elif kinds[0] != kinds[1]:
        dated, undated = ("positions", "prices") if kinds[0] else ("prices", "positions")
        reason = f"{dated} have dates, but {undated} have none"
    else:
        for index, other, text in ((held, priced, "position but no price"), (priced, held, "price but no position")):
            unmatched = index.difference(other)
            if len(unmatched):
                reason = f"{len(unmatched)} day(s) have a {text}, the first of them {day_of(unmatched[0])}"
                break
    raise ValueError(
        f"{where}: positions and prices must have the same days: {reason}; write positions.reindex(prices.index)."
    )


def _first(names: pd.Index) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
