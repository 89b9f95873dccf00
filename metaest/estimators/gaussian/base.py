"""BaseGaussian: what estimators share for which the rows of a task are jointly Gaussian."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import SEED, VERBOSE, Whole, check_interval, require_flag, whether_guarded
from metaest.estimators.atomic import atomic
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import ConformalInterval, IntervalMixin, conformal_interval, one_by_one
from metaest.estimators.gaussian.adapted import AdaptedGaussian
from metaest.estimators.gaussian.adapted_many import AdaptedGaussians
from metaest.estimators.gaussian.conditioning import (
    freedom_before,
    guard_answers,
    moments_before,
    query_predictions,
)
from metaest.estimators.gaussian.intervals import student_interval
from metaest.estimators.gaussian.prior import Moments, TaskPrior
from metaest.estimators.guard import FittedGuard, learn_guard, learned_guard, thinned
from metaest.estimators.inputs import as_tasks, check_targets, require_columns, require_one_target
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.pickles import check_stamp, copied, model_state
from metaest.estimators.seen_tasks import SeenTasks, hashed
from metaest.tasks import TaskSet
from metaest.tasks.split import check_split

__all__ = ["CONSTRAINTS", "BaseGaussian"]

# what the settings may be that all such estimators have
CONSTRAINTS: dict[str, list[Any]] = {
    "support_size": [Whole(0, None, closed="left"), range, tuple, list, None],
    "split": [StrOptions({"random", "first"})],
    "random_state": SEED,
    "verbose": VERBOSE,
}


class BaseGaussian(IntervalMixin, RegressorMixin, BaseEstimator):
    """Estimators that learn a :class:`TaskPrior` from many tasks, and adapt by conditioning it on rows of the next.

    A subclass has a constructor with its settings, `support_size`, `split`, `random_state` and `verbose` among them,
    ``_parameter_constraints`` that contain CONSTRAINTS, and :meth:`_learn`.
    """

    random_state: Any
    _prior: TaskPrior
    _judged: TaskSet | None
    _judges: dict[Any, FittedGuard]
    # y has one column
    _single_target = True

    # scikit-learn's metadata routing passes groups by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012

    @abstractmethod
    def _learn(self, tasks: TaskSet, rng: np.random.Generator) -> TaskPrior:
        """Return the prior that the tasks tell, and set what else the fit learns as attributes.

        `fit` calls it with checked tasks of one target, ``y.reshape(-1)``; attributes reach the estimator at the end of
        the fit only, and those that an earlier fit has set have to be set or deleted.
        """

    @atomic
    @in_plain_modes
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Learn what tasks have in common, and how they differ, from many of them.

        Parameters
        ----------
        X : TaskSet, sequence of Task or (X, y), dict of name to (X, y), or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,), optional
            With flat rows only.
        groups : array-like of shape (n_rows,), optional
            The task of each flat row; without it all rows are one task, and a warning says so.

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When the tasks cannot be used; the message names task and column.
        ValueError
            When a setting has another value than it may have.

        Warns
        -----
        DataConversionWarning
            When flat rows come with a y of shape (n_rows, 1).
        """
        self._validate_params()
        check_split(self.support_size, self.split)
        tasks = require_columns(as_tasks(X, y, groups))
        require_one_target(tasks, f"a {type(self).__name__} has one: fit one for each", flat=y is not None)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._prior = self._learn(tasks, np.random.default_rng(seed))
        self._seed = seed
        self.n_tasks_, self.n_features_in_, self.n_outputs_ = len(tasks), tasks.X.shape[1], 1
        self._judged, self._judges = thinned(tasks), {}
        self._task_names = hashed(tasks.names)
        self._seen, self._conformal = SeenTasks.learn(tasks, seed), None
        self._y_mean = tasks.y.mean(dtype=np.float64)
        columns = Columns(self)
        columns.remember_names(tasks.feature_names)
        columns.remember_range(tasks.X)
        return self

    @in_plain_modes
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> AdaptedGaussian:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            Without rows (``adapt([], [])``), predictions are those of the model before adaptation.
        y : array-like of shape (n_rows,)
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it; see
            :class:`Guard`; None is no. The first call learns from the training tasks how to judge, which takes a
            moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on.

        Returns
        -------
        AdaptedGaussian

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
        rows, target = columns.support_rows(X, y, "adapt", single_target=True, n_outputs=1)
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, self.guard_by_default) else None
        return AdaptedGaussian._adapt(self._prior, rows, target, columns.names, judge, self._conformal)

    @in_plain_modes
    def adapt_many(self, tasks: Any, *, guard: bool = False, gap: int = 0) -> AdaptedGaussians:
        """Adapt to many tasks in one call, all rows of each; the same as one `adapt` a task, to rounding.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        guard : bool, default=False
            Whether to judge each adaptation as ``adapt(guard=True)`` does; one batch judges all tasks.
        gap : int, default=0
            For the guard, as in `adapt`.

        Returns
        -------
        AdaptedGaussians

        Raises
        ------
        TaskError
            When the tasks cannot be used; the message names task and column.
        ValueError
            When gap is no number of rows.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        columns = Columns(self)
        tasks = require_columns(as_tasks(tasks))
        columns.check(tasks, tasks.X.shape[1:], "adapt_many")
        check_targets(tasks.y, True, 1, "adapt_many")
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, False) else None
        rest = judge, self._conformal
        return AdaptedGaussians(self._prior, tasks, columns.names, *rest, verbose=bool(self.verbose))

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict without adapting: the answer for a task of which nothing is known yet.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation of an observation of a new task as well, noise included.

        Returns
        -------
        ndarray of shape (n_rows,), or two of them
        """
        require_flag(return_std, "return_std")
        mean, variance = self._moments(X, "predict", spread=bool(return_std))
        return mean if variance is None else (mean, np.sqrt(variance + self._prior.noise_variance))

    @in_plain_modes
    def predict_interval(
        self,
        X: Any,
        level: float = 0.9,
        method: str = "posterior",
        of: str = "observation",
        simultaneous: bool = False,
    ) -> tuple[NDArray[Any], NDArray[Any]] | ConformalInterval:
        """Return the ends of an interval for every row of a task of which nothing is known yet.

        Parameters
        ----------
        X, level, method, of, simultaneous
            As :meth:`AdaptedGaussian.predict_interval` takes them; it raises the same errors.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)
        """
        check_interval(level, method, of, simultaneous)
        if method == "conformal":
            check_is_fitted(self)
            return conformal_interval(self, X, level, simultaneous)
        check_is_fitted(self)
        rows, noise = Columns(self).rows(X, "predict_interval"), of == "observation"
        moments = moments_before(self._prior, rows, "predict_interval", spread=True)
        freedom = freedom_before(self._prior, rows, noise=noise)
        return student_interval(moments, self._prior.noise_variance * noise, level, freedom)

    def _moments(self, X: Any, where: str, *, spread: bool) -> Moments:
        """Return mean and variance of the function of a new task at rows, which are checked."""
        check_is_fitted(self)
        rows = Columns(self).rows(X, where)
        return moments_before(self._prior, rows, where, spread=spread)

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        verbose = bool(self.verbose)
        return query_predictions(self._prior, tasks, self.support_size, self.split, rng, verbose=verbose)

    def _adapted(self, supports: TaskSet, guard: bool, gap: int) -> Sequence[AdaptedGaussian]:
        return one_by_one(self, supports, guard, gap) if guard else self.adapt_many(supports)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        mean, sd = self.predict(X, return_std=True)
        return mean, sd

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations; it is learned once from the training tasks."""
        answer, settings = partial(guard_answers, self._prior), (gap, self.split, self._seed)
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
        tags.target_tags.multi_output = False
        return tags
