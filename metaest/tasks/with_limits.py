"""Records that flag censored values, as columns of limits."""

from typing import Any

import numpy as np
import pandas as pd

from metaest.exceptions import TaskError
from metaest.tasks.columns import as_numbers, require_frame
from metaest.tasks.reading import rows_of

__all__ = ["NO_END", "with_limits"]

# lower end of an interval that has none, far below any value
NO_END = -1e30
MADE = ("limit", "limit_from", "upper_limit")


def with_limits(frame: Any, value: str, censoring: str, limit: str | None = None) -> pd.DataFrame:
    """Return records with the limits of every row as columns, in place of a flag that says which values are censored.

    =========== ============================================================ =============================
    flag        the value is known to lie                                    with `limit`
    =========== ============================================================ =============================
    0, missing  where it is: it was measured
    1           below the number in its column                               and above that of `limit`
    -1          above the number in its column                               and below that of `limit`
    =========== ============================================================ =============================

    That is the convention of Monolix and nlmixr2 (CENS and LIMIT). What is returned is for
    ``EquationRegressor(..., limit="limit", limit_from="limit_from", upper_limit="upper_limit")``.

    Parameters
    ----------
    frame : DataFrame
        One row an observation.
    value : str
        The column of values.
    censoring : str
        The column of flags, which is left out of the result.
    limit : str, optional
        The column with the other end of the interval, missing where there is none; it is left out of the result.

    Returns
    -------
    DataFrame
        With the columns ``limit``, ``limit_from`` and ``upper_limit``; of a measured row they lie below and above all
        values of the frame.

    Raises
    ------
    TaskError
        When a flag is none of -1, 0 and 1, a censored value is missing, an interval is empty, or the frame has a column
        of these names; the message names the row.

    Examples
    --------
    >>> import pandas as pd
    >>> from metaest.tasks import with_limits
    >>> records = pd.DataFrame({"DV": [7.0, 0.5, 0.5], "CENS": [0, 1, 1], "LIMIT": [None, None, 0.1]})
    >>> with_limits(records, "DV", "CENS", "LIMIT")["limit_from"].tolist()
    [-1e+30, -1e+30, 0.1]
    """
    frame = rows_of(frame, "with_limits", "frame")
    require_frame(frame, {"value": value, "censoring": censoring, "limit": limit}, "with_limits")
    taken = [name for name in MADE if name in frame.columns and name != limit]
    if taken:
        raise TaskError(f"with_limits: the frame has a column {taken[0]!r} already; rename it.")
    y, flag = as_numbers(frame[value], "with_limits"), np.nan_to_num(as_numbers(frame[censoring], "with_limits"))
    other = np.full(len(y), np.nan) if limit is None else as_numbers(frame[limit], "with_limits")

    def refuse(wrong: Any, what: str) -> None:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise TaskError(
                f"with_limits: row {frame.index[row]}: {what.format(flag=flag[row], y=y[row], o=other[row])}."
            )

    refuse(~np.isin(flag, (-1, 0, 1)), f"{censoring} is {{flag:g}}; 1 (below), 0 (measured) or -1 (above) are wanted")
    refuse((flag != 0) & np.isnan(y), f"{value} is missing, and {censoring} says that it is censored")
    refuse(
        (flag == 1) & (other >= y),
        f"the value lies below {{y:g}} ({value}) and above {{o:g}} ({limit}): in no interval",
    )
    refuse(
        (flag == -1) & (other <= y),
        f"the value lies above {{y:g}} ({value}) and below {{o:g}} ({limit}): in no interval",
    )
    ends = np.concatenate([y, other])[~np.isnan(np.concatenate([y, other]))]
    lowest, highest = (np.nextafter(end, way) for end, way in ((ends.min(), -np.inf), (ends.max(), np.inf)))
    below, above, between = flag == 1, (flag == -1) & np.isnan(other), (flag == -1) & ~np.isnan(other)
    high = np.where(below, y, np.where(between, other, lowest))
    low = np.where(below & ~np.isnan(other), other, np.where(between, y, NO_END))
    made: pd.DataFrame = frame.drop(columns=[name for name in (censoring, limit) if name is not None])
    # a number beyond the limit is censored, whatever it is
    observed = np.where(below | between, np.nextafter(high, -np.inf), np.where(above, np.nextafter(y, np.inf), y))
    upper = np.where(above, y, highest)
    made = made.assign(**{value: observed, "limit": high, "limit_from": low, "upper_limit": upper})
    return made
