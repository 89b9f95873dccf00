"""Regression: its network, its episodes, and their draws for the compiler."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.inputs import check_columns
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.episodes import (
    LEAST_FOR_STATISTICS,
    Draw,
    EpisodeSampler,
    batch_forward,
    numbered_draws,
)
from metaest.estimators.networks.network import Network, build_parts, goes_on, within_range
from metaest.exceptions import TaskError
from metaest.functional import Episodes, LinearHead, Loss, Params, Rows, Scaling, looped, squared_error
from metaest.functional.progress import progress
from metaest.jit import MOST_RANKED_ROWS, EpisodeDraws, EpisodeShapes, RowsShape, split_by_keys
from metaest.tasks import Drawn, Split, TaskSet, draw_batches, order_rows, split_tasks, widths

__all__ = ["RegressionNetwork", "RegressionSampler", "build_regression", "regression_draws"]


@dataclass(frozen=True)
class RegressionNetwork(Network):
    """A network with the scaling of its targets.

    Attributes
    ----------
    targets_scaling : Scaling
    single_target : bool
        Whether predictions have shape (n_rows,).
    """

    targets_scaling: Scaling
    single_target: bool

    @property
    def loss(self) -> Loss:
        """The squared error."""
        return squared_error

    def scale_targets(self, y: NDArray[Any]) -> Tensor:
        """Standardise targets, as (n_rows, n_targets)."""
        return self.targets_scaling.apply(torch.tensor(y.reshape(len(y), -1))).to(self.device)

    def predict(self, params: Params, X: NDArray[Any]) -> NDArray[Any]:
        """Predict in the dtype of X, in the user's units."""
        own, rows = self.widened(params, X)
        with torch.no_grad():
            y = self.in_units(self.forward(own, rows))
        self.finite(torch.from_numpy(y), X)
        return y

    def predict_sd(self, params: Params, head: LinearHead, X: NDArray[Any]) -> NDArray[Any]:
        """Return the standard deviation of an observation at each row, in the user's units."""
        own, rows = self.widened(params, X)
        one = {name: value[None] for name, value in own.items()}
        blank = rows.new_zeros(1, len(rows), len(self.targets_scaling.mean))
        with torch.no_grad():
            variance = head.variance(looped(self.forward), one, Rows(rows[None], blank, blank[..., 0] + 1))
        sd: NDArray[Any] = (variance[0].sqrt().cpu().double() * self.targets_scaling.scale).numpy()
        return sd[:, 0] if self.single_target else sd

    def in_units(self, output: Tensor) -> NDArray[Any]:
        """Return network outputs of shape (n_rows, n_targets) as the user's y."""
        output = output.cpu()
        if output.dtype != torch.float64 and not (self.widens and self._narrow()):
            output = output.double()
        y: NDArray[Any] = self.targets_scaling.undo(output).numpy()
        return y[:, 0] if self.single_target else y

    def _narrow(self) -> bool:
        """Whether targets of the fit's size have room in float32."""
        scale = self.targets_scaling.scale
        return bool((scale <= 1e30).all() and (scale >= 1e-30).all())


def build_regression(model: Any, tasks: TaskSet) -> RegressionNetwork:
    """Return the network a regressor's settings ask for; a warm start's is that of the fit before."""
    n_outputs = 1 if tasks.y.ndim == 1 else tasks.y.shape[1]
    if goes_on(model):
        check_columns(model, tasks, tasks.X.shape[1:], "warm_start")
        if n_outputs != model.n_outputs_:
            raise TaskError(
                f"warm_start goes on from {model.n_features_in_} features and {model.n_outputs_} targets, but the "
                f"tasks have {tasks.X.shape[1]} and {n_outputs}; fit a new model."
            )
        network: RegressionNetwork = replace(deepcopy(model._network), single_target=tasks.y.ndim == 1)
        return network
    targets = torch.tensor(tasks.y.reshape(len(tasks.y), -1))
    scaling = Scaling.identity(n_outputs) if model.standardize is False else Scaling.learn(targets)
    forward, parts = build_parts(model, tasks, n_outputs)
    return RegressionNetwork(forward, **parts, targets_scaling=scaling, single_target=tasks.y.ndim == 1)


class RegressionSampler(EpisodeSampler):
    """Tasks with numbers to predict.

    Parameters
    ----------
    network, tasks, plan, rng
        As :class:`EpisodeSampler` takes them.
    support_size, split
        As the estimators take them.
    """

    network: RegressionNetwork

    def __init__(
        self,
        network: RegressionNetwork,
        tasks: TaskSet,
        plan: Adaptation,
        rng: np.random.Generator,
        support_size: Any,
        split: str,
    ) -> None:
        super().__init__(network, tasks, plan, rng)
        self.support_size = support_size
        self.split = split
        self._y = within_range(network.scale_targets(tasks.y), network.dtype, "y", partial(row_of_task, tasks))

    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Split the chosen tasks anew."""
        split = self._split(chosen, training=True)
        return Episodes(self._gather(split.support, split.support_mask), self._gather(split.query, split.query_mask))

    def _gather(self, numbers: NDArray[np.intp], mask: NDArray[np.bool_]) -> Rows:
        return self.rows(numbers, mask, self._y[torch.from_numpy(numbers).to(self._y.device)])

    @property
    def standardised(self) -> tuple[Tensor, Tensor]:
        """All rows of X and of y, in the units and the precision of the fit."""
        return self._X, self._y

    def draw_batches(self, batches: Iterator[NDArray[np.intp]], count: int) -> Drawn:
        """Draw the splits of some meta-steps, as `episodes` would one step after the other."""
        drawn = draw_batches(self.tasks, batches, count, self.support_size, self.split, self.rng)
        if drawn.n_support.min() < LEAST_FOR_STATISTICS:
            self.require_support(order_rows(self.tasks, drawn), drawn.chosen, training=True)
        return drawn

    def _split(self, chosen: NDArray[np.intp], *, training: bool) -> Split:
        split = split_tasks(self.tasks, chosen, self.support_size, self.split, self.rng)
        self.require_support(split, chosen, training=training)
        return split

    def predict_queries(
        self, meta: Params, batching: str, *, verbose: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """Adapt to the support of every task and predict its query; `verbose` shows a progress bar.

        Returns
        -------
        truth, prediction : ndarray of shape (n_query_rows,) or (n_query_rows, n_targets)
            In the user's units, in float64.
        rows : ndarray of shape (n_query_rows,)
            Their row numbers in the TaskSet.
        """
        forward = batch_forward(self.network, batching)
        predictions, numbers, overshot = [], [], 0
        for chosen in progress(self.chunks(), verbose, "tasks scored", "task", len(self.tasks), len):
            split = self._split(chosen, training=False)
            support = self._gather(split.support, split.support_mask)
            output, lowered = self.adapted_outputs(chosen, split, support, meta, forward)
            overshot += lowered
            predictions.append(self.network.in_units(output))
            numbers.append(split.query[split.query_mask])
        self.warn_of(overshot, meta)
        rows = np.concatenate(numbers)
        prediction = np.concatenate(predictions)
        return self.tasks.y[rows].astype(np.float64).reshape(prediction.shape), prediction, rows


def regression_draws(source: RegressionSampler, batches: Iterator[NDArray[np.intp]]) -> tuple[EpisodeShapes, Draw]:
    """Return what episodes look like, and what draws them for many meta-steps, as numbers of the rows of all tasks."""
    support, query = widths(source.tasks, source.support_size, source.split)
    X, y = source.standardised
    support_shape, query_shape = (RowsShape(most, least != most) for least, most in (support, query))
    shapes = EpisodeShapes(support_shape, query_shape, tuple(X.shape[1:]), y.shape[1])

    def draw(count: int) -> EpisodeDraws:
        drawn = source.draw_batches(batches, count)
        if not source.tasks.carries_support and drawn.keys.shape[1] <= MOST_RANKED_ROWS:
            sizes, starts = source.tasks.sizes[drawn.chosen], source.tasks.offsets[drawn.chosen]
            return split_by_keys(drawn.keys, sizes, starts, drawn.n_support, count, support[1], query[1], (X, y))
        return numbered_draws(order_rows(source.tasks, drawn), count, support[1], query[1], (X, y))

    return shapes, draw
