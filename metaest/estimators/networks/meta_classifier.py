"""What is a classifier's own among meta-learned networks: labels, `adapt` to one task, probabilities, scores."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import whether_guarded
from metaest.estimators.inputs import as_tasks, check_columns
from metaest.estimators.judge import Answers
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted_classifier import AdaptedClassifier, class_rows, probabilities_of
from metaest.estimators.networks.base import MetaNetwork, feature_names
from metaest.estimators.networks.class_episodes import ClassSource, Predicted
from metaest.estimators.networks.class_plan import ClassPlan
from metaest.estimators.networks.classification import ClassNetwork, build_classes
from metaest.estimators.networks.images import require_channels_first
from metaest.estimators.scoring import row_weights
from metaest.exceptions import filters_kept
from metaest.functional import Params
from metaest.tasks import Drawing, TaskSet, encode, encode_known, share_labels

__all__ = ["MetaClassifier"]


class MetaClassifier(MetaNetwork):
    """A mix-in for meta-learned networks that predict classes."""

    support_size: Any
    k_shot: Any
    n_query: int | None
    n_way: int | None
    split: str
    shared_labels: Any
    scoring: str
    check_plausibility: bool

    @in_plain_modes
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> AdaptedClassifier:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)
        y : array-like of shape (n_rows,)
            Labels. Where tasks have labels of their own, all classes of the task have to be among them.
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it (see
            :class:`Guard`); where labels mean the same in every task only, since there is no population otherwise;
            None is no. The first call learns from the training tasks how to judge, which takes a moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on.

        Returns
        -------
        AdaptedClassifier

        Raises
        ------
        TaskError
            When the rows cannot be used, or a label has no meaning to the model.
        DivergenceError
            When the adaptation becomes non-finite.
        ValueError
            When a guard is asked of tasks with labels of their own, or gap is not a whole number of rows.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        guarded = whether_guarded(guard, gap, False)
        rows, labels = class_rows(self, X, y, "adapt")
        if guarded and self._network.labels is None:
            raise ValueError(
                "guard=True compares with the answer before adaptation, and there is none where each task has labels "
                "of its own."
            )
        judge = self._judge(gap) if guarded else None
        names = feature_names(self)
        return AdaptedClassifier._adapt(self._network, self._plan(), self._params, rows, labels, names, judge)

    @in_plain_modes
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict probabilities without adapting, where labels mean the same in every task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        ValueError
            When each task has labels of its own: there is no answer without a task.
        """
        check_is_fitted(self)
        if self._network.labels is None:
            raise ValueError(
                "each task has labels of its own, so there is nothing to predict before a task's labels are known; "
                "call adapt(X, y) first."
            )
        plan = self._plan()
        return probabilities_of(self, self._network, plan, plan.zero_shot(self._params), X)

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels without adapting, where labels mean the same in every task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self._network.labels[probabilities.argmax(axis=1)]
        return labels

    @in_plain_modes
    def score(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> float:
        """Few-shot score: adapt on the support of each task, score the labels of its query.

        Parameters
        ----------
        X, y, groups : as in `fit`
        sample_weight : array-like of shape (n_rows,), optional; weights of flat query rows

        Returns
        -------
        float
            Accuracy, balanced accuracy or macro F1, as `scoring` says: over the query rows of all tasks together; the
            latter two, where each task has labels of its own, the mean over tasks.
        """
        tasks, found = self._predicted(X, y, groups)
        weight = None if sample_weight is None else row_weights(sample_weight, groups, len(tasks.X))[found.rows]
        if self.scoring == "accuracy" or self._network.labels is not None:
            return _score(self.scoring, found.truth, found.prediction, weight)
        ends = np.concatenate([[0], np.cumsum(np.bincount(found.task, minlength=len(tasks)))])
        own = [None if weight is None else weight[a:b] for a, b in pairwise(ends)]
        each = [
            _score(self.scoring, found.truth[a:b], found.prediction[a:b], w)
            for (a, b), w in zip(pairwise(ends), own, strict=True)
        ]
        return float(np.mean(each))

    @in_plain_modes
    def task_scores(self, X: Any, y: Any = None, groups: Any = None) -> pd.Series:
        """Few-shot score of each task by itself.

        Parameters
        ----------
        X, y, groups : as in `fit`

        Returns
        -------
        Series
            One number a task, of the kind `scoring` names, indexed by the task's name.
        """
        tasks, found = self._predicted(X, y, groups)
        ends = np.concatenate([[0], np.cumsum(np.bincount(found.task, minlength=len(tasks)))])
        scores = [_score(self.scoring, found.truth[a:b], found.prediction[a:b], None) for a, b in pairwise(ends)]
        return pd.Series(scores, index=pd.Index(tasks.names, name="task", tupleize_cols=False), name=self.scoring)

    def _predicted(self, X: Any, y: Any, groups: Any) -> tuple[TaskSet, Predicted]:
        check_is_fitted(self)
        tasks = self._read(X, y, groups)
        check_columns(self, X if y is not None else tasks, tasks.X.shape[1:], "score")
        source = self._source(self._network, tasks, self._plan(), np.random.default_rng(self._seed), training=False)
        return tasks, source.predict_queries(self._params, self.batching_, verbose=bool(self.verbose))

    def _read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        tasks = as_tasks(X, y, groups, labels=True, alone=self.n_way is not None)
        return require_channels_first(tasks, self.check_plausibility)

    def _build(self, training: TaskSet, tasks: TaskSet) -> ClassNetwork:
        if self.n_way is not None and self.shared_labels is True:
            raise ValueError("n_way draws classes, which then mean nothing beyond their episode: shared_labels=False.")
        shared = share_labels(tasks) if self.shared_labels == "auto" and self.n_way is None else self.shared_labels
        classes = encode(tasks, shared is True)
        most = int(classes.counts.max()) if self.n_way is None else self.n_way
        return build_classes(self, training, most, classes.labels if classes.shared else None)

    def _plan_of(self, network: Any) -> ClassPlan:
        return ClassPlan.of(self, network.forward, network.labels)

    def _source(
        self, network: ClassNetwork, tasks: TaskSet, plan: ClassPlan, rng: np.random.Generator, *, training: bool
    ) -> ClassSource:
        classes = encode(tasks, False) if network.labels is None else encode_known(tasks, network.labels)
        drawing = Drawing(self.support_size, self.k_shot, self.n_query, self.n_way, self.split)
        return ClassSource(network, tasks, plan, rng, classes, drawing, training=training)

    def _can_judge(self) -> bool:
        return self._network.labels is not None

    def _answers(self, plan: ClassPlan) -> Any:
        return partial(_answers, self._network, plan, self._params, self.batching_)

    def _spread(self, tasks: TaskSet) -> NDArray[np.float64]:
        return np.ones(len(self._network.labels))

    def _remember(self, tasks: TaskSet) -> None:
        labels = self._network.labels
        self.shared_labels_ = labels is not None
        if labels is not None:
            self.classes_ = labels
        elif hasattr(self, "classes_"):
            del self.classes_
        self.class_weight_ = self._plan().class_weights(self._params)


def _answers(network: ClassNetwork, plan: ClassPlan, meta: Params, batching: str, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict probabilities of its query, for a judge."""
    labels = network.labels
    assert labels is not None
    classes, rng = encode_known(tasks, labels), np.random.default_rng(0)
    source = ClassSource(network, tasks, plan, rng, classes, Drawing(None), training=False)
    adapted, rows = source.query_probabilities(meta, batching, len(labels))
    population = network.probabilities(plan, plan.zero_shot(meta), tasks.X[rows], len(labels))
    truth = (tasks.y[rows].reshape(-1, 1) == labels).astype(np.float64)
    return Answers(truth, adapted, population, rows)


@filters_kept()
def _score(kind: str, truth: NDArray[Any], prediction: NDArray[Any], weight: NDArray[Any] | None) -> float:
    if kind == "accuracy":
        return float(accuracy_score(truth, prediction, sample_weight=weight))
    if kind == "f1_macro":
        return float(f1_score(truth, prediction, average="macro", zero_division=0, sample_weight=weight))
    labels = np.unique(truth)
    recall = recall_score(truth, prediction, labels=labels, average="macro", zero_division=0, sample_weight=weight)
    return float(recall)
