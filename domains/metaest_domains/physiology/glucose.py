"""GlucoseForecaster: a person's glucose half an hour and an hour ahead, meta-learned over people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from metaest import AdaptedRegressor, Guard, MAMLRegressor, Task, TaskError, TaskSet
from metaest.tasks.weights import refuse_weights
from metaest_domains.physiology.windows import Windows, glucose_windows

__all__ = ["AdaptedForecaster", "GlucoseForecaster", "changes"]

DAY, STEP = 24 * 60.0, 5.0
# rows of a person in an episode: every second window of a day, and so many of other days
THIN, N_QUERY = 2, 200


def changes(windows: Windows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a forecast is made from and of: readings relative to the last one, that one, and changes to come."""
    last = windows.history[:, -1:]
    return np.column_stack([windows.history[:, :-1] - last, last]), windows.ahead - last


class _Forecasts:
    """Forecasts from readings; a subclass predicts changes."""

    n_readings: int
    horizons: Sequence[float]

    def _change(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError

    def predict(self, X: Any, y: Any) -> pd.DataFrame:
        """Forecast from readings.

        Parameters
        ----------
        X : array-like of shape (n, 1)
            Times in minutes, rising.
        y : array-like of shape (n,)
            Readings in mg/dL.

        Returns
        -------
        DataFrame
            One row for each window of readings that is complete, indexed by the ``time`` of its last one; a column for
            each horizon, in minutes.

        Raises
        ------
        TaskError
            When readings cannot be used, or are too few for one window.
        """
        windows = _windows(X, y, self, "predict", complete=False)
        features, _ = changes(windows)
        ahead = self._change(features) + windows.history[:, -1:]
        columns = pd.Index([float(h) for h in self.horizons], name="minutes ahead")
        return pd.DataFrame(ahead, index=pd.Index(windows.end, name="time"), columns=columns)

    def truth(self, X: Any, y: Any) -> pd.DataFrame:
        """Return what came, in the form of `predict`; NaN where it was not measured."""
        windows = _windows(X, y, self, "truth", complete=False)
        columns = pd.Index([float(h) for h in self.horizons], name="minutes ahead")
        return pd.DataFrame(windows.ahead, index=pd.Index(windows.end, name="time"), columns=columns)


class GlucoseForecaster(_Forecasts, BaseEstimator):
    """Forecast continuous glucose monitoring, adapted to a person from a day of readings.

    A network predicts how glucose will change from the readings of the last two hours. It is meta-learned: episodes
    adapt it to a day of a person and judge it on the person's other days; others leave it as it is, so that it serves
    those of whom nothing is known yet. Adaptations are guarded unless told otherwise (``guard=False``), by later
    windows of the same day with a gap as long as windows overlap.

    Parameters
    ----------
    n_readings : int, default=24
        Of five minutes, in a window: two hours.
    horizons : sequence of float, default=(30, 60)
        Minutes ahead, multiples of five.
    n_days : int, default=4
        Days of each person, drawn at random, that are adapted to in the fit.
    hidden_layer_sizes : sequence of int, default=(32, 32)
    inner_steps : int, default=5
    inner_lr : float, default=0.02
    adapt_layers : {"all", "head", "body"}, default="head"
    meta_lr : float, default=0.005
    meta_batch_size : int, default=24
    max_iter : int, default=500
    alpha : float, default=10.0
        As :class:`metaest.MAMLRegressor` takes these.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    model_ : MAMLRegressor
        Of windows.
    n_features_in_ : int

    See Also
    --------
    glucose_windows : How a series is cut.

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

    _guards = True

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
        random_state: int | np.random.RandomState | None = None,
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
        self.random_state = random_state

    def fit(self, X: Any, y: None = None) -> Self:
        """Meta-learn from the readings of many people.

        Parameters
        ----------
        X : TaskSet or sequence of Task
            One task a person: a column of times in minutes, readings in mg/dL.
        y : None

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When the readings of a person cannot be used, or are too few for one day and others to judge by.
        """
        people = X if isinstance(X, TaskSet) else TaskSet(X)
        refuse_weights(people)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        own = {
            name: getattr(self, name)
            for name in ("hidden_layer_sizes", "inner_steps", "inner_lr", "adapt_layers", "meta_lr", "meta_batch_size",
                         "max_iter", "alpha")
        }  # fmt: skip
        episodes = self.episodes(people, np.random.default_rng(seed))
        self.model_ = MAMLRegressor(**own, split="first", random_state=seed).fit(episodes)
        self.n_features_in_ = 1
        return self

    def episodes(self, people: TaskSet, rng: np.random.Generator) -> TaskSet:
        """Return the tasks the network is meta-learned on: days to adapt to, and windows to judge by."""
        tasks = []
        for person in people:
            windows = _windows(person.X, person.y, self, f"task {person.name!r}")
            features, ahead = changes(windows)
            begins = windows.end - STEP * (self.n_readings - 1)
            ends = windows.end + max(self.horizons)
            # a day begins with a window, so that it is not empty where readings are missing
            possible = begins[begins <= ends[-1] - DAY]
            if not len(possible):
                raise TaskError(f"task {person.name!r}: more than a day of readings is wanted.")
            for day, start in enumerate(rng.choice(possible, self.n_days)):
                inside = np.flatnonzero((begins >= start) & (ends <= start + DAY))[::THIN]
                others = np.flatnonzero((ends < start) | (begins > start + DAY))
                if not len(others):
                    raise TaskError(f"task {person.name!r}: more than a day of readings is wanted.")
                others = np.sort(rng.choice(others, min(N_QUERY, len(others)), replace=False))
                rows = np.concatenate([inside, others])
                name = f"{person.name}, day {day}"
                tasks.append(Task(name, features[rows], ahead[rows], support=np.arange(len(inside))))
            rows = np.sort(rng.choice(len(ahead), min(N_QUERY, len(ahead)), replace=False))
            tasks.append(Task(f"{person.name}, as anybody", features[rows], ahead[rows], support=[]))
        return TaskSet(tasks)

    def adapt(self, X: Any, y: Any, *, guard: bool | None = None) -> "AdaptedForecaster":
        """Adapt to a new person; the model itself is untouched.

        Parameters
        ----------
        X : array-like of shape (n, 1)
            Times in minutes, rising; a day of them is what the model was trained for.
        y : array-like of shape (n,)
            Readings in mg/dL.
        guard : bool, optional
            Whether the adaptation is judged, and kept, shrunk or refused; None is yes.

        Returns
        -------
        AdaptedForecaster

        Raises
        ------
        TaskError
            When the readings cannot be used, or are too few for one window and what comes after it.
        """
        check_is_fitted(self)
        features, ahead = changes(_windows(X, y, self, "adapt"))
        guarded = self._guards if guard is None else guard
        # rows apart by less share readings; every second one is left
        gap = int(np.ceil((self.n_readings + max(self.horizons) / STEP) / THIN))
        adapted = self.model_.adapt(features[::THIN], ahead[::THIN], guard=guarded, gap=gap)
        return AdaptedForecaster(adapted, self.n_readings, tuple(self.horizons))

    def _change(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        check_is_fitted(self)
        return np.asarray(self.model_.predict(X).reshape(len(X), -1))


@dataclass(frozen=True)
class AdaptedForecaster(_Forecasts):
    """A forecaster adapted to one person; made by ``adapt``.

    Attributes
    ----------
    adapted : AdaptedRegressor
        Of windows.
    n_readings, horizons
        As in the model.
    """

    adapted: AdaptedRegressor
    n_readings: int
    horizons: Sequence[float]

    @property
    def guard_(self) -> Guard | None:
        """What the guard kept of the adaptation, and why."""
        return self.adapted.guard_

    def _change(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.adapted.predict(X).reshape(len(X), -1))


def _windows(X: Any, y: Any, settings: Any, where: str, *, complete: bool = True) -> Windows:
    """Cut the readings of one person, with errors that say whose they are."""
    time = np.asarray(X, dtype=np.float64)
    if time.ndim == 2 and time.shape[1] != 1:
        raise TaskError(f"{where}: X has {time.shape[1]} columns; one is wanted, the time in minutes.")
    try:
        windows = glucose_windows(
            time.reshape(-1), y, n_readings=settings.n_readings, horizons=settings.horizons, complete=complete
        )
    except ValueError as error:
        raise TaskError(f"{where}: {error}") from error
    if not len(windows.end):
        least = settings.n_readings + (int(max(settings.horizons) / STEP) if complete else 0)
        raise TaskError(
            f"{where}: no window is complete: {least} readings of five minutes without a gap above half an hour are "
            "wanted."
        )
    return windows
