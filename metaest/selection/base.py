"""BaseAuto: what estimators share that compare candidates on tasks left out."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import POSITIVE, SEED, VERBOSE, Whole
from metaest.estimators.columns import Columns
from metaest.estimators.guard import FittedGuard, learn_guard, thinned
from metaest.estimators.pickles import check_stamp, copied, model_state
from metaest.estimators.seen_tasks import hashed
from metaest.selection.answers import fitted
from metaest.selection.candidates import Candidate, given_candidates, within_budget
from metaest.selection.choice import Choice, choose
from metaest.selection.ensemble import Ensemble
from metaest.selection.episodes import feasible_shots
from metaest.selection.held_out import HeldOut, predict_held_out
from metaest.selection.targets import Targets
from metaest.tasks import TaskSet
from metaest.tasks.arguments import is_whole

__all__ = ["CONSTRAINTS", "BaseAuto"]

_logger = logging.getLogger("metaest.auto")
CONSTRAINTS = {
    "candidates": [StrOptions({"auto"}), list, tuple],
    "shots": [Whole(1, None, closed="left"), list, tuple, range],
    "average": ["boolean"],
    "split": [StrOptions({"random", "first"})],
    "cv": [Whole(2, None, closed="left")],
    "time_budget": [POSITIVE, None],
    "random_state": SEED,
    "verbose": VERBOSE,
}


class BaseAuto(_BaseComposition):
    """Compares candidates on tasks left out of their fits, and fits the chosen ones.

    A subclass has the settings of CONSTRAINTS, and says what the targets are, which candidates "auto" has, and how
    members of an ensemble are made.
    """

    candidates: str | Sequence[tuple[str, Any]]
    shots: int | Sequence[int]
    average: bool
    split: str
    cv: int
    time_budget: float | None
    random_state: int | np.random.RandomState | None
    verbose: bool
    # scikit-learn's metadata routing passes groups by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012
    _ensemble: Ensemble
    _judged: TaskSet | None
    _judges: dict[Any, FittedGuard]

    @abstractmethod
    def _targets(self, tasks: TaskSet) -> Targets:
        """Return what the targets of the tasks are."""

    @abstractmethod
    def _default(self, tasks: TaskSet, targets: Any, seed: int) -> list[Candidate]:
        """Return the candidates of "auto"."""

    @abstractmethod
    def _ensemble_of(self, tasks: TaskSet, targets: Any, models: list[tuple[str, float, Any]]) -> Ensemble:
        """Return the ensemble of fitted models, each with its name and weight."""

    @abstractmethod
    def _figures(self, held_out: HeldOut, choice: Choice, shots: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        """Return columns of the table of candidates: one number for each that was compared."""

    @abstractmethod
    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations; it is learned once from the training tasks."""

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

    def _choose_and_fit(self, tasks: TaskSet) -> None:
        """Compare the candidates on left-out tasks, fit those chosen on all tasks, and keep what there is to know."""
        shots = self._shots()
        targets = self._targets(tasks)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if isinstance(self.candidates, str):
            offered = self._default(tasks, targets, seed)
        else:
            offered = given_candidates(self.candidates, self.get_params(deep=False), labels=targets.labels)
            offered = [targets.settled(candidate) for candidate in offered]
        compared, parts = targets.compared(tasks, shots, self.cv, np.random.default_rng(seed))
        kept, refused = within_budget(offered, tasks, parts, self.time_budget)
        held_out, choice, shots = None, None, sorted(set(shots))
        if parts and len(kept) > 1:
            left_out, sizes = np.concatenate([of_part for _, of_part in parts]), targets.sizes(compared)
            shots = feasible_shots(targets.sizes(tasks), shots, targets.unit)
            shots = feasible_shots(sizes[left_out], shots, targets.unit)
            pairs = [(candidate.name, candidate.trial) for candidate in kept]
            settings = (shots, self.split, seed)
            held_out = predict_held_out(targets, pairs, compared, parts, *settings, verbose=bool(self.verbose))
            choice = choose(held_out, shots, averages=bool(self.average))
        weights = {kept[0].name: 1.0} if choice is None else choice.weights
        models = [
            (candidate.name, weights[candidate.name], fitted(candidate.name, candidate.estimator, tasks))
            for candidate in kept
            if weights.get(candidate.name, 0.0) > 0
        ]
        self._ensemble = self._ensemble_of(tasks, targets, models)
        self.shots_ = tuple(shots)
        figures = {} if held_out is None or choice is None else self._figures(held_out, choice, shots)
        self.table_ = _table(offered, refused, held_out, choice, figures, weights)
        self.choice_ = _alone(kept, len(tasks), targets.drawn) if choice is None else choice.reason
        self._seed, self.n_tasks_ = seed, len(tasks)
        self._judged, self._judges = thinned(tasks), {}
        self._task_names = hashed(tasks.names)
        columns = Columns(self)
        columns.remember_shape(tasks.X)
        columns.remember_names(tasks.feature_names)
        columns.remember_range(tasks.X)
        _logger.info("%s", self.choice_)
        if self.verbose:
            print(self.choice_)

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

    def _repr_html_(self) -> str:
        if not hasattr(self, "table_"):
            return f"<p>{escape(repr(self))}</p>"
        table = self.table_.to_html(float_format="{:.4g}".format)
        return f"<p><b>{escape(repr(self))}</b><br>{escape(self.choice_)}</p>{table}"


def _alone(kept: Sequence[Candidate], n_tasks: int, drawn: bool) -> str:
    """Return why a candidate is taken that was not compared."""
    if len(kept) == 1:
        return f"{kept[0].name} alone: nothing to compare it with"
    why = "no task has only labels of the others, and these several"
    if n_tasks == 1:
        why = "there are too few classes to leave some out" if drawn else "there is one task"
    return f"{kept[0].name}, the first of {len(kept)} that were not compared: {why}"


def _table(
    offered: Sequence[Candidate],
    refused: dict[str, str],
    held_out: HeldOut | None,
    choice: Choice | None,
    figures: dict[str, NDArray[np.float64]],
    weights: dict[str, float],
) -> pd.DataFrame:
    """Return one row a candidate."""
    rows = []
    compared = [] if held_out is None else list(held_out.predictions)
    for candidate in offered:
        name = candidate.name
        row: dict[str, Any] = {"candidate": name}
        at = compared.index(name) if name in compared else None
        for column, values in figures.items():
            row[column] = np.nan if at is None else values[at]
        row["loss"] = np.nan if at is None or choice is None else choice.losses[at]
        row["weight"] = weights.get(name, 0.0)
        row["seconds"] = np.nan if held_out is None else held_out.seconds.get(name, np.nan)
        failure = None if held_out is None else held_out.failures.get(name)
        alone = "taken, not compared" if row["weight"] else "not compared"
        row["status"] = refused.get(name) or failure or ("compared" if at is not None else alone)
        rows.append(row)
    return pd.DataFrame(rows).set_index("candidate")
