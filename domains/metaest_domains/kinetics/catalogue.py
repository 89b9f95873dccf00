"""The base of all kinetic equations: columns by name, constants with units, checks of the data."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest import EquationRegressor, Parameter, Population, TaskSet
from metaest.tasks.arguments import is_whole
from metaest_domains.constants import as_mapping, hold, parameters_to_fit, refuse_unknown
from metaest_domains.kinetics.history import HOTTEST
from metaest_domains.population import from_population

__all__ = ["Formula", "Inputs", "KineticRegressor", "Target"]


Inputs = dict[str, NDArray[Any]]

KELVIN = "temperatures must be in kelvin (these look like degrees Celsius; add 273.15)"
# least sensible value of an input, and the message for values below it
LIMITS: Mapping[str, tuple[float, str]] = {
    "time": (0.0, "time cannot be negative"),
    "temperature": (200.0, KELVIN),
    "start": (200.0, KELVIN),
    "concentration": (0.0, "a concentration cannot be negative"),
}
# names of columns that say which input they hold
_INPUT_NAMES = {*LIMITS, "rate", "history"}
# correlation of y with time below which the fraction of a task falls
_FALLING = -0.5
# rows from which that correlation is taken seriously
_LEAST_ROWS = 3


@dataclass(frozen=True)
class Target:
    """Facts about a target: the values it may have, and its course.

    Attributes
    ----------
    lower, upper : float
        Bounds of the target without noise.
    noise : float
        Distance by which a measurement may exceed the bounds.
    rises : bool
        True for a target that rises with time.
    remedy : str
        Advice in messages about values outside the bounds.
    """

    lower: float = -np.inf
    upper: float = np.inf
    noise: float = 0.0
    rises: bool = False
    remedy: str = ""


# targets with known facts, by name; others may have any value
TARGETS: Mapping[str, Target] = {
    "fraction": Target(0.0, 1.0, 0.1, rises=True, remedy="divide per cent by 100; scale a signal by its final value"),
}


@dataclass(frozen=True)
class Formula:
    """The equation of an estimator of the catalogue, as a function of X.

    Attributes
    ----------
    function : callable
        ``function(*inputs, **constants)``.
    inputs : tuple of str
    columns : tuple of int
        The column of X of each input.
    fixed : dict of str to float
        Constants that are held.
    target : str
    limits : dict of str to (float, str)
        The least value of an input, and the message for values below it.
    inverse : callable or None
        ``inverse(fraction, **conditions, **constants)`` in numpy: the time at which the curve reaches a fraction.
    examine : callable or None
        ``examine(inputs)`` warns of inputs that look as if they were in another unit.
    """

    function: Callable[..., Tensor]
    inputs: tuple[str, ...]
    columns: tuple[int, ...]
    fixed: dict[str, Any]
    target: str
    limits: Mapping[str, tuple[float, str]]
    inverse: Callable[..., Any] | None
    examine: Callable[..., None] | None = None

    @property
    def __name__(self) -> str:  # the name in a summary
        return self.function.__qualname__.split(".")[0].removesuffix("Regressor")

    @property
    def time_column(self) -> int | None:
        """The column of times, where the equation has one."""
        return self.columns[self.inputs.index("time")] if "time" in self.inputs else None

    @property
    def memory(self) -> str | None:
        """Why a row depends on what a constant was before it, where it does."""
        return getattr(self.function, "memory", None)

    @property
    def target_facts(self) -> Target:
        """Values that the target may have."""
        return TARGETS.get(self.target, Target())

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return the curve, of shape (n_rows,)."""
        return self.function(*(X[:, j] for j in self.columns), **constants, **self.fixed)

    def read(self, X: NDArray[Any]) -> Inputs:
        """Return the inputs by name."""
        return {name: X[:, j].astype(np.float64) for name, j in zip(self.inputs, self.columns, strict=True)}

    def check_rows(self, X: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Raise a ValueError when an input or the target has impossible values; y is None for rows to be predicted."""
        inputs = self.read(X)
        if hasattr(self.function, "check_inputs"):
            self.function.check_inputs(inputs)
        for name, values in inputs.items():
            least, message = self.limits.get(name, (-np.inf, ""))
            wrong = np.flatnonzero(values < least)
            if len(wrong):
                raise ValueError(f"{name} is {values[wrong[0]]:g} in row {wrong[0]}: {message}.")
            hot = np.flatnonzero((values > HOTTEST) & (name in ("temperature", "start")))
            if len(hot):
                raise ValueError(f"{name} is {values[hot[0]]:g} in row {hot[0]}, above the limit of {HOTTEST:g} K.")
        if self.examine is not None:
            self.examine(inputs)
        if y is not None:
            facts = self.target_facts
            wrong = np.flatnonzero((y < facts.lower - facts.noise) | (y > facts.upper + facts.noise))
            if len(wrong):
                raise ValueError(
                    f"y is {y[wrong[0]]:g} in row {wrong[0]}: y must be a {self.target} between {facts.lower:g} and "
                    f"{facts.upper:g} ({facts.remedy})."
                )


class KineticRegressor(EquationRegressor):
    """An equation of kinetics; a subclass gives the equation, its constants and their initial values.

    A subclass sets ``inputs``, ``constants``, and a static method ``formula(*inputs, **constants)`` of torch tensors
    (held constants are passed as numbers). It may also set ``optional_constants``, ``target``, ``limits``, ``guess``,
    ``inverse`` (in numpy) and ``examine``; :class:`Formula` describes the last two. A target named ``"fraction"`` is
    checked to lie between 0 and 1 and to rise with time.

    Parameters
    ----------
    columns : dict of str to str or int, optional
        The column of X of each input, by name or number; by default the columns with the names of the inputs, or, if X
        has no names, the columns in the order of the inputs.
    optional : list of str, default=()
        Optional constants to fit as well; the others are held at their usual values.
    fixed : dict of str to float, optional
        Constants to hold at a value.
    parameters : dict of str to Parameter, optional
        Parameters that replace those of the equation; the others stay.
    time_varying : list of str or int, optional
        Covariates that differ between the rows of a task, each of which then has constants of its own: rows are
        specimens that were kept at their values from time 0 on. A fraction does not forget at what rate it came about,
        so that this is wrong of one specimen whose conditions change; see :class:`NonIsothermalJMAKRegressor`.
    random, covariance, levels, noise, noise_correlation, correlation_time, limit, covariates, objective, \
inner_solver, inner_steps, meta_gradient, support_size, split, n_episodes, meta_lr, meta_batch_size, max_iter, \
compile, prior, prior_weight, random_state, checkpoint, checkpoint_every, verbose
        As in :class:`metaest.EquationRegressor`.

    Attributes
    ----------
    fixed_ : dict of str to float
        Constants that were held, including those read off the data (a reference temperature).
    """

    inputs: ClassVar[tuple[str, ...]] = ("time",)
    constants: ClassVar[Mapping[str, Parameter]] = {}
    # constants that are held at a value read off the data, where they are not given
    read_off: ClassVar[tuple[str, ...]] = ()
    optional_constants: ClassVar[Mapping[str, tuple[float, Parameter]]] = {}
    target: ClassVar[str] = "fraction"
    limits: ClassVar[Mapping[str, tuple[float, str]]] = LIMITS

    formula: ClassVar[Callable[..., Tensor]]
    inverse: ClassVar[Callable[..., Any] | None] = None
    examine: ClassVar[Callable[..., None] | None] = None

    def __init__(
        self,
        *,
        columns: Mapping[str, str | int] | None = None,
        optional: Sequence[str] = (),
        fixed: Mapping[str, float] | None = None,
        parameters: Mapping[str, Parameter | float] | None = None,
        random: Sequence[str] | None = None,
        covariance: str | Mapping[str, str] = "full",
        levels: Mapping[str, Sequence[str]] | None = None,
        noise: str = "additive",
        noise_correlation: str | None = None,
        correlation_time: str | int | None = None,
        limit: float | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        time_varying: Sequence[str | int] | str | int | None = None,
        objective: str = "evidence",
        inner_solver: str = "gauss-newton",
        inner_steps: int = 5,
        meta_gradient: str = "exact",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        n_episodes: int | None = None,
        meta_lr: float = 0.05,
        meta_batch_size: int = 25,
        max_iter: int = 300,
        compile: str | bool = "auto",
        prior: Population | None = None,
        prior_weight: float | str = np.inf,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> None:
        self.columns = columns
        self.optional = optional
        self.fixed = fixed
        self.parameters = parameters  # type: ignore[assignment]
        self.random = random
        self.covariance = covariance
        self.levels = levels
        self.noise = noise
        self.noise_correlation = noise_correlation
        self.correlation_time = correlation_time
        self.limit = limit
        self.covariates = covariates
        self.time_varying = time_varying
        self.objective = objective
        self.inner_solver = inner_solver
        self.inner_steps = inner_steps
        self.meta_gradient = meta_gradient
        self.support_size = support_size
        self.split = split
        self.n_episodes = n_episodes
        self.meta_lr = meta_lr
        self.meta_batch_size = meta_batch_size
        self.max_iter = max_iter
        self.compile = compile
        self.prior = prior
        self.prior_weight = prior_weight
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose

    @property
    def fixed_(self) -> dict[str, Any]:
        """Constants that were held in the fit."""
        formula: Any = self.equation_
        return dict(formula.fixed)

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Return initial values read off the data.

        A name that is no constant to fit is a constant to hold, such as a reference temperature. Constants without an
        entry keep the initial values of the class.
        """
        return {}

    def _formula(self) -> Callable[..., Tensor]:
        return type(self).formula

    def _inputs(self) -> tuple[str, ...]:
        return self.inputs

    def problem(self, tasks: TaskSet) -> tuple[Formula, dict[str, Parameter]]:
        """Return the equation for the columns of these tasks, and parameters with initial values read off the rows."""
        formula = self._unheld(tasks.feature_names, tasks.X.shape[1])
        if self.prior is not None:
            self._reference_values()
        inputs, columns, facts = formula.inputs, formula.columns, formula.target_facts
        if facts.rises and "time" in inputs:
            _refuse_falling(tasks, columns[inputs.index("time")])
        guessed = self.guess(formula.read(tasks.X), tasks.y.reshape(-1).astype(np.float64), tasks)
        return self._held(formula, guessed)

    def equation_for(self, names: Sequence[str]) -> tuple[Formula, dict[str, Parameter]]:
        """Return the equation for columns with these names, and its constants without initial values from data."""
        formula = self._unheld(names, len(names))
        return self._held(formula, self._reference_values())

    from_population: Any = classmethod(from_population)

    def settings_of_population(self) -> dict[str, Any]:
        """Return the settings that the constants belong to; constants that were read off the data are held."""
        usual = {name: value for name, (value, _) in self.optional_constants.items()}
        fixed = {name: float(value) for name, value in self.fixed_.items() if usual.get(name) != value}
        chosen: dict[str, Any] = {"optional": list(self.optional), "fixed": fixed}
        return {name: value for name, value in chosen.items() if value}

    def _reference_values(self) -> dict[str, float]:
        """Return the constants that a fit reads off the data, as they are given where a population is kept."""
        fixed = as_mapping(self.fixed, "fixed")
        for name in self.read_off:
            if name not in fixed:
                raise ValueError(
                    f"fixed: without tasks to read it off, {name!r} has to be given: settings={{'fixed': {{{name!r}: "
                    "...}} of the population, or fixed=."
                )
        return {name: fixed[name] for name in self.read_off}

    def _unheld(self, names: Sequence[str] | None, n_columns: int) -> Formula:
        """Return the equation for some columns, before constants are held."""
        cls, inputs = type(self), self._inputs()
        if self.levels is not None and any(isinstance(column, int) for column in (self.columns or {}).values()):
            raise ValueError("columns: with levels= the inputs are named, and not numbered; give X named columns.")
        columns = _find_columns(inputs, self.columns, names, n_columns)
        return Formula(self._formula(), inputs, columns, {}, self.target, self.limits, cls.inverse, cls.examine)

    def _held(self, formula: Formula, guessed: Mapping[str, float]) -> tuple[Formula, dict[str, Parameter]]:
        """Return the equation with its held constants, and the table of those to fit."""
        facts, constants = formula.target_facts, self._constants_to_fit()
        refuse_unknown(as_mapping(self.parameters, "parameters"), constants, "parameters")
        table = parameters_to_fit(constants, self.parameters, guessed)
        usual = {name: value for name, (value, _) in self.optional_constants.items() if name not in table}
        read_off = {name: value for name, value in guessed.items() if name not in table and name not in usual}
        bounds = {name: parameter.bounds for name, (_, parameter) in self.optional_constants.items() if name in usual}
        if "plateau" in {**table, **usual}:
            # the final value is a value of the target
            low, high = bounds.get("plateau", (-np.inf, np.inf))
            bounds["plateau"] = (low, min(high, facts.upper + facts.noise))
        held = hold(table, self.fixed, {**usual, **read_off}, bounds)
        if "reference" in (self.fixed or {}) and held["reference"] < LIMITS["temperature"][0]:
            raise ValueError(f"fixed: reference = {held['reference']:g}: {KELVIN}.")
        return replace(formula, fixed=held), table

    def _constants_to_fit(self) -> dict[str, Parameter]:
        """Return the constants of the equation and the optional ones that the user chose."""
        if isinstance(self.optional, str) or not isinstance(self.optional, (Sequence, Set)):
            raise TypeError(f"optional must be a list of names, got {self.optional!r}.")
        refuse_unknown(self.optional, self.optional_constants, "optional")
        chosen = {name: self.optional_constants[name][1] for name in self.optional}
        return {**self.constants, **chosen}


def _find_columns(
    inputs: tuple[str, ...], columns: Mapping[str, str | int] | None, feature_names: Sequence[str] | None, n: int
) -> tuple[int, ...]:
    """Return the column of X of each input: as given, by name, or in their order."""
    given = as_mapping(columns, "columns")
    refuse_unknown(given, dict.fromkeys(inputs), "columns")
    names = list(feature_names or [])
    lower = [str(name).lower() for name in names]
    twice = [name for name in inputs if name not in given and lower.count(name) > 1]
    if twice:
        raise ValueError(
            f"columns: several columns of X may hold {twice[0]!r}, which has {names}; write "
            f"columns={{{twice[0]!r}: ...}}."
        )
    by_name = {name: lower.index(name) for name in inputs if name in lower and name not in given}
    missing = [name for name in inputs if name not in given and name not in by_name]
    # the order decides where X has no names, and where a single column of another name must be the single input
    strange = names and (n != 1 or len(inputs) != 1 or _INPUT_NAMES & set(lower))
    if missing and (given or by_name or strange):
        raise ValueError(
            f"columns: which column of X holds {missing[0]!r}? X has {names or n}; write "
            f"columns={{{missing[0]!r}: ...}}."
        )
    numbers = []
    for position, name in enumerate(inputs):
        where = given.get(name, by_name.get(name, position))
        if isinstance(where, str):
            if where not in names:
                raise ValueError(f"columns: there is no column {where!r} in X, which has {names or n}.")
            where = names.index(where)
        if not is_whole(where):
            raise TypeError(f"columns: {name!r} must be a column's name or number, got {where!r}.")
        if not 0 <= where < n:
            raise ValueError(f"columns: {name!r} would be column {where} of X, which has {n}; the inputs are {inputs}.")
        numbers.append(int(where))
    return tuple(numbers)


def _refuse_falling(tasks: TaskSet, column: int) -> None:
    """Raise a ValueError if y falls with time in most of the tasks with enough rows."""
    falling = judged = 0
    for task in tasks:
        time = task.X[:, column].astype(np.float64)
        y = task.y.reshape(-1).astype(np.float64)
        if len(y) >= _LEAST_ROWS and np.ptp(time) > 0 and np.ptp(y) > 0:
            judged += 1
            falling += bool(np.corrcoef(time, y)[0, 1] < _FALLING)
    if 2 * falling > judged:
        raise ValueError(
            f"y falls with time in {falling} of {judged} tasks; y must be the transformed fraction, which rises "
            "(1 - y?)."
        )
