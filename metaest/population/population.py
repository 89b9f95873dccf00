"""A population as an object: what is known of tasks before one of them is observed."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaest.population import json_form
from metaest.population.block import Block
from metaest.population.effects import Effect, total_shift
from metaest.population.frozen import FrozenDict, frozen
from metaest.population.noise_model import NoiseModel, OutputNoiseModel
from metaest.population.numbers import as_float, as_names, as_path, as_sequence, as_text
from metaest.population.parameter import Parameter, check_table, transforms_of
from metaest.population.provenance import Provenance

__all__ = ["Population"]


@dataclass(frozen=True, eq=False)
class Population:
    r"""What is known of the constants of tasks before one of them is observed: a published model, or a fitted one.

    .. math:: g^{-1}(\theta_t) \sim N\left(g^{-1}(\theta) + \sum_j s_j(z_t),\, \Omega\right),

    with typical values :math:`\theta`, the scale :math:`g^{-1}` of each constant (:class:`metaest.Parameter`), shifts
    s by covariates z, and the covariance :math:`\Omega` between tasks. It goes into
    :meth:`metaest.EquationRegressor.from_population` and comes out of ``model.to_population()``.

    Parameters
    ----------
    constants : dict of str to Parameter or float
        Each constant with its typical value as ``initial``, its bounds, unit and meaning.
    between_tasks : Block or sequence of Block, optional
        How constants vary between tasks; one that no block names is the same in all tasks.
    noise : NoiseModel or OutputNoiseModel
        How observations scatter.
    covariates : dict of str to Effect or sequence of Effect, optional
        Formulas by the constant they shift.
    columns : dict of str to str, optional
        Columns of X that the equation and the covariates read, in the order of X, with their units ("" for none).
    target : str, default=""
        Unit of y.
    standard_errors : dict of str to float, optional
        Standard errors of typical values, in the units of the constants. Intervals then count the uncertainty of the
        population; one not named counts as known exactly.
    uncertainty : array-like of shape (n_constants, n_constants), optional
        In place of standard errors: the covariance of the typical values on the scales on which constants are normal.
    equation : str, default=""
        Name of the equation, such as "TwoCompartmentRegressor".
    settings : dict, optional
        Settings of that estimator which the numbers belong to, such as ``{"route": "iv"}``.
    equation_hash : str, default=""
        Hash of the source of an equation that is a function.
    provenance : Provenance, optional

    Attributes
    ----------
    hash : str
        SHA-256 of what :meth:`to_json` writes, as 64 hexadecimal digits; a formula of yours counts by its name.
    random : tuple of str
        The constants that vary between tasks.
    correlated : bool
        Whether some of them vary together.

    Raises
    ------
    TypeError, ValueError
        When something is missing, unknown or impossible; the message names the constant or the column.

    See Also
    --------
    metaest_domains.physiology.load_published : Published models of drugs.

    Examples
    --------
    >>> from metaest import Parameter, Population
    >>> from metaest.population import Block, NoiseModel, Power
    >>> drug = Population(
    ...     {"clearance": Parameter(4.0, lower=0, unit="L/h"), "volume": Parameter(70.0, lower=0, unit="L")},
    ...     Block(cv={"clearance": 0.3, "volume": 0.2}),
    ...     NoiseModel("proportional", cv=0.1),
    ...     covariates={"clearance": Power("weight", 0.75, reference=70)},
    ...     columns={"time": "h", "dose": "mg", "weight": "kg"},
    ...     target="mg/L",
    ... )
    >>> drug.typical({"weight": 35.0})
    {'clearance': 2.378414230005442, 'volume': 70.0}
    """

    constants: Mapping[str, Parameter]
    between_tasks: Sequence[Block]
    noise: NoiseModel | OutputNoiseModel
    covariates: Mapping[str, Sequence[Effect]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    uncertainty: Any = None
    equation: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    equation_hash: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    def __init__(
        self,
        constants: Mapping[str, Parameter | float],
        between_tasks: Block | Sequence[Block] = (),
        noise: NoiseModel | OutputNoiseModel | None = None,
        *,
        covariates: Mapping[str, Effect | Sequence[Effect]] | None = None,
        columns: Mapping[str, str] | None = None,
        target: str = "",
        standard_errors: Mapping[str, float] | None = None,
        uncertainty: Any = None,
        equation: str = "",
        settings: Mapping[str, Any] | None = None,
        equation_hash: str = "",
        provenance: Provenance | None = None,
    ) -> None:
        if not isinstance(noise, (NoiseModel, OutputNoiseModel)):
            raise TypeError(f"Population: noise must be a NoiseModel, got {noise!r}.")
        if provenance is not None and not isinstance(provenance, Provenance):
            raise TypeError(f"Population: provenance must be a Provenance, got {provenance!r}.")
        table = check_table(constants)
        blocks: tuple[Any, ...] = (between_tasks,)
        if not isinstance(between_tasks, Block):
            blocks = as_sequence(between_tasks, "Population: between_tasks")
        parts: dict[str, Any] = {
            "constants": FrozenDict(table),
            "between_tasks": _checked_blocks(blocks, table),
            "noise": noise,
            "covariates": FrozenDict(_checked_effects(covariates, table)),
            "columns": FrozenDict(
                (name, as_text(unit, f"Population: the unit of column {name!r}"))
                for name, unit in as_names(columns, "Population: columns").items()
            ),
            "target": as_text(target, "Population: target"),
            "equation": as_text(equation, "Population: equation"),
            "settings": frozen(json_form.plain_settings(settings)),
            "equation_hash": as_text(equation_hash, "Population: equation_hash"),
            "provenance": provenance or Provenance(),
        }
        for name, value in parts.items():
            object.__setattr__(self, name, value)
        errors = _checked_errors(standard_errors, table)
        if errors and uncertainty is not None:
            raise ValueError("Population: give standard_errors or uncertainty, not both.")
        object.__setattr__(self, "standard_errors", FrozenDict(errors))
        object.__setattr__(self, "uncertainty", None if uncertainty is None else _covariance(uncertainty, list(table)))
        self._check_columns()

    @property
    def random(self) -> tuple[str, ...]:
        """The constants that vary between tasks, in the order of the table."""
        varying = {name for block in self.between_tasks for name in block.names}
        return tuple(name for name in self.constants if name in varying)

    @property
    def correlated(self) -> bool:
        """Whether constants vary together."""
        return any(block.covariance or block.correlation for block in self.between_tasks)

    def as_settings(self) -> dict[str, Any]:
        """Return the settings with which an EquationRegressor keeps this population."""
        return {
            "random": list(self.random),
            "covariance": "full" if self.correlated else "diagonal",
            "noise": self.noise.kind,
            **({"output": self.noise.column} if isinstance(self.noise, OutputNoiseModel) else {}),
            "prior": self,
            "prior_weight": np.inf,
        }

    @property
    def hash(self) -> str:
        """SHA-256 of what a file holds."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def covariate_columns(self) -> tuple[str, ...]:
        """Names of the columns that formulas read, in the order in which they are first read."""
        return tuple(dict.fromkeys(c for effects in self.covariates.values() for e in effects for c in e.columns))

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance between tasks on the scales on which constants are normal, of all constants."""
        names = list(self.constants)
        kinds = dict(zip(names, transforms_of(self.constants).kinds, strict=True))
        matrix = np.zeros((len(names), len(names)))
        for block in self.between_tasks:
            places = [names.index(name) for name in block.names]
            matrix[np.ix_(places, places)] = block.matrix(kinds)
        return matrix

    def typical(self, covariates: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return the typical value of each constant for a task with these covariates.

        Parameters
        ----------
        covariates : dict of str to float, optional
            All columns that formulas read.

        Raises
        ------
        ValueError
            When one is missing, is unknown, or a formula has no value there.
        """
        given = as_names(covariates, "typical: covariates")
        for name in given:
            if name not in self.covariate_columns:
                raise ValueError(f"typical: there is no covariate {name!r}; {self._covariates_in_words()}.")
        for name in self.covariate_columns:
            if name not in given:
                raise ValueError(f"typical: the covariate {name!r} is missing; {self._covariates_in_words()}.")
        values = {name: np.array([as_float(value, f"typical: {name!r}")]) for name, value in given.items()}
        transforms = transforms_of(self.constants)
        phi = transforms.unconstrain(torch.tensor([p.initial for p in self.constants.values()], dtype=torch.float64))
        for k, name in enumerate(self.constants):
            effects = self.covariates.get(name, ())
            if effects:
                phi[k] += float(total_shift(effects, [[values[c] for c in effect.columns] for effect in effects])[0])
        typical = dict(zip(self.constants, transforms.constrain(phi).tolist(), strict=True))
        for name, value in typical.items():
            as_float(value, f"typical: {name!r} of the covariates {given}")
        return typical

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON has it."""
        return json_form.written(self)

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write the population to a JSON file; see the guide for its schema.

        Parameters
        ----------
        path : str or path
        """
        as_path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> "Population":
        """Return the population of a mapping as :meth:`to_dict` makes it; unknown keys are errors."""
        return cls(**json_form.read(content, as_names(functions, "functions")))

    @classmethod
    def from_json(
        cls, path: str | PathLike[str], functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> "Population":
        """Read a JSON file that :meth:`to_json` or a person wrote.

        Parameters
        ----------
        path : str or path
        functions : dict of str to callable, optional
            Functions of formulas by the names in the file, which holds no code.

        Raises
        ------
        ValueError, TypeError
            When it is no population, has an unknown key, or one of a later version; the message names file and key.
        OSError
            When the file cannot be opened.
        """
        content = as_path(path).read_bytes()
        try:
            read = json.loads(content.decode("utf-8"), object_pairs_hook=json_form.without_repeats)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"the population {path} is no JSON: {error}") from error
        except ValueError as error:
            raise ValueError(f"the population {path}: {error}") from error
        try:
            return cls.from_dict(read, functions)
        except (ValueError, TypeError) as error:
            raise type(error)(f"the population {path}: {error}") from error

    def __eq__(self, other: object) -> bool:
        # formulas of the user's have only their names in a dict
        same = isinstance(other, Population) and self.to_dict() == other.to_dict()
        return same and self.covariates == other.covariates  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.hash)

    def __str__(self) -> str:
        lines = [f"Population of {self.equation or 'an equation'}: {self.provenance}"]
        omega = np.sqrt(np.diag(self.covariance()))
        for k, (name, parameter) in enumerate(self.constants.items()):
            spread = f"omega {omega[k]:.3g}" if omega[k] else "the same in all tasks"
            effects = " ".join(f"{e.kind}({', '.join(e.columns)})" for e in self.covariates.get(name, ()))
            lines.append(
                f"  {name} {parameter.initial:.4g} {parameter.unit}, {spread}" + (f"; {effects}" * bool(effects))
            )
        return "\n".join([*lines, f"  noise: {self.noise}"])

    __repr__ = __str__

    def _covariates_in_words(self) -> str:
        return f"its covariates are {', '.join(self.covariate_columns) or 'none'}"

    def _check_columns(self) -> None:
        if isinstance(self.noise, OutputNoiseModel) and self.columns and self.noise.column not in self.columns:
            raise ValueError(
                f"Population: columns lacks {self.noise.column!r}, the output of each row; it has "
                f"{', '.join(self.columns)}."
            )
        for name in self.covariate_columns:
            if self.columns and name not in self.columns:
                raise ValueError(
                    f"Population: columns lacks {name!r}, which a formula reads; it has {', '.join(self.columns)}."
                )


def _checked_blocks(blocks: tuple[Any, ...], table: Mapping[str, Parameter]) -> tuple[Block, ...]:
    """Return blocks of known constants that do not overlap."""
    seen: set[str] = set()
    kinds = dict(zip(table, transforms_of(table).kinds, strict=True))
    for block in blocks:
        if not isinstance(block, Block):
            raise TypeError(f"Population: between_tasks must be blocks, got {block!r}.")
        for name in block.names:
            if name not in table:
                raise ValueError(
                    f"Population: a block names {name!r}, which is no constant; they are {', '.join(table)}."
                )
            if name in seen:
                raise ValueError(f"Population: {name!r} is in two blocks; put constants that vary together into one.")
            seen.add(name)
        block.matrix(kinds)
    return blocks


def _checked_effects(given: Any, table: Mapping[str, Parameter]) -> dict[str, tuple[Effect, ...]]:
    """Return formulas of known constants, on whose scales they make sense."""
    kinds = dict(zip(table, transforms_of(table).kinds, strict=True))
    checked = {}
    for name, effects in as_names(given, "Population: covariates").items():
        if name not in table:
            raise ValueError(f"Population: covariates of {name!r}, which is no constant; they are {', '.join(table)}.")
        several: tuple[Any, ...] = (effects,)
        if not isinstance(effects, Effect):
            several = as_sequence(effects, f"Population: the covariates of {name!r}")
        for effect in several:
            if not isinstance(effect, Effect):
                raise TypeError(
                    f"Population: the covariates of {name!r} must be effects such as Power, got {effect!r}."
                )
            if effect.multiplies and (kinds[name] != "log" or table[name].bounds[0] != 0):
                raise ValueError(
                    f"Population: {effect.kind} of {effect.columns[0]!r} multiplies the typical value, and {name!r} is "
                    "no constant with the lower bound 0 alone; take Shift."
                )
        if several:
            checked[name] = several
    return checked


def _checked_errors(given: Any, table: Mapping[str, Parameter]) -> dict[str, float]:
    errors = {}
    for name, value in as_names(given, "Population: standard_errors").items():
        if name not in table:
            raise ValueError(
                f"Population: standard_errors of {name!r}, which is no constant; they are {', '.join(table)}."
            )
        errors[name] = as_float(value, f"Population: the standard error of {name!r}", above=0)
    return errors


def _covariance(given: Any, names: list[str]) -> NDArray[np.float64]:
    try:
        matrix = np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"Population: uncertainty must be a matrix of numbers, got {given!r}.") from error
    if matrix.shape != (len(names), len(names)):
        raise ValueError(
            f"Population: uncertainty must be a matrix over the {len(names)} constants, got the shape {matrix.shape}."
        )
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-6, atol=0):
        raise ValueError("Population: uncertainty must be finite and symmetric.")
    matrix = (matrix + matrix.T) / 2
    scale = np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
    if (np.diag(matrix) < 0).any() or np.linalg.eigvalsh(matrix / scale / scale[:, None])[0] < -1e-8:
        raise ValueError(f"Population: uncertainty of {', '.join(names)} is no covariance (a negative eigenvalue).")
    matrix.flags.writeable = False
    return matrix
