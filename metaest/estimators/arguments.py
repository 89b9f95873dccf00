"""Values that arguments of constructors and methods may have: numbers in a range, choices, true or false."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval

from metaest.tasks.arguments import is_whole

__all__ = [
    "POSITIVE",
    "POSITIVE_OR_ZERO",
    "SEED",
    "VERBOSE",
    "Number",
    "Whole",
    "check_interval",
    "require_choice",
    "require_count",
    "require_flag",
    "require_level",
    "require_model",
    "whether_guarded",
]


class Number(Interval):
    """An interval of numbers that fit into a float; Python's whole numbers and fractions may be too large.

    Parameters
    ----------
    left, right : float or None
    closed : {"left", "right", "both", "neither"}
    """

    def __init__(self, left: float | None, right: float | None, *, closed: str) -> None:
        super().__init__(Real, left, right, closed=closed)

    def is_satisfied_by(self, val: Any) -> bool:
        """Tell whether a value lies in the interval."""
        try:
            duration = isinstance(val, np.timedelta64)  # numpy derives their class from that of its whole numbers
            return isinstance(val, Real) and not duration and bool(super().is_satisfied_by(float(val)))
        except OverflowError:
            return False


class Whole(Interval):
    """An interval of whole numbers; numpy's durations, whose class derives from theirs, are excluded.

    Parameters
    ----------
    left, right : int or None
    closed : {"left", "right", "both", "neither"}
    """

    def __init__(self, left: int | None, right: int | None, *, closed: str) -> None:
        super().__init__(Integral, left, right, closed=closed)

    def is_satisfied_by(self, val: Any) -> bool:
        """Tell whether a value lies in the interval."""
        return not isinstance(val, np.timedelta64) and bool(super().is_satisfied_by(val))


POSITIVE_OR_ZERO = Number(0, None, closed="left")
POSITIVE = Number(0, None, closed="neither")
# scikit-learn's values of `verbose`; its way to ask for them fails at a duration of numpy's
VERBOSE: list[Any] = ["boolean", Whole(0, None, closed="left")]
# scikit-learn's values of `random_state`
SEED: list[Any] = [Whole(0, 2**32 - 1, closed="both"), np.random.RandomState, None]


def require_flag(value: Any, name: str, *, optional: bool = False) -> None:
    """Raise a ValueError unless an argument is true or false, or None where it is optional."""
    if not isinstance(value, (bool, np.bool_)) and not (optional and value is None):
        wanted = "True, False or None" if optional else "True or False"
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")


def require_count(value: Any, name: str, least: int = 0, unit: str = "", most: int | None = None) -> None:
    """Raise a ValueError unless an argument is a whole number between two bounds.

    Parameters
    ----------
    value : object
    name : str
    least : int
    unit : str
        Things that are counted, for the message: ``"rows"``.
    most : int, optional
    """
    whole = is_whole(value)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        wanted = f"of {unit}, {bounds}" if unit else bounds if most is not None else f"of {bounds}"
        raise ValueError(f"{name} must be a whole number {wanted}, got {value!r}.")


def require_level(value: Any, name: str = "level") -> None:
    """Raise a ValueError unless a level is a number between 0 and 1."""
    number: Any = value if not isinstance(value, np.timedelta64) and isinstance(value, Real) else None
    if number is None or not 0 < number < 1:
        raise ValueError(f"{name} must be a number between 0 and 1, got {value!r}.")


def require_choice(value: Any, name: str, choices: Sequence[str], *, optional: bool = False) -> None:
    """Raise a ValueError unless an argument is one of several words, or None where it is optional."""
    if not (isinstance(value, str) and value in choices) and not (optional and value is None):
        *others, last = [*map(repr, choices), *(["None"] if optional else [])]
        wanted = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")


def require_model(model: Any, kind: type, where: str) -> None:
    """Raise a TypeError unless a model is of a class."""
    if not isinstance(model, kind):
        raise TypeError(f"{where}: model must be a {kind.__name__}, got {type(model).__name__}.")


def check_interval(level: Any, method: Any, of: Any, simultaneous: Any) -> None:
    """Raise a ValueError when a setting of ``predict_interval`` has no meaning."""
    require_level(level)
    require_choice(method, "method", ["posterior", "conformal"])
    require_choice(of, "of", ["observation", "curve"])
    require_flag(simultaneous, "simultaneous")
    if method == "conformal" and of == "curve":
        raise ValueError("a conformal interval is one of observations: the curve itself is not observed.")
    if method == "posterior" and simultaneous:
        raise ValueError("simultaneous=True needs method='conformal'.")


def whether_guarded(guard: Any, gap: Any, default: bool) -> bool:
    """Return whether a guard judges adaptations, or raise a ValueError where `guard` or `gap` has another value.

    Parameters
    ----------
    guard : bool or None
        None is `default`.
    gap : int
    default : bool
    """
    require_flag(guard, "guard", optional=True)
    require_count(gap, "gap", 0, "rows")
    return default if guard is None else bool(guard)
