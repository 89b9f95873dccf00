"""Clinical measures of the errors of glucose forecasts."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from metaest_domains.axes import current_axes
from metaest_domains.physiology.glucose_units import MG_DL_PER_MMOL_L, as_mg_dl, as_readings

__all__ = ["clarke_zones", "glucose_errors", "plot_clarke"]

# mg/dL, the ends of the target range
LOW = 70.0
HIGH = 180.0
# size above which a number cannot be a glucose in any unit, nor a forecast of one
FAR = 1e6
# zones of the error grid, from harmless to dangerous
ZONES = ("A", "B", "C", "D", "E")


def clarke_zones(
    reference: ArrayLike, prediction: ArrayLike, *, unit: str = "mg/dL", check_plausibility: bool = True
) -> NDArray[Any]:
    """Return the zone of Clarke's error grid of every pair.

    A: within 20 %, or both below 70 mg/dL. B: wrong, but harmless. C: unnecessary treatment. D: failure to treat.
    E: treatment of the opposite of the true state.

    Parameters
    ----------
    reference, prediction : array-like of shape (n,)
        Measured and forecast glucose, without missing values.
    unit : {"mg/dL", "mmol/L"}, default="mg/dL"
        Unit of both.
    check_plausibility : bool, default=True
        True raises an error for numbers that look like the other unit: a median below 36 mg/dL or above 36 mmol/L, or a
        single reading below 10 mg/dL or above 60 mmol/L.

    Returns
    -------
    ndarray of str, shape (n,)

    Raises
    ------
    ValueError
        When lengths differ, a value is missing, a reading is not above 0, or the numbers look like another unit.

    References
    ----------
    W. L. Clarke and others (1987). Evaluating clinical accuracy of systems for self-monitoring of blood glucose.
    :doi:`10.2337/diacare.10.5.622`

    Examples
    --------
    >>> from metaest_domains.physiology import clarke_zones
    >>> clarke_zones([100, 100, 50, 250], [110, 130, 200, 100]).tolist()
    ['A', 'B', 'E', 'D']
    >>> clarke_zones([5.5, 13.9], [5.6, 4.0], unit="mmol/L").tolist()
    ['A', 'D']
    """
    r, p = _pairs(reference, prediction, unit, check_plausibility)
    conditions = [
        (np.abs(p - r) <= 0.2 * r) | ((r < LOW) & (p < LOW)),
        ((r >= HIGH) & (p <= LOW)) | ((r <= LOW) & (p >= HIGH)),
        ((r >= 70) & (r <= 290) & (p >= r + 110)) | ((r >= 130) & (r <= 180) & (p <= 1.4 * r - 182)),
        ((r >= 240) & (p >= LOW) & (p <= HIGH))
        | ((r <= 175 / 3) & (p >= LOW) & (p <= HIGH))
        | ((r >= 175 / 3) & (r <= 70) & (p >= 1.2 * r)),
    ]
    return np.select(conditions, ["A", "E", "C", "D"], "B")


def _pairs(
    reference: Any, prediction: Any, unit: str, check_plausibility: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return readings and forecasts in mg/dL."""
    r = as_readings(reference, "reference")
    p = as_readings(prediction, "prediction")
    if r.shape != p.shape or r.ndim != 1 or not len(r):
        raise ValueError(f"reference has shape {r.shape}, prediction {p.shape}; both must be equally long vectors.")
    for name, values in (("reference", r), ("prediction", p)):
        missing = np.flatnonzero(~np.isfinite(values))
        if len(missing):
            raise ValueError(
                f"{name} is {values[missing[0]]} in pair {missing[0]}; leave out pairs with a missing value."
            )
    if not (r > 0).all():
        raise ValueError(f"reference is {r[np.argmin(r > 0)]:g} in pair {np.argmin(r > 0)}; glucose is above 0.")
    for name, values in (("reference", r), ("prediction", p)):
        far = np.flatnonzero(np.abs(values) > FAR)
        if len(far):
            raise ValueError(f"{name} is {values[far[0]]:g} in pair {far[0]}; no glucose is beyond {FAR:g}.")
    r = as_mg_dl(r, unit, "reference", check_plausibility=check_plausibility)
    return r, as_mg_dl(p, unit, "prediction", check_plausibility=check_plausibility, measured=False)


def glucose_errors(
    reference: ArrayLike, prediction: ArrayLike, *, unit: str = "mg/dL", check_plausibility: bool = True
) -> pd.Series:
    """Return the usual measures of the errors of a forecast.

    Parameters
    ----------
    reference, prediction, unit, check_plausibility
        As in :func:`clarke_zones`.

    Returns
    -------
    Series
        ``rmse`` and ``mae`` in the unit of the arguments, the shares of the zones ``A`` to ``E``, and
        ``time_in_range_error``: the share of forecasts from 70 to 180 mg/dL, minus that of readings.

    Raises
    ------
    ValueError
        As :func:`clarke_zones`.
    """
    r, p = _pairs(reference, prediction, unit, check_plausibility)
    zones = clarke_zones(r, p, check_plausibility=False)
    within = [float(((values >= LOW) & (values <= HIGH)).mean()) for values in (r, p)]
    size = 1.0 if unit == "mg/dL" else MG_DL_PER_MMOL_L
    return pd.Series(
        {
            "rmse": float(np.sqrt(np.square(p - r).mean())) / size,
            "mae": float(np.abs(p - r).mean()) / size,
            **{zone: float((zones == zone).mean()) for zone in ZONES},
            "time_in_range_error": within[1] - within[0],
        }
    )


def plot_clarke(
    reference: ArrayLike,
    prediction: ArrayLike,
    *,
    unit: str = "mg/dL",
    check_plausibility: bool = True,
    ax: Any = None,
) -> Any:
    """Draw Clarke's error grid, in mg/dL.

    Parameters
    ----------
    reference, prediction, unit, check_plausibility
        As in :func:`clarke_zones`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    r, p = _pairs(reference, prediction, unit, check_plausibility)
    ax = current_axes(ax)
    zones = clarke_zones(r, p, check_plausibility=False)
    colors = {"A": "#0b6e99", "B": "#7fa7b8", "C": "#d9a441", "D": "#c96a3b", "E": "#8f2d2d"}
    for zone in ZONES:
        chosen = zones == zone
        label = f"{zone}: {100 * chosen.mean():.1f} %"
        ax.plot(r[chosen], p[chosen], ".", ms=3, color=colors[zone], alpha=0.5, label=label, rasterized=True)
    lines = [
        ([0, 400], [0, 400], ":"), ([0, 175 / 3], [70, 70], "-"), ([175 / 3, 400 / 1.2], [70, 400], "-"),
        ([70, 70], [84, 400], "-"), ([0, 70], [180, 180], "-"), ([70, 290], [180, 400], "-"),
        ([70, 70], [0, 56], "-"), ([70, 400], [56, 320], "-"), ([180, 180], [0, 70], "-"),
        ([180, 400], [70, 70], "-"), ([240, 240], [70, 180], "-"), ([240, 400], [180, 180], "-"),
        ([130, 180], [0, 70], "-"),
    ]  # fmt: skip
    for x, y, style in lines:
        ax.plot(x, y, style, color="#20262e", lw=0.8)
    ax.set(xlim=(0, 400), ylim=(0, 400), xlabel="reference, mg/dL", ylabel="forecast, mg/dL", aspect="equal")
    places = {"A": (30, 15), "B": (370, 250), "C": (160, 370), "D": (30, 140), "E": (30, 370)}
    for zone, (right, up) in places.items():
        ax.text(right, up, zone, fontsize=11, fontweight="bold", color="#20262e", ha="center", va="center")
    ax.legend(loc="lower right", frameon=False, fontsize=8, markerscale=3)
    return ax
