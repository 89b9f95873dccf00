"""GlucoseForecaster forecasts a person's glucose 30 and 60 minutes ahead, meta-learned over people."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from metaest import AdaptedRegressor, Guard, MAMLRegressor, Task, TaskError, TaskSet
from metaest.estimators.atomic import atomic
from metaest.estimators.checkpoint import require_seed
from metaest.estimators.inputs import refuse_tasks
from metaest.estimators.pickles import Stamped
from metaest.tasks.arguments import as_flag, as_whole
from metaest.tasks.containers import plain, spelled_out
from metaest.tasks.numbers import as_vector
from metaest.tasks.times import elapsed
from metaest.tasks.weighted_tasks import refuse_weights
from metaest_domains.fitted_settings import require_unchanged
from metaest_domains.physiology.glucose_units import MG_DL_PER_MMOL_L, as_mg_dl, as_readings
from metaest_domains.physiology.windows import Windows, glucose_windows

__all__ = ["AdaptedForecaster", "GlucoseForecaster", "changes"]

# minutes in a day
DAY = 24 * 60.0
# minutes from one reading to the next
STEP = 5.0
# minutes between readings below which times must be in another unit: sensors read every minute at most
SHORTEST_STEP = 0.5
# every second window of a day is a row, since neighbouring windows share all readings but one
THIN = 2
# query windows of an episode, from other days
N_QUERY = 200


def changes(windows: Windows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features (readings relative to the last one, and the last one) and targets (later changes)."""
    last = windows.history[:, -1:]
    return np.column_stack([windows.history[:, :-1] - last, last]), windows.ahead - last


class _Forecasts(Stamped, ABC):
    """Forecasts from readings; a subclass predicts changes in `change`."""

    n_readings: int
    horizons: Sequence[float]
    unit: str
    check_plausibility: bool

    @abstractmethod
    def change(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predicted changes of glucose in mg/dL, of shape (n_rows, n_horizons), from rows of `changes`."""

    def predict(self, X: Any, y: Any = None) -> pd.DataFrame:
        """Forecast from readings.

        Parameters
        ----------
        X : array-like of shape (n, 1), or (n,)
            Rising times: minutes, time differences or dates.
        y : array-like of shape (n,)
            Readings in the estimator's unit; NaN for a missing one.

        Returns
        -------
        DataFrame
            One row for each complete window of readings, indexed by the ``time`` of its last reading as it was passed;
            a column for each horizon, in minutes.

        Raises
        ------
        TaskError
            When readings cannot be used, or are too few for one window.
        """
        windows, times = self._cut(X, y, "predict")
        features, _ = changes(windows)
        return self._table(self.change(features) + windows.history[:, -1:], times)

    def truth(self, X: Any, y: Any) -> pd.DataFrame:
        """Return the measured readings at the horizons, in the form of `predict`; NaN for missing ones."""
        windows, times = self._cut(X, y, "truth")
        return self._table(windows.ahead, times)

    def _cut(self, X: Any, y: Any, where: str) -> tuple[Windows, pd.Index]:
        """Return the windows in mg/dL, and the time of each in the form the user passed."""
        refuse_tasks(X, where)
        if y is None:
            raise TaskError(f"{where}: a forecast requires readings: {where}(times, readings).")
        windows = _windows(X, y, self, where, complete=False)
        return windows, pd.Index(pd.Series(_column(X, where)).iloc[windows.row], name="time")

    @property
    def _minutes_ahead(self) -> list[float]:
        """The horizons as numbers, whatever holds them."""
        horizons: list[float] = as_vector(self.horizons, "horizons").tolist()
        return horizons

    def _table(self, glucose: NDArray[np.float64], times: pd.Index) -> pd.DataFrame:
        columns = pd.Index(self._minutes_ahead, name="minutes ahead")
        values = glucose if self.unit == "mg/dL" else glucose / MG_DL_PER_MMOL_L
        return pd.DataFrame(values, index=times, columns=columns)


class GlucoseForecaster(_Forecasts, BaseEstimator):
    """Forecast continuous glucose monitoring, adapted to a person from a day of readings.

    A network predicts the change of glucose from the readings of the last two hours. It is meta-learned: some episodes
    adapt it to a day of a person and evaluate it on the person's other days; others do not adapt it, so that it also
    forecasts for people without earlier readings. Adaptations are guarded by default (``guard=False`` switches that
    off), by later windows of the same day after a gap as long as the overlap of windows.

    Parameters
    ----------
    n_readings : int, default=24
        Number of readings in a window, five minutes apart; 24 are two hours.
    horizons : sequence of float, default=(30, 60)
        Minutes ahead, multiples of five.
    n_days : int, default=4
        Days of each person, drawn at random, to which the fit adapts.
    hidden_layer_sizes : sequence of int, default=(32, 32)
    inner_steps : int, default=5
    inner_lr : float, default=0.02
    adapt_layers : {"all", "head", "body"}, default="head"
    meta_lr : float, default=0.005
    meta_batch_size : int, default=24
    max_iter : int, default=500
    alpha : float, default=10.0
        As in :class:`metaest.MAMLRegressor`.
    unit : {"mg/dL", "mmol/L"}, default="mg/dL"
        Unit of all readings and forecasts.
    check_plausibility : bool, default=True
        True raises an error for readings that look like the other unit (a median of one person below 36 mg/dL or above
        36 mmol/L, or a single reading below 10 mg/dL or above 60 mmol/L), and for times less than half a minute apart.
    random_state : int, RandomState instance or None, default=None
    checkpoint, checkpoint_every
        As in :class:`metaest.MAMLRegressor`.

    Attributes
    ----------
    model_ : MAMLRegressor
        Predicts changes of glucose, in mg/dL, from windows.
    mean_glucose_ : float
        Mean of the forecast readings of the training data, in the estimator's unit; the reference of `score`.
    n_features_in_ : int

    See Also
    --------
    glucose_windows : Cuts a series into windows.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest import TaskSet
    >>> from metaest_domains.physiology import GlucoseForecaster
    >>> time = np.arange(0.0, 3 * 1440, 5)
    >>> def person(rise):
    ...     return time[:, None], 120 + rise * np.sin(2 * np.pi * time / 240)
    >>> people = TaskSet([person(rise) for rise in (20, 30, 40)])
    >>> model = GlucoseForecaster(max_iter=5, random_state=0).fit(people)
    >>> new = model.adapt(*(part[:288] for part in person(35)))
    >>> new.predict(*(part[288:312] for part in person(35))).shape
    (1, 2)
    """

    guard_by_default = True

    def __init__(
        self,
        *,
        n_readings: int = 24,
        horizons: Sequence[float] = (30, 60),
        n_days: int = 4,
        hidden_layer_sizes: Sequence[int] = (32, 32),
        inner_steps: int = 5,
        inner_lr: float = 0.02,
        adapt_layers: str = "head",
        meta_lr: float = 0.005,
        meta_batch_size: int = 24,
        max_iter: int = 500,
        alpha: float = 10.0,
        unit: str = "mg/dL",
        check_plausibility: bool = True,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 100,
    ) -> None:
        self.n_readings = n_readings
        self.horizons = horizons
        self.n_days = n_days
        self.hidden_layer_sizes = hidden_layer_sizes
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.adapt_layers = adapt_layers
        self.meta_lr = meta_lr
        self.meta_batch_size = meta_batch_size
        self.max_iter = max_iter
        self.alpha = alpha
        self.unit = unit
        self.check_plausibility = check_plausibility
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    @atomic
    def fit(self, X: Any, y: None = None) -> Self:
        """Meta-learn from the readings of many people.

        Parameters
        ----------
        X : TaskSet, sequence of Task or of (X, y), or mapping of names to (X, y)
            One task for each person: a column of times, and readings. Times are minutes; in pairs (X, y) they may be
            dates or time differences, and readings may be missing (NaN).
        y : None

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When the readings of a person cannot be used, or are too few for a day to adapt to and others to evaluate.
        """
        require_seed(self.checkpoint, self.random_state)
        as_whole(self.n_days, "n_days", most=10_000)
        as_flag(self.check_plausibility, "check_plausibility")
        people = _people(X)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        settings = {
            name: getattr(self, name)
            for name in (
                "hidden_layer_sizes",
                "inner_steps",
                "inner_lr",
                "adapt_layers",
                "meta_lr",
                "meta_batch_size",
                "max_iter",
                "alpha",
                "checkpoint",
                "checkpoint_every",
            )
        }
        episodes = self.episodes(people, np.random.default_rng(seed))
        # the last feature is the last reading, and targets are changes from it
        glucose = episodes.y.reshape(len(episodes.X), -1) + episodes.X[:, -1:]
        self.model_ = MAMLRegressor(**settings, split="first", random_state=seed).fit(episodes)
        self.mean_glucose_ = float(glucose.mean()) / (1.0 if self.unit == "mg/dL" else MG_DL_PER_MMOL_L)
        self.n_features_in_ = 1
        self._fitted_settings = self._of_the_fit()
        return self

    def _of_the_fit(self) -> dict[str, Any]:
        """Return the settings that define a window and its unit."""
        return {"n_readings": self.n_readings, "horizons": self._minutes_ahead, "unit": self.unit}

    def _require_settings_of_the_fit(self) -> None:
        check_is_fitted(self)
        require_unchanged(self._of_the_fit(), self._fitted_settings)

    def episodes(self, people: TaskSet, rng: np.random.Generator) -> TaskSet:
        """Return the tasks on which the network is meta-learned: days to adapt to, and windows of other days."""
        tasks = []
        for person in people:
            windows = _windows(person.X, person.y, self, f"task {person.name!r}")
            features, ahead = changes(windows)
            begins = windows.end - STEP * (self.n_readings - 1)
            ends = windows.end + max(self._minutes_ahead)
            # a day begins with a window, so that it is not empty if readings are missing
            possible = begins[begins <= ends[-1] - DAY]
            if not len(possible):
                raise TaskError(f"task {person.name!r}: more than a day of readings is required.")
            for day, start in enumerate(rng.choice(possible, self.n_days)):
                inside = np.flatnonzero((begins >= start) & (ends <= start + DAY))[::THIN]
                others = np.flatnonzero((ends < start) | (begins > start + DAY))
                if not len(others):
                    raise TaskError(f"task {person.name!r}: more than a day of readings is required.")
                others = np.sort(rng.choice(others, min(N_QUERY, len(others)), replace=False))
                rows = np.concatenate([inside, others])
                name = f"{person.name}, day {day}"
                tasks.append(Task(name, features[rows], ahead[rows], support=np.arange(len(inside))))
            rows = np.sort(rng.choice(len(ahead), min(N_QUERY, len(ahead)), replace=False))
            tasks.append(Task(f"{person.name}, as anybody", features[rows], ahead[rows], support=[]))
        return TaskSet(tasks)

    def adapt(self, X: Any, y: Any, *, guard: bool | None = None) -> "AdaptedForecaster":
        """Adapt to a new person; the model itself is not changed.

        Parameters
        ----------
        X : array-like of shape (n, 1), or (n,)
            Rising times: minutes, time differences or dates. The model was trained to adapt to one day.
        y : array-like of shape (n,)
            Readings in the estimator's unit; NaN for a missing one.
        guard : bool, optional
            True evaluates the adaptation, and keeps, shrinks or rejects it; None is True.

        Returns
        -------
        AdaptedForecaster

        Raises
        ------
        TaskError
            When the readings cannot be used, or are too few for one window and the readings at its horizons.
        """
        self._require_settings_of_the_fit()
        features, ahead = changes(_windows(X, y, self, "adapt"))
        guarded = self.guard_by_default if guard is None else guard
        adapted = self.model_.adapt(features[::THIN], ahead[::THIN], guard=guarded, gap=self._gap())
        return AdaptedForecaster(
            adapted, self.n_readings, tuple(self._minutes_ahead), self.unit, self.check_plausibility
        )

    def _gap(self) -> int:
        """Return the number of rows between support and evaluation rows, so that these share no readings."""
        # every THIN-th window is a row
        return int(np.ceil((self.n_readings + max(self._minutes_ahead) / STEP) / THIN))

    def learn_guard(self) -> None:
        """Train the guard, before a file or a pickle leaves out the training rows."""
        if hasattr(self, "model_"):
            self.model_.learn_guard(self._gap())

    def __getstate__(self) -> dict[str, Any]:
        self.learn_guard()
        return super().__getstate__()

    def shared_parts(self) -> dict[str, Any]:
        """Return the parts that a model and its adapted predictors share, by name; `inner` is the model inside."""
        return {"inner": self.model_}

    def score(self, X: Any, y: None = None) -> float:
        r"""Return the few-shot R2: adapt to the first day of each person, forecast the rest.

        .. math:: R^2 = 1 - \frac{\sum (g - \hat g)^2}{\sum (g - \bar g)^2}

        over all measured readings :math:`g` of all people and horizons, with the mean :math:`\bar g` of the fit.

        Parameters
        ----------
        X : TaskSet, sequence of Task or of (X, y), or mapping of names to (X, y)
            As in `fit`.
        y : None

        Returns
        -------
        float

        Raises
        ------
        TaskError
            When a person has no complete window after the first day.
        """
        self._require_settings_of_the_fit()
        error = 0.0
        spread = 0.0
        for person in _people(X):
            times = person.X.reshape(-1)
            first = times < times[0] + DAY
            if first.all():
                raise TaskError(f"task {person.name!r}: more than a day of readings is required.")
            try:
                adapted = self.adapt(times[first], person.y[first])
                forecast, truth = (
                    question(times[~first], person.y[~first]).to_numpy()
                    for question in (adapted.predict, adapted.truth)
                )
            except TaskError as problem:
                raise TaskError(f"task {person.name!r}: {problem}") from problem
            error += float(np.nansum(np.square(truth - forecast)))
            spread += float(np.nansum(np.square(truth - self.mean_glucose_)))
        if not spread > 0:
            raise TaskError("score: no person has a reading after the first day that could be forecast.")
        return 1 - error / spread

    def change(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the changes of glucose that the network predicts without adaptation, in mg/dL."""
        self._require_settings_of_the_fit()
        return np.asarray(self.model_.predict(X).reshape(len(X), -1))


@dataclass(frozen=True)
class AdaptedForecaster(_Forecasts):
    """A forecaster adapted to one person; made by ``adapt``.

    Attributes
    ----------
    adapted : AdaptedRegressor
        Predicts changes of glucose, in mg/dL, from windows.
    n_readings, horizons, unit, check_plausibility
        As in the model.
    """

    adapted: AdaptedRegressor
    n_readings: int
    horizons: Sequence[float]
    unit: str = "mg/dL"
    check_plausibility: bool = True

    is_adapted: ClassVar[bool] = True

    def shared_parts(self) -> dict[str, Any]:
        """Return the parts that a model and its adapted predictors share, by name; `inner` is the model inside."""
        return {"inner": self.adapted}

    @property
    def guard_(self) -> Guard | None:
        """Decision of the guard about the adaptation, and the reason."""
        return self.adapted.guard_

    def change(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the changes of glucose that the adapted network predicts, in mg/dL."""
        return np.asarray(self.adapted.predict(X).reshape(len(X), -1))


def _people(X: Any) -> TaskSet:
    """Return people as tasks with times in minutes and without missing readings; refuse weights."""
    if isinstance(X, Mapping):
        people = TaskSet({name: _person(name, person) for name, person in X.items()})
    else:
        if isinstance(X, Task) or not isinstance(X, Iterable):
            raise TaskError(
                "people must be a TaskSet, a mapping of name to (times, readings) or a sequence of such pairs, got "
                f"{type(X).__name__}."
            )
        people = X if isinstance(X, TaskSet) else TaskSet([_person(i, person) for i, person in enumerate(X)])
    refuse_weights(people)
    return people


def _person(name: Any, person: Any) -> Task:
    if isinstance(person, Task):
        return person
    where = f"task {name!r}"
    try:
        time, readings = person
    except (TypeError, ValueError) as error:
        raise TaskError(f"{where}: must be a pair (times, readings), got {type(person).__name__}.") from error
    minutes = elapsed(_column(time, where), "min", f"{where}: time")
    glucose = as_readings(readings, f"{where}: readings").reshape(-1)
    if len(minutes) != len(glucose):
        raise TaskError(f"{where}: X has {len(minutes)} rows and y has {len(glucose)}; they must have the same number.")
    measured = ~np.isnan(glucose)
    return Task(name, minutes[measured, None], glucose[measured])


def _column(X: Any, where: str) -> Any:
    """Return the column of times, in the form the user passed."""
    if hasattr(X, "iloc") and getattr(X, "ndim", 1) == 2:
        if X.shape[1] != 1:
            raise TaskError(f"{where}: X has {X.shape[1]} columns; it must have one, the time.")
        return X.iloc[:, 0]
    if isinstance(X, (pd.Series, pd.Index)):
        return X
    X = plain(X, f"{where}: X")
    if isinstance(X, (pd.Series, pd.DataFrame)):
        return _column(X, where)
    try:
        values = X if isinstance(X, np.ma.MaskedArray) else np.asarray(spelled_out(X, f"{where}: X"))
    except ValueError as error:
        raise TaskError(f"{where}: X must be one column of times, but its rows differ in length.") from error
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 1):
        raise TaskError(f"{where}: X has shape {values.shape}; it must have one column, the time.")
    if values.dtype.kind in "iuf":
        values = values.astype(np.float64)  # an index of pandas accepts neither float16 nor another byte order
    return values.reshape(-1)


def _windows(X: Any, y: Any, settings: Any, where: str, *, complete: bool = True) -> Windows:
    """Cut the readings of one person into windows in mg/dL; errors name the person."""
    time = _column(X, where)
    try:
        glucose = as_mg_dl(y, settings.unit, "readings", check_plausibility=settings.check_plausibility)
        windows = glucose_windows(
            time, glucose, n_readings=settings.n_readings, horizons=settings.horizons, complete=complete
        )
        minutes = elapsed(time, "min", "time")
    except ValueError as error:
        raise TaskError(f"{where}: {error}") from error
    apart = float(np.median(np.diff(minutes))) if len(minutes) > 1 else STEP
    if settings.check_plausibility and apart < SHORTEST_STEP:
        raise TaskError(
            f"{where}: readings are {apart:.3g} minutes apart, so the times look like hours or days. Convert them to "
            "minutes, or pass check_plausibility=False if they are right."
        )
    if not len(windows.end):
        least = settings.n_readings + (int(max(settings.horizons) / STEP) if complete else 0)
        raise TaskError(
            f"{where}: no window is complete, which takes {least} readings of five minutes without a gap above half an "
            f"hour; there are {len(minutes)} readings, {apart:.3g} minutes apart."
        )
    return windows
