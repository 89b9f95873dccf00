"""AdaptedUnits: the equation with the constants of the units of one task, adapted together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.arguments import check_interval, require_count, require_flag
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration, conformal_interval
from metaest.estimators.equations.adapted import AdaptedEquation
from metaest.estimators.equations.answers import (
    MOST_SIMULATED,
    curve,
    curve_and_sd,
    interval,
    observed_at,
    spread_of_observations,
)
from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.censoring import check_bounds, coded, warn_of_values_at_limit
from metaest.estimators.equations.checks import require_finite_curve, require_positive
from metaest.estimators.equations.covariates import TOLERANCE
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.noises import check_outputs, numbered_outputs
from metaest.estimators.equations.units.adapting import adapt_units, checked_rows
from metaest.estimators.equations.units.draws import joint_constants
from metaest.estimators.equations.units.levels import LevelColumns, Units, require_label
from metaest.estimators.equations.units.posterior import UnitPosterior, population_of_unit
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictor
from metaest.exceptions import TaskError
from metaest.functional import SolveCode
from metaest.tasks import TaskSet
from metaest.tasks.random_state import generator_of
from metaest.tasks.record import read_only

__all__ = ["AdaptedUnits", "adapted_units", "units_of_task"]

Path = tuple[float, ...]
# what is computed when it is first asked for
_COMPUTED = ("_by_unit", "_params", "_moments", "_support")


def units_of_task(
    columns: LevelColumns, X: NDArray[Any], y: NDArray[Any], weight: NDArray[Any] | None, where: str
) -> Units:
    """Return the rows of one task, levels included, taken apart into units."""
    names = np.empty(1, dtype=object)
    names[0] = "this task"
    task = TaskSet.from_checked(X, y, np.array([0, len(X)]), names, sample_weight=weight)
    return columns.units(task, where)


def adapted_units(
    columns: Columns,
    fitted: FittedEquation,
    X: Any,
    y: Any,
    sample_weight: Any,
    where: str,
    before: AdaptedUnits | None = None,
    earlier: UnitPosterior | None = None,
    conformal: Calibration | None = None,
) -> AdaptedUnits:
    """Adapt to rows of one task that say to which unit they belong.

    Parameters
    ----------
    columns : Columns
        Those of the fit.
    fitted : FittedEquation
        With levels.
    X, y, sample_weight
        As ``adapt`` takes them.
    where : str
        How messages begin.
    before : AdaptedUnits, optional
        The same task, adapted to other rows, which count together with these.
    earlier : UnitPosterior, optional
        Of the same task: what rows said that are not there any more.
    conformal : Calibration, optional
        Of the model.
    """
    levels, X = (fitted.levels.columns if before is None else before._levels).extended(X, where)
    X = numbered_outputs(fitted.model.noise, X, where)
    rows, target = columns.support_rows(X, y, where, single_target=True, n_outputs=1)
    rest = levels.split(rows)[1]
    check_outputs(fitted.model.noise, rest, where)
    warn_of_values_at_limit(fitted.bounds, rest, target, where)
    check_bounds(fitted.bounds, rest, target, where, logarithmic=fitted.model.noise.logarithmic)
    target = coded(fitted.bounds, rest, target.reshape(-1))
    rows, target, weight = fitted.row_accuracy.weighted_rows(rows, target, sample_weight, where)
    if fitted.model.noise.logarithmic:
        require_positive(target, where)
    if before is not None:
        earlier, conformal = before._earlier, before._conformal
        if weight is not None or before.sample_weight_support_ is not None:
            w = before.sample_weight_support_
            w = np.ones(len(before.X_support_)) if w is None else w
            weight = np.concatenate([w, np.ones(len(rows)) if weight is None else weight])
        rows = np.concatenate([before.X_support_, rows])
        target = np.concatenate([before.y_support_, target])
    if len(rows):
        units: UnitPosterior | None = adapt_units(
            fitted, units_of_task(levels, rows, target, weight, where), levels, where, earlier
        )
    else:
        units = None if earlier is None else replace(earlier, earlier=earlier)
    adapted = AdaptedUnits(
        fitted, units, levels, read_only(np.array(rows)), read_only(np.array(target)), rows.shape[1],
        None if weight is None else read_only(np.array(weight)), earlier, conformal,
    )  # fmt: skip
    if columns.names is not None:
        object.__setattr__(adapted, "feature_names_in_", columns.names)
    return adapted


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedUnits(AdaptedPredictor):
    """An equation whose constants were adapted to the units of one task together; made by ``adapt``, never changed.

    Rows of a unit that was adapted to use its constants. Those of a new unit use what is known of the units it lies in,
    and vary as units do: their intervals are wider.

    Attributes
    ----------
    params_ : DataFrame
        One row a unit and constant: ``value``, ``standard_error`` (to first order), ``lower_90``, ``upper_90``,
        ``unit`` and, for each level, ``shrinkage_<level>``: the share of the variance at that level that the rows
        leave (1 where they say nothing; NaN where the constant does not vary there).
    units_ : list of tuple
        Labels of the units that were adapted to, outer to inner.
    status_ : str
        How the search ended: "converged", "max_iter", "stalled" or "not_finite".
    X_support_, y_support_ : ndarray
        The support rows; there may be none.
    sample_weight_support_ : ndarray or None
        Their weights; None where all are 1.
    equation_ : callable
    limit_ : float, str or None
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.

    See Also
    --------
    EquationRegressor : The model with ``levels=`` whose ``adapt`` makes it.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest import EquationRegressor, TaskSet
    >>> rng = np.random.default_rng(0)
    >>> def line(X, start, slope):
    ...     return start + slope * X[:, 0]
    >>> x, visit = np.tile(np.arange(4.0), 3), np.repeat([1.0, 2.0, 3.0], 4)
    >>> tasks = {}
    >>> for patient in range(30):
    ...     start = rng.normal(5, 1) + rng.normal(0, 0.5, 3)[visit.astype(int) - 1]
    ...     tasks[patient] = np.column_stack([x, visit]), start + 0.3 * x + rng.normal(0, 0.1, 12)
    >>> model = EquationRegressor(line, {"start": 1.0, "slope": 1.0}, random=["start"], levels={1: ["start"]})
    >>> patient = model.fit(tasks).adapt([[0.0, 1], [1.0, 1], [0.0, 2]], [6.1, 6.4, 5.2])
    >>> patient.units_
    [(1,), (2,)]
    >>> patient.predict([[2.0, 1], [2.0, 9]]).round(0)
    array([7., 6.])
    """

    _fitted: FittedEquation
    _posterior: UnitPosterior | None
    _levels: LevelColumns
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int
    sample_weight_support_: NDArray[np.float64] | None = None
    _earlier: UnitPosterior | None = None
    _conformal: Calibration | None = None
    _multi_output = False

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in super().__getstate__().items() if name not in _COMPUTED}

    @property
    def n_outputs_(self) -> int:
        """Number of targets: 1."""
        return 1

    @property
    def equation_(self) -> Any:
        """The equation as it was given."""
        return self._fitted.given_function

    @property
    def limit_(self) -> float | str | None:
        """The limit of quantification of the fit."""
        return self._fitted.limit

    @property
    def status_(self) -> str:
        """How the search for the constants ended."""
        code = SolveCode.CONVERGED if self._posterior is None else SolveCode(int(self._posterior.code[0]))
        return code.name.lower()

    @property
    def units_(self) -> list[tuple[Hashable, ...]]:
        """Labels of the units that were adapted to, outer to inner."""
        return [self._labels(path) for path in self._paths]

    @property
    def _paths(self) -> list[Path]:
        return [] if self._posterior is None else [path[1:] for path in self._posterior.paths]

    def _labels(self, path: Path) -> tuple[Hashable, ...]:
        return tuple(self._levels.label(level, code) for level, code in enumerate(path))

    @cached_property
    def _by_unit(self) -> dict[Path, AdaptedEquation]:
        """Units that were asked for, by their numbers; a new unit with covariates is made each time."""
        return {}

    @cached_property
    def _support(self) -> dict[Path, tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]]:
        """The rows of each unit that has some, without levels."""
        if not len(self.X_support_):
            return {}
        units = units_of_task(self._levels, self.X_support_, self.y_support_, self.sample_weight_support_, "adapt")
        return {
            tuple(path[1:]): (task.X, task.y, None if task.sample_weight is None else np.asarray(task.sample_weight))
            for path, task in zip(units.places.paths[-1], units.tasks, strict=True)
        }

    def _with(self, path: Path, covariates: NDArray[Any] | None) -> tuple[UnitPosterior, int]:
        """Return the units with one among them, which may be new, and its number."""
        whole = (0.0, *path)
        if self._posterior is not None and whole in self._posterior.paths:
            return self._posterior, self._posterior.paths.index(whole)
        if covariates is None:
            covariates = np.zeros(len(self._fitted.covariates.columns))
            if len(covariates):
                raise TaskError(
                    f"unit: {self._labels(path)} is new, and the population has covariates; pass rows of it to predict."
                )
        multiplier = self._fitted.design(covariates[None]).multiplier
        units = self._posterior if self._posterior is not None else _no_units(self._fitted)
        units = units.with_unit(whole, multiplier)
        return units, units.paths.index(whole)

    def _unit(self, path: Path, covariates: NDArray[Any] | None = None) -> AdaptedEquation:
        """Return the predictor of one unit, which may be new."""
        if path in self._by_unit:
            return self._by_unit[path]
        units, k = self._with(path, covariates)
        fitted, levels = self._fitted, self._fitted.levels
        constant = fitted.covariates.design_constants(len(fitted.table))
        moments = units.without_rows_of(k).moments(levels.population(fitted), constant)
        alone = population_of_unit(fitted, moments, k)
        n = self.n_features_in_ - len(self._levels.columns)
        names = getattr(self, "feature_names_in_", None)
        names = None if names is None else np.array(self._levels.rest(list(names)), dtype=object)
        X, y, weight = self._support.get(path, (np.empty((0, n)), np.empty(0), None))
        if len(X):
            design = alone.design(np.zeros((1, 0)))
            phi, center = units.phi[:, k : k + 1], alone.point(design).center
            with torch.no_grad():
                loss, _, matrix = alone.model.information(
                    phi, alone.population.log_sigma, one_task(X, y, weight=weight)
                )
            inverse = torch.linalg.pinv(alone.population.factor)
            loss = loss + 0.5 * (inverse @ (phi - center)).square().sum(dim=0)
            posterior = alone.posterior_at(phi, design, matrix, loss, units.code[:1])
        else:
            posterior = alone.prior_of(np.zeros(0))
        one = AdaptedEquation._make(alone, posterior, X, y, n, names, weight=weight)
        if covariates is None or (0.0, *path) in (() if self._posterior is None else self._posterior.paths):
            self._by_unit[path] = one
        return one

    @in_plain_modes
    def unit(self, *labels: Any) -> AdaptedEquation:
        """Return the predictor of one unit: everything that can be asked of a task can be asked of it.

        Parameters
        ----------
        *labels : hashable
            Its label at each level, outer to inner, as ``unit("visit 2")``. One that was not adapted to is new.

        Returns
        -------
        AdaptedEquation
            Of the columns of X without levels.

        Raises
        ------
        ValueError
            When labels are missing, or a level holds numbers and its label is none.
        """
        path = []
        if len(labels) != len(self._levels.columns):
            raise ValueError(f"unit: one label for each of {list(self._levels.labels)} is wanted, got {labels}.")
        for level, (column, label) in enumerate(zip(self._levels.labels, labels, strict=True)):
            book = self._levels.books[level]
            require_label(label, bool(book), f"unit: the label of {column!r}")
            same = [other[level] for other in self._paths if self._labels(other)[level] == label]
            if same:
                path.append(same[0])
            elif label in book:
                path.append(float(book.index(label)))
            else:
                path.append(float(len(book)) if book else float(label))
        return self._unit(tuple(path))

    @cached_property
    def _params(self) -> pd.DataFrame:
        names, tables = self._fitted.levels.variation.names, []
        for path in self._paths:
            table = self._unit(path).params_[["value", "standard_error", "lower_90", "upper_90", "unit"]].copy()
            for level, name in enumerate(names):
                table[f"shrinkage_{name}"] = self._shrinkage(path, level)[: len(table)]
            tables.append(table)
        index = [(*self._labels(path), name) for path in self._paths for name in self._fitted.given_names]
        columns = [str(label) for label in self._levels.labels]
        if not tables:
            tables = [pd.DataFrame(columns=["value", "standard_error", "lower_90", "upper_90", "unit"])]
        frame = pd.concat(tables)
        frame.index = pd.MultiIndex.from_tuples(index, names=[*columns, "constant"]) if index else frame.index
        return frame

    @cached_property
    def _moments(self) -> Any:
        fitted = self._fitted
        assert self._posterior is not None
        constant = fitted.covariates.design_constants(len(fitted.table))
        return self._posterior.moments(fitted.levels.population(fitted), constant)

    def _shrinkage(self, path: Path, level: int) -> NDArray[np.float64]:
        """Return the share of the variance at a level that the rows leave, of each constant."""
        factor, k = self._fitted.levels.factors[level], self._paths.index(path)
        prior = factor.square().sum(dim=1)
        left = self._moments.by_level[level][:, k]
        return torch.where(prior > 0, (left / prior.clamp(min=1e-300)).clamp(max=1.0), torch.nan).numpy()

    @property
    @in_plain_modes
    def params_(self) -> pd.DataFrame:
        """The constants of every unit with their uncertainty."""
        return self._params.copy()

    def _outputs_of(self, X: Any) -> NDArray[Any] | None:
        column = self._fitted.output_column
        return None if column is None else self._groups(X, "score")[0][:, column]

    def _groups(self, X: Any, where: str) -> tuple[NDArray[Any], list[tuple[NDArray[np.intp], AdaptedEquation]]]:
        """Return rows without levels, and which of them each unit answers."""
        levels, X = self._levels.extended(X, where)
        X = numbered_outputs(self._fitted.model.noise, X, where)
        rows = Columns(self).rows(X, where)
        codes, rest = levels.split(rows)
        checked_rows(self._fitted, rest, where)
        paths, member = np.unique(codes, axis=0, return_inverse=True)
        groups = []
        for g, path in enumerate(paths.tolist()):
            chosen = np.flatnonzero(member.reshape(-1) == g)
            groups.append((chosen, self._unit(tuple(path), self._covariates(tuple(path), rest[chosen], where))))
        return rest, groups

    def _covariates(self, path: Path, X: NDArray[Any], where: str) -> NDArray[Any] | None:
        """Return the covariates of the rows of a unit, which have to be those of the rows adapted to; None of none."""
        covariates = self._fitted.covariates
        if not covariates.columns:
            return None
        values = covariates.of_rows(X, f"{where}: unit {self._labels(path)}")
        if path in self._support:
            before = covariates.of_rows(self._support[path][0], where)
            bad = np.flatnonzero(np.abs(values - before) > TOLERANCE * np.abs(before))
            if len(bad):
                j = int(bad[0])
                raise TaskError(
                    f"{where}: unit {self._labels(path)}: column {covariates.labels[j]!r} is a covariate; it is "
                    f"{values[j]:g}, but {before[j]:g} in the rows adapted to."
                )
        return np.asarray(values)

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of this task, each by the constants of its unit.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            With the columns of levels; a label that was not adapted to is a new unit.
        return_std : bool, default=False
            Whether to return the standard deviation of the curve as well, to first order in the constants.

        Returns
        -------
        y : ndarray of shape (n_rows,)
        std : ndarray of shape (n_rows,)
            Only with `return_std`.

        Raises
        ------
        TaskError
            When the columns are not those of the fit, a value is missing, a covariate is not that of its unit, or the
            equation is not finite in a row.
        """
        require_flag(return_std, "return_std")
        rows, groups = self._groups(X, "predict")
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        for chosen, one in groups:
            if return_std:
                mean[chosen], std[chosen] = curve_and_sd(one._fitted, one._posterior, rows[chosen])
            else:
                mean[chosen] = curve(one._fitted, one._posterior, rows[chosen])
        mean = require_finite_curve(self._fitted.function, rows, mean, "predict")
        return (mean, std) if return_std else mean

    @in_plain_modes
    def predict_interval(
        self,
        X: Any,
        level: float = 0.9,
        method: str = "posterior",
        of: str = "observation",
        simultaneous: bool = False,
        sample_weight: Any = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the ends of an interval for every row; see :meth:`AdaptedEquation.predict_interval`.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        level : float, default=0.9
        method : {"posterior", "conformal"}, default="posterior"
            A conformal interval counts the rows adapted to, whatever their units; rows of tasks to calibrate on should
            be spread over units as those of new tasks will be.
        of : {"observation", "curve"}, default="observation"
        simultaneous : bool, default=False
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)
        """
        check_interval(level, method, of, simultaneous)
        if method == "conformal":
            size = len(self.X_support_)
            return conformal_interval(
                self, X, level, simultaneous, size=size, guarded=False, sample_weight=sample_weight
            )
        rows, groups = self._groups(X, "predict_interval")
        weight = self._fitted.row_accuracy.of_predicted(sample_weight, len(rows), of)
        low, high = np.empty(len(rows)), np.empty(len(rows))
        for chosen, one in groups:
            of_rows = None if weight is None else weight[chosen]
            ends = interval(one._fitted, one._draws, rows[chosen], level, of, of_rows, one._near_rows)
            low[chosen], high[chosen] = ends
        require_finite_curve(self._fitted.function, rows, high - low, "predict_interval")
        return low, high

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        mean, sd = self.predict(X, return_std=True)
        weight = self._fitted.row_accuracy.of_new_rows(sample_weight, len(mean), "predict_interval")
        rows, _ = self._groups(X, "predict_interval")
        return mean, spread_of_observations(self._fitted, mean, sd, rows, weight)

    @in_plain_modes
    def predict_mean(self, X: Any) -> NDArray[np.float64]:
        """Predict by the mean of the posterior's curves; see :meth:`AdaptedEquation.predict_mean`.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        rows, groups = self._groups(X, "predict_mean")
        mean = np.empty(len(rows))
        for chosen, one in groups:
            mean[chosen] = one.predict_mean(rows[chosen])
        return mean

    @in_plain_modes
    def simulate(self, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None) -> NDArray[np.float64]:
        """Draw observations of this task; units share what is known of the task, and new ones differ from each other.

        Constants of rows of one unit come from weighted draws of its posterior; of several, from the normal
        approximation of all together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        n : int, default=1
        random_state : int, RandomState instance or None, default=None
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        ndarray of shape (n, n_rows)
        """
        require_count(n, "n", 1, most=MOST_SIMULATED)
        rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
        levels, X = self._levels.extended(X, "simulate")
        X = numbered_outputs(self._fitted.model.noise, X, "simulate")
        codes, rest = levels.split(Columns(self).rows(X, "simulate"))
        checked_rows(self._fitted, rest, "simulate")
        weight = self._fitted.row_accuracy.of_new_rows(sample_weight, len(rest), "simulate")
        paths, member = np.unique(codes, axis=0, return_inverse=True)
        units, numbers = self._posterior if self._posterior is not None else _no_units(self._fitted), []
        whole = [(0.0, *path) for path in paths.tolist()]
        for g, path in enumerate(whole):
            values = self._covariates(path[1:], rest[member.reshape(-1) == g], "simulate")
            if path not in units.paths:
                values = np.zeros(0) if values is None else values
                units = units.with_unit(path, self._fitted.design(values[None]).multiplier)
        numbers = [units.paths.index(path) for path in whole]
        phi = joint_constants(self._fitted, units, numbers, int(n), rng)
        drawn = np.empty((int(n), len(rest)))
        for g in range(len(whole)):
            chosen = np.flatnonzero(member.reshape(-1) == g)
            of_rows = None if weight is None else weight[chosen]
            drawn[:, chosen] = observed_at(self._fitted, phi[:, g], rest[chosen], rng, of_rows)
        return drawn

    @in_plain_modes
    def suggest(
        self, X_candidates: Any, n: int = 1, target: str | None = None, cost: Any = None, sample_weight: Any = None
    ) -> NDArray[np.intp]:
        """Return the candidate rows, of one unit, whose measurement would teach most about it.

        Parameters
        ----------
        X_candidates, n, target, cost, sample_weight
            As :meth:`AdaptedEquation.suggest` takes them; all candidates belong to one unit.

        Returns
        -------
        ndarray of int, shape (n,)
            Row numbers of the candidates, in the order of choice.

        Raises
        ------
        ValueError
            When the candidates belong to several units.
        """
        rows, groups = self._groups(X_candidates, "suggest")
        if len(groups) > 1:
            raise ValueError(
                f"suggest: the candidates belong to {len(groups)} units; what one teaches about another is not weighed "
                "yet: ask about one unit at a time."
            )
        return groups[0][1].suggest(rows, n, target, cost, sample_weight)

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedUnits:
        """Return a new predictor adapted on the rows seen so far and these, of the same units or of new ones.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        AdaptedUnits
            Equal to adapting the model once on all the rows; this one is left as it is.
        """
        return adapted_units(Columns(self), self._fitted, X, y, sample_weight, "partial_adapt", before=self)


def _no_units(fitted: FittedEquation) -> UnitPosterior:
    """Return a task without units."""
    p, b = len(fitted.table), len(fitted.population.beta)

    def empty(*shape: int) -> Tensor:
        return torch.zeros(*shape, 0, dtype=torch.float64)

    code = torch.full((1,), int(SolveCode.CONVERGED))
    return UnitPosterior((), empty(p), empty(p), empty(p, p), empty(b), torch.zeros(1, dtype=torch.float64), code)
