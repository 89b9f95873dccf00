"""What every meta-learned network shares: `fit` on tasks, and the plan of its adaptations."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor

from metaest.estimators.atomic import atomic
from metaest.estimators.checkpoint import Checkpoint, checkpoint_of
from metaest.estimators.guard import FittedGuard, require_rows, thinned
from metaest.estimators.inputs import remember_columns, remember_range
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.callbacks import HoldsCallbacks
from metaest.estimators.networks.constraints import ADAPTING
from metaest.estimators.networks.episodes import LEAST_FOR_STATISTICS, EpisodeSampler
from metaest.estimators.networks.network import Network, device_of, goes_on
from metaest.estimators.networks.training import history_frame, meta_train
from metaest.estimators.seen_tasks import hashed
from metaest.functional import Params
from metaest.functional.inner.solver import Rate
from metaest.tasks import TaskSet

__all__ = ["BaseMAML"]


class BaseMAML(HoldsCallbacks):
    """A mix-in for estimators whose settings describe a network and how it is meta-learned.

    A subclass says what its tasks are (`_read`), which network and which episodes they need (`_build`, `_source`) and
    what else is learned of them (`_remember`).
    """

    random_state: Any
    device: str
    meta_gradient: str
    inner_solver: str
    inner_lr: float
    split: str
    _judged: TaskSet | None
    verbose: bool
    _judges: dict[Any, FittedGuard]
    _validate_params: Any  # of BaseEstimator

    # groups are requested by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012

    @atomic
    @in_plain_modes
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Meta-learn from many tasks.

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
            When the tasks cannot be used; the message names task and column.
        DivergenceError
            When the meta-loss becomes non-finite; what was fitted before is kept.
        """
        self._validate_params()
        self._warn_of_callbacks()
        device_of(self.device)  # before any work
        tasks = self._read(X, y, groups)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        before = [self._params, self._rates, self._network.features_scaling] if goes_on(self) else None
        with checkpoint_of(self, tasks, seed, before) or nullcontext() as checkpoint:
            self._learn(tasks, seed, checkpoint)
        return self

    def _learn(self, tasks: TaskSet, seed: int, checkpoint: Checkpoint | None) -> None:
        """Set all that a fit learns."""
        trained = meta_train(self, tasks, seed, checkpoint)
        plan = trained.plan
        module = trained.network.forward.as_module(plan.zero_shot(trained.params))  # may fail: before anything is set
        self.module_ = module
        self._network: Any = trained.network
        self._params: Params = trained.params
        self._implicit = self.meta_gradient == "implicit"
        self._rates = float(self.inner_lr), plan.rate
        solver = plan.solver(trained.params)
        self.inner_lr_ = _as_arrays(solver.rates())
        self._seed = seed
        self.history_ = history_frame(trained.history)
        self.n_iter_ = len(trained.history)
        self.n_tasks_ = len(tasks)
        self.n_features_in_, self.feature_shape_ = tasks.X.shape[1], tasks.X.shape[1:]
        self.batching_, self.batching_reason_ = trained.batching, trained.batching_reason
        self.compiled_, self.compiled_reason_ = trained.compiled, trained.compiled_reason
        self._remember(tasks)
        self._judged, self._judges = thinned(tasks), {}
        self._task_names = hashed(tasks.names)
        remember_columns(self, tasks.feature_names)
        remember_range(self, tasks.X)

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations at the present settings; it is learned once from the training tasks."""
        key = (gap, self.split, *(repr(getattr(self, name)) for name in ADAPTING))
        if key not in self._judges:
            learned = (f"gap={own[0]}, split={own[1]!r}" for own in self._judges)
            require_rows(self._judged, learned, f"gap={gap}, split={self.split!r} and the present inner steps")
            assert self._judged is not None
            plan = self._plan()
            least = LEAST_FOR_STATISTICS if plan.normed and plan.steps and not plan.per_step else 1
            scale = self._spread(self._judged)
            self._judges[key] = FittedGuard.learn(
                self._answers(plan),
                self._judged,
                scale,
                ordered=self.split == "first",
                gap=int(gap),
                least=least,
                seed=self._seed,
                verbose=bool(self.verbose),
            )
        judge: FittedGuard = self._judges[key]
        return judge

    def _answers(self, plan: Any) -> Any:
        """Return what adapts to the support of tasks and predicts their query, for a judge."""
        raise NotImplementedError

    def _spread(self, tasks: TaskSet) -> NDArray[np.float64]:
        """Return the scale of every output."""
        raise NotImplementedError

    def _read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        """Return the tasks a fit or a score was given."""
        raise NotImplementedError

    def _build(self, training: TaskSet, tasks: TaskSet) -> Network:
        """Return the network for these tasks, some of which may be held out of training.

        Initial weights are drawn from torch's global generator.
        """
        raise NotImplementedError

    def _source(
        self, network: Any, tasks: TaskSet, plan: Any, rng: np.random.Generator, *, training: bool
    ) -> EpisodeSampler:
        """Return what episodes are drawn from."""
        raise NotImplementedError

    def _remember(self, tasks: TaskSet) -> None:
        """Set what is learned of the targets."""
        raise NotImplementedError

    def _restore(self) -> None:
        """Work out what a file does not hold, and raise where what it holds does not fit together."""
        plan = self._plan()
        start = plan.zero_shot(self._params)
        self.module_ = self._network.forward.as_module(start)

    def _plan(self) -> Any:
        if (self.meta_gradient == "implicit") != self._implicit and self.inner_solver == "gradient":
            raise ValueError(
                f"meta_gradient={self.meta_gradient!r} was set after the fit; with 'implicit', and with it alone, "
                "tasks are held to their start; fit anew."
            )
        return self._slowed(self._plan_of(self._network))

    def _slowed(self, plan: Any) -> Any:
        """Return a plan at the rate that the fit lowered `inner_lr` to, unless `inner_lr` was set anew."""
        asked, used = getattr(self, "_rates", (None, None))
        return replace(plan, rate=used) if plan.rate == asked and used != asked else plan

    def _plan_of(self, network: Any) -> Adaptation:
        """Return the adaptation the settings ask for."""
        return Adaptation.of(self, network.forward)


def _as_arrays(rate: Rate | None) -> Any:
    """Return rates as numpy knows them, or None; those of each step as the last axis of one array a parameter."""
    if rate is None:
        return None
    if isinstance(rate, dict):
        return {name: own.cpu().numpy().copy() for name, own in rate.items()}
    if isinstance(rate, (int, float, Tensor)):
        return float(rate)
    return {name: np.array([float(step[name]) for step in rate]) for name in rate[0]}


def feature_names(model: Any) -> NDArray[Any] | None:
    """Return the column names a model was fitted on, where it was."""
    names: NDArray[Any] | None = getattr(model, "feature_names_in_", None)
    return names
