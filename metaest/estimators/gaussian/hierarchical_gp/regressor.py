"""HierarchicalGPRegressor: curves of tasks around a curve that they share, without an equation."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import StrOptions

from metaest.estimators.arguments import Whole
from metaest.estimators.gaussian.base import CONSTRAINTS, BaseGaussian
from metaest.estimators.gaussian.hierarchical_gp.evidence import Curves, Hyperparameters
from metaest.estimators.gaussian.hierarchical_gp.prior import CurvePrior
from metaest.estimators.gaussian.hierarchical_gp.search import Optimum, improved, most_probable
from metaest.estimators.gaussian.hierarchical_gp.warps import Warp
from metaest.estimators.guard import spread_of
from metaest.exceptions import TaskError, warn
from metaest.tasks import TaskSet

__all__ = ["HierarchicalGPRegressor"]

# size of numbers whose squares overflow
LARGEST = 1e150
# rows of which starts and warps are compared, where there are more; and the fewest tasks to have these rows
FEW_ROWS = 300
FEWEST_TASKS = 8


class HierarchicalGPRegressor(BaseGaussian):
    r"""Curves of tasks around a curve that they share: Gaussian processes, for few tasks and without an equation.

    .. math:: y_{ti} = f(x_{ti}) + g_t(x_{ti}) + \varepsilon_{ti}, \qquad f \sim GP(c, k_m), \quad g_t \sim GP(0, k_f),
              \quad \varepsilon_{ti} \sim N(0, \sigma^2)

    independent, so that :math:`\mathrm{cov}(y_{ti}, y_{sj}) = k_m(x, x') + [t = s] k_f(x, x') + [t = s, i = j]
    \sigma^2` [1]_. Each kernel is the sum of a constant, a linear part and a squared exponential with one length scale
    a column, every part with a variance of its own. `fit` finds the most probable variances and length scales: exact
    marginal likelihood with weak log-normal priors, by L-BFGS with analytic slopes. ``adapt`` conditions the curve of a
    new task, f + g, on its rows.

    It is made for a handful to some dozens of tasks with smooth curves of one to a few columns: the work of a fit grows
    with the cube of the number of rows. Where an equation is known, :class:`EquationRegressor` extrapolates; where
    there are hundreds of tasks, :class:`MAMLRegressor` learns shapes that are not Gaussian.

    In `cross_validate` and `GridSearchCV` leave ``scoring`` unset, or take a few-shot scorer of :mod:`metaest.scorers`:
    a scorer by name (``scoring="r2"``) measures the model before adaptation.

    Parameters
    ----------
    warp : {"auto", "none", "ranks"}, default="auto"
        Whether columns are standardised ("none"), or replaced by their ranks among the training rows, interpolated, so
        that a curve may change fast where rows are dense ("ranks"); "auto" takes what has the higher evidence.
    n_starts : int, default=3
        Searches for hyperparameters. What is rough in the rows is noise at the start of the first, the shared curve at
        that of the second, and the curves of tasks at that of the third; further ones begin at draws. Of more than 300
        rows, these searches see whole tasks with as many, drawn at random; the best goes on with all rows.
    max_rows : int, default=1200
        Rows a fit takes at most. Of more, it takes whole tasks that are drawn at random, and a warning says how many.
    max_iter : int, default=200
        Iterations of each search at most.
    support_size : int, range, (smallest, largest) or None, default=(1, 5)
        Support rows of a task in `score`, where it does not carry its own; a range is drawn from. None takes half the
        rows, at most 10. The fit does not depend on it: the evidence is that of all rows.
    split : {"random", "first"}, default="random"
        Whether these support rows are drawn, or are a task's first ones (rows in order of time).
    random_state : int, RandomState instance or None, default=None
        Fixes the starts, and the draws of tasks and of support rows.
    verbose : bool, default=False
        Whether to show progress bars on standard error.

    Attributes
    ----------
    variance_components_ : DataFrame
        Variances in the squared unit of y, one row a part ("constant", "linear", "smooth", and "noise" under "task")
        and the columns "shared" (of f) and "task" (of g). The linear part is that of a column one standard deviation
        from its mean.
    length_scales_ : DataFrame
        One row a column of X and the columns "shared" and "task": in standard deviations of the column, or of its
        ranks where they are taken.
    warped_ : bool
        Whether columns were replaced by their ranks.
    log_evidence_ : float
        Log density of the rows fitted on, without that of the priors of hyperparameters.
    n_iter_ : int
        Iterations of the best search.
    n_rows_, n_tasks_ : int
        Rows fitted on, and tasks passed to `fit`.
    n_features_in_, n_outputs_ : int
        y has one target: fit one model for each.
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.

    See Also
    --------
    AdaptedGaussian : What ``adapt`` returns.
    EquationRegressor : The same where an equation of the curves is known.

    Notes
    -----
    Its predictions are made from the rows it was fitted on. A pickle of it has these rows, and :func:`metaest.save`
    writes it with ``keep_rows=True`` only.

    References
    ----------
    .. [1] J. Hensman, N. D. Lawrence, M. Rattray (2013). Hierarchical Bayesian modelling of gene expression time series
       across irregularly sampled replicates and clusters. BMC Bioinformatics 14:252.
       :doi:`10.1186/1471-2105-14-252`

    Examples
    --------
    >>> from metaest import HierarchicalGPRegressor
    >>> from metaest_datasets import load_orange
    >>> trees = load_orange()
    >>> model = HierarchicalGPRegressor(random_state=0).fit(trees[:4])
    >>> new = model.adapt(trees[4].X[:2], trees[4].y[:2])
    >>> mean, sd = new.predict(trees[4].X[2:], return_std=True)
    >>> bool((abs(mean - trees[4].y[2:]) < 3 * sd).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "warp": [StrOptions({"auto", "none", "ranks"})],
        "n_starts": [Whole(1, None, closed="left")],
        "max_rows": [Whole(1, None, closed="left")],
        "max_iter": [Whole(1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        warp: str = "auto",
        n_starts: int = 3,
        max_rows: int = 1200,
        max_iter: int = 200,
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.warp = warp
        self.n_starts = n_starts
        self.max_rows = max_rows
        self.max_iter = max_iter
        self.support_size = support_size
        self.split = split
        self.random_state = random_state
        self.verbose = verbose

    def _learn(self, tasks: TaskSet, rng: np.random.Generator) -> CurvePrior:
        _require_moderate(tasks)
        chosen = _within(tasks, int(self.max_rows), rng)
        y = chosen.y.reshape(-1).astype(np.float64)
        center, scale = float(y.mean()), float(spread_of(y)[0])
        optimum, curves, warp, self.warped_ = self._search(chosen, center, scale, rng)
        if not optimum.converged:
            warn(
                f"the search for hyperparameters did not converge in max_iter={self.max_iter} iterations; raise it.",
                ConvergenceWarning,
            )
        at = Hyperparameters.of_logs(optimum.logs)
        self.n_rows_, self.n_iter_ = len(y), optimum.n_iter
        self.log_evidence_ = optimum.log_evidence - len(y) * float(np.log(scale))
        self.variance_components_, self.length_scales_ = _tables(at, scale, tasks)
        return CurvePrior(scale**2 * at.noise_variance, at, curves, warp, center, scale)

    def _search(
        self, tasks: TaskSet, center: float, scale: float, rng: np.random.Generator
    ) -> tuple[Optimum, Curves, Warp, bool]:
        """Return the most probable hyperparameters, the rows in the units they are for, and whether ranks are taken."""
        few = _few(tasks, rng)
        seed, searches = int(rng.integers(2**32)), []
        for ranks in {"auto": (False, True), "none": (False,), "ranks": (True,)}[self.warp]:
            warp, curves = _curves(few, center, scale, ranks=ranks)
            starts = np.random.default_rng(seed)
            optimum = most_probable(curves, self.n_starts, self.max_iter, starts, verbose=bool(self.verbose))
            searches.append((optimum, curves, warp, ranks))
        best = max(searches, key=lambda search: search[0].log_posterior)
        if few is tasks:
            return best
        warp, curves = _curves(tasks, center, scale, ranks=best[3])
        return improved(curves, best[0].logs, self.max_iter), curves, warp, best[3]


def _require_moderate(tasks: TaskSet) -> None:
    """Raise a TaskError where squares of numbers overflow, or that of the spread of y vanishes."""
    names = tasks.feature_names or [f"x{j}" for j in range(tasks.X.shape[1])]
    for name, values in (*zip(names, tasks.X.T, strict=True), ("y", tasks.y.reshape(-1))):
        row = int(np.abs(values).argmax())
        if abs(float(values[row])) > LARGEST:
            task = tasks.name_of(int(np.searchsorted(tasks.offsets, row, side="right")) - 1)
            raise TaskError(
                f"task {task!r}: column {name!r} is {float(values[row]):.4g}; numbers up to {LARGEST:g} can be worked "
                "with. Take another unit."
            )
    spread = float(spread_of(tasks.y.reshape(-1).astype(np.float64))[0])
    if spread < 1 / LARGEST:
        raise TaskError(
            f"y has the standard deviation {spread:.4g}, whose square is 0 to a computer; take another unit."
        )


def _curves(tasks: TaskSet, center: float, scale: float, *, ranks: bool) -> tuple[Warp, Curves]:
    """Return the warp of columns, and the rows of tasks in standardised units."""
    X, y = tasks.X.astype(np.float64), tasks.y.reshape(-1).astype(np.float64)
    warp = Warp.learn(X, ranks=ranks)
    return warp, Curves(warp(X), (y - center) / scale, tasks.offsets)


def _few(tasks: TaskSet, rng: np.random.Generator) -> TaskSet:
    """Return tasks drawn at random with rows enough to compare starts and warps by; all of them where they are few."""
    order = rng.permutation(len(tasks))
    chosen = np.sort(order[np.cumsum(tasks.sizes[order]) <= FEW_ROWS])
    if len(tasks.X) <= FEW_ROWS or len(chosen) < FEWEST_TASKS:
        return tasks
    return TaskSet([tasks[int(i)] for i in chosen])


def _within(tasks: TaskSet, max_rows: int, rng: np.random.Generator) -> TaskSet:
    """Return all tasks, or, with a warning, tasks drawn at random that have no more rows than are allowed."""
    if len(tasks.X) <= max_rows:
        return tasks
    order = rng.permutation(len(tasks))
    chosen = np.sort(order[np.cumsum(tasks.sizes[order]) <= max_rows])
    if not len(chosen):
        chosen = np.flatnonzero(tasks.sizes <= max_rows)[:1]
    if not len(chosen):
        size = int(tasks.sizes.min())
        raise TaskError(
            f"the shortest task has {size} rows, and max_rows={max_rows}: thin out rows, as every tenth of a task, or "
            "raise max_rows (the work grows with its cube)."
        )
    some = TaskSet([tasks[int(i)] for i in chosen])
    warn(
        f"the curves are learned from {len(some)} of {len(tasks)} tasks, drawn at random, with {len(some.X)} of "
        f"{len(tasks.X)} rows: the work grows with the cube of the rows, and max_rows={max_rows}. MAMLRegressor learns "
        "from all tasks where there are many."
    )
    return some


def _tables(at: Hyperparameters, scale: float, tasks: TaskSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return variances in the squared unit of y, and length scales."""
    kernels = {"shared": at.shared, "task": at.task}
    parts = {
        name: [scale**2 * value for value in (kernel.constant, kernel.linear, kernel.smooth)]
        for name, kernel in kernels.items()
    }
    parts["shared"].append(0.0)
    parts["task"].append(scale**2 * at.noise_variance)
    variances = pd.DataFrame(parts, index=["constant", "linear", "smooth", "noise"])
    columns = list(tasks.feature_names or [f"x{j}" for j in range(tasks.X.shape[1])])
    return variances, pd.DataFrame({name: kernel.length_scales for name, kernel in kernels.items()}, index=columns)
