"""The predictors of many tasks, adapted in one call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import n_features_of, tasks_by_name
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.adapted import AdaptedRegressor, require_statistics
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.compiled import adapter_for, adapts_compiled, padded_support
from metaest.estimators.networks.episodes import CHUNK, CHUNK_VALUES, adapted_at_once, batch_forward
from metaest.estimators.networks.network import require_finite_weights, within_range
from metaest.estimators.networks.regression import RegressionNetwork
from metaest.estimators.predictor import AdaptedPredictors
from metaest.exceptions import OvershootWarning, warn
from metaest.functional import Params, Rows, repeat_for_tasks, solve_damped
from metaest.functional.progress import progress
from metaest.jit import padded_rows
from metaest.tasks import TaskSet

__all__ = ["AdaptedRegressors"]


class AdaptedRegressors(AdaptedPredictors[AdaptedRegressor]):
    """The predictors of many tasks, made by ``adapt_many``; a sequence in the order of the tasks.

    Attributes
    ----------
    tasks : TaskSet
        What was adapted to.
    compiled_ : bool
        Whether the adaptations were worked out in machine code.
    lowered_ : ndarray of bool, shape (n_tasks,)
        For which tasks the inner rate overshot and was lowered.
    guards_ : list of Guard or None
        What the guard kept of each adaptation, and why; None without ``guard=True``.
    n_features_in_ : int or None
        None where rows are objects.
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> model = MAMLRegressor(max_iter=50, random_state=0).fit(make_sinusoids(20, random_state=0))
    >>> adapted = model.adapt_many(make_sinusoids(30, n_rows=5, random_state=1))
    >>> adapted
    AdaptedRegressors(30 tasks)
    >>> adapted.predict([[0.0], [1.0]]).shape
    (30, 2)
    >>> adapted[3]
    AdaptedRegressor(1 feature, adapted on 5 rows)
    """

    # what a file holds of it
    _written_fields = (
        "_network", "_adaptation", "_meta", "_conformal", "_batching", "tasks", "n_features_in_", "feature_names_in_",
        "feature_shape_",
        "compiled_", "lowered_", "_params", "_judge", "guards_",
    )  # fmt: skip

    def __init__(
        self,
        network: RegressionNetwork,
        adaptation: Adaptation,
        meta: Params,
        tasks: TaskSet,
        feature_names: NDArray[Any] | None,
        *,
        batching: str,
        compile: str | bool,
        verbose: bool,
        judge: FittedGuard | None = None,
        conformal: Calibration | None = None,
    ) -> None:
        self._network, self._adaptation, self._meta, self._batching = network, adaptation, meta, batching
        self._conformal = conformal
        self.tasks = tasks
        self.n_features_in_ = n_features_of(tasks.X)
        if tasks.X.ndim > 2:
            self.feature_shape_ = tasks.X.shape[1:]
        if feature_names is not None:
            self.feature_names_in_ = feature_names
        least = int(tasks.sizes.argmin())
        require_statistics(self._adaptation, tasks[least].X, f"task {tasks[least].name!r}")
        self._network.require_codes(tasks)
        place, dtype = partial(row_of_task, tasks), self._network.dtype
        self._network.features(tasks.X, dtype, place)
        within_range(self._network.scale_targets(tasks.y, place), dtype, "y", place)
        self.compiled_ = False
        self.lowered_ = np.zeros(len(tasks), dtype=bool)
        self._params = self._adapted(compile, verbose=verbose)
        self._judge = judge
        self.guards_: list[Guard] | None = None if judge is None else judge.judge_tasks(tasks)

    def _one(self, i: int) -> AdaptedRegressor:
        task, params = self.tasks[i], {name: value[i].clone() for name, value in self._params.items()}
        adapted = AdaptedRegressor(
            self._network,
            self._adaptation,
            self._meta,
            params,
            task.X,
            task.y,
            self.n_features_in_,
            None if self.guards_ is None else self.guards_[i],
            self._judge,
            self._conformal,
        )
        if hasattr(self, "feature_names_in_"):
            object.__setattr__(adapted, "feature_names_in_", self.feature_names_in_)
        if hasattr(self, "feature_shape_"):
            object.__setattr__(adapted, "feature_shape_", self.feature_shape_)
        return adapted

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the same rows for every task, or each task's own rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or TaskSet, sequence of Task \
or of (X, y) pairs, or mapping of name to (X, y)
            Tasks must be those that were adapted to, in the same order; their rows may be others.

        Returns
        -------
        ndarray of shape (n_tasks, n_rows) or (n_tasks, n_rows, n_targets); for a TaskSet (n_rows_of_all_tasks,) or \
(n_rows_of_all_tasks, n_targets)

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or the tasks are others.
        """
        columns = Columns(self)
        X = tasks_by_name(X, object_rows=columns.objects)
        if isinstance(X, TaskSet):
            columns.check(X, X.X.shape[1:], "predict")
            self._require_same(X)
            parts = [self._outputs(chosen, *_rows_of(X, chosen)) for chosen in self._chunks(X)]
            return self._kept(np.concatenate(parts), X.X, np.repeat(np.arange(len(self)), X.sizes))
        rows = columns.rows(X, "predict")
        n_values = self._network.scale_features(rows).numel() if columns.objects else rows.size
        size = max(1, min(CHUNK, CHUNK_VALUES // n_values))
        parts = []
        for first in range(0, len(self), size):
            chosen = np.arange(first, min(first + size, len(self)))
            numbers = np.broadcast_to(np.arange(len(rows)), (len(chosen), len(rows)))
            outputs = self._outputs(chosen, rows, numbers, np.ones_like(numbers, dtype=bool))
            parts.append(outputs.reshape(len(chosen), len(rows), *outputs.shape[1:]))
        return self._kept(np.concatenate(parts), rows, np.arange(len(self))[:, None])

    def _kept(self, adapted: NDArray[Any], X: NDArray[Any], task: NDArray[np.intp]) -> NDArray[Any]:
        """Return predictions on the share of the way from the population's that each task's guard keeps."""
        if self.guards_ is None or all(guard.share == 1 for guard in self.guards_):
            return adapted
        population = self._network.predict(self._adaptation.zero_shot(self._meta), X)
        share = np.array([guard.share for guard in self.guards_])[task]
        share = share.reshape(share.shape + (1,) * (adapted.ndim - share.ndim))
        kept: NDArray[Any] = np.where(share == 1, adapted, population + share * (adapted - population)).astype(
            adapted.dtype
        )
        return kept

    def _outputs(
        self, chosen: NDArray[np.intp], X: NDArray[Any], numbers: NDArray[np.intp], mask: NDArray[np.bool_]
    ) -> NDArray[Any]:
        """Return predictions of the rows of some tasks, one task after the other."""
        network = self._network
        index = torch.from_numpy(chosen)
        with torch.no_grad():
            scaled = network.scale_features(X[numbers])
            scaled = scaled if network.widens else scaled.to(network.dtype)
            params = {name: value[index].to(scaled.dtype) for name, value in self._params.items()}
            rows = Rows(scaled, scaled, torch.from_numpy(mask).to(scaled))
            output = self._adaptation.output(batch_forward(network, self._batching), params, rows)
        y = network.in_units(output.cpu()[torch.from_numpy(mask)])
        if not np.isfinite(y).all():
            network.finite(torch.from_numpy(y), X[numbers[mask]])
        return y

    def _adapted(self, setting: str | bool, *, verbose: bool) -> Params:
        """Adapt to all rows of every task; return parameters of shape (tasks, ...)."""
        tasks = self.tasks
        wanted = adapts_compiled(setting, len(tasks))
        params: dict[str, Tensor] = {}
        chunks = self._chunks(tasks, by_size=wanted)
        for chosen in progress(chunks, verbose, "adaptations", "task", len(tasks), len):
            X, numbers, mask = _rows_of(tasks, chosen)
            support = Rows(
                self._network.scale_features(X[numbers]).to(self._network.dtype),
                self._network.scale_targets(tasks.y[numbers.ravel()])
                .to(self._network.dtype)
                .reshape(*numbers.shape, -1),
                torch.from_numpy(mask).to(self._network.device, self._network.dtype),
            )
            adapted, self.lowered_[chosen] = self._solved(support, compiled=wanted)
            index = torch.from_numpy(chosen)
            for name, value in adapted.items():
                if name not in params:
                    params[name] = value.new_empty(len(tasks), *value.shape[1:])
                params[name][index] = value
        require_finite_weights(params, tasks)
        overshot = int(self.lowered_.sum())
        if overshot:
            rate = self._adaptation.solver(self._meta).describe_rate()
            warn(
                f"inner_lr={rate} overshoots on {overshot} of {len(tasks)} tasks (their support loss rose); they were "
                "adapted at lower rates. They may be unlike the tasks of the fit.",
                OvershootWarning,
            )
        return params

    def _solved(self, support: Rows, *, compiled: bool) -> tuple[Params, NDArray[np.bool_]]:
        """Adapt to some tasks; return also for which the rate was lowered."""
        adaptation, network = self._adaptation, self._network
        adapter = adapter_for(network, adaptation, self._meta, support.X.shape[1], support) if compiled else None
        if adapter is None:
            return self._solved_by_torch(support)
        self.compiled_ = True
        arrays, good = adapter(padded_support(support, adapter.n_rows))
        params = {name: torch.from_numpy(part) for name, part in arrays.items()}
        over = torch.from_numpy(np.flatnonzero(~good))
        lowered = np.zeros(len(good), dtype=bool)
        if not len(over):
            return params, lowered
        again, lowered[over.numpy()] = self._solved_by_torch(Rows(*(part[over] for part in support)))
        for name, value in again.items():
            params[name][over] = value
        return params, lowered

    def _solved_by_torch(self, support: Rows) -> tuple[Params, NDArray[np.bool_]]:
        adaptation, network = self._adaptation, self._network
        start = repeat_for_tasks(adaptation.start(self._meta, support), len(support.X))
        forward, loss = batch_forward(network, self._batching), network.loss
        adapted, halvings = solve_damped(
            forward, loss, adaptation.solver(self._meta), start, adaptation.support(self._meta, support)
        )
        return {name: value.detach() for name, value in adapted.items()}, (halvings > 0).cpu().numpy()

    def _chunks(self, tasks: TaskSet, *, by_size: bool = False) -> Iterator[NDArray[np.intp]]:
        """Task numbers, some at a time, so that memory is bounded; where asked for, of supports of about one size."""
        sizes = tasks.sizes
        groups = np.array([padded_rows(int(size)) for size in sizes]) if by_size else np.zeros(len(sizes), dtype=int)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            largest = int(members[np.argmax(sizes[members])])
            rows = tasks.X[tasks.offsets[largest] : tasks.offsets[largest + 1]]
            X = self._network.scale_features(rows).to(self._network.dtype)
            size = max(1, min(16 * CHUNK if by_size else CHUNK, CHUNK_VALUES // X.numel()))
            most = adapted_at_once(
                self._adaptation.max_batch_bytes, self._network.forward, self._adaptation.zero_shot(self._meta), X
            )
            size = min(size, most or size)
            for first in range(0, len(members), size):
                yield members[first : first + size]


def _rows_of(tasks: TaskSet, chosen: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.bool_]]:
    """Return rows, the numbers of those of some tasks, padded with each task's last one, and which count."""
    sizes = tasks.sizes[chosen][:, None]
    columns = np.arange(int(sizes.max()))
    return tasks.X, tasks.offsets[chosen][:, None] + np.minimum(columns, sizes - 1), columns < sizes
