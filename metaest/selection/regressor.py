"""AutoMetaRegressor: compares ways to learn from many tasks on tasks left out, and takes the best or an average."""

import logging
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import POSITIVE, SEED, VERBOSE, Whole, require_choice, require_flag, whether_guarded
from metaest.estimators.atomic import atomic
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import ConformalInterval, IntervalMixin, conformal_interval, one_by_one
from metaest.estimators.guard import FittedGuard, learn_guard, learned_guard, thinned
from metaest.estimators.inputs import as_tasks, check_targets
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.pickles import check_stamp, copied, model_state
from metaest.estimators.seen_tasks import SeenTasks, hashed
from metaest.selection.adapted import AdaptedAuto, center_and_scale
from metaest.selection.adapted_many import AdaptedAutos
from metaest.selection.answers import fitted
from metaest.selection.candidates import Candidate, default_candidates, given_candidates, within_budget
from metaest.selection.choice import Choice, choose
from metaest.selection.ensemble import Ensemble, Member, gives_std, guard_answers
from metaest.selection.episodes import FEWEST_QUERY, feasible_shots, folds
from metaest.selection.held_out import HeldOut, predict_held_out
from metaest.tasks import TaskSet
from metaest.tasks.arguments import is_whole

__all__ = ["AutoMetaRegressor"]

_logger = logging.getLogger("metaest.auto")


class AutoMetaRegressor(IntervalMixin, RegressorMixin, _BaseComposition):
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
    ...     ("no adaptation", MAMLRegressor(inner_steps=0, support_size=0, max_iter=20, random_state=0)),
    ...     ("bayes", MAMLRegressor(inner_solver="bayes", max_iter=20, random_state=0)),
    ... ]
    >>> model = AutoMetaRegressor(candidates=candidates, shots=3, random_state=0).fit(tasks)
    >>> model.table_["status"].tolist()
    ['compared', 'compared']
    """

    _parameter_constraints = {  # noqa: RUF012
        "candidates": [StrOptions({"auto"}), list, tuple],
        "shots": [Whole(1, None, closed="left"), list, tuple, range],
        "average": ["boolean"],
        "split": [StrOptions({"random", "first"})],
        "cv": [Whole(2, None, closed="left")],
        "time_budget": [POSITIVE, None],
        "random_state": SEED,
        "verbose": VERBOSE,
    }
    # scikit-learn's metadata routing passes groups by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012
    _ensemble: Ensemble
    _judged: TaskSet | None
    _judges: dict[Any, FittedGuard]

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

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings, and where `deep` those of the candidates as ``name__setting``.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict of str to Any
        """
        params: dict[str, Any] = self._get_params("candidates", deep)
        return params

    def set_params(self, **params: Any) -> Self:
        """Set settings, candidates by their names, and settings of candidates as ``name__setting``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self
        """
        self._set_params("candidates", **params)
        return self

    @property
    def support_size(self) -> tuple[int, int]:
        """Least and greatest number of rows that ``score`` and ``calibrate`` adapt on, of those compared at."""
        shots = self._shots()
        able = [shot for shot in shots if shot in getattr(self, "shots_", shots)] or shots
        return min(able), max(able)

    def _shots(self) -> list[int]:
        """Return the setting `shots` as a list, or raise a ValueError."""
        shots = [self.shots] if isinstance(self.shots, (int, np.integer)) else list(self.shots)
        if not shots or not all(is_whole(shot) and shot >= 1 for shot in shots):
            raise ValueError(f"shots must be whole numbers of rows, of at least 1; got {self.shots!r}.")
        return [int(shot) for shot in shots]

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
        shots = self._shots()
        tasks = as_tasks(X, y, groups)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if isinstance(self.candidates, str):
            offered = default_candidates(tasks, self.split, seed)
        else:
            offered = given_candidates(self.candidates, self.get_params(deep=False))
        rng = np.random.default_rng(seed)
        parts = folds(tasks.sizes >= min(shots) + FEWEST_QUERY, self.cv, rng) if len(tasks) > 1 else []
        kept, refused = within_budget(offered, tasks, parts, self.time_budget)
        held_out, choice, shots = None, None, sorted(set(shots))
        if parts and len(kept) > 1:
            left_out = np.concatenate([of_part for _, of_part in parts])
            shots = feasible_shots(tasks.sizes[left_out], feasible_shots(tasks.sizes, shots))
            pairs = [(candidate.name, candidate.trial) for candidate in kept]
            held_out = predict_held_out(pairs, tasks, parts, shots, self.split, seed, verbose=bool(self.verbose))
            choice = choose(held_out, shots, averages=bool(self.average))
        weights = {kept[0].name: 1.0} if choice is None else choice.weights
        members = []
        for candidate in kept:
            if weights.get(candidate.name, 0.0) > 0:
                model = fitted(candidate.name, candidate.estimator, tasks)
                members.append(Member(candidate.name, weights[candidate.name], model, gives_std(model, tasks.X[:1])))
        self._ensemble = Ensemble(tuple(members), tasks.y.shape[1:])
        self.shots_ = tuple(shots)
        self.table_ = _table(offered, refused, held_out, choice, shots, weights)
        self.choice_ = f"{kept[0].name} alone: nothing to compare it with" if choice is None else choice.reason
        self._remember(tasks, seed)
        _logger.info("%s", self.choice_)
        if self.verbose:
            print(self.choice_)
        return self

    @property
    def weights_(self) -> dict[str, float]:
        """Weights of the candidates that were fitted on all tasks, by name."""
        check_is_fitted(self)
        return {member.name: member.weight for member in self._ensemble.members}

    @property
    def models_(self) -> dict[str, Any]:
        """These candidates, fitted, by name."""
        check_is_fitted(self)
        return {member.name: member.model for member in self._ensemble.members}

    def _remember(self, tasks: TaskSet, seed: int) -> None:
        """Set what the estimator keeps of the tasks."""
        self._seed = seed
        self.n_tasks_, self.n_outputs_ = len(tasks), 1 if tasks.y.ndim == 1 else tasks.y.shape[1]
        self._single_target = tasks.y.ndim == 1
        self._judged, self._judges = thinned(tasks), {}
        self._task_names = hashed(tasks.names)
        self._seen, self._conformal = SeenTasks.learn(tasks, seed), None
        self._y_mean = tasks.y.mean(axis=0, dtype=np.float64)
        columns = Columns(self)
        columns.remember_shape(tasks.X)
        columns.remember_names(tasks.feature_names)
        columns.remember_range(tasks.X)

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

    def learn_guard(self, gap: int = 0) -> None:
        """Learn now what guarded adaptations need of the training rows, which files and pickles leave out.

        Parameters
        ----------
        gap : int, default=0
            As `adapt` takes it.
        """
        learn_guard(self, gap)

    def __getstate__(self) -> dict[str, Any]:
        return model_state(self, super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(check_stamp(self, state))

    __copy__ = __deepcopy__ = copied

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _repr_html_(self) -> str:
        if not hasattr(self, "table_"):
            return f"<p>{escape(repr(self))}</p>"
        table = self.table_.to_html(float_format="{:.4g}".format)
        return f"<p><b>{escape(repr(self))}</b><br>{escape(self.choice_)}</p>{table}"


def _table(
    offered: Sequence[Candidate],
    refused: dict[str, str],
    held_out: HeldOut | None,
    choice: Choice | None,
    shots: Sequence[int],
    weights: dict[str, float],
) -> pd.DataFrame:
    """Return one row a candidate."""
    rows = []
    compared = [] if held_out is None else list(held_out.predictions)
    for candidate in offered:
        name = candidate.name
        row: dict[str, Any] = {"candidate": name}
        at = compared.index(name) if name in compared else None
        for j, shot in enumerate(shots if choice is not None else ()):
            row[f"rmse at {shot}"] = np.nan if at is None or choice is None else choice.errors[at, j]
        row["loss"] = np.nan if at is None or choice is None else choice.losses[at]
        row["weight"] = weights.get(name, 0.0)
        row["seconds"] = np.nan if held_out is None else held_out.seconds.get(name, np.nan)
        failure = None if held_out is None else held_out.failures.get(name)
        alone = "taken, not compared" if row["weight"] else "not compared"
        row["status"] = refused.get(name) or failure or ("compared" if at is not None else alone)
        rows.append(row)
    return pd.DataFrame(rows).set_index("candidate")
