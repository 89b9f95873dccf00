"""Adapt a fitted model inside scikit-learn's meta-estimators: pipelines, searches, transformed targets."""

from copy import deepcopy
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted

from metaest.estimators.conformal import ConformalInterval
from metaest.estimators.predictor import refuse_fit
from metaest.exceptions import TaskError
from metaest.tasks.arrays import as_target, require_finite, require_numbers
from metaest.tasks.reading import refuse_masked

__all__ = ["AdaptedPipeline", "AdaptedTransformedTarget", "adapt"]


def adapt(model: Any, X: Any, y: Any, **params: Any) -> Any:
    """Adapt a fitted model, or a meta-estimator of scikit-learn around one, to one task.

    Parameters
    ----------
    model : estimator with an ``adapt`` method, or one inside a Pipeline, a TransformedTargetRegressor, a \
FrozenEstimator or a fitted search (GridSearchCV), which may stand inside one another
    X : array-like of shape (n_rows, n_features)
        Raw rows: a pipeline's transformers are applied first.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        On the scale of the observations: a transformation of the target is applied first.
    **params : dict
        Passed to the model's ``adapt``: ``guard=True``, or ``sample_weight`` where it is an equation.

    Returns
    -------
    AdaptedRegressor, AdaptedClassifier, AdaptedPipeline or AdaptedTransformedTarget
        A pipeline comes back with its last step adapted, a TransformedTargetRegressor with its regressor adapted;
        transformers are copies of the fitted ones, which are not fitted again. Predictions and the ends of intervals
        are on the scale of y.

    Raises
    ------
    TypeError
        When the model, or the pipeline's last step, cannot adapt.
    NotFittedError
        Before the fit.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from metaest import MAMLRegressor, adapt
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(50, random_state=0)
    >>> groups = tasks.names.repeat(tasks.sizes)
    >>> pipeline = make_pipeline(StandardScaler(), MAMLRegressor(max_iter=20, random_state=0))
    >>> pipeline = pipeline.fit(tasks.X, tasks.y, mamlregressor__groups=groups)
    >>> patient = adapt(pipeline, [[0.5], [2.0]], [0.3, 0.9])
    >>> patient.predict([[1.0]]).shape
    (1,)
    """
    if isinstance(model, Pipeline):
        last, estimator = model.steps[-1]
        # copies: Pipeline.fit fits its transformers in place, and a later fit must not reach this patient
        transformers = [(name, deepcopy(step)) for name, step in model.steps[:-1]]
        return AdaptedPipeline([*transformers, (last, adapt(estimator, _transform(model, X), y, **params))])
    if isinstance(model, FrozenEstimator):
        return adapt(model.estimator, X, y, **params)
    if isinstance(model, TransformedTargetRegressor):
        target = transformed(model, X, y, "adapt")
        return AdaptedTransformedTarget._make(adapt(model.regressor_, X, target, **params), model)
    if hasattr(model, "best_estimator_"):  # a fitted GridSearchCV
        return adapt(model.best_estimator_, X, y, **params)
    if not hasattr(model, "adapt"):
        if hasattr(model, "refit"):  # a search
            check_is_fitted(model)
            raise TypeError(
                f"{type(model).__name__} has refit=False, so that it holds no fitted model; set refit=True."
            )
        raise TypeError(
            f"{type(model).__name__} has no adapt method; a fitted metaest model, or a pipeline that ends in one, is "
            "wanted."
        )
    return model.adapt(X, y, **params)


class AdaptedPipeline(Pipeline):
    """A pipeline whose last step is an adapted predictor; made by :func:`metaest.adapt`.

    It predicts and scores as every pipeline does; its ``fit`` refuses.
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> NoReturn:
        """Refuse: an adapted predictor never changes."""
        refuse_fit(type(self).__name__)

    def partial_adapt(self, X: Any, y: Any, **params: Any) -> "AdaptedPipeline":
        """Return a new pipeline adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        **params : dict
            Passed to the last step: ``sample_weight`` where it is an equation.

        Returns
        -------
        AdaptedPipeline
        """
        last, adapted = self.steps[-1]
        return type(self)([*self.steps[:-1], (last, adapted.partial_adapt(_transform(self, X), y, **params))])

    def predict(self, X: Any, **params: Any) -> Any:
        """Predict raw rows of the task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **params : dict
            Passed to the last step: ``return_std=True`` where it has standard deviations.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        # Pipeline.predict would route the parameters, and the last step is no consumer of metadata
        return self.steps[-1][1].predict(_transform(self, X), **params)

    @available_if(lambda self: hasattr(self.steps[-1][1], "predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any, **params: Any) -> Any:
        """Predict probabilities for raw rows of the task, where the last step is a classifier.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **params : dict
            Passed to the last step.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
        """
        return self.steps[-1][1].predict_proba(_transform(self, X), **params)

    @available_if(lambda self: hasattr(self.steps[-1][1], "predict_interval"))  # type: ignore[untyped-decorator]
    def predict_interval(self, X: Any, **params: Any) -> Any:
        """Return the ends of an interval for raw rows of the task, where the last step has intervals.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **params : dict
            Passed to the last step: ``level``.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        return self.steps[-1][1].predict_interval(_transform(self, X), **params)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the ordinary score (R2, accuracy) of the adapted last step on transformed rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float
        """
        # Pipeline.score would route sample_weight, even None, and the last step is no consumer of metadata
        return float(self.steps[-1][1].score(_transform(self, X), y, sample_weight=sample_weight))

    def __sklearn_is_fitted__(self) -> bool:
        return True


class AdaptedTransformedTarget(TransformedTargetRegressor):
    """A ``TransformedTargetRegressor`` whose regressor is adapted to one task; made by :func:`metaest.adapt`.

    It takes and returns targets on the scale of y; ``score`` is R2 on that scale.
    """

    regressor_: Any
    transformer_: Any

    @classmethod
    def _make(cls, adapted: Any, model: TransformedTargetRegressor) -> "AdaptedTransformedTarget":
        """Put an adapted regressor in place of the fitted one; the transformer is a copy."""
        made = cls(adapted, transformer=model.transformer, func=model.func, inverse_func=model.inverse_func)
        made.regressor_, made.transformer_ = adapted, deepcopy(model.transformer_)
        made._training_dim = model._training_dim
        return made

    @property
    def guard_(self) -> Any:
        """The decision of the guard on the adaptation; None without ``guard=True``."""
        return getattr(self.regressor_, "guard_", None)

    def fit(self, X: Any, y: Any = None, **params: Any) -> NoReturn:
        """Refuse: an adapted predictor never changes."""
        refuse_fit(type(self).__name__)

    def predict(self, X: Any, **params: Any) -> Any:
        """Predict rows of the task on the scale of y.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **params : dict
            Passed to the adapted regressor.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)

        Raises
        ------
        ValueError
            When a standard deviation is asked for: it does not pass through a transformation.
        """
        if params.get("return_std"):
            raise ValueError(
                "return_std=True: a standard deviation does not pass through the transformation of the target; "
                "predict_interval does."
            )
        return self._back(self.regressor_.predict(X, **params))

    def predict_interval(self, X: Any, level: float = 0.9, **params: Any) -> Any:
        """Return the ends of an interval for every row on the scale of y.

        The ends pass through the inverse transformation, which keeps the level because it is monotone.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        level : float, default=0.9
        **params : dict
            Passed to the adapted regressor's ``predict_interval``.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)
            A :class:`ConformalInterval` of them where the regressor returns one.

        Raises
        ------
        ValueError
            When there are several targets, or the inverse transformation is not monotone between the ends.
        """
        interval = self.regressor_.predict_interval(X, level=level, **params)
        ends = [np.asarray(end, dtype=np.float64) for end in interval]
        if ends[0].ndim == 2 and ends[0].shape[1] > 1:
            raise ValueError("predict_interval: the ends of several targets do not pass through one transformation.")
        lower, upper = (self._shaped(end) for end in self._ends(ends[0].reshape(-1), ends[1].reshape(-1)))
        if isinstance(interval, ConformalInterval):
            return ConformalInterval(lower, upper, interval.level, interval.simultaneous, interval.n_tasks)
        return lower, upper

    def partial_adapt(self, X: Any, y: Any) -> "AdaptedTransformedTarget":
        """Return a new predictor adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)

        Returns
        -------
        AdaptedTransformedTarget
        """
        return self._make(self.regressor_.partial_adapt(X, transformed(self, X, y, "partial_adapt")), self)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _back(self, values: NDArray[Any]) -> NDArray[Any]:
        return self._shaped(self.transformer_.inverse_transform(values.reshape(len(values), -1)))

    def _shaped(self, values: NDArray[Any]) -> NDArray[Any]:
        single = self._training_dim == 1 and values[:1].size == len(values[:1])
        return values.reshape(-1) if single else values.reshape(len(values), -1)

    def _ends(self, lower: NDArray[Any], upper: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        finite = np.isfinite(lower) & np.isfinite(upper)
        low, high = np.full(len(lower), -np.inf), np.full(len(lower), np.inf)
        between = np.linspace(lower[finite], upper[finite], 9)
        back = np.reshape(self.transformer_.inverse_transform(between.reshape(-1, 1)), between.shape)
        steps = np.diff(back, axis=0)
        if not ((steps >= 0).all() or (steps <= 0).all()):
            raise ValueError("predict_interval: the inverse transformation of the target is not monotone.")
        low[finite], high[finite] = np.minimum(back[0], back[-1]), np.maximum(back[0], back[-1])
        return low, high


def _transform(pipeline: Pipeline, X: Any) -> Any:
    if len(pipeline.steps) == 1:
        return X
    refuse_masked(X, type(pipeline).__name__, "X")  # transformers of scikit-learn use what is below the mask
    return pipeline[:-1].transform(X)


def transformed(model: TransformedTargetRegressor, X: Any, y: Any, where: str) -> NDArray[Any]:
    """Return targets of a task on the scale the regressor was fitted on.

    Parameters
    ----------
    model : TransformedTargetRegressor
        Fitted, or adapted.
    X : array-like of shape (n_rows, n_features)
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
    where : str
        Name of the calling method, with which an error message begins.

    Raises
    ------
    TaskError
        When y is missing or not finite, or its transformation is not; the message names the row.
    """
    check_is_fitted(model)
    target, names = as_target(y, _n_rows(X, where), where)
    target = require_numbers(target, where)
    require_finite(target, "y", names, lambda row: (where, row))
    if len(target) == 0:
        return target  # the regressor's adapt decides whether no rows are enough
    columns = target.reshape(len(target), -1)
    with np.errstate(all="ignore"):  # a value outside the domain is reported below
        values: NDArray[Any] = np.asarray(model.transformer_.transform(columns)).reshape(len(columns), -1)
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise TaskError(
            f"{where}: y is {target[row].tolist()} in row {row}, which the transformation of the target turns into "
            f"{values[row].tolist()}; drop the row, or choose a transformation defined there."
        )
    return values[:, 0] if model._training_dim == 1 and values.shape[1] == 1 else values


def _n_rows(X: Any, where: str) -> int:
    """Return the number of rows, of whatever kind they are."""
    try:
        return int(_num_samples(X))
    except (TypeError, ValueError) as error:
        raise TaskError(f"{where}: X must hold rows, got {type(X).__name__}.") from error
