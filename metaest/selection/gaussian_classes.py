r"""HierarchicalGaussianClassifier: classes are Gaussian, with means that differ from task to task.

Rows x of class k in task t, the columns standardised, are

.. math:: x \sim \mathcal N(m_{tk}, W), \qquad m_{tk} \sim \mathcal N(\mu_k, B), \qquad
          P(k) \propto a \pi_k + n_{tk},

with one :math:`\mu` for all classes where each task has labels of its own (probabilistic linear discriminant analysis:
Ioffe, 2006, :doi:`10.1007/11744085_41`), and even shares of classes there. W and B are estimated from the scatter
within the classes of a task and between tasks, W shrunk towards a multiple of one; in the basis V of both,
:math:`V^\top W V = I, V^\top B V = \operatorname{diag}(b)`, each number of a row stands alone, and n support rows of
mean :math:`\bar x` give a row of the class the normal density of mean
:math:`\mu + (\bar x - \mu)\, n b / (1 + n b)` and variance :math:`1 + b / (1 + n b)`.

Densities are raised to a power (a temperature) that the training tasks choose, since rows are not Gaussian.
"""

from dataclasses import dataclass
from typing import Any, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import gammaln, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.covariance import ledoit_wolf_shrinkage

from metaest.selection.labels import classes_of
from metaest.tasks import TaskSet, place_among

__all__ = ["AdaptedGaussianClasses", "GaussianClasses", "HierarchicalGaussianClassifier"]

# powers of the densities, and weights of the tasks' common shares of classes in rows, that are tried
POWERS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05)
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
# tasks and support rows of a class that the power is chosen on
MOST_TASKS = 100
# episodes of drawn classes that it is chosen on
WANTED = 60
SHOTS = (1, 3)
# width of a column, over its largest number, that is rounding
CONSTANT = 1e-14


@dataclass(frozen=True)
class GaussianClasses:
    """What is learned: the basis, and classes in it.

    Attributes
    ----------
    center, basis : ndarray of shape (n_columns,), (n_columns, n_directions)
    mean : ndarray of shape (n_classes, n_directions)
        Of one row where each task has labels of its own.
    between : ndarray of shape (n_directions,)
    counts : ndarray of shape (n_classes,)
        Rows that the shares of classes count as, before those of a task; of one entry, of any class, else.
    power : float
    labels : ndarray or None
        All labels, where they mean the same in every task.
    """

    center: NDArray[np.float64]
    basis: NDArray[np.float64]
    mean: NDArray[np.float64]
    between: NDArray[np.float64]
    counts: NDArray[np.float64]
    power: float
    labels: NDArray[Any] | None

    def in_basis(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return rows in the basis."""
        flat: NDArray[np.float64] = (np.asarray(X, dtype=np.float64).reshape(len(X), -1) - self.center) @ self.basis
        return flat

    def log_densities(
        self, rows: NDArray[np.float64], codes: NDArray[np.intp], asked: NDArray[np.float64], n_classes: int
    ) -> NDArray[np.float64]:
        """Return logarithms of the densities of rows, by class, given support rows; both are in the basis."""
        n = np.bincount(codes, minlength=n_classes)[:, None]
        sums = np.zeros((n_classes, asked.shape[1]))
        np.add.at(sums, codes, rows)
        mean, b = np.broadcast_to(self.mean, sums.shape), self.between
        centre = mean + (sums - n * mean) * b / (1 + n * b)
        variance = 1 + b / (1 + n * b)
        # one product of matrices, and not an array of rows, classes and directions
        squares = asked**2 @ (1 / variance).T - 2 * asked @ (centre / variance).T + (centre**2 / variance).sum(axis=1)
        return np.asarray(-0.5 * (squares + np.log(variance).sum(axis=1)))

    def probabilities(
        self, rows: NDArray[np.float64], codes: NDArray[np.intp], asked: NDArray[np.float64], n_classes: int
    ) -> NDArray[np.float64]:
        """Return probabilities of the classes of rows; as :meth:`log_densities` takes them."""
        counts = np.zeros(n_classes) if self.labels is None else np.bincount(codes, minlength=n_classes)
        shares = np.log(self.counts + counts)
        return np.asarray(
            softmax(self.power * self.log_densities(rows, codes, asked, n_classes) + shares, axis=1), dtype=np.float64
        )


@dataclass(frozen=True, eq=False)
class AdaptedGaussianClasses:
    """A classifier of one task."""

    fitted: GaussianClasses
    classes_: NDArray[Any]
    rows: NDArray[np.float64]
    codes: NDArray[np.intp]

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Predict the probabilities of the task's classes, in their order."""
        return self.fitted.probabilities(self.rows, self.codes, self.fitted.in_basis(X), len(self.classes_))

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predict labels."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class HierarchicalGaussianClassifier(ClassifierMixin, BaseEstimator):
    """Gaussian classes whose means vary between tasks around common ones; a candidate of AutoMetaClassifier.

    Parameters
    ----------
    shared_labels : bool, default=True
        Whether a label means the same in every task.
    n_way : int, optional
        Classes of an episode, drawn from those of a task where it has labels of its own; all of them by default.
    """

    _fitted: GaussianClasses

    def __init__(self, *, shared_labels: bool = True, n_way: int | None = None) -> None:
        self.shared_labels = shared_labels
        self.n_way = n_way

    def fit(self, tasks: TaskSet) -> Self:
        """Learn from checked tasks."""
        X = np.asarray(tasks.X, dtype=np.float64).reshape(len(tasks.X), -1)
        all_labels, codes = np.unique(tasks.y.ravel(), return_inverse=True)
        labels = all_labels if self.shared_labels else None
        center, spread = _center_and_spread(X)
        X = (X - center) / spread
        task = np.repeat(np.arange(len(tasks)), tasks.sizes)
        pairs, pair = np.unique(task * (codes.max() + 1) + codes, return_inverse=True)
        n, class_of = np.bincount(pair).astype(np.float64), pairs % (codes.max() + 1)
        group = class_of if labels is not None else np.zeros(len(pairs), dtype=np.intp)
        sums = np.zeros((len(pairs), X.shape[1]))
        np.add.at(sums, pair, X)
        means = sums / n[:, None]
        mu = _means(means, group)
        within, between = _covariances(X - means[pair], means - mu[group], n, int(group.max()) + 1)
        b, basis = eigh(between, within)
        kept = b > 1e-9 if labels is None else np.ones(len(b), dtype=bool)
        kept = kept if kept.any() else np.ones(len(b), dtype=bool)
        basis, b = basis[:, kept], b[kept].clip(min=0)
        basis_of_columns = basis / spread[:, None]
        counts = np.ones(1) if labels is None else _prior_counts(task, codes, len(tasks))
        learned = GaussianClasses(center, basis_of_columns, mu @ basis, b, counts, 1.0, labels)
        self._fitted = _with_power(learned, tasks, self.n_way)
        self.n_tasks_ = len(tasks)
        return self

    @property
    def classes_(self) -> NDArray[Any]:
        """All labels, where they mean the same in every task."""
        if self._fitted.labels is None:
            raise AttributeError("classes_: each task has labels of its own.")
        return self._fitted.labels

    def adapt(self, X: NDArray[Any], y: NDArray[Any]) -> AdaptedGaussianClasses:
        """Adapt to the rows of one task."""
        classes = classes_of(self._fitted.labels, y, "adapt")
        codes = place_among(y.ravel(), classes, lambda row: "adapt")
        return AdaptedGaussianClasses(self._fitted, classes, self._fitted.in_basis(X), codes)

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Predict probabilities before adaptation, where labels mean the same in every task."""
        none = np.empty((0, self._fitted.basis.shape[1])), np.empty(0, dtype=np.intp)
        return self._fitted.probabilities(*none, self._fitted.in_basis(X), len(self.classes_))

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predict labels before adaptation."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def _center_and_spread(X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of columns; one for a column of equal numbers, whose mean rounds."""
    center, size = X.mean(axis=0), np.abs(X).max(axis=0)
    width = X.max(axis=0) - X.min(axis=0)
    varies = width > CONSTANT * size
    # in units of the width squares neither overflow nor vanish, whatever the units of the column
    unit = np.where(varies, width, 1.0)
    return center, np.where(varies, unit * ((X - center) / unit).std(axis=0), 1.0)


def _means(means: NDArray[np.float64], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean over tasks of the means of each group of classes."""
    total = np.zeros((int(group.max()) + 1, means.shape[1]))
    np.add.at(total, group, means)
    return np.asarray(total / np.bincount(group)[:, None])


def _covariances(
    inner: NDArray[np.float64], outer: NDArray[np.float64], n: NDArray[np.float64], n_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the covariance of rows around means of a task, and of these around common ones, by moments."""
    d = inner.shape[1]
    freedom = max(len(inner) - len(n), 1)
    within = inner.T @ inner / freedom
    share = float(ledoit_wolf_shrinkage(inner, assume_centered=True)) if len(inner) > 1 else 1.0
    size = max(float(np.trace(within)) / d, 1e-6)
    within = (1 - share) * within + (share * size + 1e-6) * np.eye(d)
    # the mean of n rows has a variance of W / n beside that of its class
    between = outer.T @ outer / max(len(outer) - n_groups, 1) - within * np.mean(1 / n)
    value, vectors = np.linalg.eigh(between)
    return within, (vectors * value.clip(min=0)) @ vectors.T


def _prior_counts(task: NDArray[np.intp], codes: NDArray[np.intp], n_tasks: int) -> NDArray[np.float64]:
    """Return the counts of a Dirichlet distribution of the shares of classes, those of the greatest likelihood."""
    n = np.zeros((n_tasks, int(codes.max()) + 1))
    np.add.at(n, (task, codes), 1.0)
    pi = (n.sum(axis=0) + 1) / (n.sum() + n.shape[1])
    total = n.sum(axis=1)

    def likelihood(strength: float) -> float:
        a = strength * pi
        each = gammaln(strength) - gammaln(strength + total) + (gammaln(a + n) - gammaln(a)).sum(axis=1)
        return float(each.sum())

    return np.asarray(max(STRENGTHS, key=likelihood) * pi)


def _with_power(learned: GaussianClasses, tasks: TaskSet, n_way: int | None) -> GaussianClasses:
    """Return what is learned with the power that predicts rows of training tasks from a few others best.

    Which tasks, and which of their rows, follows from what these hold, and not from the places of the tasks.
    """
    rows = [learned.in_basis(task.X) for task in tasks]
    marks = np.array([_mark(own, task.y.ravel()) for own, task in zip(rows, tasks, strict=True)])
    losses = np.zeros(len(POWERS))
    n_draws = 1 if n_way is None else -(-WANTED // len(tasks))
    for i in np.argsort(marks, kind="stable")[:MOST_TASKS]:
        for draw in range(n_draws):
            rng = np.random.default_rng([int(marks[i]), draw])
            losses += _losses(learned, rows[i], tasks[int(i)].y.ravel(), n_way, rng)
    return GaussianClasses(**{**vars(learned), "power": POWERS[int(losses.argmin())]})


def _mark(rows: NDArray[np.float64], y: NDArray[Any]) -> int:
    """Return a number that follows from the labels of a task's rows, and from the order of their lengths."""
    lengths = np.argsort((rows**2).sum(axis=1), kind="stable")
    codes = np.unique(y, return_inverse=True)[1]
    return crc32(np.concatenate([lengths, codes]).astype(np.int64).tobytes())


def _losses(
    learned: GaussianClasses, rows: NDArray[np.float64], y: NDArray[Any], n_way: int | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the Brier scores of one task, or of a draw of its classes, at every power: sums over SHOTS."""
    classes, losses = np.unique(y) if learned.labels is None else learned.labels, np.zeros(len(POWERS))
    if n_way is not None and n_way < len(classes):
        classes = np.sort(rng.choice(classes, n_way, replace=False))
        rows, y = rows[np.isin(y, classes)], y[np.isin(y, classes)]
    codes, order = np.searchsorted(classes, y), rng.permutation(len(y))
    for shot in SHOTS:
        n_support = min(shot * len(np.unique(y)), len(y) - 1)
        support = np.sort(order[:n_support])
        if learned.labels is None:  # a row of each class
            support = np.union1d(support, order[np.unique(codes[order], return_index=True)[1]])
        query = np.setdiff1d(order, support)
        if not len(query):
            continue
        logs = learned.log_densities(rows[support], codes[support], rows[query], len(classes))
        n = 0 if learned.labels is None else np.bincount(codes[support], minlength=len(classes))
        shares, truth = np.log(learned.counts + n), codes[query][:, None] == np.arange(len(classes))
        losses += [((softmax(power * logs + shares, axis=1) - truth) ** 2).sum() / len(query) for power in POWERS]
    return losses
