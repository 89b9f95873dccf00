"""Adapt the last step of a fitted scikit-learn pipeline."""

from copy import deepcopy
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

__all__ = ["AdaptedPipeline", "adapt"]


class AdaptedPipeline(Pipeline):
    """A pipeline whose last step is an adapted predictor; made by :func:`metaest.adapt`.

    It predicts and scores as every pipeline does; it has no use for ``fit``.
    """

    def partial_adapt(self, X: Any, y: Any) -> "AdaptedPipeline":
        """Return a new pipeline adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)

        Returns
        -------
        AdaptedPipeline
        """
        last, adapted = self.steps[-1]
        return type(self)([*self.steps[:-1], (last, adapted.partial_adapt(_transform(self, X), y))])

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
    return pipeline[:-1].transform(X) if len(pipeline.steps) > 1 else X


def adapt(model: Any, X: Any, y: Any, **params: Any) -> Any:
    """Adapt a fitted model, or a fitted pipeline that ends in one, to one task.

    Parameters
    ----------
    model : estimator with an ``adapt`` method, Pipeline, or fitted search (GridSearchCV) over one of them
    X : array-like of shape (n_rows, n_features)
        Raw rows: a pipeline's transformers are applied first.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
    **params : dict
        Handed to the model's ``adapt`` as they are: ``guard=True``.

    Returns
    -------
    AdaptedRegressor, AdaptedClassifier or AdaptedPipeline
        A pipeline comes back with its last step adapted; its transformers are copies of the fitted ones,
        which are not fitted again.

    Raises
    ------
    TypeError
        When the model, or the pipeline's last step, cannot adapt.

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
    if hasattr(model, "best_estimator_"):  # a fitted GridSearchCV
        return adapt(model.best_estimator_, X, y, **params)
    if not hasattr(model, "adapt"):
        raise TypeError(
            f"{type(model).__name__} has no adapt method; a fitted metaest model, or a pipeline that ends in one, is "
            "wanted."
        )
    return model.adapt(X, y, **params)
