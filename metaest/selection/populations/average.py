"""PopulationAverage: several equations with populations, published or learned, averaged by what a task's rows say."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import POSITIVE, SEED, VERBOSE, whether_guarded
from metaest.estimators.atomic import atomic
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import IntervalMixin
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.inputs import as_tasks, is_empty, require_columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.pickles import check_stamp, copied, model_state
from metaest.estimators.seen_tasks import SeenTasks
from metaest.exceptions import IdentifiabilityWarning, UnlikelyTaskWarning, quiet
from metaest.selection.ensemble import Ensemble, Member
from metaest.selection.populations import unadapted
from metaest.selection.populations.adapted import AdaptedPopulationAverage, kept_rows
from metaest.selection.populations.adapted_many import AdaptedPopulationAverages
from metaest.selection.populations.columns import PartColumns
from metaest.selection.populations.learned import evidence_of_prefixes, learned_weighting
from metaest.selection.populations.parts import (
    fitted_part,
    given_parts,
    learns,
    require_one_quantity,
    require_same_design,
    seed_of,
    speaking_for,
    tasks_of_part,
    warn_of_seen,
)
from metaest.selection.populations.weighting import Weighting, warn_of_unlikely
from metaest.tasks import TaskSet
from metaest.tasks.numbers import as_number

__all__ = ["PopulationAverage"]

# folds in which parts that learn are fitted without the tasks that the temperature is read off
FOLDS = 5
# tasks from whose rows the temperature is learned, at most
MOST_TASKS = 200


class PopulationAverage(IntervalMixin, RegressorMixin, _BaseComposition):
    r"""Several equations, each with its population, averaged anew for every task by what the task's rows say of each.

    For a quantity with several published models, none of which is known to suit the next patient. Every part adapts to
    the same rows; the prediction is the mean of theirs with the weights

    .. math:: w_k \propto \pi_k\, p_k(y)^{1 / T}, \qquad p_k(y) = \int p(y \mid \theta)\, p_k(\theta)\, d\theta,

    of which the evidence :math:`p_k(y)` is Laplace's approximation [1]_. Constants of the parts may be different ones;
    what the parts share is the y that they predict.

    Parameters
    ----------
    estimators : list of (str, EquationRegressor)
        Names and models: as they come from ``from_population``, which keep their population in `fit`; fitted ones
        inside ``sklearn.frozen.FrozenEstimator``, which are taken as they are; others, which `fit` fits to the tasks.
        ``name__setting`` sets one of theirs.
    weights : dict or Series of str to float, sequence of float, "auto" or None, default="auto"
        The weights :math:`\pi_k` of the parts before any row, by name or in their order; above 0, and scaled to sum
        to one. None: equal ones. "auto": learned from the tasks of the fit, by parts that were fitted without the task;
        equal where there are no tasks, or fewer than five for parts that learn.
    method : {"average", "select"}, default="average"
        Whether predictions are averaged, or those of the part with the greatest weight alone.
    temperature : float or "auto", default="auto"
        T, above 0. 1 is Bayes' rule, which trusts that one part is true; above it, rows sway the weights less. "auto":
        learned likewise, each row predicted from those before it; 1 where there are no tasks.
    support_size : int, range, (smallest, largest) or None, default=(1, 5)
        Support rows of a task in `score` and `calibrate`.
    split : {"random", "first"}, default="random"
        Whether support rows are drawn, or are a task's first ones; also the order of rows for "auto".
    random_state : int, RandomState instance or None, default=None
        Draws of rows and folds.
    verbose : bool, default=False
        Whether to show progress bars on standard error.

    Attributes
    ----------
    models_ : dict of str to EquationRegressor
        The fitted parts.
    weights_ : Series
        Weights of the parts before any row.
    temperature_ : float
    n_tasks_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        The columns of all parts, each once, where they have names. A part takes those of its fit out of a data frame;
        columns that none was fitted on, such as further doses, go to all of them. An array has them in this order.

    See Also
    --------
    AdaptedPopulationAverage : What ``adapt`` returns.
    AutoMetaRegressor : Averages models of any kind, with the same weights for all tasks.

    References
    ----------
    .. [1] J. A. Hoeting, D. Madigan, A. E. Raftery, C. T. Volinsky (1999). Bayesian model averaging: a tutorial.
       :doi:`10.1214/ss/1009212519`

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter, Population, PopulationAverage
    >>> from metaest.population import Block, NoiseModel
    >>> def decay(X, start, rate):
    ...     return start * torch.exp(-rate * X[:, 0])
    >>> def published(rate):
    ...     constants = {"start": Parameter(10, lower=0), "rate": Parameter(rate, lower=0)}
    ...     variation, noise = Block(sd={"start": 0.2, "rate": 0.2}), NoiseModel("proportional", cv=0.1)
    ...     return EquationRegressor.from_population(decay, Population(constants, variation, noise, columns={"t": "h"}))
    >>> model = PopulationAverage([("slow", published(0.1)), ("fast", published(0.3))]).fit([])
    >>> patient = model.adapt([[1.0], [5.0]], [8.1, 3.7])
    >>> patient.weights_.round(2).to_dict()
    {'slow': 0.22, 'fast': 0.78}
    """

    _parameter_constraints = {  # noqa: RUF012
        "estimators": [list, tuple],
        "weights": [StrOptions({"auto"}), Mapping, pd.Series, list, tuple, np.ndarray, None],
        "method": [StrOptions({"average", "select"})],
        "temperature": [POSITIVE, StrOptions({"auto"})],
        "support_size": [object],
        "split": [StrOptions({"random", "first"})],
        "random_state": SEED,
        "verbose": VERBOSE,
    }
    # scikit-learn's metadata routing passes groups by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012
    _single_target = True
    _weighs = True
    n_outputs_ = 1
    models_: dict[str, Any]
    _part_columns: PartColumns
    _weighting: Weighting

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        weights: Mapping[str, float] | Sequence[float] | str | None = "auto",
        method: str = "average",
        temperature: float | str = "auto",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.method = method
        self.temperature = temperature
        self.support_size = support_size
        self.split = split
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings, and where `deep` the parts by name and their settings as ``name__setting``.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict of str to Any
        """
        params: dict[str, Any] = self._get_params("estimators", deep)
        return params

    def set_params(self, **params: Any) -> Self:
        """Set settings, parts by their names, and settings of parts as ``name__setting``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self
        """
        self._set_params("estimators", **params)
        return self

    @atomic
    @in_plain_modes
    def fit(self, X: Any = (), y: Any = None, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fit the parts that learn, and weights and temperature where they are "auto".

        Parameters
        ----------
        X : TaskSet, sequence of Task or (X, y), dict of name to (X, y), or array-like of shape (n_rows, n_features)
            With the columns of all parts. Without tasks, ``fit([])``, all parts must keep a population or be frozen.
        y : array-like of shape (n_rows,), optional
            With flat rows only.
        groups : array-like of shape (n_rows,), optional
            The task of each flat row; without it all rows are one task, and a warning says so.
        sample_weight : array-like of shape (n_rows,), optional
            Known accuracy of the rows, as :meth:`EquationRegressor.fit` takes it.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            When parts or settings make no sense: two parts in different units, a weight of no part.
        TaskError
            When the tasks cannot be used, or lack a column of a part.

        Warns
        -----
        UserWarning
            When weights or temperature are learned from tasks that a frozen part was fitted on.
        """
        self._validate_params()
        parts = given_parts(self.estimators, list(self.get_params(deep=False)))
        prior = _prior(self.weights, list(parts))
        seed, tasks = seed_of(self.random_state), None
        if y is not None or isinstance(X, TaskSet) or not is_empty(X):
            tasks = require_columns(as_tasks(X, y, groups, weighs=True, sample_weight=sample_weight))
        of_parts = {name: None if tasks is None else tasks_of_part(name, parts, tasks) for name in parts}
        self.models_ = {name: fitted_part(name, model, of_parts[name]) for name, model in parts.items()}
        require_one_quantity(self.models_)
        require_same_design(self.models_)
        fitted_on = {name: (Columns(model).names, model.n_features_in_) for name, model in self.models_.items()}
        self._part_columns = PartColumns.of(fitted_on, None if tasks is None else tasks.feature_names)
        given = self.temperature
        self._weighting = Weighting(prior, 1.0 if isinstance(given, str) else float(given), self.method)
        if tasks is not None and (isinstance(given, str) or isinstance(self.weights, str)):
            self._weighting = self._learned_weighting(parts, self._part_columns.arranged(tasks, "fit"), seed)
        self.temperature_ = self._weighting.temperature
        self.weights_ = pd.Series(self._weighting.prior, index=pd.Index(list(parts), name="part"), name="weight")
        self._seed, self._conformal, self.n_features_in_ = seed, None, self._part_columns.n
        self.n_tasks_ = 0 if tasks is None else len(tasks)
        self._seen = None if tasks is None else SeenTasks.learn(self._part_columns.arranged(tasks, "fit"), seed)
        Columns(self).remember_names(self._part_columns.columns or None)
        self.__dict__.pop("_y_mean", None)
        if tasks is not None:
            self._y_mean = tasks.y.mean(dtype=np.float64)
        return self

    def _learned_weighting(self, parts: Mapping[str, Any], tasks: TaskSet, seed: int) -> Weighting:
        """Return weights and temperature as tasks teach them, each by parts that were fitted without the task."""
        rng = np.random.default_rng(seed)
        judged = np.unique(np.linspace(0, len(tasks) - 1, min(len(tasks), MOST_TASKS)).round().astype(np.intp))
        order = [rng.permutation(n) if self.split == "random" else np.arange(n) for n in tasks.sizes[judged]]
        folds = [np.sort(fold) for fold in np.array_split(rng.permutation(len(judged)), FOLDS)]
        if any(map(learns, parts.values())) and len(tasks) < FOLDS:  # too few to leave some out
            return self._weighting
        evidence = []
        for k, (name, model) in enumerate(parts.items()):
            if not learns(model):
                of_part = self._part_columns.split_tasks(tasks[judged], "fit")[k]
                warn_of_seen(name, model, of_part)
                evidence.append(evidence_of_prefixes(self.models_[name], of_part, order))
                continue
            left_out: dict[int, NDArray[np.float64]] = {}
            for fold in folds:
                others = tasks[np.setdiff1d(np.arange(len(tasks)), judged[fold])]
                with quiet(Warning):  # the fit to all tasks has said it
                    fitted = fitted_part(name, model, tasks_of_part(name, parts, others))
                of_part = self._part_columns.split_tasks(tasks[judged[fold]], "fit")[k]
                values = evidence_of_prefixes(fitted, of_part, [order[i] for i in fold])
                left_out |= dict(zip(fold.tolist(), values, strict=True))
            evidence.append([left_out[i] for i in range(len(judged))])
        learns_weights, learns_temperature = (isinstance(setting, str) for setting in (self.weights, self.temperature))
        return learned_weighting(self._weighting, evidence, weights=learns_weights, temperature=learns_temperature)

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
    ) -> AdaptedPopulationAverage:
        """Adapt all parts to the rows of one new task, and weigh them by these; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            A data frame has the columns of all parts, in any order. Without rows (``adapt([], [])``) weights are those
            before any row.
        y : array-like of shape (n_rows,)
        sample_weight, covariates
            As :meth:`EquationRegressor.adapt` takes them; a part takes the covariates among its columns.
        guard, gap
            Parts adapt without a guard: the average itself falls back on the parts that the rows suit. True is an
            error.

        Returns
        -------
        AdaptedPopulationAverage

        Raises
        ------
        TaskError, ValueError
            When the rows or the settings cannot be used; a note names the part.

        Warns
        -----
        UnlikelyTaskWarning
            When no curve of any part comes near the rows, or a part is adapted outside the ranges of its population.
        ConvergenceWarning
            When the search of a part did not converge. What a part's constants leave open is in its ``params_``.
        """
        check_is_fitted(self)
        _refuse_guard(guard, gap)
        X = unadapted.completed(self, X, "adapt")
        rows, _ = self._part_columns.rows(X, "adapt")
        split, stated = self._part_columns.split(X, "adapt"), self._part_columns.split_covariates(covariates)
        adapted = []
        for (name, model), rows_of_part, values in zip(self.models_.items(), split, stated, strict=True):
            with speaking_for(name), quiet(IdentifiabilityWarning, UnlikelyTaskWarning):
                one = model.adapt(rows_of_part, y, sample_weight=sample_weight, guard=False, covariates=values)
            with speaking_for(name):
                given = dict(enumerate(one.X_support_.T)) if len(one.X_support_) else one.stated_covariates_
                model._warn_outside(given, "adapt")
            adapted.append(one)
        warn_of_unlikely(adapted, "adapt")
        X_support = kept_rows(rows, sample_weight)
        return AdaptedPopulationAverage._make(self._part_columns, self._weighting, adapted, X_support, self._conformal)

    @in_plain_modes
    def adapt_many(
        self, tasks: Any, sample_weight: Any = None, *, guard: bool = False, gap: int = 0
    ) -> AdaptedPopulationAverages:
        """Adapt to many tasks in one call, all rows of each; the same numbers as one `adapt` a task, to rounding.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows of all tasks, one task after the other; or the tasks carry them.
        guard, gap
            As in `adapt`.

        Returns
        -------
        AdaptedPopulationAverages
        """
        check_is_fitted(self)
        _refuse_guard(guard, gap)
        taken = require_columns(as_tasks(tasks, weighs=True, sample_weight=sample_weight))
        taken = self._part_columns.arranged(taken, "adapt_many")
        adapted = []
        for (name, model), of_part in zip(
            self.models_.items(), self._part_columns.split_tasks(taken, "adapt_many"), strict=True
        ):
            with speaking_for(name), quiet(IdentifiabilityWarning, UnlikelyTaskWarning):
                adapted.append(model.adapt_many(of_part))
            with speaking_for(name):
                model._warn_outside(dict(enumerate(of_part.X.T)), "adapt_many")
        warn_of_unlikely(adapted, "adapt_many", taken)
        return AdaptedPopulationAverages(self._part_columns, self._weighting, adapted, taken, self._conformal)

    predict = unadapted.predict
    predict_interval = unadapted.predict_interval
    predict_mean = unadapted.predict_mean
    simulate = unadapted.simulate

    @in_plain_modes
    def score(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> float:
        """Few-shot R2: adapt on the support of each task, score the prediction of its query.

        Parameters
        ----------
        X, y, groups, sample_weight
            As in `fit`; columns may come in any order.

        Returns
        -------
        float
            See :meth:`EquationRegressor.score`.
        """
        check_is_fitted(self)
        tasks = require_columns(as_tasks(X, y, groups, weighs=True, sample_weight=sample_weight))
        return super().score(self._part_columns.arranged(tasks, "score"))

    def learn_guard(self, gap: int = 0) -> None:
        """Learn now what guarded adaptations of the parts need of training rows, which files and pickles leave out.

        Parameters
        ----------
        gap : int, default=0
        """
        for model in getattr(self, "models_", {}).values():
            model.learn_guard(gap)

    @property
    def _populations(self) -> list[tuple[FittedEquation, ...]]:
        """The equations of the parts, with the structures that each averages."""
        return [model._members for model in self.models_.values()]

    def _prepared(self, tasks: TaskSet) -> TaskSet:
        return self._part_columns.arranged(tasks, "calibrate")

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        alone = Ensemble((Member("average", 1.0, self, True),))
        truth, prediction, rows = alone.queries(tasks, self.support_size, self.split, rng, verbose=bool(self.verbose))
        first = next(iter(self.models_.values()))
        truth, prediction = first._as_recorded(truth.reshape(-1), prediction, tasks.X[rows])
        return truth, prediction, rows

    def _adapted(self, supports: TaskSet, guard: bool, gap: int) -> AdaptedPopulationAverages:
        return self.adapt_many(supports, guard=guard)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        return unadapted.of_task(self, X, "predict_interval")._center_and_scale(X, sample_weight)

    def __getstate__(self) -> dict[str, Any]:
        return model_state(self, super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(check_stamp(self, state))

    __copy__ = __deepcopy__ = copied

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        return tags


def _prior(weights: Any, names: list[str]) -> NDArray[np.float64]:
    """Return the weights before any row in the order of the parts, or raise where one is missing or not above 0."""
    if weights is None or isinstance(weights, str):
        return np.full(len(names), 1 / len(names))
    if isinstance(weights, (Mapping, pd.Series)):
        weights = dict(weights)
        if set(weights) != set(names):
            other = next((name for name in [*weights, *names] if (name in weights) != (name in names)), None)
            raise ValueError(f"weights: one for each part is wanted, {names}; {other!r} is missing there or here.")
        weights = [weights[name] for name in names]
    if np.ndim(weights) != 1 or len(weights) != len(names):
        raise ValueError(f"weights must be {len(names)} numbers, one for each part, got {weights!r}.")
    wanted = "a number above 0"
    pairs = zip(list(weights), names, strict=True)
    array = np.array([as_number(w, f"weights of {name!r}", above=0, wanted=wanted) for w, name in pairs])
    array = array / array.max()
    if array.min() == 0:
        raise ValueError(
            f"weights: that of {names[int(array.argmin())]!r} is too small beside the greatest; leave it out."
        )
    return np.asarray(array / array.sum())


def _refuse_guard(guard: Any, gap: Any) -> None:
    if whether_guarded(guard, gap, False):
        raise ValueError(
            "guard: an average has none, its weights fall on the parts that the rows suit; adapt a part, "
            "models_[name].adapt(..., guard=True), to see what its guard says."
        )
