"""A published population kept in place of a fit, and the one a fit has learned; methods of ``EquationRegressor``."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from metaest.estimators import inputs
from metaest.estimators.arguments import require_count
from metaest.estimators.columns import Columns
from metaest.estimators.equations import published
from metaest.estimators.equations.answers import MOST_SIMULATED
from metaest.estimators.equations.censoring import bounds_of
from metaest.estimators.equations.checks import check_tasks, require_positive_tasks, warn_of_unlikely
from metaest.estimators.equations.correlation import TIME_NAMES
from metaest.estimators.equations.fit.pipeline import FitResult
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.likelihood import integral_of
from metaest.estimators.equations.many_tasks import posterior_of_many
from metaest.estimators.equations.noises import numbered_outputs
from metaest.estimators.equations.outcomes import require_simulated
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.equations.tables import attributes
from metaest.estimators.equations.task_rows import refuse_levels, support_tasks
from metaest.estimators.equations.updating import Updated, update, weights_of
from metaest.estimators.guard import FittedGuard, thinned
from metaest.estimators.guard import learn_guard as learn_guard_of_training_tasks
from metaest.estimators.seen_tasks import SeenTasks, hashed
from metaest.exceptions import warn
from metaest.population import Parameter, Population, Provenance
from metaest.population.json_form import plain_settings
from metaest.population.numbers import as_names
from metaest.population.parameter import check_names, check_table
from metaest.tasks import TaskSet
from metaest.tasks.random_state import generator_of
from metaest.tasks.reading import column_names_of

__all__ = [
    "columns_of",
    "from_population",
    "given_tasks",
    "keep",
    "kept_or_updated",
    "learn_guard",
    "remember",
    "require_usual_settings",
    "simulate_tasks",
    "source_of",
    "to_population",
    "warn_outside",
]


class Kept(Protocol):
    """An equation regressor, which may keep a population."""

    prior: Population | None
    prior_weight: float | str
    prior_weights_: Any
    checkpoint: Any
    n_features_in_: int
    n_tasks_: int
    n_rows_: int
    feature_range_: NDArray[Any]
    _fitted: FittedEquation
    _further: tuple[FittedEquation, ...] | None
    _published: Population | None
    _judged: TaskSet | None
    _judges: dict[Any, FittedGuard]

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations."""

    def simulate(self, X: Any, n: int = 1, random_state: Any = None) -> NDArray[np.float64]:
        """Draw observations of new tasks."""

    def settings_of_population(self) -> dict[str, Any] | None:
        """Return the settings that the constants of a catalogue's model belong to; None for an equation of yours."""

    def problem(self, tasks: TaskSet) -> tuple[Callable[..., torch.Tensor], Mapping[str, Parameter | float]]:
        """Return equation and parameters for a TaskSet, as the constructor takes them."""

    def equation_for(self, names: Sequence[str]) -> tuple[Callable[..., torch.Tensor], Mapping[str, Parameter | float]]:
        """Return the equation for columns with these names, and its constants; subclasses make it of their settings."""


def from_population(cls: Any, /, equation: Callable[..., torch.Tensor], population: Population, **settings: Any) -> Any:
    """Return a model with the numbers of a population, fitted to no data: `adapt` works at once.

    It is ``cls(equation, population.constants, ..., prior=population, prior_weight=inf).fit([])``: a clone, and a
    later ``fit(tasks)``, keep the population. Columns of X are those that the population states, unless tasks, or a
    data frame without rows, ``fit(DataFrame(columns=[...]))``, bring their own. What needs training tasks takes
    ones that are simulated (`simulate_tasks`): ``model.calibrate(tasks)`` for conformal intervals,
    ``model.learn_guard(tasks=tasks)`` for the guard.

    Parameters
    ----------
    equation : callable
        ``equation(X, **constants) -> y``, as the constructor takes it.
    population : Population
    **settings : dict
        Further settings of the constructor.

    Returns
    -------
    EquationRegressor
        Fitted.

    Raises
    ------
    TypeError, ValueError
        When the population belongs to another equation, or settings contradict it; the message names the constant.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter, Population
    >>> from metaest.population import Block, NoiseModel
    >>> def decay(X, start, rate):
    ...     return start * torch.exp(-rate * X[:, 0])
    >>> published = Population(
    ...     {"start": Parameter(10, lower=0, unit="mg/L"), "rate": Parameter(0.2, lower=0, unit="1/h")},
    ...     Block(cv={"start": 0.3, "rate": 0.4}),
    ...     NoiseModel("proportional", cv=0.1),
    ...     columns={"time": "h"},
    ... )
    >>> model = EquationRegressor.from_population(decay, published)
    >>> patient = model.adapt([[1.0], [6.0]], [7.9, 2.1])
    >>> patient.params_["value"].round(2).to_dict()
    {'start': 10.01, 'rate': 0.26}
    """
    return cls(equation, dict(_checked(population).constants), **{**population.as_settings(), **settings}).fit([])


def to_population(
    self: Kept, *, columns: Mapping[str, str] | None = None, target: str = "", provenance: Provenance | None = None
) -> Population:
    """Return what the fit has learned as a population, which holds no row of a training task.

    Parameters
    ----------
    columns : dict of str to str, optional
        Names of the columns of X, in their order, with their units; by default the names of the fit.
    target : str, default=""
        Unit of y.
    provenance : Provenance, optional
        By default the numbers of tasks and rows, and the ranges of the columns, rounded to two digits; not of times,
        which a column "time" or "t" holds or that an equation names as ``time_column``, nor of ``design_columns``.

    Returns
    -------
    Population

    Raises
    ------
    ValueError
        When the model averages structures, or has learned something that a population does not hold.

    Warns
    -----
    UserWarning
        When the uncertainty of the covariance between tasks is lost (``small_sample="integrate"``).

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import make_sinusoids
    >>> def wave(X, amplitude, phase):
    ...     return amplitude * torch.sin(X[:, 0] + phase)
    >>> tasks = make_sinusoids(12, 10, noise=0.1, random_state=0)
    >>> model = EquationRegressor(wave, {"amplitude": Parameter(2.0, lower=0), "phase": 1.5}).fit(tasks)
    >>> waves = model.to_population(columns={"x": "rad"}, target="V")
    >>> waves.random, waves.provenance.n_tasks
    (('amplitude', 'phase'), 12)
    """
    check_is_fitted(self)
    refuse_levels(self._fitted, "to_population")
    if provenance is not None and not isinstance(provenance, Provenance):
        raise TypeError(f"to_population: provenance must be a Provenance, got {provenance!r}.")
    if self._further:
        raise ValueError("to_population: this model averages structures; fit the one you want (noise=, covariance=).")
    if self._fitted.uncertain is not None:
        warn(
            "to_population: a population has no uncertainty of its covariance between tasks; intervals of a model that "
            "keeps it are narrower than those of this one (small_sample='integrate')."
        )
    names = Columns(self).names
    of_fit = [f"x{j}" for j in range(self.n_features_in_)] if names is None else list(names)
    given = dict.fromkeys(of_fit, "") if columns is None else as_names(columns, "to_population: columns")
    if list(given) != of_fit if names is not None else len(given) != len(of_fit):
        raise ValueError(f"to_population: columns must be those of the fit, {of_fit}, got {list(given)}.")
    if self._published is not None and np.isinf(self.prior_weights_).all():
        kept = self._published
        changed: dict[str, Any] = {"target": target, "provenance": provenance, "columns": columns and given}
        if kept.equation_hash:  # that of another equation, after `with_equation`
            changed["equation_hash"] = published.equation_hash(self._fitted.given_function)
        return replace(kept, **{name: part for name, part in changed.items() if part})
    catalogue, function, of_class = self.settings_of_population(), self._fitted.given_function, type(self).__name__
    learned_range = self.feature_range_.T.tolist()
    # when something was done and observed says nothing of whom the constants are
    when = {getattr(function, "time_column", None), *getattr(function, "design_columns", ())}
    pairs = zip(given, learned_range, strict=True)
    ranges = {
        name: (low, high)
        for j, (name, (low, high)) in enumerate(pairs)
        if j not in when and name.lower() not in TIME_NAMES
    }
    return published.population_of(
        self._fitted,
        given,
        target=target,
        equation=str(getattr(function, "__name__", type(function).__name__)) if catalogue is None else of_class,
        settings=catalogue or {},
        equation_hash=published.equation_hash(function) if catalogue is None else "",
        provenance=provenance or Provenance(n_tasks=self.n_tasks_, n_rows=self.n_rows_, ranges=ranges),
    )


def simulate_tasks(self: Kept, designs: Any, n: int, random_state: Any = None) -> TaskSet:
    """Draw new tasks of the population: constants from between tasks, and observations of a design.

    Parameters
    ----------
    designs : array-like or data frame of shape (n_rows, n_features), or sequence of them
        The rows X of a task; of several designs the tasks take one after the other.
    n : int
        Number of tasks.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    TaskSet

    Raises
    ------
    TaskError, ValueError
        When a design cannot be the rows of a task of this model.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter, Population
    >>> from metaest.population import Block, NoiseModel
    >>> def line(X, slope):
    ...     return slope * X[:, 0]
    >>> lines = Population(
    ...     {"slope": 2.0}, Block(sd={"slope": 0.5}), NoiseModel("additive", sd=0.1), columns={"x": ""}
    ... )
    >>> model = EquationRegressor.from_population(line, lines)
    >>> tasks = model.simulate_tasks([[[1.0], [2.0]], [[1.0], [2.0], [3.0]]], 5, random_state=0)
    >>> tasks.sizes.tolist()
    [2, 3, 2, 3, 2]
    """
    check_is_fitted(self)
    require_count(n, "n", 1, most=MOST_SIMULATED)
    require_simulated(self._fitted.model.noise, "simulate_tasks")
    several = list(designs) if _are_several(designs) else [designs]
    seeds = generator_of(random_state).randint(2**31 - 1, size=len(several))
    names, tasks = Columns(self).names, dict[int, tuple[Any, Any]]()
    levels = None if self._fitted.levels is None else self._fitted.levels.columns
    for j, (design, seed) in enumerate(zip(several, seeds, strict=True)):
        chosen = range(j, n, len(several))
        if not chosen:
            break
        if levels is not None:
            levels, design = levels.extended(design, "simulate_tasks")
        values = self.simulate(design, len(chosen), int(seed))
        design = numbered_outputs(self._fitted.model.noise, design, "simulate_tasks")
        rows, _, given = inputs.as_rows(design, None, "simulate_tasks")
        if names is not None and given is None:
            design = pd.DataFrame(rows, columns=list(names))
        tasks |= {i: (design, y) for i, y in zip(chosen, values, strict=True)}
    drawn = inputs.as_tasks({f"simulated {i + 1}": tasks[i] for i in range(n)})
    return drawn if levels is None else drawn.with_level_labels(levels.labels_by_name)


def learn_guard(self: Kept, gap: int = 0, tasks: Any = None) -> None:
    """Learn now what guarded adaptations need of the training rows, which files and pickles leave out.

    Parameters
    ----------
    gap : int, default=0
    tasks : TaskSet, optional
        In place of the training tasks, which a model with a published population lacks: see `simulate_tasks`.

    Raises
    ------
    TaskError, ValueError
        When no guard can be learned from `tasks`; the model is then as it was.
    """
    if tasks is None:
        learn_guard_of_training_tasks(self, gap)
        return
    refuse_levels(self._fitted, "learn_guard")
    before = self._judged, self._judges
    self._judged, self._judges = thinned(support_tasks(Columns(self), self._fitted, tasks, None)), {}
    try:
        self._fitted_guard(gap)
    except BaseException:
        self._judged, self._judges = before
        raise


def _are_several(designs: Any) -> bool:
    """Tell whether these are the rows of several tasks, and not the rows of one."""
    if not isinstance(designs, (list, tuple)) or not designs:
        return False
    try:
        return np.ndim(designs[0]) == 2
    except (ValueError, TypeError, RuntimeError):  # a ragged list, a tensor of another device
        return False


def keep(model: Kept, settings: FitSettings, names: list[str], tasks: TaskSet | None) -> Updated:
    """Return the population of `prior` as a fit returns what it has learned, kept or updated by tasks.

    Parameters
    ----------
    settings : FitSettings
    names : list of str
        Columns of X.
    tasks : TaskSet or None
    """
    population = _checked(model.prior)
    if model.checkpoint is not None:
        raise ValueError("checkpoint is for a fit that takes long; a prior is kept, or updated within seconds.")
    if isinstance(model.prior_weight, bool):
        raise ValueError(
            f"prior_weight must be a number of tasks above 0, or 'auto', got {model.prior_weight!r}; 1.0 is one task."
        )
    _require_settings(settings, population)
    _require_same_model(model, population)
    function, given = model.equation_for(names) if tasks is None else model.problem(tasks)
    expected = check_table(given)
    fitted, mode, reason = published.fitted_of(
        population, function, names, bounds_of(settings, names), expected, settings.time_varying
    )
    if tasks is None:
        posterior = fitted.prior(fitted.design(np.zeros((0, len(fitted.covariates.columns)))))
        log_likelihood = np.nan
    else:
        if fitted.model.noise.logarithmic:
            require_positive_tasks(tasks)
        check_tasks(function, tasks)
        posterior = posterior_of_many(fitted, tasks, verbose=False)
        # an update takes rows in another unit for noise, and says nothing else of them
        warn_of_unlikely(posterior, tasks.names, "fit")
        if model.prior_weight != np.inf:
            weight = None if model.prior_weight == "auto" else float(model.prior_weight)
            return update(settings, fitted, tasks, weight, (mode, reason))
        log_likelihood = float(integral_of(fitted, tasks, where="fit").value.sum())
    why = "nothing was fitted"
    # a publication seldom says how well a standard deviation between tasks is told
    omega_error = torch.full((len(fitted.table),), torch.nan, dtype=torch.float64)
    kept = FitResult(fitted, posterior, log_likelihood, 0, [], mode, reason, False, why, omega_error, "")
    return Updated(kept, weights_of(fitted, np.full(len(fitted.table), np.inf), np.inf))


def source_of(population: Population, weights: Any) -> str:
    """Return the line of a summary that says where the numbers come from."""
    if np.isinf(weights).all():
        return f"Not fitted. The numbers come from: {population.provenance}"
    counts = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
    return f"Updated from a population: {population.provenance}\nwhich counts as tasks: {counts}"


def _checked(population: Any) -> Population:
    if not isinstance(population, Population):
        raise TypeError(f"a Population is wanted, got {population!r}; read one by Population.from_json(path).")
    return population


def _require_settings(settings: FitSettings, population: Population) -> None:
    """Raise a ValueError where settings contradict a population that is kept."""
    if settings.by_query:
        raise ValueError("prior needs objective='evidence'.")
    if settings.small_sample != "none":
        raise ValueError(
            f"small_sample={settings.small_sample!r}, but a published population is not learned from tasks."
        )
    for name, stated in (("noise", population.noise.kind), ("output", getattr(population.noise, "column", None))):
        if getattr(settings, name) != stated:
            raise ValueError(f"{name}={getattr(settings, name)!r}, but the {name} of the population is {stated!r}.")
    if tuple(check_names(settings.random, population.constants, "random")) != population.random:
        raise ValueError(
            f"random={settings.random!r}, but the constants that vary in the population are {list(population.random)}."
        )
    if settings.covariance == "auto" or (settings.diagonal and population.correlated):
        raise ValueError(f"covariance={settings.covariance!r}, but constants of the population are correlated.")
    if settings.levels is not None:
        raise ValueError("levels is no setting of a model that keeps a population; a population has no levels yet.")
    for name in ("covariates", "noise_correlation", "measurement_sd"):
        if getattr(settings, name) not in (None, {}):
            raise ValueError(f"{name} is no setting of a model that keeps its population; the population says it all.")


def _require_same_model(model: Kept, population: Population) -> None:
    """Raise a ValueError where a population belongs to another model of a catalogue, or to other settings of it."""
    name = type(model).__name__
    if hasattr(model, "equation"):
        if population.settings:
            raise ValueError(
                f"the constants of the population belong to the settings {dict(population.settings)} of "
                f"{population.equation or 'another model'}, and not to an equation that is a function."
            )
        return
    if population.equation and population.equation != name:
        raise ValueError(f"the population belongs to {population.equation}, and not to {name}.")
    for setting, stated in population.settings.items():
        _require_setting(model, setting, stated)


def kept_or_updated(self: Any, settings: FitSettings, population: Population, given: TaskSet | list[str]) -> None:
    """Keep a population, or update it by tasks."""
    tasks, names = None if isinstance(given, list) else given, columns_of(self, population, given)
    if tasks is not None:
        tasks = self._limited(tasks)
    self._further, self.structures_, self._published = None, None, population
    seed = int(check_random_state(self.random_state).randint(2**31 - 1))
    learned, self.prior_weights_ = keep(self, settings, names, tasks)
    self._remember(learned, tasks, settings, seed, names, source_of(population, self.prior_weights_))
    require_usual_settings(self, population)


def warn_outside(self: Any, values: Mapping[int, Any], where: str) -> None:
    """Warn of values, by the number of their column, that are outside the ranges of a published population."""
    names = Columns(self).names
    if self._published is not None and names is not None:
        by_name = {names[j]: np.atleast_1d(column) for j, column in values.items() if j < len(names)}
        published.warn_outside(self._published.provenance, by_name, where)


def remember(
    self: Any,
    learned: FitResult,
    tasks: TaskSet | None,
    settings: FitSettings,
    seed: int,
    names: Sequence[str] | None,
    source: str | None = None,
) -> None:
    """Set what the model knows after a fit to tasks, or without any; `source` is that of a population."""
    self._fitted, self._seed, self._conformal, self._judges = learned.fitted, seed, None, {}
    self.__dict__.update(attributes(learned, tasks, settings, source))
    self._judged = None if tasks is None or learned.fitted.levels is not None else thinned(tasks)
    self._task_names = hashed([] if tasks is None else tasks.names)
    self._seen = None if tasks is None else SeenTasks.learn(tasks, seed)
    self.__dict__.pop("_y_mean", None)
    if tasks is not None:
        self._y_mean = tasks.y.mean(dtype=np.float64)
    self.n_features_in_ = len(names or ()) if tasks is None else tasks.X.shape[1]
    Columns(self).remember_names(names)
    if tasks is not None:
        Columns(self).remember_range(tasks.X)
    else:
        Columns(self).remember_stated_range(self.prior.provenance.ranges if self.prior is not None else {})


def require_usual_settings(model: Kept, population: Population) -> None:
    """Raise a ValueError where a population names its model, and the model has unusual settings that it does not state.

    Parameters
    ----------
    model : EquationRegressor
        Fitted.
    population : Population
    """
    arguments = inspect.signature(type(model)).parameters
    for setting in (model.settings_of_population() or {}) if population.equation else ():
        if setting not in population.settings:
            _require_setting(model, setting, arguments[setting].default)


def _require_setting(model: Kept, name: str, stated: Any) -> None:
    value, stated = getattr(model, name, None), plain_settings({name: stated})[name]
    if (list(value) if isinstance(value, tuple) else value) != stated:
        raise ValueError(f"{name}={value!r}, but the constants of the population belong to {name}={stated!r}.")


def columns_of(model: Kept, population: Population, tasks: TaskSet | list[str]) -> list[str]:
    """Return the names of the columns of X: of the tasks, as they were given without a task, or of the population.

    Raises
    ------
    ValueError
        When there are none, or a function would read others, since it reads columns by their place.
    """
    stated = list(population.columns)
    names = tasks if isinstance(tasks, list) else list(tasks.feature_names or ())
    if not names and isinstance(tasks, TaskSet) and len(stated) != tasks.X.shape[1]:
        raise ValueError(
            f"X has {tasks.X.shape[1]} columns without names, and the population {stated or 'no columns'}."
        )
    if not (names or stated):
        raise ValueError("the population does not say which columns X has; write them into its columns=.")
    if names and hasattr(model, "equation") and names[: len(stated)] != stated:
        raise ValueError(
            f"X has the columns {names}, but the equation of the population reads {stated}, in this order."
        )
    # a model of a catalogue may read a column of the population from several of X
    return names or list(getattr(model, "columns_of_population", list)(stated))


def given_tasks(X: Any, y: Any, groups: Any, sample_weight: Any) -> TaskSet | list[str]:
    """Return the tasks that a model with a population is given, or, where there are none, the columns of X."""
    if y is None and not isinstance(X, TaskSet) and inputs.is_empty(X):
        return list(column_names_of(X) or ())
    tasks = inputs.require_columns(inputs.as_tasks(X, y, groups, weighs=True, sample_weight=sample_weight))
    inputs.require_one_target(tasks, "an equation gives one value a row", flat=y is not None)
    return tasks
