"""AutoMetaRegressor: compares ways to learn from many tasks on tasks left out, and takes the best or an average."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import require_choice, require_flag, whether_guarded
from metaest.estimators.atomic import atomic
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import ConformalInterval, IntervalMixin, conformal_interval, one_by_one
from metaest.estimators.guard import FittedGuard, learned_guard
from metaest.estimators.inputs import as_tasks, check_targets
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.seen_tasks import SeenTasks
from metaest.selection.adapted import AdaptedAuto, center_and_scale
from metaest.selection.adapted_many import AdaptedAutos
from metaest.selection.base import CONSTRAINTS, BaseAuto
from metaest.selection.candidates import Candidate, default_candidates
from metaest.selection.choice import Choice
from metaest.selection.ensemble import Ensemble, Member, gives_std, guard_answers
from metaest.selection.held_out import HeldOut
from metaest.selection.targets import Numbers, Targets
from metaest.tasks import TaskSet

__all__ = ["AutoMetaRegressor"]


class AutoMetaRegressor(IntervalMixin, RegressorMixin, BaseAuto):
    r"""Regression over many tasks by the method that predicts left-out tasks best, or by an average of methods.

    Every candidate is fitted on some tasks, adapted to a few rows of others, and judged on their remaining rows: at the
    numbers of rows that `shots` names, each of which counts alike. The loss of a task is its mean squared error, in
    units of the best candidate's at that number of rows. Then the best candidate is fitted on all tasks; or several
    are, and their predictions averaged,

    .. math:: \hat y = \sum_c w_c \hat y_c, \qquad w_c \ge 0, \quad \sum_c w_c = 1,

    with weights that minimise the loss on left-out tasks (stacking [1]_, held towards the best candidate), where that
    saves more than one per cent on tasks the weights were not chosen on. With fewer than 30 tasks the simplest
    candidate within one standard error of the best takes the place of the best.

    Parameters
    ----------
    candidates : "auto" or sequence of (str, estimator), default="auto"
        Names and estimators with ``fit(tasks)``, ``adapt`` and ``predict``, the simplest first; they are cloned.
        ``name__setting`` sets one of theirs, in ``set_params`` and in searches.
        "auto" takes those that suit the numbers of tasks, rows and columns, within `time_budget`.
    shots : int or sequence of int, default=(1, 3, 5, 10)
        Numbers of rows that will be adapted on. Those that fewer than half of the tasks have, with two rows more to
        be judged on, are left out.
    average : bool, default=True
        Whether several candidates may be averaged.
    split : {"random", "first"}, default="random"
        Whether rows to adapt on are drawn, or are a task's first ones (rows in order of time).
    cv : int, default=5
        Folds in which tasks are left out. From 120 tasks on, a quarter of those with rows enough is left out once
        instead; at most 500 tasks take part in the comparison.
    time_budget : float or None, default=60.0
        About how many seconds the candidates of "auto" may take in all, by a formula of numbers of tasks, rows and
        columns, and not by a clock, so that the choice is the same on every machine. The two cheapest are taken
        in any case. None sets no bound.
    random_state : int, RandomState instance or None, default=None
        Fixes folds, draws of rows, and the seeds of the candidates of "auto".
    verbose : bool, default=False
        Whether to show progress bars, on standard error, and to print the choice.

    Attributes
    ----------
    table_ : DataFrame
        One row a candidate, by name: ``rmse`` at each number of rows (in the units of y; of standardised targets where
        there are several), ``loss`` (1 would be the best at every number of rows), ``weight``, ``seconds`` and
        ``status``: "compared", why it failed, or why it was not tried.
    choice_ : str
        The choice in one sentence.
    weights_ : dict of str to float
        Weights of the candidates that were fitted on all tasks.
    models_ : dict of str to estimator
        These candidates, fitted.
    shots_ : tuple of int
        Numbers of rows at which they were compared.
    n_tasks_, n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.

    See Also
    --------
    AdaptedAuto : What ``adapt`` returns.
    MAMLRegressor : One of the candidates.

    References
    ----------
    .. [1] L. Breiman (1996). Stacked regressions. Machine Learning 24, 49-64. :doi:`10.1007/BF00117832`

    Examples
    --------
    >>> from metaest import AutoMetaRegressor, MAMLRegressor
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, _ = make_linear_tasks(12, random_state=0)
    >>> candidates = [
    ...     ("no adaptation", MAMLRegressor(inner_steps=0, support_size=0, max_iter=5, random_state=0)),
    ...     ("bayes", MAMLRegressor(inner_solver="bayes", max_iter=5, random_state=0)),
    ... ]
    >>> model = AutoMetaRegressor(candidates=candidates, shots=3, random_state=0).fit(tasks)
    >>> model.table_["status"].tolist()
    ['compared', 'compared']
    """

    _parameter_constraints = CONSTRAINTS
    _ensemble: Ensemble

    def __init__(
        self,
        *,
        candidates: str | Sequence[tuple[str, Any]] = "auto",
        shots: int | Sequence[int] = (1, 3, 5, 10),
        average: bool = True,
        split: str = "random",
        cv: int = 5,
        time_budget: float | None = 60.0,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.candidates = candidates
        self.shots = shots
        self.average = average
        self.split = split
        self.cv = cv
        self.time_budget = time_budget
        self.random_state = random_state
        self.verbose = verbose

    @atomic
    @in_plain_modes
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Compare the candidates on left-out tasks, and fit those chosen on all tasks.

        Parameters
        ----------
        X : TaskSet, sequence of Task or (X, y), dict of name to (X, y), or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets), optional
            With flat rows only.
        groups : array-like of shape (n_rows,), optional
            The task of each flat row; without it all rows are one task, and a warning says so.

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When the tasks cannot be used, or have too few rows to be compared on.
        ValueError
            When a setting has another value than it may have.
        Exception
            That of the first candidate, where all of them fail; and any that is no ValueError, ArithmeticError or
            RuntimeError. A note names the candidate.
        """
        self._validate_params()
        tasks = as_tasks(X, y, groups)
        self._choose_and_fit(tasks)
        self.n_outputs_, self._single_target = 1 if tasks.y.ndim == 1 else tasks.y.shape[1], tasks.y.ndim == 1
        self._seen, self._conformal = SeenTasks.learn(tasks, self._seed), None
        self._y_mean = tasks.y.mean(axis=0, dtype=np.float64)
        return self

    def _targets(self, tasks: TaskSet) -> Targets:
        return Numbers()

    def _default(self, tasks: TaskSet, targets: Any, seed: int) -> list[Candidate]:
        return default_candidates(tasks, self.split, seed)

    def _ensemble_of(self, tasks: TaskSet, targets: Any, models: list[tuple[str, float, Any]]) -> Ensemble:
        row = tasks.X[:1]
        members = tuple(Member(name, weight, model, gives_std(model, row)) for name, weight, model in models)
        return Ensemble(members, tasks.y.shape[1:])

    def _figures(self, held_out: HeldOut, choice: Choice, shots: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        return {f"rmse at {shot}": choice.errors[:, j] for j, shot in enumerate(shots)}

    @in_plain_modes
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> AdaptedAuto:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            Without rows (``adapt([], [])``), predictions are those of the model before adaptation.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it; see
            :class:`Guard`; None is no. The first call learns from the training tasks how to judge, which takes a
            moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on.

        Returns
        -------
        AdaptedAuto

        Raises
        ------
        TaskError
            When the rows cannot be used.
        ValueError
            When gap is not a whole number of rows.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        columns = Columns(self)
        rows, target = columns.support_rows(X, y, "adapt", single_target=self._single_target, n_outputs=self.n_outputs_)
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, self.guard_by_default) else None
        return AdaptedAuto._adapt(self._ensemble, rows, target, columns.names, judge, self._conformal)

    @in_plain_modes
    def adapt_many(self, tasks: Any, *, guard: bool = False, gap: int = 0) -> AdaptedAutos:
        """Adapt to many tasks in one call, all rows of each; the same as one `adapt` a task, to rounding.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        guard, gap
            As `adapt` takes them.

        Returns
        -------
        AdaptedAutos

        Raises
        ------
        TaskError, ValueError
            When tasks or settings cannot be used; the message names task and column.
        """
        check_is_fitted(self)
        columns, tasks = Columns(self), as_tasks(tasks)
        columns.check(tasks, tasks.X.shape[1:], "adapt_many")
        check_targets(tasks.y, self._single_target, self.n_outputs_, "adapt_many")
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, False) else None
        return AdaptedAutos(self._ensemble, tasks, columns.names, judge, self._conformal)

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict without adapting: the answer for a task of which nothing is known yet.

        Parameters
        ----------
        X, return_std
            As :meth:`AdaptedAuto.predict` takes them.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets), or two of them
        """
        check_is_fitted(self)
        require_flag(return_std, "return_std")
        rows = Columns(self).rows(X, "predict")
        if return_std:
            self._ensemble.require_std()
        return self._ensemble.predict(rows, spread=bool(return_std))

    @in_plain_modes
    def predict_interval(
        self, X: Any, level: float = 0.9, method: str = "conformal", simultaneous: bool = False
    ) -> ConformalInterval:
        """Return the ends of an interval for every row of a task of which nothing is known yet; see `calibrate`.

        Parameters
        ----------
        X, level, method, simultaneous
            As :meth:`AdaptedAuto.predict_interval` takes them; it raises the same errors.

        Returns
        -------
        ConformalInterval
            Unpacks as ``lower, upper``.
        """
        require_choice(method, "method", ["conformal"])
        check_is_fitted(self)
        return conformal_interval(self, X, level, simultaneous)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        return center_and_scale(self, self._ensemble, X)

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        return self._ensemble.queries(tasks, self.support_size, self.split, rng, verbose=bool(self.verbose))

    def _adapted(self, supports: TaskSet, guard: bool, gap: int) -> Sequence[AdaptedAuto]:
        return one_by_one(self, supports, guard, gap) if guard else self.adapt_many(supports)

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations; it is learned once from the training tasks."""
        answer, settings = partial(guard_answers, self._ensemble), (gap, self.split, self._seed)
        return learned_guard(answer, self._judged, self._judges, *settings, verbose=bool(self.verbose))

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
