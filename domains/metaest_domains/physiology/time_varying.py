"""A covariate of a patient that changes over time: its values at the times at which it was measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaest.tasks.numbers import as_vector
from metaest.tasks.record import Record, set_fields

__all__ = ["METHODS", "TimeVarying", "path_columns", "path_names", "value_between"]

# which measured value holds at a time between two of them
METHODS = {
    "locf": "the last one before (last observation carried forward)",
    "nocb": "the next one (next observation carried backward)",
}


@dataclass(frozen=True, eq=False)
class TimeVarying(Record):
    """The values of a covariate that changes over time, such as the creatinine clearance or the weight of a patient.

    Which value holds between two times is a setting of the model (``time_varying=`` of
    :class:`CompartmentRegressor`). Before the first time the first value holds, after the last one the last.

    Parameters
    ----------
    time : array-like of shape (n_values,)
        Times of the values, in the unit of time of the fit, in rising order.
    value : array-like of shape (n_values,)
        Of several values at one time the first one holds until then ("nocb"), and the last one from then on ("locf").

    Raises
    ------
    TaskError
        When a number is missing or infinite.
    ValueError
        When there is no value, times are not in order, or lengths differ.

    Examples
    --------
    >>> from metaest_domains.physiology import Regimen, TimeVarying
    >>> falling = TimeVarying([0, 24, 48], [80, 70, 60])
    >>> Regimen([0, 24], 1000.0, covariates={"crcl": falling}).rows([12.0])["crcl_2"].tolist()
    [70.0]
    """

    time: NDArray[np.float64]
    value: NDArray[np.float64]

    def __post_init__(self) -> None:
        time, value = (as_vector(getattr(self, name), f"a covariate over time: {name}") for name in ("time", "value"))
        if not len(time) or len(time) != len(value):
            raise ValueError(f"a covariate over time needs a time for each value, got {len(time)} and {len(value)}.")
        falls = np.flatnonzero(np.diff(time) < 0)
        if len(falls):
            before, after = time[falls[0]], time[falls[0] + 1]
            raise ValueError(f"a covariate over time: times must be in order, but {after:g} comes after {before:g}.")
        set_fields(self, time=time, value=value)
        super().__post_init__()

    def padded(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return n values and their times; the last one comes again where there are fewer."""
        if len(self.time) > n:
            raise ValueError(f"a covariate has {len(self.time)} values over time, and the columns hold {n}.")
        more = n - len(self.time)
        return np.pad(self.value, (0, more), mode="edge"), np.pad(self.time, (0, more), mode="edge")


def path_columns(name: str, n: int) -> list[str]:
    """Return the columns of X that hold n values of a covariate and their times."""
    return [f"{name}{what}_{i}" for what in ("", "_time") for i in range(1, n + 1)]


def path_names(columns: list[str]) -> dict[str, int]:
    """Return the covariates that change over time by their columns of X, and how many values each has."""
    there, names = set(columns), dict[str, int]()
    for column in columns:
        name = column.removesuffix("_time_1")
        if name not in ("", "dose", column) and f"{name}_1" in there:
            n = 1
            while {f"{name}_{n + 1}", f"{name}_time_{n + 1}"} <= there:
                n += 1
            names[name] = n
    return names


def value_between(
    time: NDArray[np.float64], value: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64],
    method: str,
) -> NDArray[np.float64]:  # fmt: skip
    """Return the value that holds in intervals within which none was measured.

    Parameters
    ----------
    time, value : ndarray of shape (n_rows, n_values)
        In order of time.
    start, end : ndarray of shape (n_rows, n_intervals)
        An interval of no length is the moment itself.
    method : {"locf", "nocb"}

    Returns
    -------
    ndarray of shape (n_rows, n_intervals)
    """
    if method == "nocb":
        place = (time[:, None, :] < end[..., None]).sum(axis=2)
    else:
        place = (time[:, None, :] <= start[..., None]).sum(axis=2) - 1
    chosen = place.clip(0, time.shape[1] - 1)
    return np.take_along_axis(value, chosen, axis=1)
