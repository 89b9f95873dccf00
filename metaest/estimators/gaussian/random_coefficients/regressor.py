"""RandomCoefficientRegressor: any regressor for what tasks share, and random coefficients for how they differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import HasMethods, StrOptions

from metaest.estimators.arguments import Whole
from metaest.estimators.gaussian.base import CONSTRAINTS, BaseGaussian
from metaest.estimators.gaussian.random_coefficients.alternation import Alternated, FixedAndRandom, alternate
from metaest.estimators.gaussian.random_coefficients.bases import fitted_base, fixed_columns, is_linear, new_base
from metaest.estimators.gaussian.random_coefficients.design import CONSTANT, Design
from metaest.estimators.gaussian.random_coefficients.maximum_likelihood import covariance_root
from metaest.estimators.gaussian.random_coefficients.prior import CoefficientPrior, predictions
from metaest.estimators.gaussian.random_coefficients.trees import BoostedTrees
from metaest.estimators.gaussian.random_coefficients.uncertainty import Uncertainty
from metaest.exceptions import IdentifiabilityWarning, TaskError, warn
from metaest.functional import Scaling
from metaest.tasks import TaskSet

__all__ = ["RandomCoefficientRegressor"]

# random coefficients at most, and those that may have a full covariance
MOST_RANDOM = 100
MOST_FULL = 20
# tasks for each entry of a full covariance that covariance="auto" wants, and entries that it always takes
TASKS_PER_ENTRY = 5
FEW_ENTRIES = 3


class RandomCoefficientRegressor(BaseGaussian):
    r"""Any regressor for what tasks share, and random coefficients for how they differ.

    .. math:: y_{ti} = m(x_{ti}) + z_{ti}^T (\beta + b_t) + e_{ti}, \qquad b_t \sim N(0, D), \quad e \sim N(0, s^2)

    where z is one (a level of each task), or one and some columns (slopes as well). With a linear m it is the linear
    mixed model [1]_, fitted by maximum likelihood: estimates and predictions are those of lme4 or statsmodels. With
    another regressor, m and the random part are fitted in turn [2]_, each to what the other leaves, the random part
    first; every task is then predicted by a regressor fitted on other tasks, so that the variances are those of new
    tasks. A new task is adapted to in closed form.

    It serves where tasks differ by levels and trends around something that may be of any form: sales of shops,
    consumption of buildings, growth. Where tasks differ in other ways, see :class:`MAMLRegressor`; where few rows
    tell a smooth curve, :class:`HierarchicalGPRegressor`.

    Parameters
    ----------
    base : {"boosting", "linear"}, regressor or None, default="boosting"
        The regressor m: "boosting" is a HistGradientBoostingRegressor of trees of 8 leaves, each of a twentieth
        of all rows, or of 20, at least; "linear" (or a LinearRegression) has a fixed coefficient for every column; a
        regressor of scikit-learn's kind is cloned and fitted to standardised targets, with the column names where there
        are some; None leaves m out.
        Beside a regressor, columns that are one number in every task have fixed coefficients of a common variance:
        little of a level that the random part explains is left to the regressor.
    random : {"intercept", "slopes"} or sequence of str or int, default="intercept"
        What differs between tasks: the level; also the slopes of all columns that vary within tasks; or the level
        and the slopes of the columns named or numbered.
    covariance : {"auto", "full", "diagonal"}, default="auto"
        Whether random coefficients may correlate. "auto" is full with up to 20 of them where there are at least five
        tasks for each entry of D, or at most two coefficients; otherwise diagonal, of standardised columns.
    restricted : bool, default=False
        Whether variances maximise the restricted likelihood (REML, the default of lme4), which does not underestimate
        them for the fixed coefficients beside them. ``log_likelihood_`` is then the restricted one.
    n_folds : int or None, default=5
        Parts that tasks are drawn into for predictions by regressors fitted on other tasks. None lets a regressor
        predict the rows it was fitted on, for one that does not fit them too well. Not used by a linear m.
    max_iter : int, default=10
        Turns of regressor and random part, at most; they end when the log-likelihood grows by less than 0.01 a row.
    support_size : int, range, (smallest, largest) or None, default=(1, 5)
        Support rows of a task that does not carry its own, in ``score`` and ``calibrate``: a range is drawn from; None
        takes half the rows, at most 10.
    split : {"random", "first"}, default="random"
        Whether support rows are drawn, or are a task's first ones (rows in order of time).
    random_state : int, RandomState instance or None, default=None
        Fixes the folds, the draws of support rows, and regressors whose own ``random_state`` is None.
    verbose : bool, default=False
        Whether to show progress bars, on standard error.

    Attributes
    ----------
    base_ : regressor or None
        The fitted m, which predicts in standard deviations of the training targets; None where there is none beside
        the fixed coefficients, or where it did not raise the likelihood of tasks it was not fitted on.
    fixed_coefficients_ : Series
        :math:`\beta`, by column, in units of y by units of the column.
    covariance_ : DataFrame of shape (n_random, n_random)
        D, in the same units; that of the intercept is of tasks at 0 of the columns.
    variance_components_ : DataFrame
        Variance and standard deviation of each random coefficient, and of the noise.
    task_coefficients_ : DataFrame
        The expected :math:`b_t` of the training tasks, a row a task (best linear unbiased predictions).
    log_likelihood_ : float
        Of the training targets around m.
    history_ : DataFrame
        A row before the first turn and after each: turn, log_likelihood, noise (a standard deviation).
    n_iter_ : int
        Fits of the random part: the first one, and one a turn.
    covariance_kind_ : {"full", "diagonal"}
    n_tasks_, n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.

    Raises
    ------
    TaskError
        In `fit`, when no task has more rows than random coefficients, or all coefficients fit the rows exactly, so that
        noise and coefficients cannot be told apart; or a column of `random` varies within no task.

    Warns
    -----
    IdentifiabilityWarning
        In `fit` with a linear m, when columns that are one number a task are as many as tasks.

    See Also
    --------
    AdaptedGaussian : What ``adapt`` returns.
    HierarchicalGPRegressor : Smooth curves of tasks, without an equation.

    Notes
    -----
    The work of a fit grows with rows and tasks, not with their squares: the likelihood needs one matrix of the size of
    :math:`b_t` a task. At most 100 coefficients may be random, and at most 20 with a full covariance.

    Standard deviations contain the errors of the fixed coefficients and of the variances; intervals are those of
    Student's distribution with Satterthwaite's degrees of freedom [4]_, [5]_. With fewer than some ten tasks they still
    miss more often than they say. The error of a regressor m is part of the noise and of D, unless ``n_folds=None``.

    References
    ----------
    .. [1] N. M. Laird, J. H. Ware (1982). Random-effects models for longitudinal data. Biometrics 38, 963-974.
       :doi:`10.2307/2529876`
    .. [2] A. Hajjem, F. Bellavance, D. Larocque (2014). Mixed-effects random forest for clustered data. Journal of
       Statistical Computation and Simulation 84, 1313-1328. :doi:`10.1080/00949655.2012.741599`
    .. [3] F. Sigrist (2022). Gaussian process boosting. Journal of Machine Learning Research 23 (232), 1-46.
    .. [4] N. G. N. Prasad, J. N. K. Rao (1990). The estimation of the mean squared error of small-area estimators.
       Journal of the American Statistical Association 85, 163-171. :doi:`10.1080/01621459.1990.10475320`
    .. [5] F. E. Satterthwaite (1946). An approximate distribution of estimates of variance components. Biometrics
       Bulletin 2, 110-114. :doi:`10.2307/3002019`

    Examples
    --------
    >>> import numpy as np
    >>> from metaest import RandomCoefficientRegressor, Task
    >>> rng = np.random.default_rng(0)
    >>> week = np.arange(52.0)
    >>> levels = 100 + 30 * rng.standard_normal(40)
    >>> shops = [
    ...     Task(i, week[:, None], level + 9 * (week > 46) + rng.standard_normal(52)) for i, level in enumerate(levels)
    ... ]
    >>> model = RandomCoefficientRegressor(random_state=0).fit(shops[:39])
    >>> shop = model.adapt(week[:4, None], shops[39].y[:4])
    >>> bool(np.abs(shop.predict(week[40:, None]) - shops[39].y[40:]).mean() < 2)
    True
    """

    _prior: CoefficientPrior
    _parameter_constraints = {  # noqa: RUF012
        **CONSTRAINTS,
        "base": [StrOptions({"boosting", "linear"}), HasMethods(["fit", "predict", "get_params"]), None],
        "random": [StrOptions({"intercept", "slopes"}), list, tuple, np.ndarray],
        "covariance": [StrOptions({"auto", "full", "diagonal"})],
        "restricted": ["boolean"],
        "n_folds": [Whole(2, None, closed="left"), None],
        "max_iter": [Whole(1, None, closed="left")],
    }

    def __init__(
        self,
        base: Any = "boosting",
        *,
        random: str | Sequence[str | int] = "intercept",
        covariance: str = "auto",
        restricted: bool = False,
        n_folds: int | None = 5,
        max_iter: int = 10,
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.base = base
        self.random = random
        self.covariance = covariance
        self.restricted = restricted
        self.n_folds = n_folds
        self.max_iter = max_iter
        self.support_size = support_size
        self.split = split
        self.random_state = random_state
        self.verbose = verbose

    @property
    def base_(self) -> Any:
        """The fitted regressor; None where there is none."""
        return self._prior.base

    def _learn(self, tasks: TaskSet, rng: np.random.Generator) -> CoefficientPrior:
        alone = self.base is None or is_linear(self.base)
        fresh = None if alone else new_base(self.base, int(rng.integers(2**31 - 1)), len(tasks.X))
        X, y = tasks.X.astype(np.float64), tasks.y.reshape(-1).astype(np.float64)
        design = Design.of(tasks, self.random, fixed_columns(self.base))
        kind = self._covariance_kind(1 + len(design.random), len(tasks))
        targets = Scaling.learn(torch.from_numpy(y[:, None]))
        offset, scale = float(targets.mean), float(targets.scale)
        rows = FixedAndRandom(
            design.columns(X, design.random),
            design.columns(X, design.fixed),
            (y - offset) / scale,
            tasks.offsets,
            design.shrunk,
            kind == "diagonal",
            bool(self.restricted),
        )
        _require_spare(rows, tasks)
        _warn_of_levels(rows)
        names = None if isinstance(self.base, str) else tasks.feature_names
        learned = self._in_turn(rows, fresh, X, names, rng)
        if not learned.converged:
            warn(
                f"the random part and the regressor did not come to rest in {len(learned.likelihoods) - 1} turns; set "
                "max_iter higher, or random= to fewer columns.",
                ConvergenceWarning,
            )
        components = learned.components
        beta = scale * components.beta
        beta[0] += offset
        base = learned.base
        prior = CoefficientPrior(
            design,
            beta,
            scale * covariance_root(components.covariance),
            scale**2 * components.noise,
            scale,
            BoostedTrees.of(base) if isinstance(self.base, str) and base is not None else base,
            names,
            Uncertainty.of(
                rows.statistics(0.0),
                components,
                design.shrunk,
                diagonal=rows.diagonal,
                restricted=rows.restricted,
            ),
        )
        if fault := prior.fault():
            raise TaskError(f"fit: {fault}; the targets have a standard deviation of {scale:.4g}: check their unit.")
        self.covariance_kind_ = kind
        self._report(prior, learned, tasks, scale)
        return prior

    def _covariance_kind(self, q: int, n_tasks: int) -> str:
        """Return whether random coefficients may correlate, or raise where they are too many."""
        entries = q * (q + 1) // 2
        few = q <= MOST_FULL and entries <= max(FEW_ENTRIES, n_tasks / TASKS_PER_ENTRY)
        kind = ("full" if few else "diagonal") if self.covariance == "auto" else self.covariance
        most = MOST_FULL if kind == "full" else MOST_RANDOM
        if q > most:
            remedy = "covariance='diagonal', or " * (kind == "full")
            raise ValueError(
                f"random: {q} coefficients of a task are too many for a {kind} covariance, which takes {most}; set "
                f"{remedy}random= to fewer columns."
            )
        return kind

    def _in_turn(
        self,
        rows: FixedAndRandom,
        fresh: Any,
        X: NDArray[np.float64],
        names: tuple[str, ...] | None,
        rng: np.random.Generator,
    ) -> Alternated:
        """Fit the random part, and the regressor where there is one."""
        if fresh is None:
            components = rows.components(0.0)
            return Alternated(components, None, [components.log_likelihood], [components.noise], components.converged)
        n_tasks = len(rows.offsets) - 1
        apart = self.n_folds is not None and n_tasks > 1
        folds = rng.permutation(n_tasks) % min(int(self.n_folds or 2), n_tasks) if apart else None
        return alternate(
            rows,
            lambda mask, target: fitted_base(fresh, X[mask], target[mask], names),
            lambda base, mask: predictions(base, X[mask], names),
            folds=folds,
            max_iter=int(self.max_iter),
            verbose=bool(self.verbose),
        )

    def _report(self, prior: CoefficientPrior, learned: Alternated, tasks: TaskSet, scale: float) -> None:
        """Set what was learned as attributes, in the units of the columns and of y."""
        design = prior.design
        labels = tasks.feature_names or tuple(f"x{j}" for j in range(tasks.X.shape[1]))
        random = ["intercept", *(labels[j] for j in design.random)]
        fixed = ["intercept", *(labels[j] for j in design.fixed)]
        to_units = design.in_units(design.random)
        root = to_units @ prior.factor
        covariance = root @ root.T
        self.fixed_coefficients_ = pd.Series(design.in_units(design.fixed) @ prior.beta, fixed)
        self.covariance_ = pd.DataFrame(covariance, random, random)
        variance = np.append(np.diag(covariance), prior.noise_variance)
        self.variance_components_ = pd.DataFrame(
            {"variance": variance, "sd": np.sqrt(variance)}, index=[*random, "noise"]
        )
        effects = scale * learned.components.effects @ to_units.T
        self.task_coefficients_ = pd.DataFrame(effects, pd.Index(tasks.names, name="task", tupleize_cols=False), random)
        shift = len(tasks.X) * np.log(scale)
        if self.restricted:
            free = design.fixed[~design.shrunk[1:]]
            shift += np.log(design.scale[free]).sum() - (1 + len(free)) * np.log(scale)
        self.log_likelihood_ = float(learned.components.log_likelihood - shift)
        self.history_ = pd.DataFrame({
            "turn": np.arange(len(learned.likelihoods)),
            "log_likelihood": np.array(learned.likelihoods) - shift,
            "noise": scale * np.sqrt(learned.noises),
        })  # fmt: skip
        self.n_iter_ = len(learned.likelihoods)


def _require_spare(rows: FixedAndRandom, tasks: TaskSet) -> None:
    """Raise a TaskError where no row is left to tell noise from coefficients."""
    statistics, q, most = rows.statistics(0.0), rows.Z.shape[1], int(tasks.sizes.max())
    if not statistics.n_spare:
        raise TaskError(
            f"fit: no task has more rows than the {q} random coefficient{'s' * (q != 1)} of a task (the longest has "
            f"{most} sample{'s' * (most != 1)}), so that noise and coefficients cannot be told apart; pass tasks with "
            "more rows, or set random= to fewer columns."
        )
    if not statistics.n_free:
        raise TaskError(
            f"fit: {len(rows.y)} rows of {len(tasks)} task{'s' * (len(tasks) != 1)} are fitted exactly by "
            f"{rows.C.shape[1]} fixed coefficients and {q} random one{'s' * (q != 1)} of each task, so that noise and "
            "coefficients cannot be told apart; pass more rows, or fewer columns."
        )


def _warn_of_levels(rows: FixedAndRandom) -> None:
    """Warn where fixed coefficients of columns that are one number a task explain the levels of all tasks."""
    first, n_tasks = rows.offsets[:-1], len(rows.offsets) - 1
    least, most = np.minimum.reduceat(rows.C, first), np.maximum.reduceat(rows.C, first)
    level = ((most - least).max(axis=0) <= CONSTANT) & ~rows.shrunk
    if level.sum() > 1 and np.linalg.matrix_rank(rows.C[first][:, level]) >= n_tasks:
        warn(
            f"{int(level.sum()) - 1} columns that are one number a task explain the levels of {n_tasks} tasks exactly: "
            "how much levels differ otherwise cannot be told, and predictions of new tasks go astray. Pass more tasks, "
            "or fewer such columns.",
            IdentifiabilityWarning,
        )
