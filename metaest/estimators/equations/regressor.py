"""EquationRegressor: an equation one trusts, its constants meta-learned from many tasks and adapted to the next."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.atomic import atomic
from metaest.estimators.checkpoint import Checkpoint, checkpoint_of
from metaest.estimators.equations.adapting import Adapting
from metaest.estimators.equations.censoring import as_recorded, ask_about_limit, just_below, without_codes
from metaest.estimators.equations.fit.pipeline import calibrate
from metaest.estimators.equations.fitted import Calibrated
from metaest.estimators.equations.parameter import Parameter
from metaest.estimators.equations.results import attributes, query_predictions
from metaest.estimators.equations.settings import CONSTRAINTS, REPORTED, check_settings
from metaest.estimators.equations.summary import summarise
from metaest.estimators.equations.zero_shot import ZeroShot
from metaest.estimators.guard import thinned
from metaest.estimators.inputs import as_tasks, remember_columns, remember_range, require_columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.seen_tasks import SeenTasks, hashed
from metaest.tasks import TaskSet

__all__ = ["EquationRegressor"]


class EquationRegressor(Adapting, ZeroShot, RegressorMixin, BaseEstimator):
    r"""An equation whose constants are learned from many tasks and adapted to the next, with standard errors.

    .. math:: y_{ti} = f(x_{ti}, \theta_t) + \varepsilon_{ti}, \qquad g^{-1}(\theta_t) \sim N(\mu + \Gamma z_t, \Psi),

    with the unconstrained constants :math:`g^{-1}(\theta)` (see :class:`Parameter`), task covariates z, and
    :math:`\varepsilon` normal. ``fit`` learns :math:`\mu, \Gamma, \Psi` and the noise; ``adapt`` finds the most
    probable :math:`\theta` of a new task.

    In `cross_validate` and `GridSearchCV` leave ``scoring`` unset, or take a few-shot scorer of :mod:`metaest.scorers`:
    a scorer by name (``scoring="r2"``) measures the model before adaptation.

    Parameters
    ----------
    equation : callable
        ``equation(X, **constants) -> y``, written for one task with torch functions: X is a float64 tensor of shape
        (n_rows, n_features) with the columns in the order of the fit, every constant a tensor that broadcasts with
        ``X[:, j]``, y of shape (n_rows,).
    parameters : dict of str to Parameter or float
        The constants by the names the equation gives them; a number is an initial value without bounds.
    random : list of str, optional
        The constants that vary between tasks; the others are shared by all. None: all vary.
    covariance : {"full", "diagonal"}, default="full"
        Whether constants may be correlated between tasks.
    noise : {"additive", "proportional", "combined"}, default="additive"
        Variance :math:`\sigma^2`, :math:`\sigma^2 f^2` or :math:`\sigma^2 + \rho^2 f^2` of an observation.
        In proportional noise f is taken as at least a thousandth of the root mean square of the targets.
    measurement_sd : str or int, optional
        The column of X (by name, or by number) with the known standard deviation s of each measurement, in the unit of
        y: the variance of an observation is that of the noise plus :math:`s^2`, in rows to be predicted as well. The
        equation has no use for this column. Relative accuracies are ``sample_weight`` of `fit`.
    limit : float, optional
        Of quantification: an observation below it, whatever its number, is taken as known to lie below it and no more
        (a censored likelihood, method M3 [2]_). The number is replaced by the greatest one below the limit before
        anything looks at it. Scores and guards count no error where observation and prediction both lie below the
        limit; conformal intervals measure the distance to the limit.
    covariates : dict of str to list, optional
        For each constant the columns of X (by name, or by number) whose value in a task shifts the constant's prior
        mean linearly in the unconstrained space. Such a column must be constant within each task.
    objective : {"evidence", "query"}, default="evidence"
        What `fit` maximises: the Laplace-approximate marginal likelihood [1]_ with the expected second derivative
        (Gauss-Newton for additive noise; empirical Bayes), or the density of the query rows of drawn episodes, each
        predicted after adapting to its support rows (meta-learning).
    inner_solver : {"gauss-newton", "gradient"}, default="gauss-newton"
        How constants adapt: to the most probable ones by damped Gauss-Newton steps, or by `inner_steps` gradient steps
        from the learned start, each constant at a learned rate (MAML, arXiv:1703.03400; needs ``objective="query"``).
    inner_steps : int, default=5
        Gradient steps of ``inner_solver="gradient"``.
    meta_gradient : {"exact", "first-order"}, default="exact"
        Of ``inner_solver="gradient"``.
    support_size : int, range, (smallest, largest) or None, default=(1, 5)
        Support rows of a task in the episodes of ``objective="query"`` and in `score`; None takes half the rows, at
        most 10. A task's own support comes first.
    split : {"random", "first"}, default="random"
        Whether support rows are drawn, or are a task's first ones.
    n_episodes : int or None, default=None
        Splits of each task for ``objective="query"`` with Gauss-Newton; None: 400 in all, at least 4 of each.
    meta_lr : float, default=0.05
        First rate of Adam of ``inner_solver="gradient"``, in standard deviations between tasks.
    meta_batch_size : int, default=25
        Tasks a meta-step of ``inner_solver="gradient"``.
    max_iter : int, default=300
        Iterations of the search for the population at most; the number of meta-steps of ``inner_solver="gradient"``.
    compile : bool or "auto", default="auto"
        Whether constants are searched for in machine code, many tasks at a time (needs llvmlite, the extra ``compile``;
        see :doc:`/guide/speed`). "auto" compiles a fit of at least 50,000 rows and an `adapt_many` of 500,000, True a
        single `adapt` as well. What cannot be compiled is left to torch, with a logged line that says why.
    random_state : int, RandomState instance or None, default=None
        Draws of support rows; ``objective="evidence"`` draws none.
    checkpoint : path-like, optional
        A folder in which the fit keeps its state, so that one that was ended (by Ctrl-C, or a power cut) goes on with
        the same numbers when the same fit is called again; see :doc:`/guide/keeping`. Needs a `random_state`.
    checkpoint_every : int, default=10
        Iterations, or meta-steps, from one state to the next.
    verbose : bool, default=False
        Whether to show progress bars, on standard error: of a fit, a score, a calibration, of many adaptations and of
        what the guard learns.

    Attributes
    ----------
    population_ : DataFrame
        One row a constant: ``value`` (of the median task, in the constant's unit), ``standard_error`` and
        ``between_task_sd`` (to first order), ``omega`` (the standard deviation between tasks in the unconstrained
        space: of the logarithm, for a constant with one bound), ``cv`` (of such a lognormal constant, or of its
        distance from the bound: :math:`\sqrt{\exp(\omega^2) - 1}`, exact), ``unit``, ``lower``, ``upper``; and in the
        unconstrained space ``scale`` ("identity", "log", "upper", "logit"), ``scaled_value``,
        ``scaled_standard_error``, ``scaled_sd`` (omega once more).
    derived_ : DataFrame
        One row a quantity that the equation declares beside its constants (:class:`Quantity`), such as a rate of
        absorption: ``value``, ``standard_error`` and ``between_task_sd`` (to first order), ``unit``, ``meaning``.
        Without rows where it declares none.
    coefficients_ : DataFrame
        One row a covariate of a constant.
    covariance_, correlation_ : DataFrame
        Between tasks, of the constants that vary, in the unconstrained space.
    noise_ : Series
        ``sd`` in the unit of y, ``cv``, or both; with weights, those of a row of weight 1.
    task_params_ : DataFrame
        One row a training task: the value of each constant, ``<name>_standard_error``, ``<name>_shrinkage`` (the share
        of the between-task variance its rows leave) and ``status`` of the search.
    log_likelihood_, aic_, bic_ : float
        Marginal log-likelihood by Laplace's approximation; BIC counts rows.
    history_ : DataFrame
        ``iteration`` and ``loss``.
    n_iter_, n_tasks_, n_rows_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.
    equation_ : callable
        The equation that was fitted.
    limit_ : float or None
        `limit` of the fit.
    covariate_columns_ : tuple of int
        The column of X of each coefficient of a covariate.
    batching_, batching_reason_ : str
        How many tasks are evaluated at once ("rows", "vmap", "loop"), and why.
    compiled_ : bool
        Whether the fit searched in machine code.
    compiled_reason_ : str

    See Also
    --------
    AdaptedEquation : What ``adapt`` returns.
    MAMLRegressor : Where no equation is known.

    References
    ----------
    .. [1] L. Tierney, J. B. Kadane (1986). Accurate approximations for posterior moments and marginal densities.
       :doi:`10.1080/01621459.1986.10478240`
    .. [2] S. L. Beal (2001). Ways to fit a PK model with some data below the quantification limit.
       :doi:`10.1023/A:1012299115260`

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import load_orange
    >>> def logistic(X, height, half, width):
    ...     return height / (1 + torch.exp((half - X[:, 0]) / width))
    >>> constants = {
    ...     "height": Parameter(200, lower=0, unit="mm"),
    ...     "half": Parameter(700, lower=0, unit="d"),
    ...     "width": Parameter(300, lower=0, unit="d"),
    ... }
    >>> trees = load_orange()
    >>> model = EquationRegressor(logistic, constants, random=["height"]).fit(trees[:4])
    >>> tree = model.adapt(trees[4].X[:3], trees[4].y[:3])
    >>> tree.params_.loc["height", ["lower_90", "upper_90"]].round(-1).tolist()
    [140.0, 190.0]
    """

    # subclasses with a constructor of their own do not offer it
    measurement_sd: str | int | None = None

    _parameter_constraints = CONSTRAINTS
    _single_target = True
    # groups are requested by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012

    def __init__(
        self,
        equation: Callable[..., torch.Tensor],
        parameters: Mapping[str, Parameter | float],
        *,
        random: Sequence[str] | None = None,
        covariance: str = "full",
        noise: str = "additive",
        measurement_sd: str | int | None = None,
        limit: float | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        objective: str = "evidence",
        inner_solver: str = "gauss-newton",
        inner_steps: int = 5,
        meta_gradient: str = "exact",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        n_episodes: int | None = None,
        meta_lr: float = 0.05,
        meta_batch_size: int = 25,
        max_iter: int = 300,
        compile: str | bool = "auto",
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> None:
        self.equation = equation
        self.parameters = parameters
        self.random = random
        self.covariance = covariance
        self.noise = noise
        self.measurement_sd = measurement_sd
        self.limit = limit
        self.covariates = covariates
        self.objective = objective
        self.inner_solver = inner_solver
        self.inner_steps = inner_steps
        self.meta_gradient = meta_gradient
        self.support_size = support_size
        self.split = split
        self.n_episodes = n_episodes
        self.meta_lr = meta_lr
        self.meta_batch_size = meta_batch_size
        self.max_iter = max_iter
        self.compile = compile
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose

    @atomic
    @in_plain_modes
    def fit(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> "EquationRegressor":
        r"""Learn the population from many tasks.

        Parameters
        ----------
        X : TaskSet, sequence of Task or (X, y), dict of name to (X, y), or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,), optional
            With flat rows only.
        groups : array-like of shape (n_rows,), optional
            The task of each flat row; without it all rows are one task, and a warning says so.
        sample_weight : array-like of shape (n_rows,), optional
            Known accuracy of the rows, as 1/variance up to one factor: the noise of a row of weight w has the variance
            :math:`v / w`. With c times the weights, constants are the same and variances c times as large (scipy's
            ``absolute_sigma=False``, lme4's and nlme's weights). A row of weight 0 is left out; a weight of 2 is not a
            row that is there twice, which would count as two observations. Tasks give the weights of all rows, one task
            after the other, or carry them (``Task(..., sample_weight=...)``).

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            When the equation, its constants or the settings make no sense; the message names the constant.
        TaskError
            When the tasks cannot be used, or the equation is not finite in one; the message names task and column.
        DivergenceError
            When no population with a finite likelihood is found.

        Warns
        -----
        ConvergenceWarning
            When the search for the population, or for the constants of a task, did not converge.

        Examples
        --------
        Two assays, the second with a standard deviation thirty times as large:

        >>> import numpy as np
        >>> from metaest import EquationRegressor
        >>> def level(X, a):
        ...     return a + 0 * X[:, 0]
        >>> rng = np.random.default_rng(0)
        >>> sd, groups = np.tile([0.1, 3.0], 50), np.repeat(np.arange(50), 2)
        >>> y = rng.normal(5, 1, 50)[groups] + sd * rng.normal(size=100)
        >>> model = EquationRegressor(level, {"a": 1.0})
        >>> model = model.fit(np.zeros((100, 1)), y, groups=groups, sample_weight=1 / sd**2)
        >>> new = model.adapt([[0.0], [0.0]], [4.0, 9.0], sample_weight=[100, 0.11])
        >>> new.predict([[0.0]]).round(1)
        array([4.])
        """
        self._validate_params()
        check_settings(self)
        tasks = require_columns(as_tasks(X, y, groups, weighs=True, sample_weight=sample_weight))
        ask_about_limit(self.limit, tasks.y, "fit")
        tasks = without_codes(tasks, self.limit)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with checkpoint_of(self, tasks, seed, y is not None) or nullcontext() as checkpoint:
            self._learn(tasks, seed, y is not None, checkpoint)
        return self

    def _learn(self, tasks: TaskSet, seed: int, flat: bool, checkpoint: Checkpoint | None) -> None:
        """Set all that a fit learns."""
        fitted = calibrate(self, tasks, np.random.default_rng(seed), flat=flat, checkpoint=checkpoint)
        self._calibrated: Calibrated = fitted.calibrated
        self._seed = seed
        self._judged, self._judges = thinned(tasks), {}
        self._task_names = hashed(tasks.names)
        self._seen, self._conformal = SeenTasks.learn(tasks, seed), None
        self._y_mean = tasks.y.mean(dtype=np.float64)
        for name, value in attributes(fitted, tasks, {name: getattr(self, name) for name in REPORTED}).items():
            setattr(self, name, value)
        remember_columns(self, tasks.feature_names)
        remember_range(self, tasks.X)

    def problem(self, tasks: TaskSet) -> tuple[Callable[..., torch.Tensor], Mapping[str, Parameter | float]]:
        """Return the equation of these tasks and its parameters; a subclass may read them off the data.

        Parameters
        ----------
        tasks : TaskSet

        Returns
        -------
        equation : callable
        parameters : dict of str to Parameter or float
            As the constructor takes them.
        """
        return self.equation, self.parameters

    @property
    def equation_(self) -> Any:
        """The equation that was fitted, as it was given or as `problem` made it."""
        check_is_fitted(self)
        return self._calibrated.model.equation.function

    @property
    def limit_(self) -> float | None:
        """The limit of quantification of the fit."""
        check_is_fitted(self)
        return self._calibrated.model.noise.limit

    @property
    def covariate_columns_(self) -> tuple[int, ...]:
        """Numbers of the columns of X that are covariates, one for each coefficient."""
        check_is_fitted(self)
        return self._calibrated.covariates.columns

    def with_equation(self, equation: Callable[..., torch.Tensor]) -> Self:
        """Return a copy of the fitted model that evaluates another equation of the same constants.

        Parameters
        ----------
        equation : callable
            Such as the same formula with further tables that it looks up.

        Returns
        -------
        EquationRegressor
            With the population of this model, which stays as it is.
        """
        check_is_fitted(self)
        other, model = copy.copy(self), self._calibrated.model
        model = replace(model, equation=replace(model.equation, function=equation))
        other._calibrated = replace(self._calibrated, model=model)
        return other

    @in_plain_modes
    def summary(self) -> str:
        """Return the fit in the form statisticians know, with notes on what the tasks cannot tell."""
        check_is_fitted(self)
        return summarise(self)

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        return query_predictions(
            self._calibrated, tasks, self.support_size, self.split, rng, verbose=bool(self.verbose)
        )

    def _as_recorded(self, truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        limit = self._calibrated.model.noise.limit
        truth = just_below(limit, truth)
        return truth, as_recorded(limit, truth, prediction)

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        return tags
