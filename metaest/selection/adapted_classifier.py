"""AdaptedAutoClassifier: the classifier of one task, an average of adapted classifiers."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.columns import Columns
from metaest.estimators.guard import FittedGuard
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted_classifier import LabelScoring, class_rows, require_same_kind
from metaest.selection.average import AdaptedAverage
from metaest.selection.class_ensemble import ClassEnsemble
from metaest.selection.labels import classes_of
from metaest.tasks import place_among

__all__ = ["AdaptedAutoClassifier"]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedAutoClassifier(LabelScoring, AdaptedAverage):
    """The chosen classifiers adapted to one task; made by ``adapt`` of an AutoMetaClassifier, never changed afterwards.

    Attributes
    ----------
    classes_ : ndarray
        The labels of the task, sorted: those it was adapted on, or, where labels mean the same in every task, all.
    X_support_, y_support_ : ndarray
        The rows it was adapted on.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.
    members_ : dict of str to adapted classifier
        Of the candidates chosen, by name.
    weights_ : dict of str to float
        Weights of their probabilities.
    guard_ : Guard or None
        What the guard kept of the adaptation, and why; None without ``guard=True``.

    See Also
    --------
    AutoMetaClassifier : The model whose ``adapt`` makes it.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metaest import AutoMetaClassifier, MAMLClassifier, make_episodes
    >>> X, y = load_digits(return_X_y=True)
    >>> tasks = make_episodes(X[y < 6], y[y < 6], n_way=3, k_shot=2, n_query=5, n_episodes=20, random_state=0)
    >>> candidates = [("ridge", MAMLClassifier(inner_solver="ridge", max_iter=20, random_state=0))]
    >>> model = AutoMetaClassifier(candidates=candidates, shots=2, random_state=0).fit(tasks)
    >>> new = model.adapt(X[[7, 8, 9, 17, 18, 19]], ["seven", "eight", "nine"] * 2)
    >>> new.classes_.tolist()
    ['eight', 'nine', 'seven']
    """

    _ensemble: ClassEnsemble
    classes_: NDArray[Any] = field(kw_only=True)

    @classmethod
    def _adapt(
        cls,
        ensemble: ClassEnsemble,
        X: NDArray[Any],
        y: NDArray[Any],
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
        where: str = "adapt",
    ) -> "AdaptedAutoClassifier":
        classes = classes_of(ensemble.labels, y, where)
        place_among(y, classes, lambda row: where)
        made: AdaptedAutoClassifier = cls._made(ensemble, X, y, feature_names, judge, classes_=classes)
        return made

    @in_plain_modes
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict the probabilities of the task's classes: the average of those of the candidates chosen.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or a value is missing.
        DivergenceError
            When a probability is not finite; the message names candidate and row.
        """
        rows = Columns(self).rows(X, "predict")
        values = self._ensemble.probabilities(self._predictors, rows, self.classes_)
        share = 1.0 if self.guard_ is None else self.guard_.share
        if share == 1:
            return values
        population = self._ensemble.population(rows)
        return np.asarray(population + share * (values - population))

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the labels of rows of this task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any) -> "AdaptedAutoClassifier":
        """Return a new classifier adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
            Labels may be new ones where each task has its own.

        Returns
        -------
        AdaptedAutoClassifier
            Equal to adapting the model once on all the rows; this one is left as it is.

        Raises
        ------
        TaskError
            When the rows cannot be used.
        """
        columns = Columns(self)
        rows, labels = class_rows(columns, X, y, "partial_adapt")
        require_same_kind(labels, self.y_support_, "partial_adapt")
        rows, labels = np.concatenate([self.X_support_, rows]), np.concatenate([self.y_support_, labels])
        return self._adapt(self._ensemble, rows, labels, columns.names, self._judge, "partial_adapt")
