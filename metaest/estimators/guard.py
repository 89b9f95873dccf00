r"""Do no harm: how much of an adaptation to keep, judged on rows that the adaptation did not see.

With the population's prediction p of a row, the change d an adaptation makes to it and the residual r = y - p, the
share w of the change that serves best minimises :math:`\sum (r - w d)^2`. The rows of one task tell it poorly where
they are few, so that what they say is weighed against what the training tasks said at as many rows,

.. math:: w = \frac{\lambda m + \sum_i r_i d_i}{\lambda + \sum_i d_i^2}, \qquad 0 \le w \le 1,

with changes of adaptations that left row i out. m and :math:`\lambda` are those which would have predicted other rows
of the training tasks best; in a normal model, :math:`\lambda` is the variance of a residual over that of the share
between tasks.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import DivergenceError, OvershootWarning, quiet
from metaest.functional.progress import progress
from metaest.tasks import Task, TaskSet

__all__ = [
    "Answers",
    "FittedGuard",
    "Guard",
    "GuardRule",
    "Moments",
    "decide",
    "learn_guard",
    "learn_rule",
    "require_rows",
    "spread_of",
    "thinned",
]

# shares so near to nothing or everything are taken as that
NEAR = 0.05
SHARES = np.linspace(0, 1, 21)
# candidates of lambda, in variances of a residual, and by how much a rule that listens more to the task's own rows may
# do worse on the training tasks, which the model has seen
STRENGTHS, WORSE = np.array([1.0, 4.0, 16.0, 64.0]), 1.005
# sizes of support at which rules are learned, and what bounds the work
SIZES = (1, 2, 3, 5, 10, 20, 50, 100, 200)
MOST_TASKS, FEWEST_TASKS, MOST_QUERY, N_SPLITS, FEWEST_DRAWS, MOST_DRAWS = 60, 3, 50, 60, 4, 20
MOST_LONG, LONG = 30, 50  # fewer tasks where supports are long
N_FOLDS, N_BLOCKS = 10, 5
_logger = logging.getLogger("metaest.guard")


@dataclass(frozen=True)
class Guard:
    """What the guard did to one adaptation, and why.

    Attributes
    ----------
    decision : {"kept", "shrunk", "refused"}
        Whether predictions are the adapted ones, lie between them and the population's, or are the population's.
    share : float
        Of the adaptation, what is kept: between 0 and 1.
    reason : str
    n_judged : int
        Rows of the task that an adaptation without them was judged on; 0 where there are too few rows to tell.
    population_rmse, adapted_rmse : float
        On these rows, before and after adapting to the others, in the units of y (probabilities, for classes); NaN
        where there are none.
    expected_share : float
        What the training tasks led to expect at so many rows.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(60, random_state=0)
    >>> model = MAMLRegressor(max_iter=100, random_state=0).fit(tasks[:50])
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
    """How shares are judged at one number of support rows.

    Attributes
    ----------
    size : int
        Support rows.
    share, strength : float
        m and lambda of the module's formula.
    n_tasks : int
        Training tasks behind it.
    """

    size: int
    share: float
    strength: float
    n_tasks: int

    def apply(self, along: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each task."""
        weight = self.strength + change
        told = weight > 0
        share = np.where(told, (self.strength * self.share + along) / np.where(told, weight, 1.0), self.share)
        # errors beyond the largest number tell nothing for the adaptation
        return np.nan_to_num(share, nan=0.0).clip(0.0, 1.0)


def learn_rule(size: int, own: Moments, other: Moments, n_tasks: int) -> GuardRule:
    """Return the rule that would have served the training tasks best.

    Parameters
    ----------
    size : int
        Support rows.
    own : Moments
        Of support rows of each task and draw, each left out of the adaptation that is judged by it.
    other : Moments
        Of their query rows, after adapting to all support rows.
    n_tasks : int
    """
    seen = other.rows > 0
    own, other = (Moments(*(part[seen] for part in moments)) for moments in (own, other))
    scale = 1 / other.rows

    def loss(rule: GuardRule) -> float:
        w = rule.apply(own.along, own.change)
        return float((scale * (other.residual - 2 * w * other.along + w * w * other.change)).mean())

    change = float((scale * other.change).mean())
    common = np.clip(float((scale * other.along).mean()) / change, 0, 1) if change > 0 else 0.0
    rest = (scale * (other.residual - 2 * common * other.along + common**2 * other.change)).mean()
    rules = [GuardRule(size, float(m), float(c * rest), n_tasks) for c in STRENGTHS for m in SHARES]
    losses = np.array([loss(rule) for rule in rules]).reshape(len(STRENGTHS), len(SHARES))
    enough = losses.min(axis=1) <= WORSE * losses.min()
    chosen = int(np.argmax(enough))  # the weakest of the strengths that are about as good as the best
    return rules[chosen * len(SHARES) + int(losses[chosen].argmin())]


def decide(rule: GuardRule, size: int, own: Moments, scale: float) -> Guard:
    """Judge one adaptation.

    Parameters
    ----------
    rule : GuardRule
    size : int
        Support rows of the task.
    own : Moments
        Of its rows; sums.
    scale : float
        Of the targets.
    """
    n = int(own.rows[0])
    share = float(rule.apply(own.along, own.change)[0])
    share = 0.0 if share < NEAR else 1.0 if share > 1 - NEAR else share
    before = after = float("nan")
    if n:
        before = scale * float(np.sqrt(own.residual[0] / n))
        after = scale * float(np.sqrt(max(0.0, own.residual[0] - 2 * own.along[0] + own.change[0]) / n))
    decision = "refused" if share == 0 else "kept" if share == 1 else "shrunk"
    return Guard(decision, share, _reason(rule, size, n, before, after), n, before, after, rule.share)


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
class FittedGuard:
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
    ) -> "FittedGuard":
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


def learn_guard(model: Any, gap: int = 0) -> None:
    """Learn how adaptations are judged at the present settings, where the model's rows can tell."""
    can_judge = getattr(model, "_can_judge", None)
    if getattr(model, "_judged", None) is not None and (can_judge is None or can_judge()):
        # settings that no longer fit to what was learned are an error of `adapt`, and no reason not to be kept
        with contextlib.suppress(ValueError, ArithmeticError):
            model._fitted_guard(gap)


def require_rows(judged: Any, learned: Any, settings: str) -> None:
    """Raise a ValueError where a guard is asked for that only the training rows could tell, which are gone."""
    if judged is None:
        at = ", ".join(sorted(learned)) or "none"
        raise ValueError(
            f"guard: a model from a file or a pickle has no training rows, and the guard was not learned at {settings} "
            f"(it was at {at}). Set the settings of then, save the fitted model by save(model, path, keep_rows=True), "
            "or adapt without guard (guard=False)."
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
    told = (
        f"{rule.n_tasks} training tasks led to expect a share of {rule.share:.2f} at {_rows(rule.size)}"
        if rule.n_tasks
        else "no training task has rows enough to tell what to expect"
    )
    if not n:
        return f"{_rows(size)} cannot tell whether adapting helps; {told}."
    verb = "helps" if after < before else "does harm"
    return (
        f"adapting {verb} on the task's own {_rows(n)} that it did not see (RMSE {before:.3g} before, {after:.3g} "
        f"after); {told}."
    )
