"""EquationRegressor: an equation one trusts, its constants meta-learned from many tasks and adapted to the next."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from os import PathLike
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from metaest.estimators import inputs
from metaest.estimators.arguments import whether_guarded
from metaest.estimators.atomic import atomic
from metaest.estimators.checkpoint import checkpoint_of
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import IntervalMixin, one_by_one
from metaest.estimators.equations import (
    average,
    bootstrap,
    judged,
    kept,
    likelihood,
    many_tasks,
    profile_likelihood,
    recalibrate,
    substituted,
    tables,
    unadapted,
)
from metaest.estimators.equations.adapted import AdaptedEquation
from metaest.estimators.equations.adapted_many import AdaptedEquations
from metaest.estimators.equations.averaged import AveragedEquation, AveragedEquations, averaged, averaged_many
from metaest.estimators.equations.compiled import compiled_for_adapting
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.settings import CONSTRAINTS, FitSettings
from metaest.estimators.equations.structures import fit_structures
from metaest.estimators.equations.task_rows import adapt_rows, prepared, refuse_guard, support_rows, support_tasks
from metaest.estimators.equations.units.adapted import AdaptedUnits
from metaest.estimators.equations.units.adapted_many import AdaptedManyUnits
from metaest.estimators.equations.units.fit import fit_levels
from metaest.estimators.equations.units.levels import coded_rows
from metaest.estimators.guard import FittedGuard
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.pickles import check_stamp, copied, model_state
from metaest.functional import MetaGradient, Outcome
from metaest.population import Parameter, Population
from metaest.tasks import TaskSet

__all__ = ["EquationRegressor"]


class EquationRegressor(IntervalMixin, RegressorMixin, BaseEstimator):
    r"""An equation whose constants are learned from many tasks and adapted to the next, with standard errors.

    .. math:: y_{ti} = f(x_{ti}, \theta_t) + \varepsilon_{ti}, \qquad g^{-1}(\theta_t) \sim N(\mu + \Gamma z_t, \Psi),

    with the unconstrained constants :math:`g^{-1}(\theta)` (see :class:`Parameter`), task covariates z, and
    :math:`\varepsilon` normal. ``fit`` learns :math:`\mu, \Gamma, \Psi` and the noise; ``adapt`` finds the most
    probable :math:`\theta` of a new task.

    In `cross_validate` and `GridSearchCV` leave ``scoring`` unset, or take a few-shot scorer of :mod:`metaest.scorers`:
    a scorer by name (``scoring="r2"``) measures the model before adaptation.

    Parameters
    ----------
    equation : callable, or dict of output to callable
        ``equation(X, **constants) -> y``, written for one task with torch functions: X is a float64 tensor of shape
        (n_rows, n_features) with the columns in the order of the fit, every constant a tensor that broadcasts with
        ``X[:, j]``, y of shape (n_rows,). Of several outputs one that looks at their column, or one for each.
    parameters : dict of str to Parameter or float
        The constants by the names the equation gives them; a number is an initial value without bounds.
    random : list of str, "auto" or None, default=None
        The constants that vary between tasks; the others are shared by all. None: all vary.
    covariance : {"full", "diagonal", "auto"} or dict, default="full"
        Whether constants may be correlated between tasks; a word for each level, the tasks' own being "task".
    levels : dict of str or int to list of str, optional
        Columns of X that name units within a task, from the outer to the inner, and the constants that vary between
        them, as ``{"visit": ["CL"]}``; `random` stays what varies between tasks. The equation does not see these
        columns. See :doc:`/guide/levels`.
    noise : {"additive", "proportional", "combined", "combined1", "power", "lognormal", "auto"}, or an outcome
        Variance :math:`\sigma^2`, :math:`\sigma^2 f^2`, :math:`\sigma^2 + \rho^2 f^2`, :math:`(\sigma + \rho |f|)^2`,
        :math:`\sigma^2 |f|^{2p}` (:math:`|p| \le 5`), or that of :math:`\log y - \log f`; in the second and "power", f
        is at least a thousandth of the RMS of y. "auto", here, in `random`, `covariance`: compared on left-out tasks.
        With `output` a dict of output to kind, or one kind of all.
        Outcomes: "bernoulli", "poisson", "negative-binomial", "ordinal", "student-t", or :class:`Binomial`,
        :class:`TimeToEvent`, :class:`StudentT` with settings; see :doc:`/guide/outcomes`. "additive" by default.
    output : str or int, optional
        The column of X with the output of each row, such as a concentration or an effect: a number, or a word that
        ``TaskSet.from_frame(output=)`` has read. Outputs share constants, and each has a noise of its own.
    noise_correlation : {"ar1", "car1"}, optional
        Whether the residuals of a task correlate, by a learned :math:`\phi^{|i-j|}` in the order of the rows, or by
        :math:`e^{-|t-t'|/\tau}` at the times t (nlme's corCAR1; Pinheiro and Bates, 2000, :doi:`10.1007/b98882`).
    correlation_time : str or int, optional
        The column of X with the times of "car1"; by default that of the equation, "time", "t", or the only one.
    measurement_sd : str or int, optional
        The column of X (by name, or by number) with the known standard deviation s of each measurement, in the unit of
        y: the variance of an observation is that of the noise plus :math:`s^2`, in rows to be predicted as well. The
        equation has no use for this column. Relative accuracies are ``sample_weight`` of `fit`.
    limit : float or str, optional
        Limit of quantification, of all rows, or the column of X that holds that of each: an observation below it,
        whatever its number, counts as one that lies below it, no more (a censored likelihood, method M3; Beal, 2001,
        :doi:`10.1023/A:1012299115260`). The number is replaced by the greatest one below the limit before anything
        looks at it. Scores and guards count no error where observation and prediction both lie below the limit;
        conformal intervals measure the distance to the limit.
    limit_from : float or str, optional
        What an observation below the limit is known not to lie below, such as 0: it counts as one between the two.
    upper_limit : float or str, optional
        An observation above it counts as one that lies above it, no more.
    covariates : dict of str to list, optional
        For each constant the columns of X (by name, or by number) whose value in a task shifts the constant's prior
        mean linearly in the unconstrained space. Such a column must be constant within each task, or `time_varying`.
    time_varying : list of str or int, optional
        Covariates that differ between the rows of a task: their constants follow them from row to row, and go into the
        equation with the shape (n_rows,), for rows that depend on no row before. See :doc:`/guide/equations`.
    objective : {"evidence", "query"}, default="evidence"
        The objective of `fit`: the Laplace-approximate marginal likelihood [1]_ with the expected second derivative
        (Gauss-Newton for additive noise; empirical Bayes), or the density of the query rows of drawn episodes, each
        predicted after adapting to its support rows (meta-learning).
    inner_solver : {"gauss-newton", "gradient"}, default="gauss-newton"
        How constants adapt: to the most probable ones by damped Gauss-Newton steps, or by `inner_steps` gradient steps
        from the learned start, each constant at a learned rate (MAML, arXiv:1703.03400; needs ``objective="query"``).
    inner_steps : int, default=5
        Gradient steps of ``inner_solver="gradient"``.
    meta_gradient : {"exact", "first-order"} or MetaGradient, default="exact"
        Gradient of the query loss through the steps of ``inner_solver="gradient"``.
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
    n_nodes : int, default=1
        Nodes, in each of up to three constants that vary, of adaptive Gauss-Hermite quadrature of the likelihood, in
        place of Laplace's approximation (glmer's nAGQ): for outcomes of which a task has few rows.
    small_sample : {"none", "integrate"}, default="none"
        Whether intervals know that covariance, noise and coefficients were estimated from few tasks: they are
        integrated over, and estimated by the restricted likelihood times Jeffreys' prior, which takes no standard
        deviation as zero. See :doc:`/guide/equations`.
    compile : bool or "auto", default="auto"
        Whether the equation is compiled (needs llvmlite, the extra ``compile``; see :doc:`/guide/speed`). "auto"
        compiles every fit but one by gradient steps, and an `adapt_many` of at least 500,000 rows, True a single
        `adapt` as well. torch does what cannot be compiled, and a logged line says why.
    prior : Population, optional
        A published population, which `fit` keeps, or updates by tasks; see `from_population`.
    prior_weight : float or "auto", default=inf
        How many tasks the population counts as in an update. Infinite: it is kept. "auto": read off the tasks.
    random_state : int, RandomState instance or None, default=None
        Draws of support rows; ``objective="evidence"`` draws none.
    checkpoint : path-like, optional
        A folder in which the fit keeps its state, so that one that was ended (by Ctrl-C, or a power cut) goes on with
        the same numbers when the same fit is called again; see :doc:`/guide/keeping`. Needs a `random_state`.
    checkpoint_every : int, default=10
        Iterations, or meta-steps, from one state to the next.
    verbose : bool, default=False
        Whether to show progress bars on standard error.

    Attributes
    ----------
    structures_ : DataFrame or None
        What "auto" compared. Where several have a weight, curves are averaged and other attributes are the best's.
    population_ : DataFrame
        One row a constant: ``value`` (of the median task, in the constant's unit), ``standard_error`` and
        ``between_task_sd`` (to first order), ``lower_90`` and ``upper_90``, ``omega`` (the standard deviation between
        tasks in the unconstrained space: of the logarithm, for a constant with one bound) with its
        ``omega_standard_error`` (NaN where omega is zero), ``cv`` (of such a lognormal constant, or of its
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
    noise_ : Series or DataFrame
        ``sd`` in the unit of y, ``cv``, or both; ``sd_at_1`` (where f is 1) and ``power``; ``sd_log`` (of the logarithm
        of y); of a row of weight 1; ``phi`` of "ar1", or ``correlation_time``. A DataFrame with a row an output.
    task_params_ : DataFrame
        One row a training task: the value of each constant, ``<name>_standard_error``, ``<name>_shrinkage`` (the share
        of the between-task variance its rows leave) and ``status`` of the search.
    log_likelihood_, aic_, bic_ : float
        Marginal log-likelihood by Laplace's approximation, or by `n_nodes`; BIC counts rows.
    history_ : DataFrame
        ``iteration`` and ``loss``.
    n_iter_, n_tasks_, n_rows_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits; without tasks
        the ranges that a published population states, NaN for a column of which it states none.
    prior_weights_ : Series
        Where there was a `prior`: how many tasks its parts counted as.
    equation_ : callable
    limit_ : float, str or None
    covariate_columns_ : tuple of int
        The column of X of each coefficient of a covariate.
    batching_, batching_reason_ : str
        How many tasks are evaluated at once, and why.
    compiled_, compiled_reason_ : bool, str
        Whether the fit searched in machine code, and why or why not.

    References
    ----------
    .. [1] L. Tierney, J. B. Kadane (1986). Accurate approximations for posterior moments and marginal densities.
       :doi:`10.1080/01621459.1986.10478240`

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import load_orange
    >>> def logistic(X, height, half, width):
    ...     return height / (1 + torch.exp((half - X[:, 0]) / width))
    >>> days = [Parameter(initial, lower=0, unit="d") for initial in (700, 300)]
    >>> constants = {"height": Parameter(200, lower=0, unit="mm"), "half": days[0], "width": days[1]}
    >>> trees, model = load_orange(), EquationRegressor(logistic, constants, random=["height"])
    >>> tree = model.fit(trees[:4]).adapt(trees[4].X[:3], trees[4].y[:3])
    >>> tree.params_.loc["height", ["lower_90", "upper_90"]].round(-1).tolist()
    [140.0, 190.0]
    """

    levels: Mapping[Any, Any] | None = None  # these are not offered by subclasses with another constructor
    measurement_sd: str | int | None = None
    noise_correlation: str | None = None
    correlation_time: str | int | None = None
    output: str | int | None = None
    limit_from: float | str | None = None
    upper_limit: float | str | None = None
    prior: Population | None = None
    prior_weight: float | str = np.inf
    small_sample: str = "none"
    time_varying: Sequence[str | int] | str | int | None = None
    n_nodes: int = 1
    _parameter_constraints = CONSTRAINTS
    _single_target = True
    _weighs = True
    _fitted: FittedEquation
    _further: tuple[FittedEquation, ...] | None = None
    _published: Population | None = None  # what `prior` was at the fit
    structures_: Any
    _judged: TaskSet | None
    _judges: dict[Any, FittedGuard]
    # scikit-learn's metadata routing passes groups by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012

    def __init__(
        self,
        equation: Callable[..., torch.Tensor] | Mapping[Any, Callable[..., torch.Tensor]],
        parameters: Mapping[str, Parameter | float],
        *,
        random: Sequence[str] | str | None = None,
        covariance: str | Mapping[str, str] = "full",
        levels: Mapping[Any, Sequence[str]] | None = None,
        noise: str | Outcome | Mapping[Any, str] = "additive",
        output: str | int | None = None,
        noise_correlation: str | None = None,
        correlation_time: str | int | None = None,
        measurement_sd: str | int | None = None,
        limit: float | str | None = None,
        limit_from: float | str | None = None,
        upper_limit: float | str | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        time_varying: Sequence[str | int] | str | int | None = None,
        objective: str = "evidence",
        inner_solver: str = "gauss-newton",
        inner_steps: int = 5,
        meta_gradient: str | MetaGradient = "exact",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        n_episodes: int | None = None,
        meta_lr: float = 0.05,
        meta_batch_size: int = 25,
        max_iter: int = 300,
        n_nodes: int = 1,
        small_sample: str = "none",
        compile: str | bool = "auto",
        prior: Population | None = None,
        prior_weight: float | str = np.inf,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> None:
        self.equation = equation
        self.parameters = parameters
        self.random = random
        self.covariance = covariance
        self.levels = levels
        self.noise = noise
        self.output = output
        self.noise_correlation = noise_correlation
        self.correlation_time = correlation_time
        self.measurement_sd = measurement_sd
        self.limit = limit
        self.limit_from = limit_from
        self.upper_limit = upper_limit
        self.covariates = covariates
        self.time_varying = time_varying
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
        self.n_nodes = n_nodes
        self.small_sample = small_sample
        self.compile = compile
        self.prior = prior
        self.prior_weight = prior_weight
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
        ConvergenceWarning, CorrelatedResidualsWarning
            When a search did not converge; when residuals of a task follow one another: errors are then underrated.
        """
        self._validate_params()
        settings = FitSettings.of(self)
        if self.prior is not None:
            self._kept(settings, self.prior, kept.given_tasks(X, y, groups, sample_weight))
            return self
        X, labels = coded_rows([*(settings.levels or ()), *settings.output_columns], X)
        tasks = inputs.require_columns(inputs.as_tasks(X, y, groups, weighs=True, sample_weight=sample_weight))
        tasks = tasks.with_level_labels(labels) if labels else tasks
        tasks = judged.limited(self, tasks)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        flat = y is not None
        with checkpoint_of(self, tasks, seed, flat) or nullcontext() as checkpoint:
            fit = fit_structures if settings.levels is None else fit_levels
            chosen = fit(settings, self.problem, tasks, seed, flat=flat, checkpoint=checkpoint)
            learned = chosen.members[0]
            self._further, self._published = tuple(member.fitted for member in chosen.members[1:]) or None, None
            self.structures_ = chosen.table
            self._remember(learned, tasks, chosen.settings, seed, tasks.feature_names)
        return self

    def problem(self, tasks: TaskSet) -> tuple[Callable[..., torch.Tensor], Mapping[str, Parameter | float]]:
        """Return equation and parameters for a TaskSet, as the constructor takes them; subclasses read them off it."""
        return judged.one_equation(self, tasks.feature_names, tasks.X.shape[1], tasks), self.parameters

    def equation_for(self, names: Sequence[str]) -> tuple[Callable[..., torch.Tensor], Mapping[str, Parameter | float]]:
        """Return the equation for columns with these names, and its constants; subclasses make it of their settings."""
        return judged.one_equation(self, names, len(names)), self.parameters

    def settings_of_population(self) -> dict[str, Any] | None:
        """Return the settings that the constants of a catalogue's model belong to; None for an equation of yours."""
        return None

    @property
    def _guards(self) -> bool:
        return self.guard_by_default and (self.n_tasks_ > 0 or self._judged is not None or bool(self._judges))

    @property
    def _output_column(self) -> int | None:
        return self._fitted.output_column

    @property
    def equation_(self) -> Any:
        """The equation that was fitted, as it was given or as `problem` made it."""
        check_is_fitted(self)
        return self._fitted.given_function

    @property
    def limit_(self) -> float | str | None:
        """The limit of quantification of the fit."""
        check_is_fitted(self)
        return self._fitted.limit

    @property
    def covariate_columns_(self) -> tuple[int, ...]:
        """Numbers of the columns of X that are covariates, one for each coefficient."""
        check_is_fitted(self)
        return self._fitted.covariate_columns

    @in_plain_modes
    def adapt(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        guard: bool | None = None,
        gap: int = 0,
        covariates: Mapping[Any, float] | None = None,
        within: Any = None,
    ) -> AdaptedEquation | AveragedEquation | AdaptedUnits:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            Without rows (``adapt([], [])``) the constants are the population's, and vary as they do between tasks.
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional
            Known accuracy of the rows: their noise has the variance of the fit over their weight, so that weights must
            be on the scale of the fit's. 1 by default; a row of weight 0 is left out.
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it; see
            :class:`Guard`; None is no. Constants of a shrunk adaptation lie between the population's and the adapted
            ones. The first call learns from the training tasks how to judge.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on.
        covariates : dict, optional
            For a task without rows: values by columns of X, of the covariates of the fit at least; rows bring their
            own.
        within : str, int or another name, optional
            With levels: the training task that the rows belong to. Its rows of the fit count as well.

        Returns
        -------
        AdaptedEquation; AveragedEquation of a model that averages structures, AdaptedUnits of one with levels

        Raises
        ------
        TaskError, ValueError
            When the rows or the settings cannot be used, or the equation is not finite in a row.

        Warns
        -----
        IdentifiabilityWarning
            When the rows say less about a constant than the population does; it names the constant.
        UnlikelyTaskWarning, ConvergenceWarning
            When no curve of the population comes near the rows, or the search did not converge.
        """
        check_is_fitted(self)
        fitted, columns, names = self._fitted, Columns(self), Columns(self).names
        if fitted.levels is not None:
            refuse_guard(bool(guard) or gap != 0, "adapt", covariates)
            units: AdaptedUnits = fitted.levels.adapted(columns, fitted, X, y, sample_weight, within, self._conformal)
            return units
        if within is not None:
            raise ValueError("adapt: within= needs a model with levels=.")
        rows, target, weight, further = support_rows(columns, fitted, X, y, sample_weight, "adapt")
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, self._guards) else None
        self._warn_outside(dict(enumerate(rows.T)), "adapt")
        if len(rows) and covariates is not None:
            raise ValueError("adapt: covariates= is for a task without rows; these rows bring their own.")
        model, stated = compiled_for_adapting(fitted, self.compile, len(rows)), None
        if len(rows):
            # compiled code is for the columns of the fit
            posterior = adapt_rows(fitted if further else model, rows, target, "adapt", weight)
        else:
            stated = fitted.stated(covariates, names, rows.shape[1])
            self._warn_outside(stated, "adapt")
            posterior = fitted.prior_of(fitted.covariates.of_stated(stated))
        decision = None if judge is None else average.answering(judge, model, self._further).judge(rows, target, weight)
        rest = self.n_features_in_, names, judge, self._conformal, stated, weight, decision
        return averaged(AdaptedEquation._make(fitted, posterior, rows, target, *rest), self._further)

    @in_plain_modes
    def adapt_many(
        self, tasks: Any, sample_weight: Any = None, *, guard: bool = False, gap: int = 0
    ) -> AdaptedEquations | AveragedEquations | AdaptedManyUnits:
        """Adapt to many tasks in one call, all rows of each; the same numbers as one `adapt` a task, to rounding.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows of all tasks, one task after the other, as `adapt` takes them; or the tasks carry them.
        guard : bool, default=False
            Whether to judge each adaptation as ``adapt(guard=True)`` does; one batch judges all tasks.
        gap : int, default=0
            For the guard, as in `adapt`.

        Returns
        -------
        AdaptedEquations; AveragedEquations of a model that averages structures, AdaptedManyUnits of one with levels

        Raises
        ------
        TaskError, ValueError
            When tasks or settings cannot be used; the message names task and column.
        """
        check_is_fitted(self)
        fitted = self._fitted
        if fitted.levels is not None:
            refuse_guard(bool(guard) or gap != 0, "adapt_many")
            many: AdaptedManyUnits = fitted.levels.adapted_many(
                Columns(self), fitted, tasks, sample_weight, self._conformal
            )
            return many
        tasks = support_tasks(Columns(self), fitted, tasks, sample_weight)
        model = compiled_for_adapting(fitted, self.compile, len(tasks.X))
        posterior = many_tasks.adapt_tasks(fitted, model, tasks, verbose=bool(self.verbose))
        self._warn_outside(dict(enumerate(tasks.X.T)), "adapt_many")
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, False) else None
        guards = None if judge is None else average.answering(judge, model, self._further).judge_tasks(tasks)
        rest = Columns(self).names, self._conformal, judge, guards
        return averaged_many(AdaptedEquations(fitted, posterior, tasks, *rest), self._further)

    from_population: Any = classmethod(kept.from_population)
    to_population = kept.to_population
    simulate_tasks = kept.simulate_tasks
    predict = unadapted.predict
    predict_interval = unadapted.predict_interval
    predict_mean = unadapted.predict_mean
    predict_proba = unadapted.predict_proba
    simulate = unadapted.simulate
    suggest = unadapted.suggest
    with_equation = substituted.with_equation
    log_likelihood = likelihood.log_likelihood
    bootstrap = bootstrap.bootstrap
    profile_likelihood = profile_likelihood.profile_likelihood
    learn_guard = kept.learn_guard
    _kept = kept.kept_or_updated
    _limited = judged.limited
    _remember = kept.remember
    _warn_outside = kept.warn_outside
    _as_recorded = judged.as_recorded
    _center_and_scale = unadapted.center_and_scale
    _fitted_guard = judged.fitted_guard
    _query_predictions = judged.query_predictions
    recalibrate = recalibrate.recalibrate

    @in_plain_modes
    def summary(self) -> str:
        """Return the fit in the form statisticians know, with notes on constants that the tasks do not determine."""
        check_is_fitted(self)
        return tables.summarise(self._fitted, vars(self))

    @property
    def _members(self) -> tuple[FittedEquation, ...]:
        return self._fitted, *(self._further or ())

    def _prepared(self, tasks: TaskSet) -> TaskSet:
        return prepared(self._fitted, tasks)

    def _adapted(self, supports: TaskSet, guard: bool, gap: int) -> Sequence[Any]:
        return one_by_one(self, supports, guard, gap) if guard else self.adapt_many(supports)

    def __getstate__(self) -> dict[str, Any]:
        return model_state(self, super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(check_stamp(self, state))

    __copy__ = __deepcopy__ = copied

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        return tags
