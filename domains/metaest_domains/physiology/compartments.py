"""The base of the pharmacokinetic estimators: constants with units, initial values from the data, reading doses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest import EquationRegressor, Parameter, Population, TaskError, TaskSet
from metaest.estimators.equations.settings import CONSTRAINTS, FitSettings
from metaest.population import Provenance
from metaest.tasks.arguments import is_whole
from metaest.tasks.containers import plain
from metaest_domains.constants import as_mapping, hold, parameters_to_fit, refuse_unknown
from metaest_domains.physiology.changing import changing_of, coefficient_names, without_changing
from metaest_domains.physiology.dose_records import FURTHER, LIMIT_COLUMNS
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.linear_equation import LinearEquation
from metaest_domains.physiology.patient_equation import PatientEquation
from metaest_domains.physiology.record_columns import KEPT, PATIENT_COLUMNS
from metaest_domains.physiology.record_limits import filled
from metaest_domains.physiology.regimen import Regimen, covariate_columns, dose_columns
from metaest_domains.physiology.time_varying import path_columns
from metaest_domains.population import keep_population

__all__ = ["CompartmentRegressor"]

# columns of limits that read_patients writes, and the settings that read them
_LIMITS = dict(zip(LIMIT_COLUMNS, ("limit", "limit_from", "upper_limit"), strict=True))
# columns that read_patients keeps for other models
_REMEDIES = {
    "dvid": "it has one output: read the records of one kind, such as frame[frame['DVID'] == 1]",
    "occasion": "its constants do not differ between occasions: drop the column of occasions",
}
RATE_IN = Parameter(1.0, lower=0, unit="1/time", meaning="rate of absorption")


class CompartmentRegressor(EquationRegressor):
    """A pharmacokinetic model; a subclass gives its constants and its equation.

    Adaptations are guarded by default; ``guard=False`` switches that off.

    Parameters
    ----------
    parametrization : {"volume", "rate"}, default="volume"
        The second constant beside the clearance: the central volume, or the rate of elimination. With a full covariance
        the two are the same model; otherwise they differ in which constants vary independently.
    route : {"oral", "iv"}, default="oral"
        Route of the doses. Oral doses are absorbed at a first-order rate; clearances and volumes are then apparent ones
        (divided by the unknown bioavailability). Intravenous doses are boluses or infusions.
    allometric : str or int, optional
        Column of the weight in kg. Clearances then scale with the weight's power 0.75 and volumes in proportion to it,
        and the constants are those of a patient of 70 kg. A weight above 2,000 is refused, since it looks like grams.
    absorption : {"excess", "rate"}, default="excess"
        The constant of oral absorption: ``absorption``, by which its rate exceeds that of (terminal) elimination, or
        ``absorption_rate``, the rate itself, as published models have it; absorption and elimination can then change
        places (flip-flop), and few samples may not say which is which.
    lag : bool, default=False
        True adds a lag time between the dose and the start of absorption; oral doses only.
    time_varying : dict of str to {"locf", "nocb"}, optional
        Covariates that change over time, such as the creatinine clearance or the weight, and which of their values
        holds between two times: that before ("locf", last observation carried forward, as in Monolix) or that after
        ("nocb", next observation carried backward, as in NONMEM, where the covariates of a record hold in the interval
        that ends at it). X has the columns ``crcl_1`` ..., ``crcl_time_1`` ..., as a :class:`TimeVarying` of a regimen
        writes them. Amounts are carried over from one interval to the next, so that the answer is exact. The constants
        of a patient are those at the mean of such a covariate, at the reference of a population's formula, or at 70 kg.
    fixed : dict of str to float, optional
        Constants to hold at a value.
    parameters : dict of str to Parameter, optional
        Parameters that replace those of the model; the others stay.
    random, covariance, noise, noise_correlation, correlation_time, limit, limit_from, upper_limit, covariates, \
objective, support_size, split, n_episodes, max_iter, compile, prior, prior_weight, random_state, checkpoint, \
checkpoint_every, verbose
        As in :class:`metaest.EquationRegressor`; ``covariance="diagonal"`` and ``noise="combined"`` by default. A
        covariate of `time_varying` multiplies its constants by :math:`e^{c (x - x_0) / s}` as it changes, with the mean
        :math:`x_0` and the standard deviation s of the values in the tasks, and a constant c, ``clearance_by_crcl``,
        that is the same in all patients.

    References
    ----------
    B. J. Anderson, N. H. G. Holford (2008). Mechanism-based concepts of size and maturity in pharmacokinetics.
    :doi:`10.1146/annurev.pharmtox.48.113006.094708`
    """

    guard_by_default = True
    _parameter_constraints = {**CONSTRAINTS, "time_varying": [Mapping, None]}
    constants: ClassVar[Mapping[str, Parameter]] = {}
    # settings that the constants of a population belong to
    settings_of_constants: ClassVar[tuple[str, ...]] = (
        "parametrization", "route", "absorption", "allometric", "lag", "fixed"
    )  # fmt: skip
    equation_class: ClassVar[type[PatientEquation]]

    def __init__(
        self,
        *,
        parametrization: str = "volume",
        route: str = "oral",
        absorption: str = "excess",
        allometric: str | int | None = None,
        lag: bool = False,
        time_varying: Mapping[str, str] | None = None,
        fixed: Mapping[str, float] | None = None,
        parameters: Mapping[str, Parameter | float] | None = None,
        random: Sequence[str] | None = None,
        covariance: str = "diagonal",
        noise: str = "combined",
        noise_correlation: str | None = None,
        correlation_time: str | int | None = None,
        limit: float | str | None = None,
        limit_from: float | str | None = None,
        upper_limit: float | str | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        objective: str = "evidence",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        n_episodes: int | None = None,
        max_iter: int = 300,
        compile: str | bool = "auto",
        prior: Population | None = None,
        prior_weight: float | str = np.inf,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> None:
        self.parametrization = parametrization
        self.route = route
        self.absorption = absorption
        self.allometric = allometric
        self.lag = lag
        self.time_varying = time_varying  # type: ignore[assignment]
        self.fixed = fixed
        self.parameters = parameters  # type: ignore[assignment]
        self.random = random
        self.covariance = covariance
        self.noise = noise
        self.noise_correlation = noise_correlation
        self.correlation_time = correlation_time
        self.limit = limit
        self.limit_from = limit_from
        self.upper_limit = upper_limit
        self.covariates = covariates
        self.objective = objective
        self.support_size = support_size
        self.split = split
        self.n_episodes = n_episodes
        self.max_iter = max_iter
        self.compile = compile
        self.prior = prior
        self.prior_weight = prior_weight
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose

    # settings of EquationRegressor that these models do not offer
    inner_solver = "gauss-newton"
    inner_steps = 0
    meta_gradient = "exact"
    meta_lr = 0.05
    meta_batch_size = 25

    def read(
        self, frame: pd.DataFrame, *, patient: str | None = None, time_unit: str = "h", **columns: Any
    ) -> tuple[pd.DataFrame, NDArray[np.float64]]:
        """Read the records of one new patient as :func:`read_patients` reads those of many.

        Parameters
        ----------
        frame : DataFrame
            Dose records and observations.
        patient : str, optional
            Column that identifies the patient; None looks for one with a usual name (patient, ID, subject ...). Records
            of more than one patient are an error.
        time_unit : {"ms", "s", "min", "h", "D"}, default="h"
            Unit of time of the fit, into which time differences and dates are converted.
        **columns : dict
            Columns by the arguments of :func:`read_patients`; `covariates` and `time_varying` are those of the fit by
            default, and `columns` may give other names for them, as ``{"weight": "WT"}``.

        Returns
        -------
        X : DataFrame
        y : ndarray of shape (n_observations,)
            Arguments of ``adapt``: ``model.adapt(*model.read(frame))``.

        Raises
        ------
        TaskError
            When the frame holds several patients, a record is contradictory or not supported by these models, or
            observations are known by a limit only and the fit had no such limits.

        Warns
        -----
        UserWarning
            When columns were not read, or records have neither a dose nor an observation.
        """
        changing = as_mapping(self.time_varying, "time_varying")
        output = getattr(self, "output", None)
        kept = KEPT["output"] if output == KEPT["output"] else None
        if kept is not None and columns.get("output") is None:
            raise TaskError("the model has several outputs: pass output=, the column of records that tells them apart.")
        constant = [name for name in covariate_columns(self._columns()) if name not in (*changing, kept)]
        wanted = {"covariates": constant, "time_varying": list(changing)}
        needed = [name for argument, names in wanted.items() if argument not in columns for name in names]
        frame, columns["columns"] = _renamed(frame, columns.get("columns"), needed)
        columns.setdefault("covariates", constant)
        columns.setdefault("time_varying", changing)
        given, X, y = Regimen.read(frame, patient=patient, time_unit=time_unit, **columns)
        entered = np.unique(given.compartment)
        if "dose_compartment_1" not in self._columns() and len(entered) == 1 and entered[0] > 1:
            raise TaskError(
                f"all doses enter compartment {entered[0]:g}, and those of the fit entered the usual one of "
                f"route={self.route!r}; drop the column of compartments if these do as well."
            )
        X = self._without_others(X, y)
        no_limit = np.full(len(y), np.nan)
        lacking = {name: no_limit for name in self._columns() if name in LIMIT_COLUMNS and name not in X}
        return self._as_fitted(X.assign(**filled(lacking, y))), y

    def _without_others(self, X: pd.DataFrame, y: NDArray[np.float64]) -> pd.DataFrame:
        """Return rows without limits that the fit did not have, or raise where these, or others, say something."""
        others = [name for name in (*LIMIT_COLUMNS, *_REMEDIES) if name in X and name not in self._columns()]
        for name in others:
            if name in _REMEDIES:
                raise TaskError(f"the records have a column {name!r}, and the model has none; {_REMEDIES[name]}.")
            beyond = np.flatnonzero(y > X[name] if name == "uloq" else y < X[name])
            if name != "lloq_from" and len(beyond):
                raise TaskError(
                    f"observation {beyond[0] + 1}, at time {X['time'].iloc[beyond[0]]:g}, is known by a limit of "
                    f"quantification only, and the model was fitted without {_LIMITS[name]}={name!r}: fit it with "
                    "that, or leave such observations out."
                )
        return X.drop(columns=others)

    def rows(self, regimen: Regimen, times: Any) -> Any:
        """Return the rows of X for predictions at given times under a regimen.

        Parameters
        ----------
        regimen : Regimen
            Doses, and a value for each covariate of the fit.
        times : array-like of shape (n_rows,)
            Times of the rows; a row at the time of a dose is after it.

        Returns
        -------
        DataFrame
            The columns of the fit, and further ones for additional doses: a model of patients with one dose predicts
            for any number of doses. An array if the fit had no column names and its two columns suffice.

        Raises
        ------
        ValueError
            When the regimen lacks a covariate of the fit, or has one that the fit did not have.
        """
        if not isinstance(regimen, Regimen):
            raise TypeError(
                f"regimen must be a Regimen, such as Regimen.repeated(320.0), got {type(regimen).__name__}."
            )
        names = self._columns()
        X = regimen.completed(covariate_columns(names)).rows(times)
        for name in LIMIT_COLUMNS:
            if name in names:  # of rows to be predicted: no limit of the fit is lower, or higher
                X[name] = self.feature_range_[int(name == "uloq"), names.index(name)]
        return self._as_fitted(X)

    def _columns(self) -> list[str]:
        """Return the names of the columns of the fit."""
        check_is_fitted(self)
        if hasattr(self, "feature_names_in_"):
            return list(self.feature_names_in_)
        if self.n_features_in_ > 2:
            raise ValueError("the model was fitted on X without column names, so its covariates cannot be identified.")
        return ["time", "dose"]

    def _as_fitted(self, X: pd.DataFrame) -> Any:
        """Return rows of numbered doses with the columns of the fit first, then further ones for additional doses."""
        names = self._columns()
        if self.equation_.doses.wide:
            return X[names] if set(names) == set(X.columns) else X
        numbered = sum(name.startswith("dose_time_") for name in X.columns)
        durations = [f"dose_duration_{i + 1}" for i in range(numbered)]
        if "dose" in names:
            single = numbered == 1 and not X[["dose_time_1", *durations]].to_numpy().any()
            X = X.rename(columns={"dose_1": "dose"}) if single else X.assign(dose=0.0)
            X = X.drop(columns=["dose_time_1", *durations]) if single else X
        elif not any(name in names for name in durations) and not X[durations].to_numpy().any():
            X = X.drop(columns=durations)
        covariates = covariate_columns(names)
        kept = [name for name in names if name in X.columns or name not in covariates]
        further = [name for name in X.columns if name not in names]
        rows = X.reindex(columns=[*kept, *further], fill_value=0.0)
        return rows if further or hasattr(self, "feature_names_in_") else rows.to_numpy()

    def _constants_to_fit(self) -> dict[str, Parameter]:
        """Return the constants of the chosen parametrization, route and lag."""
        table = dict(self.constants)
        table.pop("elimination" if self.parametrization == "volume" else "volume", None)
        if self.route != "oral":
            table.pop("absorption", None)
        elif self.absorption == "rate":
            table = {
                "absorption_rate" if k == "absorption" else k: RATE_IN if k == "absorption" else p
                for k, p in table.items()
            }
        if self.lag:
            table["lag"] = Parameter(0.1, lower=0, unit="time", meaning="from the dose to the start of absorption")
        return table

    def problem(self, tasks: TaskSet) -> tuple[PatientEquation, dict[str, Parameter]]:
        """Return the equation for the columns of these tasks, and parameters with initial values read off the rows."""
        self._check_choices()
        named = (self.limit, self.limit_from, self.upper_limit, getattr(self, "output", None))
        _refuse_reserved(tasks, self.covariates, named)
        return self._equation_and_table(tasks.feature_names, tasks.X.shape[1], tasks)

    def settings_of_fit(self, settings: FitSettings) -> FitSettings:
        """Return settings without the covariates that change over time, whose coefficients the equation has."""
        settings = replace(settings, time_varying=None)
        names = coefficient_names(self.covariates, self.time_varying) if self.prior is None else {}
        if not names:
            return settings
        if settings.random == "auto":
            raise ValueError("random='auto' and covariates of time_varying do not go together; name the constants.")
        rest = without_changing(self.covariates, self.time_varying)
        held = as_mapping(self.fixed, "fixed")
        every = [name for name in self._constants_to_fit() if name not in held]
        return replace(settings, covariates=rest or None, random=every if settings.random is None else settings.random)

    def columns_of_population(self, stated: Sequence[str]) -> list[str]:
        """Return the columns of X for those that a population states: several of a covariate that changes."""
        changing = as_mapping(self.time_varying, "time_varying")
        return [part for name in stated for part in (path_columns(name, 1) if name in changing else [name])]

    @classmethod
    def from_population(
        cls, population: Population, *, n_doses: int | None = None, records: bool = False, **settings: Any
    ) -> Self:
        """Return a model with the numbers of a published population, fitted to no data.

        See :meth:`metaest.EquationRegressor.from_population`; the equation follows from the settings that the
        population states and the further ones.

        Parameters
        ----------
        population : Population
            Of this model: its ``equation`` is the name of the class, or empty.
        n_doses : int, optional
            Doses for which X has columns (:func:`dose_columns`), as many as the patient with most of them has; by
            default the columns of the population. One patient may always have more.
        records : bool, default=False
            Whether doses may be at steady state, of other compartments than the usual one, with rates and resets
            (:class:`Regimen`): X then has columns for these as well.
        **settings : dict
            Further settings of the constructor.

        Returns
        -------
        Self
            Fitted.

        Raises
        ------
        TypeError, ValueError
            When the population belongs to another model, or settings contradict it.

        Examples
        --------
        >>> from metaest import Parameter, Population
        >>> from metaest.population import Block, NoiseModel
        >>> from metaest_domains.physiology import OneCompartmentRegressor, Regimen, dose_for
        >>> constants = {"clearance": Parameter(4.0, lower=0), "volume": Parameter(60.0, lower=0)}
        >>> drug = Population(
        ...     constants,
        ...     Block(cv={"clearance": 0.3, "volume": 0.2}),
        ...     NoiseModel("proportional", cv=0.1),
        ...     columns={"time": "h", "dose": "mg"},
        ...     settings={"route": "iv"},
        ... )
        >>> model = OneCompartmentRegressor.from_population(drug)
        >>> round(dose_for(model, Regimen.repeated(1.0, interval=12, n=6), target_trough=10.0).value)
        741
        """
        if (n_doses is not None or records) and isinstance(population, Population):
            lasting = {**population.settings, **settings}.get("route") == "iv"
            n = 1 if n_doses is None else n_doses
            population = _with_doses(population, n, lasting=lasting or records, records=records)
        return keep_population(cls, population, settings)

    def to_population(
        self, *, columns: Mapping[str, str] | None = None, target: str = "", provenance: Provenance | None = None
    ) -> Population:
        """Return what the fit has learned as a population; see :meth:`metaest.EquationRegressor.to_population`.

        Raises
        ------
        ValueError
            As there, and where constants that were learned follow covariates over time.
        """
        check_is_fitted(self)
        kept = self.prior is not None and self.prior_weight == np.inf
        if self.equation_.changing is not None and not kept:
            raise ValueError(
                "to_population: a population does not hold constants that were learned to follow covariates over time "
                "(time_varying=); keep the model itself, by metaest.save."
            )
        return super().to_population(columns=columns, target=target, provenance=provenance)

    def settings_of_population(self) -> dict[str, Any]:
        """Return the settings that the constants belong to."""
        usual = type(self)().get_params()
        return {name: getattr(self, name) for name in self.settings_of_constants if getattr(self, name) != usual[name]}

    def equation_for(self, names: Sequence[str]) -> tuple[PatientEquation, dict[str, Parameter]]:
        """Return the equation for columns with these names, and its constants without initial values from data."""
        self._check_choices()
        return self._equation_and_table(names, len(names), None)

    def _equation_and_table(
        self, names: Sequence[str] | None, n_columns: int, tasks: TaskSet | None
    ) -> tuple[PatientEquation, dict[str, Parameter]]:
        doses = Doses.find(names, n_columns)
        changing = changing_of(self, doses, names or (), tasks)
        if doses.wide and not issubclass(type(self).equation_class, LinearEquation):
            column = (names or ())[doses.design_columns[len(doses.amount) + len(doses.since) + len(doses.duration)]]
            raise ValueError(
                f"X has the column {column!r}, and {type(self).__name__} understands doses by time, amount and "
                "duration alone, of patients whose covariates do not change."
            )
        constants = self._constants_to_fit()
        held = self._held()
        refuse_unknown(as_mapping(self.fixed, "fixed"), {**constants, **held}, "fixed")
        constants |= {
            coefficient.name: Parameter(0.0, meaning=f"of {coefficient.covariate} in {coefficient.constant}")
            for coefficient in changing.coefficients
        }
        table = parameters_to_fit(constants, self.parameters, {} if tasks is None else _guess(doses, tasks))
        fixed = hold(table, self.fixed, held, dict.fromkeys(held, (0.0, 1.0)))
        weight = None if changing.weight is not None else self._weight(names, n_columns)
        parts = doses, weight, fixed, self.route == "oral", tuple(names or ()), self.absorption, changing or None
        return type(self).equation_class(*parts, **self._structure(names, n_columns)), table

    def _held(self) -> dict[str, float]:
        """Return constants between 0 and 1 that are held unless `fixed` says otherwise, with their usual values."""
        return {}

    def _structure(self, names: Sequence[str] | None, n_columns: int) -> dict[str, Any]:
        """Return what the equation is told beside what all of them are."""
        return {}

    def _check_choices(self) -> None:
        """Raise a ValueError where route, parametrization, absorption and lag do not go together."""
        if self.route not in ("oral", "iv"):
            raise ValueError(f"route must be 'oral' or 'iv', got {self.route!r}.")
        if self.parametrization not in ("volume", "rate"):
            raise ValueError(f"parametrization must be 'volume' or 'rate', got {self.parametrization!r}.")
        if self.parametrization == "rate" and "elimination" not in self.constants:
            raise ValueError(f"{type(self).__name__} has no rate of elimination; leave parametrization='volume'.")
        if self.lag and self.route != "oral":
            raise ValueError("lag=True needs route='oral': intravenous doses are not absorbed.")
        if self.absorption not in ("excess", "rate"):
            raise ValueError(f"absorption must be 'excess' or 'rate', got {self.absorption!r}.")

    def _weight(self, columns: Sequence[str] | None, n_columns: int) -> int | None:
        if isinstance(self.allometric, (bool, np.bool_)):
            raise ValueError(f"allometric must be the column of the weight, got {self.allometric!r}.")
        return column_number(self.allometric, columns, n_columns, "allometric")


def _renamed(frame: Any, columns: Any, covariates: Sequence[str]) -> tuple[Any, Any]:
    """Return records whose covariates have the names of the fit, and names of the other columns.

    Raises
    ------
    TaskError
        When a covariate has no column, or a column of its name beside another one that is said to be it.
    """
    frame = plain(frame, "read")
    if not isinstance(frame, pd.DataFrame) or not isinstance(columns, Mapping | None):
        return frame, columns
    others = {name: columns[name] for name in covariates if columns is not None and name in columns}
    for name, column in others.items():
        if column not in frame.columns or (column != name and name in frame.columns):
            there = (
                "the frame has one of that name as well" if name in frame.columns else "the frame has no such column"
            )
            raise TaskError(f"columns: {name!r} is said to be the column {column!r}, and {there}.")
    frame = frame.rename(columns={column: name for name, column in others.items()})
    missing = [name for name in covariates if name not in frame.columns]
    if missing:
        raise TaskError(
            f"there is no column {missing[0]!r}, a covariate of the model; the frame has {list(frame.columns)}. Add "
            f"it, or say which one it is by columns={{{missing[0]!r}: ...}}."
        )
    return frame, columns and {name: column for name, column in columns.items() if name not in others}


def column_number(label: Any, columns: Sequence[str] | None, n_columns: int, setting: str) -> int | None:
    """Return the number of a column that a setting names, or None for None."""
    if label is None:
        return None
    if is_whole(label):
        if not 0 <= label < n_columns:
            raise ValueError(f"{setting}: {label} is not a column of X, which has {n_columns} columns.")
        return int(label)
    names = list(columns or [])
    if label not in names:
        raise ValueError(f"{setting}: there is no column {label!r} in X; it has {names}.")
    return names.index(label)


def _refuse_reserved(tasks: TaskSet, covariates: Mapping[str, Any] | None, columns: Sequence[Any]) -> None:
    """Raise if X has columns that change the meaning of a record, which only the readers of records understand."""
    labels = {
        str(label) for some in (covariates or {}).values() for label in ([some] if isinstance(some, str) else some)
    }
    named = [column for column in columns if isinstance(column, str)]
    names = tasks.feature_names or ()
    for j, name in enumerate(names):
        if name in LIMIT_COLUMNS and name not in named:
            settings = ", ".join(f"{setting}={column!r}" for column, setting in _LIMITS.items() if column in names)
            raise ValueError(f"X has the column {name!r} of limits of quantification: pass {settings} to the model.")
        meaning = PATIENT_COLUMNS.reserved.get(name.strip().lower())
        if meaning and name not in [*labels, *named] and (tasks.X[:, j] != 0).any():
            remedy = _REMEDIES.get(name, "read_patients does")
            raise ValueError(f"X has the column {name!r} ({meaning}), which the model does not interpret; {remedy}.")


def _with_doses(population: Population, n: int, *, lasting: bool, records: bool) -> Population:
    """Return a population whose columns have room for n doses, so that a clone of a model that keeps it has as well."""
    units, doses = population.columns, dose_columns(n) if lasting else dose_columns(n)[: 2 * n]
    amount, time = units.get("dose", units.get("dose_1", "")), units.get("time", "")
    columns = {"time": time, **{name: time if "time" in name or "duration" in name else amount for name in doses}}
    if records:
        columns |= {f"dose_{name}_{i}": time if name == "interval" else "" for name in FURTHER for i in range(1, n + 1)}
    columns |= {name: units[name] for name in covariate_columns(list(units))}
    return replace(population, columns=columns)


def _guess(doses: Doses, tasks: TaskSet) -> dict[str, float]:
    """Return initial values read off the data, so that units do not matter."""
    volumes = []
    spans = []
    for task in tasks:
        amount, since, _ = doses.read(task.X.astype(np.float64))
        top = float(task.y.max())
        if top > 0 and amount.max() > 0:
            volumes.append(float(amount.max()) / top)
        passed = np.where(amount > 0, since, np.inf).min(axis=1)
        spans.append(float(np.max(passed[np.isfinite(passed)], initial=0.0)))
    volume = float(np.median(volumes)) if volumes else 1.0
    rate = 2 / (float(np.median(spans)) or 1.0)
    return {
        "volume": volume,
        "clearance": volume * rate,
        "elimination": rate,
        "absorption": 5 * rate,
        "absorption_rate": 6 * rate,
        "exchange": volume * rate,
        "peripheral": volume,
        "exchange_2": 0.3 * volume * rate,
        "peripheral_2": 3 * volume,
        "transit_time": 0.2 / rate,
        "absorption_time": 0.4 / rate,
        "metabolite_clearance": volume * rate,
        "metabolite_volume": volume,
        "lag": 0.02 / rate,
        "capacity": 0.5 * volume * rate * (float(np.abs(tasks.y).max()) or 1.0),
        "affinity": 0.5 * (float(np.abs(tasks.y).max()) or 1.0),
    }
