"""Ensemble: fitted models with weights, that adapt and predict together."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.guard import Answers
from metaest.estimators.mixture import mixed
from metaest.functional.progress import progress
from metaest.selection.answers import in_shape, of_queries
from metaest.tasks import TaskSet, split_tasks
from metaest.tasks.record import read_only

__all__ = ["CHUNK", "Ensemble", "Member", "gives_std", "guard_answers", "rows_of", "weighted"]

# tasks whose supports are adapted to at once
CHUNK = 500


@dataclass(frozen=True)
class Member:
    """A fitted model, and its weight.

    Attributes
    ----------
    name : str
    weight : float
    model : estimator
    has_std : bool
        Whether it predicts standard deviations.
    """

    name: str
    weight: float
    model: Any
    has_std: bool


@dataclass(frozen=True)
class Ensemble:
    """Members whose predictions are averaged.

    Attributes
    ----------
    members : tuple of Member
        Their weights sum to one.
    shape : tuple of int
        That of the targets of a row: empty, or their number.
    """

    members: tuple[Member, ...]
    shape: tuple[int, ...] = ()

    @property
    def weights(self) -> list[float]:
        """The members' weights."""
        return [member.weight for member in self.members]

    @property
    def has_std(self) -> bool:
        """Whether all members give standard deviations."""
        return all(member.has_std for member in self.members)

    def predict(self, X: Any, *, spread: bool = False) -> Any:
        """Predict rows without adapting, with standard deviations where asked for."""
        return weighted(self, [member.model for member in self.members], X, spread=spread)

    def require_std(self) -> None:
        """Raise a ValueError where a member has no standard deviation."""
        for member in self.members:
            if not member.has_std:
                raise ValueError(f"return_std: {member.name} is part of the model, and has no predictive variance.")

    def queries(
        self, tasks: TaskSet, support_size: Any, split: str, rng: np.random.Generator, *, verbose: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """Adapt to the support of every task and predict its query; `verbose` shows a progress bar.

        Returns
        -------
        truth, prediction : ndarray of shape (n_query_rows,) or (n_query_rows, n_targets)
        rows : ndarray of int, shape (n_query_rows,)
            Their row numbers in the TaskSet.
        """
        rows, predictions = [], []
        chunks = [np.arange(i, min(i + CHUNK, len(tasks))) for i in range(0, len(tasks), CHUNK)]
        for chosen in progress(chunks, verbose, "tasks scored", "task", len(tasks), len):
            split_rows = split_tasks(tasks, chosen, support_size, split, rng)
            pairs = [
                (split_rows.support[i][split_rows.support_mask[i]], split_rows.query[i][split_rows.query_mask[i]])
                for i in range(len(chosen))
            ]
            predictions += self._of_pairs(tasks, pairs)
            rows += [query for _, query in pairs]
        numbers = np.concatenate(rows)
        return tasks.y[numbers], np.concatenate(predictions), numbers

    def _of_pairs(
        self, tasks: TaskSet, pairs: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    ) -> list[NDArray[np.float64]]:
        """Return predictions of the query rows of each pair of row numbers."""
        predictions: list[Any] = [None] * len(pairs)
        adapted = [i for i, (support, _) in enumerate(pairs) if len(support)]
        for i, (support, query) in enumerate(pairs):
            if not len(support):
                predictions[i] = self.predict(tasks.X[query])
        if not adapted:
            return predictions
        chosen = [pairs[i] for i in adapted]
        supports = rows_of(tasks, [rows for rows, _ in chosen])
        queries = rows_of(tasks, [rows for _, rows in chosen])
        parts = [member.weight * of_queries(member.name, member.model, supports, queries) for member in self.members]
        total = np.sum(parts, axis=0)
        for i, part in zip(adapted, np.split(total, queries.offsets[1:-1]), strict=True):
            predictions[i] = part
        return predictions


def rows_of(tasks: TaskSet, numbers: list[NDArray[np.intp]]) -> TaskSet:
    """Return tasks of some of the rows, one for each array of row numbers."""
    rows = np.concatenate(numbers)
    groups = np.repeat(np.arange(len(numbers)), [len(own) for own in numbers])
    names = {"feature_names": tasks.feature_names, "target_names": tasks.target_names}
    weight = None if tasks.sample_weight is None else tasks.sample_weight[rows]
    return TaskSet.from_arrays(tasks.X[rows], tasks.y[rows], groups, **names, sample_weight=weight)


def guard_answers(ensemble: Ensemble, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for the guard."""
    truth, adapted, rows = ensemble.queries(tasks, None, "random", np.random.default_rng(0))
    population, shape = ensemble.predict(tasks.X[rows]), (len(rows), -1)
    return Answers(truth.reshape(shape), adapted.reshape(shape), population.reshape(shape), rows)


def gives_std(model: Any, row: NDArray[Any]) -> bool:
    """Tell whether a fitted model predicts standard deviations, by one row of its training tasks."""
    try:
        answer = model.predict(row, return_std=True)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return isinstance(answer, tuple) and len(answer) == 2  # a keyword that is not looked at raises nothing


def weighted(ensemble: Ensemble, predictors: list[Any], X: Any, *, spread: bool) -> Any:
    r"""Return the average of predictions by the weights of an ensemble.

    With `spread`, the second of the two arrays holds standard deviations of the mixture,

    .. math:: s^2 = \sum_c w_c \bigl(s_c^2 + (\hat y_c - \hat y)^2\bigr).
    """
    pairs, shape = list(zip(ensemble.members, predictors, strict=True)), (len(X), *ensemble.shape)
    X = read_only(np.asarray(X).view())  # no candidate changes what the next one, or the caller, sees
    if not spread:
        return sum(member.weight * in_shape(member.name, p.predict(X), shape) for member, p in pairs)
    parts = []
    for member, p in pairs:
        mean, sd = p.predict(X, return_std=True)
        parts.append((in_shape(member.name, mean, shape), in_shape(member.name, sd, shape)))
    return mixed(ensemble.weights, parts)
