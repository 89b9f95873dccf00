"""Convert glucose to mg/dL, and check that values are plausible in their stated unit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest import TaskError
from metaest.tasks.arguments import as_flag
from metaest.tasks.numbers import as_vector

__all__ = ["MG_DL_PER_MMOL_L", "as_mg_dl", "as_readings"]

# mg/dL in 1 mmol/L: the molar mass of glucose is 180.156 g/mol
MG_DL_PER_MMOL_L = 18.0156
# median that separates the units: typical values are 3 to 30 mmol/L and 50 to 500 mg/dL; 36 mg/dL is deep hypoglycaemia
BETWEEN = 36.0
# lowest plausible reading in mg/dL
LOWEST = 10.0
# highest plausible reading in mmol/L (1,081 mg/dL), above the range of meters
HIGHEST = 60.0
# units that are accepted
UNITS = ("mg/dL", "mmol/L")


def as_mg_dl(
    values: Any, unit: str, where: str, *, check_plausibility: bool = True, measured: bool = True
) -> NDArray[np.float64]:
    """Return glucose in mg/dL.

    Parameters
    ----------
    values : array-like
        Glucose; NaN for a missing value.
    unit : {"mg/dL", "mmol/L"}
        Unit of the values.
    where : str
        Beginning of the error message, for instance ``"reference"``.
    check_plausibility : bool, default=True
        True raises an error for values that cannot be in this unit: a median below 36 mg/dL or above 36 mmol/L, and
        any reading below 10 mg/dL or above 60 mmol/L.
    measured : bool, default=True
        True for readings, False for forecasts, which may be far off.

    Raises
    ------
    ValueError
        When the unit is not known, or values cannot be in it.
    """
    if not isinstance(unit, str) or unit not in UNITS:
        raise ValueError(f"unit must be 'mg/dL' or 'mmol/L', got {unit!r}.")
    array = as_readings(values, where)
    if as_flag(check_plausibility, "check_plausibility"):
        _check(array.reshape(-1), unit, where, measured)
    return array if unit == "mg/dL" else array * MG_DL_PER_MMOL_L


def as_readings(values: Any, where: str) -> NDArray[np.float64]:
    """Return readings as floats; a ValueError names the first value that is not a number, such as "LOW"."""
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    try:
        return as_vector(values, where, missing=True, infinite=True)
    except TaskError as error:
        raise TaskError(
            f"{str(error).removesuffix('.')}; use NaN for a reading that is missing or outside the range of the meter."
        ) from error


def _check(values: NDArray[np.float64], unit: str, where: str, measured: bool) -> None:
    finite = np.isfinite(values)
    if not finite.any():
        return
    median = float(np.median(values[finite]))
    milligrams = unit == "mg/dL"
    other = "mmol/L" if milligrams else "mg/dL"
    switch = "or check_plausibility=False if they are right"
    if median < BETWEEN if milligrams else median > BETWEEN:
        raise ValueError(
            f"{where}: the median is {median:.3g}, so the values look like {other}, not {unit}. Pass unit={other!r} "
            f"if they are, {switch}."
        )
    if not measured:
        return
    wrong = np.flatnonzero(finite & (values < LOWEST if milligrams else values > HIGHEST))
    if len(wrong):
        raise ValueError(
            f"{where}: value {wrong[0]} is {values[wrong[0]]:.3g} {unit}, an impossible reading, while the median is "
            f"{median:.3g}; perhaps some values are in {other}. Correct it or leave it out, {switch}."
        )
