"""Forty-five isothermal crystallisation curves of a filled polymer, and how heat flow becomes crystallinity."""

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
from metaest.tasks.record import Record
from metaest_datasets.cache import fetch_file

__all__ = ["Crystallinity", "fetch_polymer_crystallisation", "relative_crystallinity"]

# wt% by the last digit of the sample's name
_FILLER = {"1": 0.1, "2": 0.5, "3": 1.0, "4": 3.0, "5": 5.0}
# a peak stands out by at least this share of the range of the heat flow
_PROMINENCE = 0.05
# and another one counts as a peak from this share on
_RIVAL = 0.2
# a peak is over when the heat flow before the baseline lies above it by at most this share of the peak
_STILL = 0.01
# the dip behind the transient is flat when rows within so many standard deviations of the noise above it spread over
# this share of the time to the peak
_BAND = 3.0
_FLAT = 0.5
_FEWEST = 3
# the area may fall by this share of the whole: noise around the baseline
_FALL = 0.05
KELVIN = 273.15
# greatest size of a number whose areas can be summed
LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class Crystallinity(Record):
    """What a heat-flow curve says about crystallisation; arrays are read-only.

    Attributes
    ----------
    time : ndarray of shape (n_rows,)
        Since the cut.
    crystallinity : ndarray of shape (n_rows,)
        From 0 at the cut to 1 at the end.
    cut : float
        The time, on the clock of the measurement, at which the transient was cut.
    heat : float
        The whole area, in units of heat flow times time.
    baseline : float
        What was subtracted from the heat flow.
    """

    time: NDArray[Any]
    crystallinity: NDArray[Any]
    cut: float
    heat: float
    baseline: float

    def __post_init__(self) -> None:
        for name in ("time", "crystallinity"):
            self._set(**{name: as_vector(getattr(self, name), f"crystallinity: {name}")})
        if self.time.shape != self.crystallinity.shape:
            raise ValueError(
                f"crystallinity: as many values as times are wanted, got {len(self.crystallinity)} and "
                f"{len(self.time)}."
            )
        for name in ("cut", "heat", "baseline"):
            self._set(**{name: as_number(getattr(self, name), f"crystallinity: {name}")})
        super().__post_init__()


def relative_crystallinity(time: ArrayLike, heat_flow: ArrayLike, *, baseline: float = 20.0) -> Crystallinity:
    r"""Turn the heat flow of an isothermal crystallisation into relative crystallinity.

    Three steps, none with a setting to tune by eye:

    1. The baseline is flat: the mean over the last `baseline` units of time, when crystallisation is over.
    2. The crystallisation peak is the highest local maximum that stands out by 5 % of the range of the heat flow; the
       first row is no local maximum. What lies before the lowest row ahead of that peak is the instrument's transient,
       while the sample is still too warm, and is cut. Time starts anew at the cut: an induction time before it is lost.
    3. :math:`X(t) = \int_{0}^{t} q \,/ \int_0^{\infty} q`, by trapezoids.

    X needs the whole curve: a curve that is broken off has no total heat.

    Parameters
    ----------
    time : array-like of shape (n_rows,)
        Rising.
    heat_flow : array-like of shape (n_rows,)
        Exothermal upwards.
    baseline : float, default=20.0
        In the unit of time.

    Returns
    -------
    Crystallinity

    Raises
    ------
    ValueError
        When the rows cannot be used, there is no peak after the transient, the peak is not over before the baseline
        (the mean heat flow in as long a time before it lies above it by more than 1 % of the peak, and noise), or the
        heat flow points downwards.

    Warns
    -----
    UserWarning
        When the heat flow is flat before the peak, so that noise decides where the cut lies, and when it has several
        peaks.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_datasets import relative_crystallinity
    >>> t = np.arange(600.0)
    >>> flow = 1.4 * np.exp(-((t / 15) ** 2)) + np.exp(-(((t - 90) / 25) ** 2))
    >>> found = relative_crystallinity(t, flow)
    >>> found.cut
    36.0
    >>> round(float(np.interp(90 - found.cut, found.time, found.crystallinity)), 2)
    0.5
    """
    wanted = "time and heat_flow must be finite"
    t = as_vector(time, f"{wanted}; time")
    q = as_vector(heat_flow, f"{wanted}; heat_flow")
    if t.shape != q.shape or len(t) < 5:
        raise ValueError(f"time and heat_flow must be two rows of at least 5 numbers, got {len(t)} and {len(q)}.")
    falls = np.flatnonzero(np.diff(t) <= 0)
    if len(falls):
        i = falls[0] + 1
        raise ValueError(f"time must rise from row to row, and is {t[i]:g} in row {i} after {t[i - 1]:g}.")
    baseline = as_number(baseline, "baseline", above=0, wanted="a length of time above 0")
    if max(np.abs(t).max(), np.abs(q).max()) > LARGEST:
        raise ValueError(f"time and heat_flow must not exceed {LARGEST:g}; choose other units.")
    last = t > t[-1] - baseline
    ahead = (t > t[-1] - 2 * baseline) & ~last
    if min(last.sum(), ahead.sum()) < _FEWEST:
        raise ValueError(
            f"baseline={baseline:g} holds {last.sum()} rows, and as long a time before it {ahead.sum()}; at least "
            f"{_FEWEST} are wanted in each: lengthen it."
        )
    level = float(q[last].mean())
    noise = float(np.std(np.diff(q[last])) / np.sqrt(2))
    flow = q - level
    peaks, found = find_peaks(flow, prominence=_PROMINENCE * np.ptp(flow))
    if not len(peaks):
        raise ValueError("heat_flow: there is no peak after the transient: this curve shows no crystallisation.")
    peak = int(peaks[flow[peaks].argmax()])
    allowed = _STILL * flow[peak] + _BAND * noise * np.sqrt(1 / ahead.sum() + 1 / last.sum())
    if last[peak] or flow[ahead].mean() > allowed:
        raise ValueError(
            "the peak lies in the rows of the baseline, or is not over before them: measure longer, or shorten the "
            "baseline."
        )
    cut = int(flow[:peak].argmin())
    large = peaks[(found["prominences"] > _RIVAL * np.ptp(flow)) | (peaks == peak)]  # the others may be noise
    if len(large) > 1:
        warn(
            f"the heat flow has peaks at {', '.join(f'{t[p]:g}' for p in large)}; what lies behind {t[cut]:g} counts "
            "as crystallisation. Where a peak is the instrument's, give the curve from behind it on."
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
            f"transient was cut at {t[cut]:g}, but anywhere there would do, and the exponent of a kinetic equation "
            "depends on it. Give the curve from its known start on."
        )


def fetch_polymer_crystallisation(*, part: tuple[float, float] | None = (0.02, 0.98)) -> TaskSet:
    """Relative crystallinity of a polymer with filler at nine temperatures, from differential scanning calorimetry.

    Parameters
    ----------
    part : (low, high) or None, default=(0.02, 0.98)
        The rows kept: from the first with X above low to the last with X below high. None keeps all.

    Returns
    -------
    TaskSet
        45 tasks named "42 C, 0.1 %" and so on, one row a second; features ``time`` (s since the cut, see
        :func:`relative_crystallinity`), ``temperature`` (K) and ``filler`` (wt%), target ``crystallinity``.

    Raises
    ------
    OSError
        When the file is neither in the cache nor to be had.

    Notes
    -----
    Raw curves of an anonymous polymer, March 2024, published without a licence by the GitHub user Usermantherealone
    (repository Avrami): fetched from there, not copied. In the slowest curves the transient exceeds the crystallisation
    peak.

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
        found = relative_crystallinity(curve[:, 1], curve[:, 4])
        kept = slice(None)
        if part is not None:
            low, high = part
            inside = np.flatnonzero(found.crystallinity > low)[0], np.flatnonzero(found.crystallinity < high)[-1]
            kept = slice(inside[0], inside[1] + 1)
        frames.append(
            pd.DataFrame(
                {
                    "curve": f"{celsius:g} C, {filler:g} %",
                    "time": found.time[kept],
                    "temperature": celsius + KELVIN,
                    "filler": filler,
                    "crystallinity": found.crystallinity[kept],
                }
            )
        )
    return TaskSet.from_frame(
        pd.concat(frames), task="curve", features=["time", "temperature", "filler"], target="crystallinity"
    )


def _raw_curves() -> list[tuple[str, NDArray[Any]]]:
    """Return name and columns (index, t, Ts, Tr, heat flow) of every curve; the file writes decimal commas."""
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
