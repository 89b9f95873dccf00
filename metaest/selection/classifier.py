"""AutoMetaClassifier: compares ways to learn classes from many tasks, and takes the best or an average."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import Whole, whether_guarded
from metaest.estimators.atomic import atomic
from metaest.estimators.columns import Columns
from metaest.estimators.guard import FittedGuard, learned_guard
from metaest.estimators.inputs import as_tasks
from metaest.estimators.label_scores import FewShotScores, Predicted
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted_classifier import class_rows
from metaest.selection.adapted_classifier import AdaptedAutoClassifier
from metaest.selection.adapted_classifiers import AdaptedAutoClassifiers
from metaest.selection.base import CONSTRAINTS, BaseAuto
from metaest.selection.candidates import Candidate
from metaest.selection.choice import Choice
from metaest.selection.class_candidates import default_class_candidates
from metaest.selection.class_ensemble import ClassEnsemble, class_guard_answers
from metaest.selection.ensemble import Member
from metaest.selection.held_out import HeldOut
from metaest.selection.labels import Labels
from metaest.tasks import Drawing, TaskSet, share_labels

__all__ = ["AutoMetaClassifier"]


class AutoMetaClassifier(FewShotScores, ClassifierMixin, BaseAuto):
    r"""Classification over many tasks by the method that predicts left-out tasks best, or by an average of methods.

    As :class:`AutoMetaRegressor` for numbers: every candidate is fitted on some tasks, adapted to a few rows of others,
    and judged on their remaining rows. The loss of a task is the Brier score of the probabilities [1]_,

    .. math:: L = \frac{1}{n} \sum_i \sum_k \bigl(p_k(x_i) - [y_i = k]\bigr)^2,

    in units of the best candidate's at that number of support rows, and of 0.01 at least: it is least for the true
    probabilities, it is bounded, so that no row alone throws a candidate out, and it is quadratic, so that weights of
    an average of probabilities are found as those of an average of numbers are.

    Parameters
    ----------
    candidates : "auto" or sequence of (str, estimator), default="auto"
        Names and classifiers with ``fit(tasks)``, ``adapt`` and ``predict``, the simplest first; they are cloned. What
        ``adapt`` returns has ``predict_proba`` and ``classes_``. ``name__setting`` sets one of theirs.
        "auto" takes those that suit the numbers of tasks, rows, columns and classes, within `time_budget`.
    shots : int or sequence of int, default=(1, 3, 5, 10)
        Numbers of rows that will be adapted on: of a task where labels mean the same in every task; of each class (but
        of a class with few rows all but one) where each task has labels of its own. Those that fewer than half of the
        tasks have, with more to be judged on, are left out.
    shared_labels : {"auto", True, False}, default="auto"
        Whether a label means the same in every task, as "ill" does; or each task has labels of its own, as an alphabet
        has letters. "auto" shares them where one training task at least has every label there is, and `n_way` is None.
    n_way : int, optional
        Classes of an episode, drawn from those of a task; all of them by default. One labelled data set with many
        classes then gives many episodes. Candidates of yours are fitted on the tasks as they are: give them the same.
    average : bool, default=True
        Whether several candidates may be averaged.
    split : {"random", "first"}, default="random"
        Whether rows to adapt on are drawn, or are a task's first ones (rows in order of time).
    cv : int, default=5
        Folds in which tasks are left out. From 120 tasks on, a quarter of those with rows enough is left out once
        instead; at most 500 tasks take part in the comparison. Where labels are shared, a task with a label that none
        of the tasks fitted on has is not judged. Where tasks with labels of their own are seen to have the same
        classes (by labels, or by equal rows), and where `n_way` draws them from one data set, classes are left out in
        place of tasks: from 50 classes on a quarter once.
    time_budget : float or None, default=60.0
        About how many seconds the candidates of "auto" may take in all, as :class:`AutoMetaRegressor` counts them; the
        two cheapest are taken in any case. Networks for images take minutes.
    random_state : int, RandomState instance or None, default=None
        Fixes folds, draws of rows, and the seeds of the candidates of "auto".
    verbose : bool, default=False
        Whether to show progress bars, on standard error, and to print the choice.

    Attributes
    ----------
    classes_ : ndarray
        All labels, sorted; only where they mean the same in every task.
    shared_labels_ : bool
        Whether they do.
    table_ : DataFrame
        One row a candidate, by name: ``accuracy`` at each number of rows, ``loss`` (1 would be the best Brier score at
        every number of rows, if above 0.01), ``weight``, ``seconds`` and ``status``: "compared", why it failed, or
        why it was not tried.
    choice_ : str
        The choice in one sentence.
    weights_ : dict of str to float
        Weights of the candidates that were fitted on all tasks.
    models_ : dict of str to estimator
        These candidates, fitted.
    shots_ : tuple of int
        Numbers of rows at which they were compared.
    n_tasks_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.

    See Also
    --------
    AdaptedAutoClassifier : What ``adapt`` returns.
    MAMLClassifier : One of the candidates.

    References
    ----------
    .. [1] G. W. Brier (1950). Verification of forecasts expressed in terms of probability. Monthly Weather Review 78,
       1-3. :doi:`10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2`

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metaest import AutoMetaClassifier, MAMLClassifier, make_episodes
    >>> X, y = load_digits(return_X_y=True)
    >>> tasks = make_episodes(X[y < 6], y[y < 6], n_way=3, k_shot=2, n_query=5, n_episodes=12, random_state=0)
    >>> candidates = [
    ...     ("ridge", MAMLClassifier(inner_solver="ridge", k_shot=2, max_iter=5, random_state=0)),
    ...     ("gradient", MAMLClassifier(k_shot=2, max_iter=5, random_state=0)),
    ... ]
    >>> model = AutoMetaClassifier(candidates=candidates, shots=2, shared_labels=False, cv=2, random_state=0).fit(tasks)
    >>> model.table_["status"].tolist()
    ['compared', 'compared']
    """

    _parameter_constraints = {  # noqa: RUF012
        **CONSTRAINTS,
        "shared_labels": [StrOptions({"auto"}), "boolean"],
        "n_way": [Whole(2, None, closed="left"), None],
    }
    _ensemble: ClassEnsemble
    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        candidates: str | Sequence[tuple[str, Any]] = "auto",
        shots: int | Sequence[int] = (1, 3, 5, 10),
        shared_labels: str | bool = "auto",
        n_way: int | None = None,
        average: bool = True,
        split: str = "random",
        cv: int = 5,
        time_budget: float | None = 60.0,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.candidates = candidates
        self.shots = shots
        self.shared_labels = shared_labels
        self.n_way = n_way
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
            When the tasks cannot be used, have one class only, or have too few rows to be compared on.
        ValueError
            When a setting has another value than it may have.
        Exception
            That of the first candidate, where all of them fail; and any that is no ValueError, ArithmeticError or
            RuntimeError. A note names the candidate.
        """
        self._validate_params()
        if self.n_way is not None and self.shared_labels is True:
            raise ValueError("n_way draws classes, which then mean nothing beyond their episode: shared_labels=False.")
        self._choose_and_fit(as_tasks(X, y, groups, labels=True, alone=self.n_way is not None))
        self.shared_labels_ = self._shares_labels()
        if hasattr(self, "classes_"):
            del self.classes_
        if self._ensemble.labels is not None:
            self.classes_ = self._ensemble.labels
        return self

    def _targets(self, tasks: TaskSet) -> Labels:
        if isinstance(self.shared_labels, str):
            shared = self.n_way is None and share_labels(tasks)
        else:
            shared = bool(self.shared_labels)
        return Labels.of(tasks, shared, self.n_way)

    def _default(self, tasks: TaskSet, targets: Any, seed: int) -> list[Candidate]:
        return default_class_candidates(tasks, targets, self.split, seed)

    def _ensemble_of(self, tasks: TaskSet, targets: Any, models: list[tuple[str, float, Any]]) -> ClassEnsemble:
        return ClassEnsemble(tuple(Member(*model, False) for model in models), (), targets.classes)

    def _figures(self, held_out: HeldOut, choice: Choice, shots: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        right = [held_out.truth.argmax(axis=1) == p.argmax(axis=1) for p in held_out.predictions.values()]
        figures = {}
        for shot in shots:
            rows = held_out.shot == shot
            _, owner, counts = np.unique(held_out.task[rows], return_inverse=True, return_counts=True)
            even = 1 / counts[owner] / len(counts)  # tasks count alike
            figures[f"accuracy at {shot}"] = np.array([float(of_one[rows] @ even) for of_one in right])
        return figures

    def _shares_labels(self) -> bool:
        return self._ensemble.labels is not None

    @in_plain_modes
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> AdaptedAutoClassifier:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)
        y : array-like of shape (n_rows,)
            Labels. Where tasks have labels of their own, all classes of the task have to be among them.
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it (see
            :class:`Guard`); where labels mean the same in every task only; None is no. The first call learns from the
            training tasks how to judge, which takes a moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on.

        Returns
        -------
        AdaptedAutoClassifier

        Raises
        ------
        TaskError
            When the rows cannot be used, or a label has no meaning to the model.
        ValueError
            When a guard is asked of tasks with labels of their own, or gap is not a whole number of rows.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        judge = self._judge(guard, gap)
        columns = Columns(self)
        rows, labels = class_rows(columns, X, y, "adapt")
        return AdaptedAutoClassifier._adapt(self._ensemble, rows, labels, columns.names, judge)

    @in_plain_modes
    def adapt_many(self, tasks: Any, *, guard: bool = False, gap: int = 0) -> AdaptedAutoClassifiers:
        """Adapt to many tasks in one call, all rows of each; the same as one `adapt` a task.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        guard, gap
            As `adapt` takes them.

        Returns
        -------
        AdaptedAutoClassifiers

        Raises
        ------
        TaskError, ValueError
            When tasks or settings cannot be used; the message names task and column.
        """
        check_is_fitted(self)
        judge = self._judge(guard, gap)
        columns, tasks = Columns(self), as_tasks(tasks, labels=True)
        columns.check(tasks, tasks.X.shape[1:], "adapt_many")
        self._ensemble.classes(tasks)  # raises where labels cannot be used
        return AdaptedAutoClassifiers(self._ensemble, tasks, columns.names, judge)

    def _judge(self, guard: bool | None, gap: int) -> FittedGuard | None:
        """Return what judges adaptations, where a guard is asked for."""
        if not whether_guarded(guard, gap, False):
            return None
        if not self._shares_labels():
            raise ValueError(
                "guard=True compares with the answer before adaptation, and there is none where each task has labels "
                "of its own."
            )
        return self._fitted_guard(gap)

    @in_plain_modes
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict probabilities without adapting, where labels mean the same in every task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        ValueError
            When each task has labels of its own: there is no answer without a task.
        DivergenceError
            When a probability is not finite; the message names candidate and row.
        """
        check_is_fitted(self)
        if not self._shares_labels():
            raise ValueError(
                "each task has labels of its own, so there is nothing to predict before a task's labels are known; "
                "call adapt(X, y) first."
            )
        return self._ensemble.population(Columns(self).rows(X, "predict"))

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels without adapting, where labels mean the same in every task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        probabilities = self.predict_proba(X)
        assert self._ensemble.labels is not None
        labels: NDArray[Any] = self._ensemble.labels[probabilities.argmax(axis=1)]
        return labels

    def _predicted(self, X: Any, y: Any, groups: Any) -> tuple[TaskSet, Predicted]:
        check_is_fitted(self)
        tasks = as_tasks(X, y, groups, labels=True, alone=self.n_way is not None)
        Columns(self).check(tasks if y is None else X, tasks.X.shape[1:], "score")
        shared, shots = self._shares_labels(), self.support_size
        drawing = Drawing(shots, None if shared else shots, n_way=self.n_way, split=self.split)
        parts = []
        rng = np.random.default_rng(self._seed)
        answers = self._ensemble.query_probabilities(tasks, drawing, rng, verbose=bool(self.verbose))
        for task, rows, classes, probabilities in answers:
            owner, truth = np.full(len(rows), task, dtype=np.intp), np.searchsorted(classes, tasks.y.ravel()[rows])
            parts.append(Predicted(truth, probabilities.argmax(axis=1), rows, owner))
        return tasks, Predicted(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _fitted_guard(self, gap: int) -> FittedGuard:
        answer, settings = partial(class_guard_answers, self._ensemble), (gap, self.split, self._seed)
        assert self._ensemble.labels is not None
        scale = np.ones(len(self._ensemble.labels))
        return learned_guard(answer, self._judged, self._judges, *settings, verbose=bool(self.verbose), scale=scale)

    def learn_guard(self, gap: int = 0) -> None:
        """Learn now what guarded adaptations need of the training rows, which files and pickles leave out.

        Parameters
        ----------
        gap : int, default=0
            As `adapt` takes it.
        """
        if getattr(self, "_judged", None) is None or self._shares_labels():
            super().learn_guard(gap)
