"""BaseMAML: what all meta-learned networks share, `fit` on tasks and the adaptation of a fitted model."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from numbers import Number
from types import FunctionType, NoneType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from torch import Tensor

from metaest.estimators.atomic import atomic
from metaest.estimators.checkpoint import Checkpoint, checkpoint_of
from metaest.estimators.columns import Columns
from metaest.estimators.fingerprint import digest, digest_of_state
from metaest.estimators.guard import FittedGuard, learn_guard, require_rows, thinned
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.callbacks import check_callbacks, without_callbacks
from metaest.estimators.networks.constraints import ADAPTING, CONSTRAINTS
from metaest.estimators.networks.episodes import LEAST_FOR_STATISTICS
from metaest.estimators.networks.settings import InnerSettings, MetaSettings, Settings, device_of
from metaest.estimators.networks.training import Earlier, Kind, history_frame, meta_train
from metaest.estimators.pickles import can_be_pickled, check_stamp, copied, model_state
from metaest.estimators.seen_tasks import hashed
from metaest.exceptions import warn
from metaest.functional import InnerSolver, Params
from metaest.functional.inner.solver import Rate
from metaest.tasks import TaskSet

__all__ = ["BaseMAML"]


class BaseMAML(BaseEstimator):
    """Meta-learned networks: `fit` on tasks, and the adaptation that the settings ask for.

    A subclass says what its tasks are, by its `kind`.
    """

    random_state: Any
    device: str
    split: str
    callbacks: Any
    warm_start: bool
    verbose: bool
    _network: Any
    _params: Params
    _judged: TaskSet | None
    _judges: dict[Any, FittedGuard]

    # scikit-learn's metadata routing passes groups by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012

    @property
    def kind(self) -> Kind:
        """The kind of task at the present settings."""
        raise NotImplementedError

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
        check_callbacks(self.callbacks)
        _warn_of_loss(getattr(self, "loss", None))
        device_of(self.device)  # before any work
        tasks = self.kind.read(X, y, groups)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        goes_on = bool(self.warm_start) and hasattr(self, "_network")
        before = [self._params, self._rates, self._network.features_scaling] if goes_on else None
        with checkpoint_of(self, tasks, seed, before) or nullcontext() as checkpoint:
            self._learn(tasks, seed, checkpoint, goes_on=goes_on)
        return self

    def _learn(self, tasks: TaskSet, seed: int, checkpoint: Checkpoint | None, *, goes_on: bool) -> None:
        """Meta-train, and set the fitted attributes."""
        kind, settings, earlier = self.kind, Settings.read(self._values()), None
        if goes_on:
            if Columns(self).objects != (settings.network.collate_fn is not None):
                raise ValueError(
                    "warm_start: collate_fn was set, or taken away, after the fit before; fit a new model."
                )
            self._check_columns(tasks, "warm_start")
            adaptation = self._at_lowered_rate(kind.adaptation(settings.inner, settings.meta, self._network))
            earlier = Earlier(self._network, self._params, adaptation)
        states = self._states()
        trained = meta_train(kind, settings, tasks, seed, checkpoint, earlier)
        adaptation = trained.adaptation
        # may raise, so before attributes are set
        module = trained.network.forward.as_module(adaptation.zero_shot(trained.params))
        self.module_ = module
        self._network = trained.network
        self._params = trained.params
        self._implicit = settings.meta.gradient.needs_proximal
        self._rates = settings.inner.rate, adaptation.rate
        if settings.inner.given is not None:
            self._solvers = settings.inner.given, adaptation.solver_object
        elif hasattr(self, "_solvers"):  # of an earlier fit
            del self._solvers
        self.inner_lr_ = _as_arrays(adaptation.solver(trained.params).rates())
        # an object that changes as it is used, as one that counts its calls, is left alone
        self._given = {name: state for name, state in self._states().items() if states[name] == state}
        self._seed = seed
        self.history_ = history_frame(trained.history)
        self.n_iter_ = len(trained.history)
        self.n_tasks_ = len(tasks)
        columns = Columns(self)
        columns.remember_shape(tasks.X)
        self.batching_, self.batching_reason_ = trained.batching, trained.batching_reason
        self.compiled_, self.compiled_reason_ = trained.compiled, trained.compiled_reason
        if hasattr(self, "classes_"):
            del self.classes_
        for name, value in kind.learned(trained.network, adaptation, trained.params, tasks, seed).items():
            setattr(self, name, value)
        self._judged, self._judges = thinned(tasks), {}
        self._task_names = hashed(tasks.names)
        columns.remember_names(tasks.feature_names)
        columns.remember_range(tasks.X)

    def _values(self) -> dict[str, Any]:
        """Return the settings by name, those included that are fixed where an estimator does not offer them."""
        return {name: getattr(self, name) for name in {**CONSTRAINTS, **self._parameter_constraints}}

    def _states(self) -> dict[str, tuple[Any, str]]:
        """Return the loss and the inner solver where they are objects, each with a hash of what it holds."""
        given = {name: getattr(self, name, None) for name in ("loss", "inner_solver")}
        objects = {name: it for name, it in given.items() if not isinstance(it, (str, FunctionType, NoneType))}
        return {name: (it, digest_of_state(it)) for name, it in objects.items()}

    def _require_unchanged(self) -> None:
        """Raise a ValueError where a loss or an inner solver holds something else than at the fit."""
        for name, (given, state) in getattr(self, "_given", {}).items():
            if getattr(self, name) is given and digest_of_state(given) != state:
                raise ValueError(
                    f"{name}={type(given).__name__}: the object was changed after the fit, which used what it held "
                    "then; set its attributes back, or fit anew."
                )

    def _check_columns(self, tasks: TaskSet, where: str, given: Any = None) -> None:
        """Raise a TaskError where the columns of tasks, or of flat rows given for them, are not those of the fit."""
        Columns(self).check(tasks if given is None else given, tasks.X.shape[1:], where)

    def _adaptation(self) -> Any:
        """Return the adaptation of the fitted network at the present settings."""
        values = self._values()
        adapting = {name: values[name] for name in ADAPTING}  # they may have been set since the fit checked them
        validate_parameter_constraints(ADAPTING, adapting, type(self).__name__)
        self._require_unchanged()
        inner, meta = InnerSettings.read(values), MetaSettings.read(values)
        if meta.gradient.needs_proximal != self._implicit and not inner.closed_form:
            held, wanted = ("are", "does not need that") if self._implicit else ("are not", "needs that")
            raise ValueError(
                f"meta_gradient={meta.gradient.name!r} was set after the fit. Tasks of this model {held} held to their "
                f"start, and this meta-gradient {wanted}; fit anew."
            )
        return self._at_lowered_rate(self.kind.adaptation(inner, meta, self._network))

    def _at_lowered_rate(self, adaptation: Any) -> Any:
        """Return an adaptation at the rates that the fit lowered them to, unless they were set anew."""
        asked, used = getattr(self, "_rates", (None, None))
        if adaptation.rate == asked and used != asked:
            adaptation = replace(adaptation, rate=used)
        given, lowered = getattr(self, "_solvers", (None, None))
        if given is not None and _same(adaptation.solver_object, given):
            adaptation = replace(adaptation, solver_object=lowered)
        return adaptation

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations at the present settings; it is learned once from the training tasks."""
        key = gap, self.split, *(_content(getattr(self, name)) for name in ADAPTING)
        if key not in self._judges:
            learned = (f"gap={at[0]}, split={at[1]!r}" for at in self._judges)
            require_rows(self._judged, learned, f"gap={gap}, split={self.split!r} and the present inner steps")
            assert self._judged is not None
            kind, adaptation = self.kind, self._adaptation()
            self._judges[key] = FittedGuard.learn(
                kind.guard_answers(self._network, adaptation, self._params, self.batching_),
                self._judged,
                kind.spread(self._network, self._judged),
                ordered=self.split == "first",
                gap=int(gap),
                least=LEAST_FOR_STATISTICS if adaptation.needs_statistics else 1,
                seed=self._seed,
                verbose=bool(self.verbose),
            )
        judge: FittedGuard = self._judges[key]
        return judge

    def _restore(self) -> None:
        """Work out what a file does not hold, and raise where what it holds does not fit together."""
        self._given = self._states()
        start = self._adaptation().zero_shot(self._params)
        self.module_ = self._network.forward.as_module(start)

    def _can_judge(self) -> bool:
        """Tell whether there is a guard for such a model."""
        return True

    def learn_guard(self, gap: int = 0) -> None:
        """Learn now what `adapt` with ``guard=True`` needs of the training rows, which files and pickles leave out.

        Parameters
        ----------
        gap : int, default=0
            As `adapt` takes it.
        """
        if getattr(self, "_judged", None) is None or self._can_judge():
            learn_guard(self, gap)

    def __getstate__(self) -> dict[str, Any]:
        state = model_state(self, super().__getstate__())
        return without_callbacks(state) if hasattr(self, "n_iter_") else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(check_stamp(self, state))

    __copy__ = __deepcopy__ = copied


def _as_arrays(rate: Rate | None) -> Any:
    """Return rates as numpy knows them; those of each step as the last axis of one array a parameter."""
    if rate is None:
        return None
    if isinstance(rate, dict):
        return {name: _as_array(value) for name, value in rate.items()}
    if isinstance(rate, (int, float, Tensor)):
        return float(rate)
    return {name: np.stack([_as_array(step[name]) for step in rate], axis=-1) for name in rate[0]}


def _as_array(rate: float | Tensor) -> NDArray[Any]:
    return rate.detach().cpu().numpy().copy() if isinstance(rate, Tensor) else np.asarray(rate, dtype=np.float64)


def _warn_of_loss(loss: Any) -> None:
    """Warn of a loss that cannot be pickled."""
    name = getattr(loss, "__qualname__", repr(loss))
    # whether pickle finds a function by its name depends on how its module is run: lambdas and inner ones have none
    if "<" in name if isinstance(loss, FunctionType) else not can_be_pickled(loss):
        warn(
            f"loss={name} cannot be pickled, nor can the model that is fitted with it; define it at the top level of a "
            "module."
        )


def _content(setting: Any) -> str:
    """Return what tells settings apart: names and numbers as they are written, objects by what they hold."""
    return repr(setting) if isinstance(setting, (str, Number, Sequence, NoneType)) else digest(setting)


def _same(one: InnerSolver | None, other: InnerSolver) -> bool:
    """Tell whether two solvers have the same content; ``==`` is not defined where they hold tensors."""
    return one is other or digest(one) == digest(other)
