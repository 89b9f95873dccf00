"""Forty-five isothermal crystallisation curves of a filled polymer, and crystallinity computed from heat flow."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.signal import find_peaks

from metaest import TaskSet
from metaest.exceptions import warn
from metaest.tasks.arguments import as_range
from metaest.tasks.numbers import as_number, as_vector
from metaest.tasks.record import Record, set_fields
from metaest_datasets.cache import fetch_file

__all__ = ["Crystallinity", "fetch_polymer_crystallisation", "relative_crystallinity"]

# filler content in wt% by the last digit of the sample's name
_FILLER = {"1": 0.1, "2": 0.5, "3": 1.0, "4": 3.0, "5": 5.0}
# least prominence of the crystallisation peak, as a share of the range of the heat flow
_PROMINENCE = 0.05
# least prominence of a second peak, as a share of the range of the heat flow
_RIVAL = 0.2
# a peak is over when the heat flow before the baseline exceeds it by at most this share of the peak
_STILL = 0.01
# standard deviations of the noise above the dip after the transient within which rows count as part of the dip
_BAND = 3.0
# share of the time to the peak over which the dip must extend to count as flat
_FLAT = 0.5
# least number of rows of the baseline, and of the stretch before it
_FEWEST = 3
# share of the whole area by which it may fall: noise around the baseline
_FALL = 0.05
# K at 0 C
KELVIN = 273.15
# greatest size of a number: areas of larger ones overflow
LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class Crystallinity(Record):
    """Relative crystallinity from a heat-flow curve; arrays are read-only.

    Attributes
    ----------
    time : ndarray of shape (n_rows,)
        Time since the cut.
    crystallinity : ndarray of shape (n_rows,)
        Relative crystallinity, from 0 at the cut to 1 at the end.
    cut : float
        Time, on the clock of the measurement, at which the transient was cut.
    heat : float
        Total area, in units of heat flow times time.
    baseline : float
        Level that was subtracted from the heat flow.
    """

    time: NDArray[Any]
    crystallinity: NDArray[Any]
    cut: float
    heat: float
    baseline: float

    def __post_init__(self) -> None:
        for name in ("time", "crystallinity"):
            set_fields(self, **{name: as_vector(getattr(self, name), f"crystallinity: {name}")})
        if self.time.shape != self.crystallinity.shape:
            raise ValueError(
                f"crystallinity: there must be as many values as times, got {len(self.crystallinity)} and "
                f"{len(self.time)}."
            )
        for name in ("cut", "heat", "baseline"):
            set_fields(self, **{name: as_number(getattr(self, name), f"crystallinity: {name}")})
        super().__post_init__()


def relative_crystallinity(time: ArrayLike, heat_flow: ArrayLike, *, baseline: float = 20.0) -> Crystallinity:
    r"""Convert the heat flow of an isothermal crystallisation into relative crystallinity.

    There are three steps, none with a setting to be tuned by eye:

    1. The baseline is constant: the mean over the last `baseline` units of time, when crystallisation is over.
    2. The crystallisation peak is the highest local maximum with a prominence of at least 5 % of the range of the heat
       flow; the first row is not a local maximum. The rows before the lowest row ahead of that peak are the transient
       of the instrument, while the sample is still too warm, and are cut. Time restarts at the cut: an induction time
       before it is lost.
    3. :math:`X(t) = \int_{0}^{t} q \,/ \int_0^{\infty} q`, by trapezoids.

    X requires the whole curve: the total heat of an incomplete curve is unknown.

    Parameters
    ----------
    time : array-like of shape (n_rows,)
        Rising times.
    heat_flow : array-like of shape (n_rows,)
        Heat flow, exothermal upwards.
    baseline : float, default=20.0
        Length of the baseline at the end, in the unit of time.

    Returns
    -------
    Crystallinity

    Raises
    ------
    ValueError
        When the rows cannot be used, there is no peak after the transient, the peak is not over before the baseline
        (the mean heat flow over the same length of time before the baseline exceeds it by more than 1 % of the peak and
        the noise), or the heat flow is exothermal downwards.

    Warns
    -----
    UserWarning
        When the heat flow is flat before the peak, so that noise determines the cut, or when it has several peaks.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_datasets import relative_crystallinity
    >>> t = np.arange(600.0)
    >>> flow = 1.4 * np.exp(-((t / 15) ** 2)) + np.exp(-(((t - 90) / 25) ** 2))
    >>> curve = relative_crystallinity(t, flow)
    >>> curve.cut
    36.0
    >>> round(float(np.interp(90 - curve.cut, curve.time, curve.crystallinity)), 2)
    0.5
    """
    wanted = "time and heat_flow must be finite"
    t = as_vector(time, f"{wanted}; time")
    q = as_vector(heat_flow, f"{wanted}; heat_flow")
    if t.shape != q.shape or len(t) < 5:
        raise ValueError(
            f"time and heat_flow must have the same number of values, at least 5, got {len(t)} and {len(q)}."
        )
    falls = np.flatnonzero(np.diff(t) <= 0)
    if len(falls):
        i = falls[0] + 1
        raise ValueError(f"time must rise from row to row, but is {t[i]:g} in row {i} after {t[i - 1]:g}.")
    baseline = as_number(baseline, "baseline", above=0, wanted="a length of time above 0")
    if max(np.abs(t).max(), np.abs(q).max()) > LARGEST:
        raise ValueError(f"time and heat_flow must not exceed {LARGEST:g}; choose other units.")
    last = t > t[-1] - baseline
    ahead = (t > t[-1] - 2 * baseline) & ~last
    if min(last.sum(), ahead.sum()) < _FEWEST:
        raise ValueError(
            f"baseline={baseline:g} contains {last.sum()} rows, and the same time before it {ahead.sum()}; at least "
            f"{_FEWEST} are required in each: lengthen it."
        )
    level = float(q[last].mean())
    noise = float(np.std(np.diff(q[last])) / np.sqrt(2))
    flow = q - level
    peaks, properties = find_peaks(flow, prominence=_PROMINENCE * np.ptp(flow))
    if not len(peaks):
        raise ValueError("heat_flow: there is no peak after the transient: this curve shows no crystallisation.")
    peak = int(peaks[flow[peaks].argmax()])
    allowed = _STILL * flow[peak] + _BAND * noise * np.sqrt(1 / ahead.sum() + 1 / last.sum())
    if last[peak] or flow[ahead].mean() > allowed:
        raise ValueError(
            "the peak is in the rows of the baseline, or is not over before them: measure longer, or shorten the "
            "baseline."
        )
    cut = int(flow[:peak].argmin())
    large = peaks[(properties["prominences"] > _RIVAL * np.ptp(flow)) | (peaks == peak)]  # the others may be noise
    if len(large) > 1:
        warn(
            f"the heat flow has peaks at {', '.join(f'{t[p]:g}' for p in large)}; everything after {t[cut]:g} counts "
            "as crystallisation. If a peak is due to the instrument, pass the curve after it only."
        )
    _warn_of_flat_dip(t, flow, cut, peak, noise)
    area = cumulative_trapezoid(flow[cut:], t[cut:], initial=0.0)
    if area[-1] <= 0 or (np.diff(area) < -_FALL * area[-1]).any() or area.max() > (1 + _FALL) * area[-1]:
        raise ValueError(
            "the area under the curve does not rise to its end: heat flow must be exothermal upwards, and its baseline "
            "flat."
        )
    return Crystallinity(t[cut:] - t[cut], area / area[-1], float(t[cut]), float(area[-1]), level)


def _warn_of_flat_dip(t: NDArray[Any], flow: NDArray[Any], cut: int, peak: int, noise: float) -> None:
    high = np.flatnonzero(flow[:peak] > flow[cut] + _RIVAL * np.ptp(flow))
    first = int(high[high < cut][-1]) if (high < cut).any() else 0
    last = int(high[high > cut][0]) if (high > cut).any() else peak
    low = t[first:last][flow[first:last] <= flow[cut] + _BAND * noise]
    early = low[0]
    late = low[-1]
    if late - early > _FLAT * (t[peak] - t[cut]):
        warn(
            f"the heat flow is flat within its noise from {early:g} to {late:g}, before the peak at {t[peak]:g}: the "
            f"transient was cut at {t[cut]:g}, but any time in between is equally plausible, and the exponent of a "
            "kinetic equation depends on it. If the start of crystallisation is known, pass the curve from there on."
        )


def fetch_polymer_crystallisation(*, part: tuple[float, float] | None = (0.02, 0.98)) -> TaskSet:
    """Return relative crystallinity of a filled polymer at nine temperatures, by differential scanning calorimetry.

    Parameters
    ----------
    part : (low, high) or None, default=(0.02, 0.98)
        Rows to keep: from the first with X above low to the last with X below high. None keeps all.

    Returns
    -------
    TaskSet
        45 tasks named "42 C, 0.1 %" and so on, with one row per second; features ``time`` (s since the cut, see
        :func:`relative_crystallinity`), ``temperature`` (K) and ``filler`` (wt%), target ``crystallinity``.

    Raises
    ------
    OSError
        When the file is neither in the cache nor available for download.

    Notes
    -----
    The raw curves of an unnamed polymer, March 2024, were published without a licence by the GitHub user
    Usermantherealone (repository Avrami); they are downloaded from there, not copied. In the slowest curves the
    transient exceeds the crystallisation peak.

    Examples
    --------
    >>> from metaest_datasets import fetch_polymer_crystallisation
    >>> tasks = fetch_polymer_crystallisation()  # doctest: +SKIP
    """
    if part is not None:
        part = as_range(part, "part")
        if not 0 <= part[0] < part[1] <= 1:
            raise ValueError(f"part must be a pair (low, high) between 0 and 1, got {part}.")
    frames = []
    for name, curve in _raw_curves():
        celsius = float(curve[0, 3])
        filler = _FILLER[name[-1]]
        relative = relative_crystallinity(curve[:, 1], curve[:, 4])
        kept = slice(None)
        if part is not None:
            low, high = part
            first = np.flatnonzero(relative.crystallinity > low)[0]
            last = np.flatnonzero(relative.crystallinity < high)[-1]
            kept = slice(first, last + 1)
        frames.append(
            pd.DataFrame(
                {
                    "curve": f"{celsius:g} C, {filler:g} %",
                    "time": relative.time[kept],
                    "temperature": celsius + KELVIN,
                    "filler": filler,
                    "crystallinity": relative.crystallinity[kept],
                }
            )
        )
    return TaskSet.from_frame(
        pd.concat(frames), task="curve", features=["time", "temperature", "filler"], target="crystallinity"
    )


def _raw_curves() -> list[tuple[str, NDArray[Any]]]:
    """Return name and columns (index, t, Ts, Tr, heat flow) of every curve; the file has decimal commas."""
    curves: list[tuple[str, NDArray[Any]]] = []
    rows: list[list[float]] = []
    name = ""
    for line in fetch_file("polymer_dsc/Avrami.txt").read_text(encoding="latin-1").splitlines():
        fields = line.split()
        if line.strip().startswith("!]"):
            name = line.strip()
            rows = []
        elif len(fields) == 5 and fields[0].isdigit():
            rows.append([float(field.replace(",", ".")) for field in fields])
        elif rows:
            curves.append((name, np.array(rows)))
            rows = []
    if rows:
        curves.append((name, np.array(rows)))
    return curves
