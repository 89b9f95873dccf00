"""A constant of an equation, with its bounds, unit and meaning, and the checks of a whole table of them."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from metaest.functional import Transforms

__all__ = ["Parameter", "check_names", "check_parameters", "check_table", "transforms_of"]

TransformName = Literal["identity", "log", "logit"]


@dataclass(frozen=True)
class Parameter:
    r"""A constant of an equation.

    Fitted in an unconstrained space, where it is normal between tasks, and reported in its own unit. With a lower bound
    l that is :math:`\log(\theta - l)`, with an upper bound u :math:`-\log(u - \theta)`, with both
    :math:`\log\frac{\theta - l}{u - \theta}`, with none the constant itself.

    Parameters
    ----------
    initial : float
        Where the search starts; strictly inside the bounds. A rough value will do.
    lower, upper : float, optional
        Bounds the constant never reaches; None for none.
    unit : str, optional
    meaning : str, optional
    transform : {"identity", "log", "logit"}, optional
        By default, the transform that the bounds imply. ``"log"`` alone stands for ``lower=0``, and ``"logit"`` alone
        for ``lower=0, upper=1``.

    Examples
    --------
    >>> from metaest import Parameter
    >>> Parameter(0.1, lower=0, unit="1/h", meaning="elimination rate")
    Parameter(0.1, lower=0, unit='1/h', meaning='elimination rate')
    """

    initial: float
    lower: float | None = None
    upper: float | None = None
    unit: str = ""
    meaning: str = ""
    transform: TransformName | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound, infinite where there is none; what a transform implies is counted in."""
        low, high = self.lower, self.upper
        if self.transform in ("log", "logit") and low is None and (self.transform == "logit" or high is None):
            low = 0.0
        if self.transform == "logit" and high is None:
            high = 1.0
        return -math.inf if low is None else float(low), math.inf if high is None else float(high)

    def __repr__(self) -> str:
        parts = [f"{self.initial!r}"]
        for name in ("lower", "upper", "unit", "meaning", "transform"):
            value = getattr(self, name)
            if value not in (None, ""):
                parts.append(f"{name}={value!r}")
        return f"Parameter({', '.join(parts)})"


def check_parameters(parameters: Any, equation: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the table of constants, or raise an error that names the constant.

    Raises
    ------
    TypeError
        When `parameters` is no mapping of names to Parameter or number, or `equation` cannot be called.
    ValueError
        When a bound or an initial value makes no sense, or the equation takes other constants.
    """
    if not callable(equation):
        raise TypeError(f"equation must be a function equation(X, **constants), got {type(equation).__name__}.")
    table = check_table(parameters)
    _check_signature(equation, table)
    return table


def check_table(parameters: Any) -> dict[str, Parameter]:
    """Return the table of constants of an equation that is not at hand; errors are those of `check_parameters`."""
    if not isinstance(parameters, Mapping) or not parameters:
        raise TypeError(
            "parameters must map the name of each constant of the equation to a Parameter, as in "
            f"{{'k': Parameter(0.1, lower=0)}}; got {parameters!r}."
        )
    table = {}
    for name, value in parameters.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError(f"parameters: {name!r} cannot be the name of an argument of the equation.")
        if isinstance(value, (int, float, np.number)):
            value = Parameter(float(value) if _is_number(value) else value)  # type: ignore[arg-type]
        if not isinstance(value, Parameter):
            raise TypeError(f"parameter {name!r} must be a Parameter or a number, got {type(value).__name__}.")
        _check_one(name, value)
        table[name] = value
    return table


def _is_number(value: Any) -> bool:
    """Return whether a bound or an initial value is a number that a float holds; a bound may be infinite."""
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False


def _check_one(name: str, parameter: Parameter) -> None:
    for field in ("initial", "lower", "upper"):
        value = getattr(parameter, field)
        if value is None and field != "initial":
            continue
        if not _is_number(value):
            raise ValueError(f"parameter {name!r}: {field} must be a number, got {value!r}.")
    for field in ("unit", "meaning"):
        value = getattr(parameter, field)
        if not isinstance(value, str) or (not value.isascii() and value != value.encode(errors="replace").decode()):
            raise ValueError(f"parameter {name!r}: {field} must be text, got {value!r}.")
    transform: Any = parameter.transform
    if transform is not None and not (isinstance(transform, str) and transform in ("identity", "log", "logit")):
        raise ValueError(
            f"parameter {name!r}: transform must be 'identity', 'log', 'logit' or None, got {parameter.transform!r}."
        )
    low, high = parameter.bounds
    if low >= high:
        raise ValueError(f"parameter {name!r}: its lower bound {low:g} is not below its upper bound {high:g}.")
    bounded = sum(map(math.isfinite, (low, high)))
    if {"identity": 0, "log": 1, "logit": 2}.get(parameter.transform or "", bounded) != bounded:
        raise ValueError(
            f"parameter {name!r}: transform {parameter.transform!r} does not fit the bounds ({low:g}, {high:g}); "
            "'identity' takes none, 'log' one, 'logit' two."
        )
    if not low < parameter.initial < high or not math.isfinite(parameter.initial):
        raise ValueError(
            f"parameter {name!r}: its initial value {parameter.initial:g} is not inside its bounds ({low:g}, {high:g})."
        )


def _check_signature(equation: Callable[..., Any], table: Mapping[str, Parameter]) -> None:
    try:
        arguments = list(inspect.signature(equation).parameters.values())[1:]
    except (TypeError, ValueError):  # some callables tell nothing about their arguments
        return
    named = [a for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)]
    takes_any = any(a.kind is a.VAR_KEYWORD for a in arguments)
    names = [a.name for a in named]
    unknown = [name for name in table if name not in names]
    if unknown and not takes_any:
        raise ValueError(
            f"parameters: the equation has no constant {unknown[0]!r}; it takes {', '.join(names) or 'none'} after X."
        )
    missing = [a.name for a in named if a.default is a.empty and a.name not in table]
    if missing:
        raise ValueError(f"parameters: the equation's constant {missing[0]!r} is missing; give it a Parameter.")


def check_names(chosen: Iterable[str] | None, table: Mapping[str, Parameter], what: str) -> list[str]:
    """Return the chosen constants in the order of the table; all of them for None."""
    if chosen is None:
        return list(table)
    if isinstance(chosen, str):
        raise TypeError(f"{what} must be a list of names of constants, got the string {chosen!r}; write [{chosen!r}].")
    names = list(chosen) if np.ndim(chosen) == 1 else [chosen]  # type: ignore[arg-type]
    for name in names:
        if not isinstance(name, str) or name not in table:
            raise ValueError(f"{what}: there is no constant {name!r}; the constants are {', '.join(table)}.")
    return [name for name in table if name in names]


def transforms_of(table: Mapping[str, Parameter]) -> Transforms:
    """Return the transforms of the whole table."""
    bounds = [parameter.bounds for parameter in table.values()]
    return Transforms(tuple(low for low, _ in bounds), tuple(high for _, high in bounds))
