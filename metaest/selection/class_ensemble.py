"""ClassEnsemble: fitted classifiers with weights, whose probabilities are averaged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.guard import Answers
from metaest.functional.progress import progress
from metaest.selection.answers import adapted_many
from metaest.selection.ensemble import CHUNK, Ensemble, rows_of
from metaest.selection.labels import indicator_of, probabilities_of
from metaest.tasks import Classes, Drawing, TaskSet, encode, encode_known, split_classes

__all__ = ["ClassEnsemble", "class_guard_answers"]


@dataclass(frozen=True)
class ClassEnsemble(Ensemble):
    """Members whose probabilities of classes are averaged.

    Attributes
    ----------
    labels : ndarray or None
        All labels, sorted, where they mean the same in every task.
    """

    labels: NDArray[Any] | None = None

    def probabilities(self, predictors: Sequence[Any], X: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
        """Return probabilities of the classes of a task, by the adapted members."""
        pairs = zip(self.members, predictors, strict=True)
        parts = [one.weight * probabilities_of(one.name, predictor, X, classes) for one, predictor in pairs]
        return np.asarray(np.sum(parts, axis=0))

    def population(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return probabilities before adaptation, where labels mean the same in every task."""
        assert self.labels is not None
        return self.probabilities([member.model for member in self.members], X, self.labels)

    def classes(self, tasks: TaskSet) -> Classes:
        """Return the labels of tasks as numbers."""
        return encode(tasks, False) if self.labels is None else encode_known(tasks, self.labels)

    def query_probabilities(
        self, tasks: TaskSet, drawing: Drawing, rng: np.random.Generator, *, verbose: bool = False
    ) -> Iterator[tuple[int, NDArray[np.intp], NDArray[Any], NDArray[np.float64]]]:
        """Adapt to the support of every task and predict its query; `verbose` shows a progress bar.

        Yields
        ------
        task : int
        rows : ndarray of int, shape (n_query_rows,)
            Row numbers of its query.
        classes : ndarray
            Those of the task, sorted.
        probabilities : ndarray of shape (n_query_rows, n_classes)
        """
        classes = self.classes(tasks)
        drawing.check(tasks, classes)
        chunks = [np.arange(i, min(i + CHUNK, len(tasks))) for i in range(0, len(tasks), CHUNK)]
        for chosen in progress(chunks, verbose, "tasks scored", "task", len(tasks), len):
            split = split_classes(tasks, classes, chosen, drawing, rng, shuffled=False).rows
            able = [i for i in range(len(chosen)) if split.support_mask[i].any()]
            supports = [split.support[i][split.support_mask[i]] for i in able]
            predictors = self._adapted(tasks, supports) if able else []
            at = dict(zip(able, predictors, strict=True))
            for i, number in enumerate(chosen):
                rows = split.query[i][split.query_mask[i]]
                if i in at:
                    names = np.unique(tasks.y[supports[able.index(i)]]) if self.labels is None else self.labels
                    yield int(number), rows, names, self.probabilities(at[i], tasks.X[rows], names)
                else:
                    assert self.labels is not None  # a support without rows has no classes of its own
                    yield int(number), rows, self.labels, self.population(tasks.X[rows])

    def _adapted(self, tasks: TaskSet, supports: list[NDArray[np.intp]]) -> list[tuple[Any, ...]]:
        """Return the members adapted to rows of each task."""
        rows = rows_of(tasks, supports)
        each = [adapted_many(member.name, member.model, rows) for member in self.members]
        return list(zip(*each, strict=True))


def class_guard_answers(ensemble: ClassEnsemble, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for the guard."""
    assert ensemble.labels is not None
    answers = list(ensemble.query_probabilities(tasks, Drawing(None), np.random.default_rng(0)))
    rows = np.concatenate([of_task for _, of_task, _, _ in answers])
    adapted = np.concatenate([probabilities for *_, probabilities in answers])
    truth = indicator_of(tasks.y[rows], ensemble.labels)
    return Answers(truth, adapted, ensemble.population(tasks.X[rows]), rows)
