"""Labels of classes: which tasks share, what candidates say of their probabilities, and how they are judged.

The error of a row is that of Brier, the sum over classes of :math:`(p_k - [y = k])^2` (divided by the number of
classes): it is least for the true probabilities, as the cross-entropy is, but no candidate is thrown out for one row
that it was sure of and wrong about; and it is quadratic, so that weights of an average are those of a regression.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from metaest.exceptions import DivergenceError, TaskError
from metaest.selection.answers import adapted_many, in_shape, naming
from metaest.selection.candidates import Candidate
from metaest.selection.class_folds import WANTED, classes_left_out, episodes_of_classes, recurring_classes, renamed
from metaest.selection.targets import FEWEST_QUERY, MOST_QUERY, Targets, carried_first
from metaest.tasks import Drawing, Task, TaskSet, encode
from metaest.tasks.record import read_only

__all__ = ["Labels", "classes_of", "indicator_of", "probabilities_of"]

# least unit of Brier scores, which come in those of the best candidate: were one that is right by 0.9999 the unit, one
# that is right by 0.99 would be thrown out for it, however much better it is with fewer support rows
FINEST = 0.01
# how far probabilities of a row may be from summing to one: those of single precision are closer
ROUNDING = 1e-3
# ... and sums up to which they are left as they are
EXACT = 1e-12


@dataclass(frozen=True)
class Labels(Targets):
    """Classes of rows.

    Attributes
    ----------
    classes : ndarray or None
        All labels, sorted, where they mean the same in every task.
    width : int
        Largest number of classes of a task that is judged.
    n_way : int or None
        Classes of an episode; None for all of a task.
    """

    classes: NDArray[Any] | None
    width: int
    n_way: int | None = None
    labels = True

    @classmethod
    def of(cls, tasks: TaskSet, shared: bool, n_way: int | None = None) -> "Labels":
        """Return the labels of tasks, or raise a TaskError where they are none, or of too few classes."""
        classes = encode(tasks, shared)
        Drawing(n_way=n_way).check(tasks, classes)
        return cls(classes.labels if shared else None, n_way or int(classes.counts.max()), n_way)

    @property
    def unit(self) -> str:  # type: ignore[override]
        """What `shots` counts."""
        return "rows" if self.classes is not None else "rows of each class"

    @property
    def drawn(self) -> bool:  # type: ignore[override]
        """Whether `n_way` draws classes."""
        return self.n_way is not None

    @property
    def finest(self) -> float:
        """A hundredth in the score of Brier."""
        return FINEST / self.width

    def sizes(self, tasks: TaskSet) -> NDArray[np.intp]:
        """Return numbers of rows; where labels are a task's own, of its median class and one more."""
        if self.classes is not None:
            return tasks.sizes
        counts = [np.median(np.unique(task.y, return_counts=True)[1]) for task in tasks]
        return np.floor(counts).astype(np.intp) - 1 + FEWEST_QUERY

    def split(self, task: Task, shot: int, order: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first rows, of each class where labels are the task's own, and others to predict.

        Those that the task carries come before others, and are predicted only where there are no others. A class with
        few rows keeps one to be predicted.
        """
        order, n_carried = carried_first(task, order)
        is_support = np.arange(len(order)) < shot
        if self.classes is None:
            _, codes, counts = np.unique(task.y.ravel()[order], return_inverse=True, return_counts=True)
            rank = np.empty(len(order), dtype=np.intp)
            for k in range(len(counts)):
                rank[codes == k] = np.arange(counts[k])
            is_support = rank < np.minimum(shot, np.maximum(counts - 1, 1))[codes]
        carried = np.arange(len(order)) < n_carried
        query = order[~is_support & ~carried]
        query = query if len(query) >= FEWEST_QUERY else order[~is_support]
        return np.sort(order[is_support]), np.sort(query[:MOST_QUERY])

    def settled(self, candidate: Candidate) -> Candidate:
        """Tell a candidate whether labels mean the same in every task, which those of a comparison may not show."""
        if getattr(candidate.estimator, "shared_labels", None) != "auto":
            return candidate
        estimator = clone(candidate.estimator).set_params(shared_labels=self.classes is not None)
        return replace(candidate, estimator=estimator, trial=estimator)

    def compared(
        self, tasks: TaskSet, shots: Sequence[int], cv: int, rng: np.random.Generator
    ) -> tuple[TaskSet, list[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
        """Leave out classes where tasks with labels of their own have the same ones, and whole tasks else."""
        classes = None if self.classes is not None else recurring_classes(tasks)
        left_out = [] if classes is None else classes_left_out(tasks, classes, self.n_way, cv, rng)
        if not left_out:
            whole, parts = super().compared(tasks, shots, cv, rng)
            if self.n_way is None:
                return whole, parts
            left_out = [([whole[int(i)] for i in a], [whole[int(i)] for i in b]) for a, b in parts]
        pool: list[Task] = []
        parts = []
        for training, judged in left_out:
            if self.n_way is not None:
                n_episodes = -(-WANTED // len(left_out))
                judged = episodes_of_classes(judged, self.n_way, n_episodes, max(shots), rng)
            ends = np.cumsum([len(pool), len(training), len(judged)])
            parts.append((np.arange(ends[0], ends[1]), np.arange(ends[1], ends[2])))
            pool += [renamed(task, f"{task.name}, fold {len(parts)}") for task in training]
            pool += [renamed(task, f"{task.name}, left out of fold {len(parts)}") for task in judged]
        return TaskSet(pool) if pool else tasks, parts

    def judged(self, tasks: TaskSet, training: NDArray[np.intp], left_out: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the tasks left out whose labels all stand in the others, where they mean the same in every task.

        From one label nothing can be learned: none is judged by a fit on it.
        """
        if self.classes is None:
            return left_out
        met = np.unique(np.concatenate([tasks[int(i)].y.ravel() for i in training]))
        if len(met) < 2:
            return left_out[:0]
        return np.array([i for i in left_out if np.isin(tasks[int(i)].y, met).all()], dtype=np.intp)

    def truth(self, support: TaskSet, query: TaskSet) -> NDArray[np.float64]:
        """Return indicators of the classes of the query rows; further columns are zero."""
        return self._each(indicator_of(b.y, self._classes(a)) for a, b in zip(support, query, strict=True))

    def predictions(self, name: str, model: Any, support: TaskSet, query: TaskSet) -> NDArray[np.float64]:
        """Adapt a fitted candidate to supports and predict probabilities of the queries; further columns are zero."""
        predictors = adapted_many(name, model, support)
        return self._each(
            probabilities_of(name, one, b.X, self._classes(a))
            for one, a, b in zip(predictors, support, query, strict=True)
        )

    def scale(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one: errors are those of probabilities."""
        return np.ones(truth.shape[1])

    def _classes(self, support: Task) -> NDArray[Any]:
        return np.unique(support.y) if self.classes is None else self.classes

    def _each(self, parts: Any) -> NDArray[np.float64]:
        """Return arrays below each other, with as many columns as a task has classes at most."""
        return np.concatenate([np.pad(part, ((0, 0), (0, self.width - part.shape[1]))) for part in parts])


def classes_of(labels: NDArray[Any] | None, y: NDArray[Any], where: str) -> NDArray[Any]:
    """Return the classes of a task that is adapted to, sorted, or raise a TaskError where it has one of its own."""
    if labels is not None:
        return labels
    classes = np.unique(y)
    if len(classes) < 2:
        raise TaskError(
            f"{where}: the support has one class only, {classes.tolist()[0]!r}; at least two are needed where each "
            "task has labels of its own."
        )
    return classes


def indicator_of(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 for the class of a row and 0 for others, of shape (n_rows, n_classes)."""
    return np.asarray(y.reshape(-1, 1) == classes, dtype=np.float64)


def probabilities_of(name: str, predictor: Any, X: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return what a predictor says of rows, in the order of the classes of the task; 0 for those it does not know.

    What is within rounding of probabilities becomes that: not negative, with sums of one.

    Raises
    ------
    ValueError
        When these are no probabilities, or those of other classes.
    DivergenceError
        When they are not finite: the largest of them would be taken from NaN in silence.
    """
    missing = [member for member in ("predict_proba", "classes_") if not hasattr(predictor, member)]
    if missing:
        raise ValueError(f"candidates: {name!r} answers by a {type(predictor).__name__}, which has no {missing[0]}.")
    theirs = np.asarray(predictor.classes_).ravel()
    with naming(name):
        given = predictor.predict_proba(read_only(np.asarray(X).view()))
    values = in_shape(name, given, (len(X), len(theirs))).astype(np.float64)
    sums = values.sum(axis=1)
    if not np.isfinite(sums).all():
        row = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise DivergenceError(f"candidates: {name!r} predicts probabilities that are not finite, first in row {row}.")
    if (values < -ROUNDING).any() or (np.abs(sums - 1) > ROUNDING).any():
        raise ValueError(f"candidates: {name!r} predicts numbers that are no probabilities: rows have to sum to one.")
    if (values < 0).any() or (np.abs(sums - 1) > EXACT).any():
        values = values.clip(min=0)
        values /= values.sum(axis=1, keepdims=True)
    if len(theirs) == len(classes) and (theirs == classes).all():
        return values
    places = {label: k for k, label in enumerate(classes.tolist())}
    others = [label for label in theirs.tolist() if label not in places]
    if others:
        raise ValueError(
            f"candidates: {name!r} predicts a class {others[0]!r}, which is none of the task's: "
            f"{classes.tolist()[:20]}."
        )
    if len(set(theirs.tolist())) < len(theirs):
        raise ValueError(f"candidates: {name!r} names a class twice in classes_: {theirs.tolist()[:20]}.")
    aligned = np.zeros((len(X), len(classes)))
    aligned[:, [places[label] for label in theirs.tolist()]] = values
    return aligned
