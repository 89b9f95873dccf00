"""AdaptedPopulationAverage: the parts of an average adapted to one task, and weighed by its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.arguments import check_interval, require_count, require_flag
from metaest.estimators.conformal import Calibration, conformal_interval
from metaest.estimators.equations.answers import MOST_SIMULATED
from metaest.estimators.equations.average import Part
from metaest.estimators.equations.checks import joined_rows, require_finite_curve
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.mixture import mixed
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictor
from metaest.exceptions import IdentifiabilityWarning, TaskError, UnlikelyTaskWarning, quiet
from metaest.selection.populations.columns import PartColumns
from metaest.selection.populations.mixture import Component, interval_of_components
from metaest.selection.populations.parts import speaking_for
from metaest.selection.populations.weighting import Weighting, log_evidence, warn_of_unlikely
from metaest.tasks.random_state import generator_of
from metaest.tasks.record import read_only

__all__ = ["AdaptedPopulationAverage"]

# what is asked of constants, which differ from part to part
_OF_A_PART = ("params_", "derived_", "derive", "derive_draws", "profile", "suggest", "equation_", "guard_")


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedPopulationAverage(AdaptedPredictor):
    """The parts of a `PopulationAverage` adapted to one task; made by ``adapt``, never changed afterwards.

    Predictions are means of those of the parts by their weights; standard deviations, intervals and simulated
    observations are of the mixture. Constants differ from part to part: those of a part are ``members_[name].params_``.

    Attributes
    ----------
    weights_ : Series
        Weight of each part, by name, given the rows of this task.
    log_evidence_ : Series
        Logarithm of the evidence of the rows under each part, by Laplace's approximation; 0 without rows.
    members_ : dict of str to AdaptedEquation
        The parts, adapted to the rows, by name.
    X_support_, y_support_ : ndarray
        The rows, with the columns of all parts; there may be none.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the parts read columns by name.

    See Also
    --------
    PopulationAverage : The model whose ``adapt`` makes it.
    """

    _part_columns: PartColumns
    _weighting: Weighting
    _adapted: tuple[Any, ...]
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int
    _conformal: Calibration | None = None
    _multi_output = False

    @classmethod
    def _make(
        cls,
        columns: PartColumns,
        weighting: Weighting,
        adapted: Sequence[Any],
        X: NDArray[Any],
        conformal: Calibration | None,
    ) -> AdaptedPopulationAverage:
        y = adapted[0].y_support_
        if len(X) != len(y):
            raise TaskError(f"adapt: X has {len(X)} rows, and {len(y)} are left of them.")
        made = cls(columns, weighting, tuple(adapted), read_only(np.array(X)), y, columns.n, conformal)
        if columns.reads is not None:
            object.__setattr__(made, "feature_names_in_", np.array(columns.columns, dtype=object))
        made._weights  # noqa: B018 - errors are those of adapt, not of the first prediction
        return made

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in super().__getstate__().items() if name not in ("_weights", "_evidence")}

    def __getattr__(self, name: str) -> Any:
        hint = f"; see members_[name].{name}, of one of its parts" if name in _OF_A_PART else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    @cached_property
    def _evidence(self) -> NDArray[np.float64]:
        return np.array([float(log_evidence(one, "adapt")[0]) for one in self._adapted])

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return read_only(self._weighting.weights(self._evidence[None])[0])

    @property
    def _populations(self) -> list[tuple[FittedEquation, ...]]:
        """The equations of the parts, as the model has them."""
        return [(one._fitted, *getattr(one, "_further", ())) for one in self._adapted]

    @property
    def weights_(self) -> pd.Series:
        """Weight of each part, by name."""
        return self._by_part(self._weights, "weight")

    @property
    def log_evidence_(self) -> pd.Series:
        """Logarithm of the evidence of the rows under each part, by name."""
        return self._by_part(self._evidence, "log_evidence")

    @property
    def members_(self) -> dict[str, Any]:
        """The adapted parts, by name."""
        return dict(zip(self._part_columns.parts, self._adapted, strict=True))

    @property
    def n_outputs_(self) -> int:
        """Number of targets: 1."""
        return 1

    @property
    def status_(self) -> str:
        """How the searches for the constants ended: "converged", or the first other end."""
        return next((one.status_ for one in self._adapted if one.status_ != "converged"), "converged")

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of this task by the mean of the parts' curves.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            A data frame has the columns of all parts, in any order; an array has them in the order of
            ``feature_names_in_``.
        return_std : bool, default=False
            Whether to return the standard deviation of the mixture of curves as well; the noise of an observation is
            not in it.

        Returns
        -------
        y, std : ndarray of shape (n_rows,)

        Raises
        ------
        TaskError
            When X lacks a column of a part, or a part refuses the rows; the message names them.
        """
        require_flag(return_std, "return_std")
        parts = self._asked(X, "predict", lambda one, rows: one.predict(rows, return_std=return_std))
        if return_std:
            return mixed([weight for weight, _ in parts], [answer for _, answer in parts])
        return np.asarray(sum(weight * answer for weight, answer in parts))

    @in_plain_modes
    def predict_mean(self, X: Any) -> NDArray[np.float64]:
        """Predict by the mean of all curves that the mixture thinks probable; see `AdaptedEquation.predict_mean`.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        parts = self._asked(X, "predict_mean", lambda one, rows: one.predict_mean(rows))
        return np.asarray(sum(weight * answer for weight, answer in parts))

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
        """Return the ends of an interval of the mixture for every row.

        Where the parts disagree the interval spans what they say, each by its weight: it is no interval of the mean.

        Parameters
        ----------
        X, level, method, of, simultaneous, sample_weight
            As :meth:`AdaptedEquation.predict_interval` takes them; it raises the same errors.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)
        """
        check_interval(level, method, of, simultaneous)
        if method == "conformal":
            size = len(self.X_support_)
            return conformal_interval(self, X, level, simultaneous, size=size, sample_weight=sample_weight)

        def component(one: Any, rows: Any) -> list[tuple[Part, NDArray[Any], Any]]:
            members = getattr(one, "members_", (one,))
            rows = members[0]._rows(rows, "predict_interval")
            accuracy = members[0]._fitted.row_accuracy.of_predicted(sample_weight, len(rows), of)
            return [(Part(each._fitted, each._draws, each._near_rows), rows, accuracy) for each in members]

        components = []
        for weight, members in self._asked(X, "predict_interval", component):
            components += [Component(weight / len(members), *one) for one in members]
        low, high = interval_of_components(components, level, of)
        require_finite_curve(components[0].part.fitted.function, components[0].X, high - low, "predict_interval")
        return low, high

    @in_plain_modes
    def simulate(self, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None) -> NDArray[np.float64]:
        """Draw observations of this task, each from a part that is drawn first, by its weight.

        Parameters
        ----------
        X, n, random_state, sample_weight
            As :meth:`AdaptedEquation.simulate` takes them.

        Returns
        -------
        ndarray of shape (n, n_rows)
        """
        require_count(n, "n", 1, most=MOST_SIMULATED)
        rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
        chosen = rng.choice(len(self._adapted), n, p=self._weights)
        split, drawn = self._part_columns.split(self._completed(X, "simulate"), "simulate"), {}
        for k in np.unique(chosen).tolist():
            seed = int(rng.integers(2**31 - 1))
            with speaking_for(self._part_columns.parts[k]):
                drawn[k] = self._adapted[k].simulate(split[k], int((chosen == k).sum()), seed, sample_weight)
        values = np.empty((n, next(iter(drawn.values())).shape[1]))
        for k, of_part in drawn.items():
            values[chosen == k] = of_part
        return values

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedPopulationAverage:
        """Return a new predictor adapted on the rows seen so far and these, together; its weights are those of all.

        Parameters
        ----------
        X, y, sample_weight
            As :meth:`AdaptedEquation.partial_adapt` takes them.

        Returns
        -------
        AdaptedPopulationAverage
            Equal to adapting the model once on all the rows; this one is left as it is.
        """
        X = self._completed(X, "partial_adapt")
        rows, _ = self._part_columns.rows(X, "partial_adapt")
        adapted = []
        for name, one, rows_of_part in zip(
            self._part_columns.parts, self._adapted, self._part_columns.split(X, "partial_adapt"), strict=True
        ):
            with speaking_for(name), quiet(IdentifiabilityWarning, UnlikelyTaskWarning):
                adapted.append(one.partial_adapt(rows_of_part, y, sample_weight))
        warn_of_unlikely(adapted, "partial_adapt")
        rows = kept_rows(rows, sample_weight)
        joined = joined_rows(self.X_support_, rows) if len(rows) else self.X_support_
        return self._make(self._part_columns, self._weighting, adapted, joined, self._conformal)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        parts = self._asked(X, "predict_interval", lambda one, rows: one._center_and_scale(rows, sample_weight))
        return mixed([weight for weight, _ in parts], [answer for _, answer in parts])

    def _asked(self, X: Any, where: str, ask: Callable[[Any, Any], Any]) -> list[tuple[float, Any]]:
        """Return what each part answers about its columns of X, with its weight; parts without weight are not asked."""
        answers = []
        split = self._part_columns.split(self._completed(X, where), where)
        for name, weight, one, rows in zip(
            self._part_columns.parts, self._weights.tolist(), self._adapted, split, strict=True
        ):
            if weight > 0:
                with speaking_for(name):
                    answers.append((weight, ask(one, rows)))
        return answers

    def _completed(self, X: Any, where: str) -> Any:
        return self._part_columns.completed(X, [one._fitted.function for one in self._adapted], where)

    def _by_part(self, values: NDArray[np.float64], name: str) -> pd.Series:
        return pd.Series(values.copy(), index=pd.Index(self._part_columns.parts, name="part"), name=name)


def kept_rows(rows: NDArray[Any], sample_weight: Any) -> NDArray[Any]:
    """Return the rows whose weight is not 0; the parts, which check the weights, leave out the others as well."""
    if sample_weight is None or not len(rows):
        return rows
    weight = np.asarray(sample_weight, dtype=np.float64).ravel()
    return rows[weight != 0] if len(weight) == len(rows) else rows
