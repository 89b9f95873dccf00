"""The noise of observations around the curve, with its numbers: a published residual error model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from metaest.population.frozen import FrozenDict
from metaest.population.numbers import as_float

__all__ = ["NoiseModel", "OutputNoiseModel"]


@dataclass(frozen=True)
class NoiseModel:
    r"""How observations scatter around the curve f of a task.

    ============== ======================== ==============================================
    kind           numbers                  standard deviation
    ============== ======================== ==============================================
    "additive"     `sd`                     :math:`a`
    "proportional" `cv`                     :math:`b f`
    "combined"     `sd`, `cv`               :math:`\sqrt{a^2 + b^2 f^2}` (combined2)
    "combined1"    `sd`, `cv`               :math:`a + b f`
    "power"        `sd_at_1`, `power`       :math:`a f^p`
    "lognormal"    `sd_log`                 :math:`a`, of :math:`\ln y` around :math:`\ln f`
    ============== ======================== ==============================================

    Parameters
    ----------
    kind : str
    sd : float, optional
        a, in the unit of y.
    cv : float, optional
        b, as a fraction.
    sd_at_1 : float, optional
        Standard deviation where the curve is 1.
    power : float, optional
        p.
    sd_log : float, optional
    floor : float, default=0
        For "proportional" and "power", in the unit of y: f counts as :math:`\sqrt{f^2 + \mathrm{floor}^2}`, so that an
        observation of a curve at 0 has a density; without a floor it is an error of `adapt`.

    Raises
    ------
    TypeError, ValueError
        When a number is missing, does not belong to the kind, or is not above 0.

    Examples
    --------
    >>> from metaest.population import NoiseModel
    >>> NoiseModel("combined", sd=1.6, cv=0.15)
    NoiseModel('combined', sd=1.6, cv=0.15)
    """

    NUMBERS: ClassVar[dict[str, tuple[str, ...]]] = {
        "additive": ("sd",),
        "proportional": ("cv",),
        "combined": ("sd", "cv"),
        "combined1": ("sd", "cv"),
        "power": ("sd_at_1", "power"),
        "lognormal": ("sd_log",),
    }

    kind: str
    sd: float | None = None
    cv: float | None = None
    sd_at_1: float | None = None
    power: float | None = None
    sd_log: float | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in self.NUMBERS:
            raise ValueError(f"noise: kind must be one of {', '.join(self.NUMBERS)}, got {self.kind!r}.")
        for name in ("sd", "cv", "sd_at_1", "power", "sd_log"):
            value, wanted = getattr(self, name), name in self.NUMBERS[self.kind]
            if wanted and value is None:
                raise ValueError(f"noise: {self.kind!r} needs {name}.")
            if value is not None and not wanted:
                raise ValueError(
                    f"noise: {self.kind!r} has no {name}; it takes {' and '.join(self.NUMBERS[self.kind])}."
                )
            if wanted:
                number = as_float(value, f"noise: {name}", above=None if name == "power" else 0)
                object.__setattr__(self, name, number)
        floor = as_float(self.floor, "noise: floor")
        if floor < 0 or (floor and self.kind not in ("proportional", "power")):
            raise ValueError(f"noise: floor is at least 0, and of 'proportional' and 'power' alone; got {floor:g}.")
        object.__setattr__(self, "floor", floor)

    def numbers(self) -> dict[str, float]:
        """Return the numbers of the kind by name."""
        return {name: getattr(self, name) for name in self.NUMBERS[self.kind]}

    def __repr__(self) -> str:
        parts = [repr(self.kind), *(f"{name}={value!r}" for name, value in self.numbers().items())]
        return f"NoiseModel({', '.join(parts + ([f'floor={self.floor!r}'] if self.floor else []))})"


@dataclass(frozen=True, init=False)
class OutputNoiseModel:
    """The noise of each of several outputs, such as a concentration and an effect.

    Parameters
    ----------
    column : str
        The column of X with the number of the output of each row.
    models : dict of output to NoiseModel
        Outputs are numbers, or words.
    codes : dict of word to number, optional
        The number of each output in the column; by default a number is its own, and words have 0, 1, 2, ...

    Raises
    ------
    TypeError, ValueError
        When something is no noise, an output is no number or word, or the logarithms of some outputs are normal and
        those of others are not.

    Examples
    --------
    >>> from metaest.population import NoiseModel, OutputNoiseModel
    >>> OutputNoiseModel("dvid", {1: NoiseModel("proportional", cv=0.1), 2: NoiseModel("additive", sd=4.0)})
    OutputNoiseModel('dvid', {1: NoiseModel('proportional', cv=0.1), 2: NoiseModel('additive', sd=4.0)})
    """

    column: str
    models: Mapping[Any, NoiseModel]
    codes: Mapping[Any, float]

    def __init__(self, column: str, models: Mapping[Any, NoiseModel], codes: Mapping[Any, float] | None = None) -> None:
        if not isinstance(column, str) or not column:
            raise TypeError(f"noise: the column of outputs must be a name, got {column!r}.")
        if not isinstance(models, Mapping) or not models:
            raise TypeError(f"noise: a mapping of outputs to NoiseModel is wanted, got {models!r}.")
        for output, model in models.items():
            if not isinstance(output, str):
                as_float(output, "noise: an output")
            if not isinstance(model, NoiseModel):
                raise TypeError(f"noise: that of output {output!r} must be a NoiseModel, got {model!r}.")
        if len({model.kind == "lognormal" for model in models.values()}) > 1:
            raise ValueError("noise: 'lognormal' is of all outputs or of none.")
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "models", FrozenDict(models))
        usual = {output: float(k if isinstance(output, str) else output) for k, output in enumerate(models)}
        given = usual if codes is None else {output: as_float(codes.get(output), "noise: codes") for output in models}
        if len(set(given.values())) < len(given) or set(codes or models) != set(models):
            raise ValueError(f"noise: codes must give each of the outputs {list(models)} a number of its own.")
        object.__setattr__(self, "codes", FrozenDict(given))

    @property
    def kind(self) -> dict[Any, str]:
        """The kind of noise of each output."""
        return {output: model.kind for output, model in self.models.items()}

    def __repr__(self) -> str:
        return f"OutputNoiseModel({self.column!r}, {dict(self.models)!r})"
