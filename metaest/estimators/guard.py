r"""The guard against harmful adaptations: how much of an adaptation to keep, estimated by cross-validation.

Let p be the prediction before adaptation, d the change that the adaptation makes to it, and r = y - p the residual.
The share w of the change to keep minimises :math:`\sum (r - w d)^2`. Few rows estimate it poorly, so it is shrunk to
the value m that the training tasks have at the same number of support rows,

.. math:: w = \frac{\lambda m + \sum_i r_i d_i}{\lambda + \sum_i d_i^2}, \qquad 0 \le w \le 1,

where the change of row i is that of an adaptation without row i. m and :math:`\lambda` are chosen to predict the query
rows of the training tasks best; in a normal model, :math:`\lambda` is the variance of a residual over the variance of
the share between tasks.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import DivergenceError, OvershootWarning, quiet
from metaest.functional.progress import progress
from metaest.tasks import Task, TaskSet
from metaest.tasks.object_rows import holds_objects

__all__ = [
    "Answers",
    "FittedGuard",
    "Guard",
    "GuardRule",
    "Moments",
    "decide",
    "learn_guard",
    "learn_rule",
    "learned_guard",
    "require_rows",
    "spread_of",
    "thinned",
]

# a share below this is rounded to 0, and one above 1 minus this to 1: the difference would not be noticed
NEAR = 0.05
# candidates for m
SHARES = np.linspace(0, 1, 21)
# candidates for lambda, in variances of a residual
STRENGTHS = np.array([1.0, 4.0, 16.0, 64.0])
# factor on the best loss up to which a smaller lambda is preferred: the training tasks, which the model has
# seen, have losses that are too low
WORSE = 1.005
# numbers of support rows at which rules are learned; between them, the rule of the next lower number holds
SIZES = (1, 2, 3, 5, 10, 20, 50, 100, 200)
# training tasks looked at for one rule, at most and at least
MOST_TASKS = 60
FEWEST_TASKS = 3
# support rows from which on a task counts as long, and the greatest number of long tasks: their adaptations are slow
LONG = 50
MOST_LONG = 30
# query rows of an episode at most
MOST_QUERY = 50
# episodes aimed at for one rule, and the least and greatest number of draws from each task
N_SPLITS = 60
FEWEST_DRAWS = 4
MOST_DRAWS = 20
# folds of cross-validation, where rows have no order
N_FOLDS = 10
# blocks of later rows that are predicted from all rows before them, where rows are in order of time
N_BLOCKS = 5
# relative spread of targets below which they are taken as constant: a sum of equal numbers rounds
CONSTANT = 1e-12
_logger = logging.getLogger("metaest.guard")


@dataclass(frozen=True)
class Guard:
    """The decision of the guard on one adaptation, and its reason.

    Attributes
    ----------
    decision : {"kept", "shrunk", "refused"}
        Whether predictions are the adapted ones, lie between them and the population's, or are the population's.
    share : float
        Share of the adaptation that is kept, between 0 and 1.
    reason : str
        The decision in one sentence.
    n_judged : int
        Support rows that were predicted by adaptations without them; 0 where there are too few rows.
    population_rmse, adapted_rmse : float
        Error on these rows before and after adaptation to the others, in the units of y (probabilities, for classes);
        NaN where there are none.
    expected_share : float
        Share that was best for the training tasks at this number of support rows.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(60, random_state=0)
    >>> model = MAMLRegressor(max_iter=20, random_state=0).fit(tasks[:50])
    >>> wave = model.adapt(tasks[50].X[:5], tasks[50].y[:5], guard=True)
    >>> wave.guard_.decision in ("kept", "shrunk", "refused")
    True
    """

    decision: str
    share: float
    reason: str
    n_judged: int
    population_rmse: float
    adapted_rmse: float
    expected_share: float


class Moments(NamedTuple):
    """Sums over rows that an adaptation did not see, in units of the spread of the targets; arrays over tasks.

    Attributes
    ----------
    residual, along, change : ndarray
        Sums of r^2, r d and d^2.
    rows : ndarray
        Their number.
    """

    residual: NDArray[np.float64]
    along: NDArray[np.float64]
    change: NDArray[np.float64]
    rows: NDArray[np.float64]

    @classmethod
    def of(cls, truth: NDArray[np.float64], adapted: NDArray[np.float64], population: NDArray[np.float64]) -> "Moments":
        """Return the terms of every row, from arrays of shape (n_rows, n_outputs)."""
        r, d = truth - population, adapted - population
        return cls((r * r).mean(axis=1), (r * d).mean(axis=1), (d * d).mean(axis=1), np.ones(len(r)))

    def summed(self, owner: NDArray[np.intp], n: int) -> "Moments":
        """Return the sums of n owners of rows."""
        return Moments(*(np.bincount(owner, part, minlength=n).astype(np.float64) for part in self))


class GuardRule(NamedTuple):
    """Prior of the share at one number of support rows.

    Attributes
    ----------
    size : int
        Support rows.
    share, strength : float
        m and lambda of the formula at the top of this module.
    n_tasks : int
        Number of training tasks it was learned from.
    """

    size: int
    share: float
    strength: float
    n_tasks: int

    def apply(self, along: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each task."""
        weight = self.strength + change
        defined = weight > 0
        share = np.where(defined, (self.strength * self.share + along) / np.where(defined, weight, 1.0), self.share)
        # errors that overflow speak against the adaptation
        return np.nan_to_num(share, nan=0.0).clip(0.0, 1.0)


def learn_rule(size: int, support: Moments, query: Moments, n_tasks: int) -> GuardRule:
    """Return the rule with the least loss on the query rows of the training tasks.

    Parameters
    ----------
    size : int
        Number of support rows.
    support : Moments
        Sums over the support rows of each episode, each predicted by an adaptation without it.
    query : Moments
        Sums over the query rows of each episode, predicted by the adaptation to all support rows.
    n_tasks : int
        Number of training tasks the episodes are of.
    """
    scored = query.rows > 0
    support, query = (Moments(*(part[scored] for part in moments)) for moments in (support, query))
    scale = 1 / query.rows

    def loss(rule: GuardRule) -> float:
        w = rule.apply(support.along, support.change)
        return float((scale * (query.residual - 2 * w * query.along + w * w * query.change)).mean())

    change = float((scale * query.change).mean())
    common = np.clip(float((scale * query.along).mean()) / change, 0, 1) if change > 0 else 0.0
    rest = (scale * (query.residual - 2 * common * query.along + common**2 * query.change)).mean()
    rules = [GuardRule(size, float(m), float(c * rest), n_tasks) for c in STRENGTHS for m in SHARES]
    losses = np.array([loss(rule) for rule in rules]).reshape(len(STRENGTHS), len(SHARES))
    enough = losses.min(axis=1) <= WORSE * losses.min()
    chosen = int(np.argmax(enough))  # the weakest of the strengths that are about as good as the best
    return rules[chosen * len(SHARES) + int(losses[chosen].argmin())]


def decide(rule: GuardRule, size: int, moments: Moments, scale: float) -> Guard:
    """Decide on one adaptation.

    Parameters
    ----------
    rule : GuardRule
    size : int
        Number of support rows of the task.
    moments : Moments
        Sums over the support rows, each predicted by an adaptation without it; arrays of one entry.
    scale : float
        Scale of the targets.
    """
    n = int(moments.rows[0])
    share = float(rule.apply(moments.along, moments.change)[0])
    share = 0.0 if share < NEAR else 1.0 if share > 1 - NEAR else share
    before = after = float("nan")
    if n:
        before = scale * float(np.sqrt(moments.residual[0] / n))
        squares = moments.residual[0] - 2 * moments.along[0] + moments.change[0]
        after = scale * float(np.sqrt(max(0.0, squares) / n))
    decision = "refused" if share == 0 else "kept" if share == 1 else "shrunk"
    return Guard(decision, share, _reason(rule, size, n, before, after), n, before, after, rule.share)


class Answers(NamedTuple):
    """Targets and predictions of the query rows of episodes, in the order of the TaskSet.

    Attributes
    ----------
    truth, adapted, population : ndarray of shape (n_rows, n_outputs)
        Targets, and their predictions after and before adaptation.
    rows : ndarray of int, shape (n_rows,)
        Row numbers in the TaskSet.
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows, 1/variance.
    """

    truth: NDArray[np.float64]
    adapted: NDArray[np.float64]
    population: NDArray[np.float64]
    rows: NDArray[np.intp]
    weight: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class FittedGuard:
    """Rules learned from the training tasks of one model, and the model's adaptation; it judges adaptations.

    Attributes
    ----------
    answer : callable
        ``answer(tasks)`` adapts to the support of every task and returns the Answers of its other rows.
    rules : tuple of GuardRule
        Sorted by number of support rows.
    scale : ndarray of shape (n_outputs,)
        Scale of the targets.
    ordered : bool
        Whether rows are in order of time: an adaptation is then judged on later rows.
    gap : int
        Rows left out between those adapted on and those judged on.
    least : int
        Least number of rows of an adaptation.
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
    ) -> "FittedGuard":
        """Learn the rules from training tasks; `verbose` shows a progress bar."""
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

    @np.errstate(over="ignore", invalid="ignore")  # a square that overflows is a large error
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
            of_task = Moments(*(part[i : i + 1] for part in moments))
            fitting = [rule for rule in self.rules if rule.size <= len(X)]
            rule = fitting[-1] if fitting else GuardRule(len(X), 0.5, float(of_task.residual[0] or 1.0), 0)
            guards.append(decide(rule, len(X), of_task, scale))
        return guards

    def _rule(self, tasks: TaskSet, size: int, rng: np.random.Generator) -> GuardRule | None:
        """Return the rule at one number of support rows, or None where too few tasks have as many rows."""
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
        scored = self._moments(outer, np.arange(n), n)
        return learn_rule(size, self._moments(inner, np.array(owner, dtype=np.intp), n), scored, len(able))

    def _folds(self, X: NDArray[Any], y: NDArray[Any]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Return the folds of cross-validation: rows to adapt on, and rows to predict."""
        n = len(X)
        rows = np.arange(n)
        if self.ordered:
            edges = np.unique(np.linspace(n / (N_BLOCKS + 1), n, N_BLOCKS + 1).round().astype(int).clip(1, n))
            pairs = [(rows[: max(0, a - self.gap)], rows[a:b]) for a, b in itertools.pairwise(edges)]
            return [pair for pair in pairs if len(pair[0]) >= self.least]
        # rows sorted by value, so that their order in the task does not matter
        target = y if y.dtype.kind == "f" else np.unique(y, return_inverse=True)[1]
        values = [target.reshape(n, -1)] if holds_objects(X) else [target.reshape(n, -1), X.reshape(n, -1)]
        order = np.lexsort(np.column_stack(values).T)
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
                answers = self.answer(tasks)
            except DivergenceError:
                if len(episodes) == 1:  # it is left out
                    return Moments(*np.zeros((4, n)))
                half = len(episodes) // 2
                parts = [
                    self._moments(episodes[:half], owner[:half], n),
                    self._moments(episodes[half:], owner[half:], n),
                ]
                return Moments(*(one + other for one, other in zip(*parts, strict=True)))
        episode = np.searchsorted(tasks.offsets, answers.rows, side="right") - 1
        terms = Moments.of(answers.truth / self.scale, answers.adapted / self.scale, answers.population / self.scale)
        if answers.weight is not None:  # a mean weight of 1 for each owner
            mean = np.bincount(owner[episode], answers.weight, n) / np.bincount(owner[episode], minlength=n).clip(1)
            even = answers.weight / np.where(mean > 0, mean, 1.0)[owner[episode]]
            terms = Moments(terms.residual * even, terms.along * even, terms.change * even, terms.rows)
        return terms.summed(owner[episode], n)


def spread_of(y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard deviation of every target; its size where it does not vary, and 1 where that is 0."""
    y = y.astype(np.float64)
    scale, size = np.atleast_1d(y.std(axis=0)), np.atleast_1d(np.abs(y).max(axis=0))
    spread: NDArray[np.float64] = np.where(scale > CONSTANT * size, scale, np.where(size > 0, size, 1.0))
    return spread


def thinned(tasks: TaskSet) -> TaskSet:
    """Return at most MOST_TASKS tasks, evenly spread, without those whose support is empty."""
    able: Sequence[int] = range(len(tasks))
    if tasks.carries_support:
        able = [i for i, task in enumerate(tasks) if task.support is None or len(task.support)]
    if len(able) == len(tasks) <= MOST_TASKS or not able:
        return tasks
    chosen = np.linspace(0, len(able) - 1, min(len(able), MOST_TASKS)).round().astype(int)
    return TaskSet([tasks[able[i]] for i in chosen])


class Judged(Protocol):
    """A model whose adaptations a guard judges; ``_judged`` has its training rows, once it is fitted."""

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return the guard at the present settings, which is learned where it was not."""


def learned_guard(
    answer: Callable[[TaskSet], Answers],
    rows: TaskSet | None,
    learned: dict[Any, FittedGuard],
    gap: int,
    split: str,
    seed: int,
    *,
    verbose: bool,
    scale: NDArray[np.float64] | None = None,
) -> FittedGuard:
    """Return the guard of these settings, from among those learned, or learned from rows of the training tasks.

    Parameters
    ----------
    answer : callable
        As :class:`FittedGuard` has it.
    rows : TaskSet or None
        The training rows of the model; None where it came from a file.
    learned : dict of (gap, split) to FittedGuard
        Where a guard that is learned now is put.
    gap, split, seed, verbose
        As the estimators have them.
    scale : ndarray of shape (n_outputs,), optional
        Scale of what is predicted; by default the spread of the targets.
    """
    if (gap, split) not in learned:
        before = (f"gap={gap}, split={split!r}" for gap, split in learned)
        require_rows(rows, before, f"gap={gap}, split={split!r}")
        assert rows is not None
        spread, ordered = spread_of(rows.y) if scale is None else scale, split == "first"
        learned[gap, split] = FittedGuard.learn(
            answer, rows, spread, ordered=ordered, gap=int(gap), least=1, seed=seed, verbose=verbose
        )
    return learned[gap, split]


def learn_guard(model: Judged, gap: int = 0) -> None:
    """Learn the guard of a model at its present settings, where it has its training rows."""
    if getattr(model, "_judged", None) is not None:
        # settings that no longer fit the weights are an error of `adapt`, and no reason against pickling
        with contextlib.suppress(ValueError, ArithmeticError):
            model._fitted_guard(gap)


def require_rows(judged: Any, learned: Any, settings: str) -> None:
    """Raise a ValueError where a guard would have to be learned from training rows that the model does not have.

    Parameters
    ----------
    judged : TaskSet or None
        The training rows of the model.
    learned : iterable of str
        Settings at which its guard was learned.
    settings : str
        Settings at which it is needed.
    """
    if judged is None:
        at = ", ".join(sorted(learned)) or "none"
        raise ValueError(
            f"guard: a model from a file or a pickle has no training rows, and the guard was not learned at {settings} "
            f"(it was learned at: {at}). Set one of these settings, save the fitted model with save(model, path, "
            "keep_rows=True), or adapt without guard (guard=False)."
        )


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


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"


def _reason(rule: GuardRule, size: int, n: int, before: float, after: float) -> str:
    """Return the reason of a decision in one sentence."""
    prior = (
        f"a share of {rule.share:.2f} was best for {rule.n_tasks} training tasks at {_rows(rule.size)}"
        if rule.n_tasks
        else "no training task has enough rows for an expected share"
    )
    if not n:
        return f"{_rows(size)} cannot tell whether adapting helps; {prior}."
    verb = "helps" if after < before else "does harm"
    return (
        f"adapting {verb} on {_rows(n)} of the task that the adaptation did not see (RMSE {before:.3g} before, "
        f"{after:.3g} after); {prior}."
    )
