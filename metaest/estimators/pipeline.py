"""Adapt a fitted model inside what scikit-learn wraps around it: pipelines, searches, transformed targets."""

from copy import deepcopy
from typing import Any, NoReturn

from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.predictor import refuse_fit
from metaest.estimators.transformed_target import AdaptedTransformedTarget, transformed
from metaest.tasks.reading import refuse_masked

__all__ = ["AdaptedPipeline", "adapt"]


class AdaptedPipeline(Pipeline):
    """A pipeline whose last step is an adapted predictor; made by :func:`metaest.adapt`.

    It predicts and scores as every pipeline does; its ``fit`` refuses.
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> NoReturn:
        """Refuse: an adapted predictor never changes."""
        refuse_fit(self)

    def partial_adapt(self, X: Any, y: Any, **params: Any) -> "AdaptedPipeline":
        """Return a new pipeline adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        **params : dict
            Handed to the last step as they are: ``sample_weight`` where it is an equation.

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
            Handed to the last step as they are: ``return_std=True`` where it has standard deviations.

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
            Handed to the last step as they are.

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
            Handed to the last step as they are: ``level``.

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


def _transform(pipeline: Pipeline, X: Any) -> Any:
    if len(pipeline.steps) == 1:
        return X
    refuse_masked(X, type(pipeline).__name__, "X")  # transformers of scikit-learn use what is below the mask
    return pipeline[:-1].transform(X)


def adapt(model: Any, X: Any, y: Any, **params: Any) -> Any:
    """Adapt a fitted model, or what scikit-learn wraps around one, to one task.

    Parameters
    ----------
    model : estimator with an ``adapt`` method, or one inside a Pipeline, a TransformedTargetRegressor, a \
FrozenEstimator or a fitted search (GridSearchCV), which may stand inside one another
    X : array-like of shape (n_rows, n_features)
        Raw rows: a pipeline's transformers are applied first.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        On the scale of the observations: a transformation of the target is applied first.
    **params : dict
        Handed to the model's ``adapt`` as they are: ``guard=True``, or ``sample_weight`` where it is an equation.

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
    >>> pipeline = make_pipeline(StandardScaler(), MAMLRegressor(max_iter=50, random_state=0))
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
