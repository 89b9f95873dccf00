"""A fitted meta-model as an ordinary regressor or classifier of scikit-learn, whose `fit` adapts."""

from typing import Any, Self

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import require_flag, whether_guarded
from metaest.estimators.atomic import atomic
from metaest.estimators.columns import Columns
from metaest.estimators.inputs import is_empty
from metaest.estimators.pickles import Stamped
from metaest.exceptions import TaskError, UngroupedWarning, quiet, warn

__all__ = ["FewShotClassifier", "FewShotRegressor"]


class _FewShot(Stamped, BaseEstimator):
    """An estimator whose ``fit`` adapts a fitted model."""

    def __init__(self, model: Any, *, guard: bool | None = None, gap: int = 0) -> None:
        self.model = model
        self.guard = guard
        self.gap = gap

    # metadata that the model's adapt may take; networks take none, so that fit has no such argument
    __metadata_request__fit = {"sample_weight": None}  # noqa: RUF012

    @atomic
    def fit(self, X: Any, y: Any, **params: Any) -> Self:
        """Adapt the model to the rows of one task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        **params : dict
            Passed to the model's ``adapt``: ``sample_weight``, where the model is an equation.

        Returns
        -------
        self
        """
        if is_empty(X):
            raise TaskError(
                "fit: Found array with 0 sample(s) while a minimum of 1 is required. For a task without "
                "rows, use the predictions of the meta-model itself."
            )
        model = self.model
        if isinstance(model, type) or not hasattr(model, "adapt"):
            raise TypeError(
                f"{type(self).__name__}: model must be a fitted estimator with an adapt method, got {model!r}; "
                "metaest.adapt adapts pipelines."
            )
        if not _is_fitted(model):
            warn(
                "the meta-model is not fitted: it is fitted on these rows alone, and nothing is learned across tasks; "
                "pass a model fitted on other tasks.",
                UngroupedWarning,
            )
            with quiet(UngroupedWarning):
                model = clone(model).fit(X, y, **params)
        whether_guarded(self.guard, self.gap, False)
        guarding = {} if self.guard is None and not self.gap else {"guard": self.guard, "gap": self.gap}
        self.adapted_ = model.adapt(X, y, **guarding, **params)
        self.model_ = _frozen(model)
        self.n_features_in_ = self.adapted_.n_features_in_
        if self.n_features_in_ is None:  # rows are objects
            del self.n_features_in_
        Columns(self).remember_names(getattr(self.adapted_, "feature_names_in_", None))
        return self

    def learn_guard(self) -> None:
        """Learn the model's guard at the gap that is set here."""
        model = getattr(self.model, "estimator", self.model)
        if hasattr(model, "learn_guard") and self.guard is not False:
            model.learn_guard(self.gap)

    def __getstate__(self) -> dict[str, Any]:
        self.learn_guard()
        return super().__getstate__()

    def shared_parts(self) -> dict[str, Any]:
        """Return the parts that a model and its adapted predictors share, by name; `inner` is the model inside."""
        return {"inner": getattr(self.model, "estimator", self.model)}

    def __sklearn_clone__(self) -> Self:
        model = self.model
        return type(self)(_frozen(model) if _is_fitted(model) else clone(model), guard=self.guard, gap=self.gap)


class FewShotRegressor(RegressorMixin, _FewShot):
    """An ordinary scikit-learn regressor whose ``fit(X, y)`` adapts a fitted meta-model to one task.

    For everything in the ecosystem that knows only ``fit`` and ``predict``: permutation importance, partial
    dependence, cross-validation over the rows of one patient.

    Parameters
    ----------
    model : estimator with an ``adapt`` method
        A model fitted on other tasks; ``clone`` keeps it fitted (in a ``FrozenEstimator``). An unfitted model is cloned
        and fitted on the rows that `fit` is given, as its only task, with a warning: nothing is learned across tasks.
    guard : bool, optional
        Whether a guard keeps, shrinks or refuses each adaptation; None takes the default of the model's ``adapt``.
    gap : int, default=0
        Rows that the guard leaves out between those adapted on and those judged on, where rows are in order of time.

    Attributes
    ----------
    adapted_ : AdaptedRegressor
    model_ : FrozenEstimator
        The fitted meta-model.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from metaest import FewShotRegressor, MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(101, random_state=0)
    >>> model = MAMLRegressor(max_iter=20, random_state=0).fit(tasks[:100])
    >>> new = tasks[100]
    >>> cross_val_score(FewShotRegressor(model), new.X, new.y, cv=5).shape
    (5,)
    """

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of the task adapted to.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return standard deviations as well, where the adapted model has them.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets), or two of them
        """
        check_is_fitted(self)
        require_flag(return_std, "return_std")
        return self.adapted_.predict(X, return_std=True) if return_std else self.adapted_.predict(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2 of the adapted predictor, as every scikit-learn regressor does.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return float(self.adapted_.score(X, y, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class FewShotClassifier(ClassifierMixin, _FewShot):
    """An ordinary scikit-learn classifier whose ``fit(X, y)`` adapts a fitted meta-model to one task.

    For everything in the ecosystem that knows only ``fit`` and ``predict``.

    Parameters
    ----------
    model : estimator with an ``adapt`` method
        A model fitted on other tasks; ``clone`` keeps it fitted (in a ``FrozenEstimator``). An unfitted model is cloned
        and fitted on the rows that `fit` is given, as its only task, with a warning: nothing is learned across tasks.
    guard : bool, optional
        Whether a guard keeps, shrinks or refuses each adaptation; None takes the default of the model's ``adapt``.
    gap : int, default=0
        Rows that the guard leaves out between those adapted on and those judged on, where rows are in order of time.

    Attributes
    ----------
    adapted_ : AdaptedClassifier
    classes_ : ndarray
    model_ : FrozenEstimator
        The fitted meta-model.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> from metaest import FewShotClassifier, MAMLClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MAMLClassifier(n_way=3, k_shot=3, max_iter=20, random_state=0).fit(X[y < 7], y[y < 7])
    >>> new = y >= 7
    >>> cross_val_score(FewShotClassifier(model), X[new][:30], y[new][:30], cv=3).shape
    (3,)
    """

    @atomic
    def fit(self, X: Any, y: Any, **params: Any) -> Self:
        """Adapt the model to the rows of one task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        **params : dict
            Passed to the model's ``adapt``.

        Returns
        -------
        self
        """
        super().fit(X, y, **params)
        self.classes_ = self.adapted_.classes_
        return self

    def predict(self, X: Any) -> Any:
        """Predict labels of the task adapted to.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        check_is_fitted(self)
        return self.adapted_.predict(X)

    def predict_proba(self, X: Any) -> Any:
        """Predict probabilities of the classes of the task adapted to.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        return self.adapted_.predict_proba(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of the adapted predictor, as every scikit-learn classifier does.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return float(self.adapted_.score(X, y, sample_weight=sample_weight))


def _is_fitted(model: Any) -> bool:
    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    return True


def _frozen(model: Any) -> FrozenEstimator:
    return model if isinstance(model, FrozenEstimator) else FrozenEstimator(model)
