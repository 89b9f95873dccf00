r"""Covariate formulas of published models: how properties of a task shift the typical value of a constant.

All but :class:`Shift` multiply the typical value by a factor above 0. They belong to constants with the lower bound 0,
whose logarithm is normal between tasks: the prior mean moves by the logarithm of the factor.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from metaest.population.frozen import FrozenDict
from metaest.population.numbers import as_float, as_sequence, as_text

__all__ = ["Category", "Effect", "Exponential", "Formula", "Linear", "Maturation", "Power", "Shift", "total_shift"]

Values = NDArray[np.float64]
# relative difference of a value in single precision
SINGLE = 1e-6


class Effect(ABC):
    """How columns of X shift one constant; a subclass gives the formula.

    They are constant within a task, or named in ``time_varying=`` of the model: the formula is then that of each row.
    """

    kind: ClassVar[str]
    # whether it multiplies the typical value, which needs a logarithmic scale
    multiplies: ClassVar[bool] = True

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""

    @abstractmethod
    def shift(self, *values: Values) -> Values:
        """Return the shift of the prior mean on the scale on which the constant is normal, of shape (n_tasks,).

        Parameters
        ----------
        *values : ndarray of shape (n_tasks,)
            The columns in the order of `columns`.

        Raises
        ------
        ValueError
            When the formula has no value there; the message names column and value.
        """


class _OfOneColumn(Effect):
    """A formula of one column about a reference; values below `least` and above `most` count as these."""

    column: str
    reference: float
    least: float | None
    most: float | None

    def __post_init__(self) -> None:
        _check_column(self.column, self.kind)
        for name in ("reference", "least", "most"):
            value = getattr(self, name)
            if value is not None or name == "reference":
                object.__setattr__(self, name, as_float(value, f"{self.kind} of {self.column!r}: {name}"))
        if self.least is not None and self.most is not None and self.least >= self.most:
            raise ValueError(f"{self.kind} of {self.column!r}: least must be below most.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return (self.column,)

    def shift(self, *values: Values) -> Values:
        """Return the shift at clipped values; see :class:`Effect`."""
        (value,) = values
        if self.least is not None or self.most is not None:
            value = np.clip(value, self.least, self.most)
        return self._of(value)

    @abstractmethod
    def _of(self, value: Values) -> Values:
        """Return the shift at values that are clipped."""

    def _number(self, name: str) -> None:
        object.__setattr__(self, name, as_float(getattr(self, name), f"{self.kind} of {self.column!r}: {name}"))


@dataclass(frozen=True)
class Power(_OfOneColumn):
    r"""A power about a reference, :math:`(x / x_0)^e`: allometry, clearance with creatinine clearance.

    Parameters
    ----------
    column : str
    exponent : float
    reference : float, default=1
        :math:`x_0`, above 0.
    least, most : float, optional
        Values below and above these count as these.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest.population import Power
    >>> Power("weight", 0.75, reference=70).shift(np.array([70.0, 35.0])).round(4).tolist()
    [0.0, -0.5199]
    """

    kind = "power"
    column: str
    exponent: float
    reference: float = 1.0
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("exponent")
        if not self.reference > 0:
            raise ValueError(f"power of {self.column!r}: reference must be above 0, got {self.reference:g}.")

    def _of(self, value: Values) -> Values:
        _require(value > 0, value, self.column, "a power needs values above 0")
        return self.exponent * np.log(value / self.reference)


@dataclass(frozen=True)
class _Sloped(_OfOneColumn):
    """A formula with a slope about a reference."""

    column: str
    slope: float
    reference: float = 0.0
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("slope")


@dataclass(frozen=True)
class Linear(_Sloped):
    r"""A factor that is linear in the column, :math:`1 + s (x - x_0)`.

    Parameters
    ----------
    column : str
    slope : float
        s, as a fraction of the typical value per unit of the column.
    reference : float, default=0
    least, most : float, optional
        Values below and above these count as these.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest.population import Linear
    >>> np.exp(Linear("crcl", 0.0154, reference=66).shift(np.array([66.0, 40.0]))).round(2).tolist()
    [1.0, 0.6]
    """

    kind = "linear"

    def _of(self, value: Values) -> Values:
        factor = 1 + self.slope * (value - self.reference)
        _require(factor > 0, value, self.column, "the linear formula is then not above 0")
        return np.log(factor)


@dataclass(frozen=True)
class Exponential(_Sloped):
    r"""A factor :math:`e^{s (x - x_0)}`.

    Parameters
    ----------
    column : str
    slope : float
        s, per unit of the column.
    reference : float, default=0
    least, most : float, optional
        Values below and above these count as these.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest.population import Exponential
    >>> Exponential("age", -0.01, reference=40).shift(np.array([50.0, 60.0])).round(2).tolist()
    [-0.1, -0.2]
    """

    kind = "exponential"

    def _of(self, value: Values) -> Values:
        return self.slope * (value - self.reference)


@dataclass(frozen=True)
class Shift(Exponential):
    """A shift by s (x - x0) of the prior mean on the scale on which the constant is normal, whatever that is.

    What `fit` learns of ``covariates=`` has this form. The parameters are those of :class:`Exponential`.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest.population import Shift
    >>> Shift("age", 0.02, reference=40).shift(np.array([50.0])).round(2).tolist()
    [0.2]
    """

    kind = "shift"
    multiplies = False


@dataclass(frozen=True)
class Maturation(Effect):
    r"""Maturation with age, :math:`x^h / (x_{50}^h + x^h)`; a negative h is decline.

    Parameters
    ----------
    column : str
    half : float
        :math:`x_{50}`, above 0: where half the mature value is reached.
    hill : float

    Examples
    --------
    >>> import numpy as np
    >>> from metaest.population import Maturation
    >>> np.exp(Maturation("weeks", half=47.7, hill=3.4).shift(np.array([47.7, 200.0]))).round(2).tolist()
    [0.5, 0.99]
    """

    kind = "maturation"
    column: str
    half: float
    hill: float = 1.0

    def __post_init__(self) -> None:
        _check_column(self.column, self.kind)
        object.__setattr__(self, "half", as_float(self.half, f"maturation of {self.column!r}: half", above=0))
        object.__setattr__(self, "hill", as_float(self.hill, f"maturation of {self.column!r}: hill"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return (self.column,)

    def shift(self, *values: Values) -> Values:
        """Return the logarithm of the factor; see :class:`Effect`."""
        (value,) = values
        _require(value > 0, value, self.column, "maturation needs ages above 0")
        return -np.log1p((value / self.half) ** -self.hill)


@dataclass(frozen=True)
class Category(Effect):
    """A factor for each value of a column, such as 0 and 1 for the sexes.

    Parameters
    ----------
    column : str
    factors : dict of float to float
        By values of the column. A value without a factor is an error.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest.population import Category
    >>> np.exp(Category("dialysis", {0: 1.0, 1: 0.7}).shift(np.array([0.0, 1.0]))).round(2).tolist()
    [1.0, 0.7]
    """

    kind = "category"
    column: str
    factors: Mapping[float, float]

    def __post_init__(self) -> None:
        _check_column(self.column, self.kind)
        if not isinstance(self.factors, Mapping) or not self.factors:
            raise TypeError(f"category of {self.column!r}: factors must be a dict by value, got {self.factors!r}.")
        where = f"category of {self.column!r}: "
        factors = {
            as_float(level, f"{where}a value"): as_float(factor, f"{where}the factor of {level!r}", above=0)
            for level, factor in self.factors.items()
        }
        object.__setattr__(self, "factors", FrozenDict(factors))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return (self.column,)

    def shift(self, *values: Values) -> Values:
        """Return the logarithm of the factor; see :class:`Effect`."""
        (value,) = values
        levels = np.array(sorted(self.factors))
        nearest = np.abs(np.asarray(value)[:, None] - levels).argmin(axis=1)
        same = np.isclose(value, levels[nearest], rtol=SINGLE, atol=0)
        _require(same, value, self.column, f"its values are {', '.join(f'{x:g}' for x in levels)}")
        return np.log([self.factors[float(level)] for level in levels[nearest]])


@dataclass(frozen=True)
class Formula(Effect):
    """A factor by a function of your own, of one or several columns.

    A file holds its name and not its code: to read the file, pass ``functions={name: function}``.

    Parameters
    ----------
    function : callable
        ``function(*columns) -> factor`` with torch tensors of shape (n_tasks,), the factor above 0.
    reads : sequence of str
        The columns, in the order of the arguments.
    name : str, optional
        The function's own by default.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest.population import Formula
    >>> def renal(creatinine, age):
    ...     return (creatinine / (20 + age)) ** -0.13
    >>> Formula(renal, ("creatinine", "age")).shift(np.array([80.0]), np.array([40.0])).round(3).tolist()
    [-0.037]
    """

    kind = "formula"
    function: Callable[..., torch.Tensor]
    reads: Sequence[str]
    name: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"formula: function must be callable, got {self.function!r}.")
        reads = (self.reads,) if isinstance(self.reads, str) else as_sequence(self.reads, "formula: reads")
        if not reads:
            raise ValueError("formula: reads names no column.")
        as_text(self.name, "formula: name")
        for column in reads:
            _check_column(column, self.kind)
        object.__setattr__(self, "reads", reads)
        object.__setattr__(self, "name", self.name or getattr(self.function, "__name__", type(self.function).__name__))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return tuple(self.reads)

    def shift(self, *values: Values) -> Values:
        """Return the logarithm of the factor; see :class:`Effect`."""
        tensors = [torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float64) for value in values]
        with torch.no_grad():
            result = self.function(*tensors)
        try:
            factor = np.broadcast_to(torch.as_tensor(result, dtype=torch.float64).numpy(), values[0].shape)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"formula {self.name!r} must return one number a task, of shape {values[0].shape}, got {result!r}."
            ) from error
        wrong = np.flatnonzero(~(np.isfinite(factor) & (factor > 0)))
        if len(wrong):
            at = ", ".join(f"{name} {value[wrong[0]]:g}" for name, value in zip(self.reads, values, strict=True))
            raise ValueError(f"formula {self.name!r} is {factor[wrong[0]]:g} at {at}; it must be finite and above 0.")
        return np.asarray(np.log(factor))


def total_shift(effects: Sequence[Effect], values: Sequence[Sequence[Values]]) -> Values:
    """Return the shift by several formulas of one constant, given the columns that each of them reads.

    Raises
    ------
    ValueError
        When a formula has no finite value there; the message names column and value.
    """
    total = np.zeros(len(values[0][0]))
    for effect, columns in zip(effects, values, strict=True):
        with np.errstate(all="ignore"):
            shift = effect.shift(*columns)
        for name, column in zip(effect.columns, columns, strict=True):
            _require(np.isfinite(shift), column, name, f"the formula ({effect.kind}) is not finite there")
        total = total + shift
    return total


def _check_column(column: Any, kind: str) -> None:
    if not isinstance(column, str) or not column:
        raise TypeError(f"{kind}: column must be the name of a column, got {column!r}.")


def _require(fine: NDArray[np.bool_], value: Values, column: str, reason: str) -> None:
    """Raise a ValueError for the first value that is not fine."""
    wrong = np.flatnonzero(~np.asarray(fine))
    if len(wrong):
        raise ValueError(f"covariate {column!r} is {value[wrong[0]]:g}: {reason}.")
