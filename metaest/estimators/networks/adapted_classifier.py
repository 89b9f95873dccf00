"""The classifier `adapt` returns: one patient's, one alphabet's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils import ClassifierTags, Tags, TargetTags

from metaest.estimators.columns import Columns
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import is_empty, n_features_of
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted import HoldsNetwork, require_statistics
from metaest.estimators.networks.classification import ClassAdaptation, ClassNetwork
from metaest.estimators.predictor import AdaptedPredictor
from metaest.estimators.scoring import as_truth, score_weights
from metaest.exceptions import TaskError, filters_kept
from metaest.functional import Params
from metaest.tasks import labels_of, place_among
from metaest.tasks.reading import rows_of

__all__ = ["AdaptedClassifier", "LabelScoring", "class_rows", "probabilities_of", "require_same_kind"]


class LabelScoring:
    """What predictors of labels add to AdaptedPredictor: accuracy, and the tags of a classifier."""

    predict: Any

    @in_plain_modes
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of the prediction, as every scikit-learn classifier does.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float
        """
        prediction = self.predict(X)
        truth = labels_of(as_truth(y, len(prediction)), lambda row: f"score: row {row}")
        require_same_kind(truth, prediction, "score")
        with filters_kept():
            return float(accuracy_score(truth, prediction, sample_weight=score_weights(sample_weight, len(prediction))))

    def __sklearn_tags__(self) -> Tags:
        return Tags(
            estimator_type="classifier", target_tags=TargetTags(required=True), classifier_tags=ClassifierTags()
        )


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedClassifier(LabelScoring, HoldsNetwork, AdaptedPredictor):
    """A classifier adapted to one task; made by ``adapt``, never changed afterwards.

    It holds its own weights and shares nothing that moves with the model it came from or with its siblings, so
    threads may use it freely and it can be pickled on its own.

    Attributes
    ----------
    classes_ : ndarray
        The labels of the task, sorted: those it was adapted on, or, where labels mean the same in every task, all.
    X_support_, y_support_ : ndarray
        The rows it was adapted on.
    n_features_in_ : int or None
        None where rows are objects.
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.
    module_ : torch.nn.Module
        A copy of the network with the adapted weights; it works on standardised columns and returns logits.
    context_ : ndarray of shape (context_dim,)
        Where the task lies among the others; only with `context_dim` above 0.
    guard_ : Guard or None
        What the guard kept of the adaptation, and why; None without ``guard=True``. Probabilities follow it,
        ``module_`` and ``context_`` are those of the adaptation itself.

    See Also
    --------
    MAMLClassifier : The model whose ``adapt`` makes it.
    FewShotClassifier : The same as an ordinary classifier whose ``fit`` adapts.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metaest import MAMLClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MAMLClassifier(n_way=3, k_shot=2, max_iter=20, random_state=0).fit(X[y < 7], y[y < 7])
    >>> new = model.adapt(X[[7, 8, 9, 17, 18, 19]], ["seven", "eight", "nine"] * 2)
    >>> new
    AdaptedClassifier(64 features, adapted on 6 rows)
    >>> new.classes_.tolist()
    ['eight', 'nine', 'seven']
    >>> new.predict_proba(X[27:30]).shape
    (3, 3)
    """

    _network: ClassNetwork
    _adaptation: ClassAdaptation
    _meta: Params
    _params: Params
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    classes_: NDArray[Any]
    n_features_in_: int | None
    guard_: Guard | None = None
    _judge: FittedGuard | None = None

    @classmethod
    def _adapt(
        cls,
        network: ClassNetwork,
        adaptation: ClassAdaptation,
        meta: Params,
        X: NDArray[Any],
        y: NDArray[Any],
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
    ) -> "AdaptedClassifier":
        X, y = np.array(X), np.array(y)
        classes = np.unique(y) if network.labels is None else network.labels
        if network.labels is None:
            if len(classes) < 2:
                raise TaskError(
                    f"adapt: the support has one class only, {classes.tolist()[0]!r}; at least two are needed where "
                    "each task has labels of its own."
                )
            if adaptation.fixed and len(classes) > adaptation.n_outputs:
                raise TaskError(
                    f"adapt: the support has {len(classes)} classes, but the model has {adaptation.n_outputs} outputs, "
                    "since its last layer stays as it is."
                )
        require_statistics(adaptation, X)
        codes = place_among(y, classes, lambda row: "adapt")
        n_outputs = adaptation.n_outputs if adaptation.fixed else len(classes)
        support = network.rows(X, network.targets(codes, len(classes), n_outputs))
        params = network.adapt(
            adaptation.start(meta, support), adaptation.solver(meta), adaptation.support(meta, support)
        )
        guard = None if judge is None else judge.judge(X, y)
        adapted = cls(network, adaptation, meta, params, X, y, classes, n_features_of(X), guard, judge)
        if feature_names is not None:
            object.__setattr__(adapted, "feature_names_in_", feature_names)
        if X.ndim > 2:
            object.__setattr__(adapted, "feature_shape_", X.shape[1:])
        X.flags.writeable = y.flags.writeable = False
        return adapted

    @in_plain_modes
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict the probabilities of the task's classes.

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
        """
        network, adaptation, columns, n = self._network, self._adaptation, Columns(self), len(self.classes_)
        adapted = probabilities_of(columns, network, adaptation, self._params, X, n)
        share = 1.0 if self.guard_ is None else self.guard_.share
        if share == 1:
            return adapted
        population = probabilities_of(columns, network, adaptation, adaptation.zero_shot(self._meta), X, n)
        mixed: NDArray[Any] = population + share * (adapted - population)
        return mixed

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
    def partial_adapt(self, X: Any, y: Any) -> "AdaptedClassifier":
        """Return a new classifier adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
            Labels may be new ones where each task has its own.

        Returns
        -------
        AdaptedClassifier
            Equal to adapting the model once on all the rows; this one is left as it is.

        Raises
        ------
        TaskError
            When the rows cannot be used.
        """
        columns = Columns(self)
        rows, labels = class_rows(columns, X, y, "partial_adapt")
        require_same_kind(labels, self.y_support_, "partial_adapt")
        return self._adapt(
            self._network,
            self._adaptation,
            self._meta,
            np.concatenate([self.X_support_, rows]),
            np.concatenate([self.y_support_, labels]),
            columns.names,
            self._judge,
        )


def class_rows(columns: Columns, X: Any, y: Any, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows and labels of one new task, checked against the columns of the fit."""
    if y is None:
        raise TaskError(f"{where}: y is missing; the labels of the task's rows are wanted.")
    X, y = X if columns.objects else rows_of(X, where, "X"), rows_of(y, where, "y")
    if is_empty(X) and is_empty(y):
        raise TaskError(f"{where}: there are no rows; the rows of a task define its classes, so some are needed.")
    rows, target = columns.rows_with_targets(X, y, where, labels=True)
    return rows, labels_of(target, lambda row: where)


def require_same_kind(labels: NDArray[Any], before: NDArray[Any], where: str) -> None:
    """Raise a TaskError where some labels are words and others numbers."""
    if (labels.dtype.kind == "U") != (before.dtype.kind == "U"):
        raise TaskError(f"{where}: labels of mixed types; write all as words, or all as numbers, as in the fit.")


def probabilities_of(
    columns: Columns, network: ClassNetwork, adaptation: ClassAdaptation, params: Params, X: Any, n_classes: int
) -> NDArray[Any]:
    """Return probabilities of rows, checked against the columns of the fit."""
    return network.probabilities(adaptation, params, columns.rows(X, "predict"), n_classes)
