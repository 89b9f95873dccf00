"""What a model is for tasks of one's own: the answer of `recalibrate`, in numbers and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["AHEAD", "AS_IT_WAS", "BEFORE", "CONFORMAL", "UPDATED", "Recalibration", "in_words"]

# what is predicted from what
BEFORE = "before any row"
AHEAD = "one step ahead"
# whose intervals
AS_IT_WAS = "as it was"
UPDATED = "updated"
CONFORMAL = "conformal"

FIXED = "No constant of this model varies between tasks"
# probability of such deviations by chance, below which constants differ
SIGNIFICANT = 0.05
# tasks below which the answer says that they show great differences only
FEW = 5


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Whether a model fits tasks of your own, and the model updated by them.

    Attributes
    ----------
    bias : DataFrame
        One row a constant that varies between tasks: ``population``, its typical value in the model; ``local``, that of
        the tasks, with the ends ``lower`` and ``upper`` of an interval; ``change``, ``change_lower``, ``change_upper``,
        the same as a share of the model's value (NaN unless the constant is lognormal with the lower bound 0);
        ``shift``, ``standard_error``, ``scaled_lower`` and ``scaled_upper`` on the scale on which the constant is
        normal; ``told``, whether the rows of all tasks say as much about it as one task whose constants are known.
    coverage : DataFrame
        Share of observations inside intervals, by what was known (``rows``: "before any row", "one step ahead") and
        whose ``intervals`` they are ("as it was": the model's; "updated": by the other tasks; "conformal": of updated
        models, as wide as the other tasks ask for): ``covered`` with ``lower`` and ``upper``, the numbers ``n_tasks``
        and ``n_rows``, and the median ``width`` in the unit of y.
    p_value : float
        Probability of such shifts of all told constants together, were the model right; NaN where none is told.
    verdict : str
        What bias and coverage say of the model, in sentences.
    model : EquationRegressor
        Updated by the tasks (``prior_weight="auto"``), with conformal intervals that they calibrate.
    level : float
        Of all intervals.
    n_tasks, n_rows : int
    """

    bias: pd.DataFrame
    coverage: pd.DataFrame
    p_value: float
    verdict: str
    model: Any
    level: float
    n_tasks: int
    n_rows: int

    def to_frame(self) -> pd.DataFrame:
        """Return typical values and coverages as one table: ``estimate``, ``lower``, ``upper``, ``expected``."""
        typical = pd.DataFrame(
            {
                "what": "typical value",
                "of": self.bias.index,
                "estimate": self.bias["local"].to_numpy(),
                "lower": self.bias["lower"].to_numpy(),
                "upper": self.bias["upper"].to_numpy(),
                "expected": self.bias["population"].to_numpy(),
            }
        )
        covered = pd.DataFrame(
            {
                "what": "coverage",
                "of": self.coverage["rows"] + ", " + self.coverage["intervals"],
                "estimate": self.coverage["covered"],
                "lower": self.coverage["lower"],
                "upper": self.coverage["upper"],
                "expected": self.level,
            }
        )
        return pd.concat([typical, covered], ignore_index=True)

    def __str__(self) -> str:
        percent = f"{100 * self.level:g} %"
        lines = [
            f"{_counted(self.n_tasks, 'task')} of yours, {_counted(self.n_rows, 'row')}; intervals of {percent}",
            "",
        ]
        lines += [f"  {line}" for line in self._lines_of_constants()]
        lines += ["", f"Observations inside {percent} intervals"]
        for rows, table in self.coverage.groupby("rows", sort=False):
            shares = "; ".join(_share(row) for _, row in table.iterrows())
            lines.append(f"  {rows}: {shares if table['n_rows'].any() else 'no task has a second row'}")
        return "\n".join([*lines, "", self.verdict])

    __repr__ = __str__

    def _lines_of_constants(self) -> list[str]:
        """Return a sentence about each constant."""
        lines = [] if len(self.bias) else [FIXED]
        for name, row in self.bias.iterrows():
            doubt = ""
            if not row["told"]:
                doubt = ", which your rows hardly tell"
            elif _includes_0(row) and _percent(row["change"]) != "0":
                doubt = ", which may be chance"
            lines.append(f"{name} of your tasks is {_difference(row)}{doubt}")
        return lines


def _difference(row: Any) -> str:
    """Return in words how far a constant is from the model's, with its interval."""
    if math.isnan(row["change"]):
        return (
            f"{row['local']:.4g} (interval {row['lower']:.4g} to {row['upper']:.4g}), where the model has "
            f"{row['population']:.4g}"
        )
    change, low, high = (row[name] for name in ("change", "change_lower", "change_upper"))
    if low < 0 < high:
        ends = f"{_share_away(low)} to {_share_away(high)}"
    else:
        nearer, farther = sorted([abs(low), abs(high)])
        ends = f"{_percent(nearer)} to {_percent(farther)} %"
    how = "as" if _percent(change) == "0" else _share_away(change)
    return f"{how} the model's (interval {ends})"


def _share_away(change: float) -> str:
    """Return in words how far below or above the model's a constant is, without a side where it rounds to 0."""
    percent = _percent(change)
    return "0 %" if percent == "0" else f"{percent} % {'below' if change < 0 else 'above'}"


def _percent(change: float) -> str:
    return f"{100 * abs(change):.0f}"


def in_words(
    bias: pd.DataFrame, coverage: pd.DataFrame, p_value: float, level: float, n_tasks: int, unlikely: Sequence[Any] = ()
) -> str:
    """Return the verdict on a model.

    Parameters
    ----------
    bias, coverage : DataFrame
    p_value : float
    level : float
    n_tasks : int
    unlikely : sequence
        Names of tasks that no curve of the model comes near.
    """
    told = bias[bias["told"]]
    before = coverage[coverage["intervals"] == AS_IT_WAS]
    narrow, wide = bool((before["upper"] < level).any()), bool((before["lower"] > level).any())
    words = []
    if len(unlikely):
        words.append(
            f"No curve of this model comes near the rows of {len(unlikely)} of {_counted(n_tasks, 'task')} "
            f"({unlikely[0]!r}{' and others' * (len(unlikely) > 1)}): check their units, and look for typing "
            "errors, before anything else."
        )
    if n_tasks < FEW:
        words.append(f"{_counted(n_tasks, 'task')} can show great differences only, and the next ones may change this.")
    if p_value < SIGNIFICANT:
        away = [str(name) for name, row in told.iterrows() if not _includes_0(row)]
        which = f", above all {', '.join(away)}" * bool(away)
        words.append(f"Your tasks do not follow this model (p = {p_value:.2g}){which}: take `model`, updated by them.")
    elif len(told) and 2 * len(unlikely) <= n_tasks:
        words.append(f"Nothing speaks against the constants of this model for your tasks (p = {p_value:.2g}).")
        words.append(_hidden(told))
    elif not len(bias):
        words.append(f"{FIXED}, so that none is compared.")
    elif not len(told):
        words.append("Your rows tell none of the constants that vary; more rows of a task are wanted.")
    if narrow:
        words.append("Its intervals are too narrow for them: take those of `model`.")
    elif wide:
        words.append("Its intervals are wider than they need be for them.")
    elif not p_value < SIGNIFICANT:
        words.append("Its intervals cover as they should, as far as so many observations can tell.")
    return " ".join(words)


def _hidden(told: pd.DataFrame) -> str:
    """Return a sentence on how great differences are that such tasks would not show."""
    parts = []
    for name, row in told.iterrows():
        half = (row["scaled_upper"] - row["scaled_lower"]) / 2
        if math.isnan(row["change"]):
            parts.append(f"{(row['upper'] - row['lower']) / 2:.2g} of {name}")
        else:
            parts.append(f"{100 * math.expm1(half):.0f} % of {name}")
    return f"Differences of less than about {', '.join(parts)} would not show."


def _includes_0(row: Any) -> bool:
    return bool(row["scaled_lower"] <= 0 <= row["scaled_upper"])


def _share(row: Any) -> str:
    if np.isnan(row["covered"]):
        return f"{row['intervals']} too few tasks"
    ends = f"{100 * row['lower']:.0f} to {100 * row['upper']:.0f} %"
    return f"{row['intervals']} {100 * row['covered']:.0f} % ({ends})"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
