"""Rows left out and predicted from the others: in training tasks, to learn how shares are judged, and in a new one."""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.guard import Guard, GuardRule, Moments, decide, learn_rule
from metaest.exceptions import DivergenceError, OvershootWarning, quiet
from metaest.functional.progress import progress
from metaest.tasks import Task, TaskSet

__all__ = ["Answers", "Judge", "spread_of", "thinned"]

# sizes of support at which rules are learned, and what bounds the work
SIZES = (1, 2, 3, 5, 10, 20, 50, 100, 200)
MOST_TASKS, FEWEST_TASKS, MOST_QUERY, N_SPLITS, FEWEST_DRAWS, MOST_DRAWS = 60, 3, 50, 60, 4, 20
MOST_LONG, LONG = 30, 50  # fewer tasks where supports are long
N_FOLDS, N_BLOCKS = 10, 5
_logger = logging.getLogger("metaest.guard")


class Answers(NamedTuple):
    """Query rows of episodes, in the order of the TaskSet; arrays of shape (n_rows, n_outputs).

    Attributes
    ----------
    truth, adapted, population : ndarray
    rows : ndarray of int, shape (n_rows,)
        Their row numbers in the TaskSet.
    weight : ndarray of shape (n_rows,) or None
        Weight of each, 1/variance.
    """

    truth: NDArray[np.float64]
    adapted: NDArray[np.float64]
    population: NDArray[np.float64]
    rows: NDArray[np.intp]
    weight: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Judge:
    """Judges adaptations of one model.

    Attributes
    ----------
    answer : callable
        ``answer(tasks)`` adapts to the support of every task and returns the Answers of its other rows.
    rules : tuple of GuardRule
        By number of support rows, rising.
    scale : ndarray of shape (n_outputs,)
        Of the targets.
    ordered : bool
        Whether rows stand in the order of time: an adaptation is then judged on later rows.
    gap : int
        Rows left out between those adapted on and those judged on.
    least : int
        Rows an adaptation needs.
    """

    answer: Callable[[TaskSet], Answers]
    rules: tuple[GuardRule, ...]
    scale: NDArray[np.float64]
    ordered: bool
    gap: int
    least: int

    @classmethod
    def learn(
        cls,
        answer: Callable[[TaskSet], Answers],
        tasks: TaskSet,
        scale: NDArray[np.float64],
        *,
        ordered: bool,
        gap: int,
        least: int,
        seed: int,
        verbose: bool = False,
    ) -> "Judge":
        """Learn from training tasks how shares are judged; `verbose` shows a progress bar."""
        judge = cls(answer, (), scale, ordered, gap, least)
        rng = np.random.default_rng(seed)
        sizes = [size for size in SIZES if size >= least]
        rules = [judge._rule(tasks, size, rng) for size in progress(sizes, verbose, "guard", "size")]
        learned = tuple(rule for rule in rules if rule is not None)
        for rule in learned:
            _logger.info(
                "at %d support rows %.2f of an adaptation is kept before its rows are judged (%d tasks)",
                *(rule.size, rule.share, rule.n_tasks),
            )
        return cls(answer, learned, scale, ordered, gap, least)

    def judge(self, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64] | None = None) -> Guard:
        """Judge the adaptation to the rows of one task."""
        if not len(X):
            reason = "there are no rows: predictions are the population's."
            return Guard("kept", 1.0, reason, 0, float("nan"), float("nan"), 1.0)
        return self.judge_many([(X, y, weight)])[0]

    def judge_tasks(self, tasks: TaskSet) -> list[Guard]:
        """Judge the adaptations to all rows of every task."""
        weights = tasks.sample_weight
        rows = [slice(int(a), int(b)) for a, b in itertools.pairwise(tasks.offsets)]
        return self.judge_many([(tasks.X[r], tasks.y[r], None if weights is None else weights[r]) for r in rows])

    @np.errstate(over="ignore", invalid="ignore")  # errors beyond the largest number are errors
    def judge_many(self, tasks: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]]) -> list[Guard]:
        """Judge the adaptations to the rows (X, y, weights) of many tasks, each of which has rows, in one batch."""
        episodes: list[Task] = []
        owner: list[int] = []
        for i, (X, y, weight) in enumerate(tasks):
            for a, b in self._folds(X, y):
                owner.append(i)
                episodes.append(_episode(len(episodes), (X, y, weight), a, b))
        moments = self._moments(episodes, np.array(owner, dtype=np.intp), len(tasks))
        scale = float(np.sqrt(np.square(self.scale).mean()))
        guards = []
        for i, (X, _, _) in enumerate(tasks):
            own = Moments(*(part[i : i + 1] for part in moments))
            fitting = [rule for rule in self.rules if rule.size <= len(X)]
            rule = fitting[-1] if fitting else GuardRule(len(X), 0.5, float(own.residual[0] or 1.0), 0)
            guards.append(decide(rule, len(X), own, scale))
        return guards

    def _rule(self, tasks: TaskSet, size: int, rng: np.random.Generator) -> GuardRule | None:
        able = np.flatnonzero(tasks.sizes > size + self.gap)
        if len(able) < FEWEST_TASKS:
            return None
        most = MOST_TASKS if size < LONG else MOST_LONG
        able = able if len(able) <= most else np.sort(rng.choice(able, most, replace=False))
        # the first rows of a task are the same in every draw
        draws = 1 if self.ordered else int(np.clip(-(-N_SPLITS // len(able)), FEWEST_DRAWS, MOST_DRAWS))
        inner: list[Task] = []
        outer: list[Task] = []
        owner: list[int] = []
        for _ in range(draws):
            for i in able:
                task = tasks[int(i)]
                order = np.arange(len(task)) if self.ordered else rng.permutation(len(task))
                support, query = order[:size], order[size + self.gap :]
                if len(query) > MOST_QUERY:
                    query = np.sort(rng.choice(query, MOST_QUERY, replace=False))
                number = len(outer)
                weight = None if task.sample_weight is None else np.asarray(task.sample_weight)
                outer.append(_episode(number, (task.X, task.y, weight), support, query))
                X, y, weight = task.X[support], task.y[support], None if weight is None else weight[support]
                for a, b in self._folds(X, y):
                    owner.append(number)
                    inner.append(_episode(len(inner), (X, y, weight), a, b))
        n = len(outer)
        other = self._moments(outer, np.arange(n), n)
        return learn_rule(size, self._moments(inner, np.array(owner, dtype=np.intp), n), other, len(able))

    def _folds(self, X: NDArray[Any], y: NDArray[Any]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Return which rows are adapted on, and which are judged on."""
        n = len(X)
        rows = np.arange(n)
        if self.ordered:
            edges = np.unique(np.linspace(n / (N_BLOCKS + 1), n, N_BLOCKS + 1).round().astype(int).clip(1, n))
            pairs = [(rows[: max(0, a - self.gap)], rows[a:b]) for a, b in itertools.pairwise(edges)]
            return [pair for pair in pairs if len(pair[0]) >= self.least]
        # by value, so that the order of the rows does not matter
        target = y if y.dtype.kind == "f" else np.unique(y, return_inverse=True)[1]
        order = np.lexsort(np.column_stack([target.reshape(n, -1), X.reshape(n, -1)]).T)
        n_folds = min(n, N_FOLDS)
        pairs = [
            (np.sort(order[rows % n_folds != fold]), np.sort(order[rows % n_folds == fold])) for fold in range(n_folds)
        ]
        return [pair for pair in pairs if len(pair[0]) >= self.least]

    def _moments(self, episodes: list[Task], owner: NDArray[np.intp], n: int) -> Moments:
        """Return the sums over query rows for n owners of episodes."""
        if not episodes:
            return Moments(*np.zeros((4, n)))
        tasks = TaskSet(episodes)
        with quiet(OvershootWarning):
            try:
                found = self.answer(tasks)
            except DivergenceError:
                if len(episodes) == 1:  # nothing can be said of it
                    return Moments(*np.zeros((4, n)))
                half = len(episodes) // 2
                parts = [
                    self._moments(episodes[:half], owner[:half], n),
                    self._moments(episodes[half:], owner[half:], n),
                ]
                return Moments(*(one + other for one, other in zip(*parts, strict=True)))
        episode = np.searchsorted(tasks.offsets, found.rows, side="right") - 1
        terms = Moments.of(found.truth / self.scale, found.adapted / self.scale, found.population / self.scale)
        if found.weight is not None:  # a mean weight of 1 for each owner
            mean = np.bincount(owner[episode], found.weight, n) / np.bincount(owner[episode], minlength=n).clip(1)
            even = found.weight / np.where(mean > 0, mean, 1.0)[owner[episode]]
            terms = Moments(terms.residual * even, terms.along * even, terms.change * even, terms.rows)
        return terms.summed(owner[episode], n)


def spread_of(y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard deviation of every target; its size where it does not vary, and 1 where that is 0."""
    y = y.astype(np.float64)
    scale, size = np.atleast_1d(y.std(axis=0)), np.atleast_1d(np.abs(y).max(axis=0))
    # a sum of equal numbers rounds
    spread: NDArray[np.float64] = np.where(scale > 1e-12 * size, scale, np.where(size > 0, size, 1.0))
    return spread


def thinned(tasks: TaskSet) -> TaskSet:
    """Return at most as many tasks as a judge looks at, evenly spread; tasks that are never adapted to tell nothing."""
    able = [i for i, task in enumerate(tasks) if task.support is None or len(task.support)]
    if len(able) == len(tasks) <= MOST_TASKS or not able:
        return tasks
    chosen = np.linspace(0, len(able) - 1, min(len(able), MOST_TASKS)).round().astype(int)
    return TaskSet([tasks[able[i]] for i in chosen])


def _episode(
    name: int,
    rows: tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None],
    support: NDArray[np.intp],
    query: NDArray[np.intp],
) -> Task:
    """Return chosen rows (X, y, weights) as a task, its support first."""
    X, y, weight = rows
    chosen = np.concatenate([support, query])
    weight = None if weight is None else weight[chosen]
    return Task.from_checked(name, X[chosen], y[chosen], support=np.arange(len(support)), sample_weight=weight)
