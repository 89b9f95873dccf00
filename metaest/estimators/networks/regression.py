"""Regression: its network, its episodes, and their draws for the compiler."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.guard import Answers, spread_of
from metaest.estimators.inputs import as_tasks
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.episodes import (
    LEAST_FOR_STATISTICS,
    Batches,
    CompilerDraws,
    EpisodeSampler,
    batch_forward,
    numbered_draws,
)
from metaest.estimators.networks.images import require_channels_first
from metaest.estimators.networks.network import Network, build_parts, within_range
from metaest.estimators.networks.settings import InnerSettings, MetaSettings, NetworkSettings
from metaest.estimators.seen_tasks import SeenTasks
from metaest.exceptions import TaskError
from metaest.functional import (
    Episodes,
    Head,
    Params,
    RegressionLoss,
    RowLoss,
    Rows,
    Scaling,
    SquaredError,
    looped,
)
from metaest.functional.progress import progress
from metaest.jit import MOST_RANKED_ROWS, EpisodeDraws, EpisodeShapes, RowsShape, split_by_keys
from metaest.tasks import Drawn, Split, TaskSet, draw_batches, order_rows, split_tasks, widths
from metaest.tasks.object_rows import holds_objects

__all__ = ["Regression", "RegressionNetwork", "RegressionSampler", "query_answers", "require_targets"]


# the loss of networks in files that do not name one
SQUARED_ERROR = SquaredError()


@dataclass(frozen=True)
class RegressionNetwork(Network):
    """A network with the scaling of its targets.

    Attributes
    ----------
    targets_scaling : Scaling
    single_target : bool
        Whether predictions have shape (n_rows,).
    loss : RegressionLoss
    """

    targets_scaling: Scaling
    single_target: bool
    loss: RegressionLoss = SQUARED_ERROR  # a field in place of the base's property

    def scale_targets(self, y: NDArray[Any], place: Callable[[int], str] = "row {}".format) -> Tensor:
        """Standardise targets, as (n_rows, n_targets); `place` names a row in the error of a target out of range."""
        require_targets(self.loss, y, place)
        return self.targets_scaling.apply(torch.tensor(y.reshape(len(y), -1))).to(self.device)

    def predict(self, params: Params, X: NDArray[Any]) -> NDArray[Any]:
        """Predict in the dtype of X, in the user's units."""
        wide, rows = self.widened(params, X)
        with torch.no_grad():
            y = self.in_units(self.forward(wide, rows))
        self.finite(torch.from_numpy(y), X)
        return y

    def predict_sd(self, params: Params, head: Head, X: NDArray[Any]) -> NDArray[Any]:
        """Return the standard deviation of an observation at each row, in the user's units."""
        wide, rows = self.widened(params, X)
        one = {name: value[None] for name, value in wide.items()}
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
        y: NDArray[Any] = self.targets_scaling.undo(self.loss.inverse_link(output)).numpy()
        return y[:, 0] if self.single_target else y

    def _narrow(self) -> bool:
        """Whether targets of the fit's size have room in float32."""
        scale = self.targets_scaling.scale
        return bool((scale <= 1e30).all() and (scale >= 1e-30).all())


class RegressionSampler(EpisodeSampler):
    """Tasks with numbers to predict.

    Parameters
    ----------
    network, tasks, adaptation, rng
        As :class:`EpisodeSampler` takes them.
    support_size, split
        As the estimators take them.
    """

    network: RegressionNetwork

    def __init__(
        self,
        network: RegressionNetwork,
        tasks: TaskSet,
        adaptation: Adaptation,
        rng: np.random.Generator,
        support_size: Any,
        split: str,
    ) -> None:
        super().__init__(network, tasks, adaptation, rng)
        self.support_size = support_size
        self.split = split
        place = partial(row_of_task, tasks)
        self._y = within_range(network.scale_targets(tasks.y, place), network.dtype, "y", place)

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

    def draw_batches(self, batches: Batches, count: int) -> Drawn:
        """Draw the splits of some meta-steps, as `episodes` would one step after the other."""
        drawn = draw_batches(self.tasks, batches.some, count, self.support_size, self.split, self.rng)
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

    def draws(self, batches: Batches) -> CompilerDraws:
        """Return the shapes of episodes, and what draws them as numbers of the rows of all tasks."""
        support, query = widths(self.tasks, self.support_size, self.split)
        X, y = self.standardised
        shapes = EpisodeShapes(
            RowsShape(support[1], support[0] != support[1]),
            RowsShape(query[1], query[0] != query[1]),
            tuple(X.shape[1:]),
            y.shape[1],
        )

        def draw(count: int) -> EpisodeDraws:
            drawn = self.draw_batches(batches, count)
            if self.tasks.carries_support is False and drawn.keys.shape[1] <= MOST_RANKED_ROWS:
                sizes, starts = self.tasks.sizes[drawn.chosen], self.tasks.offsets[drawn.chosen]
                return split_by_keys(drawn.keys, sizes, starts, drawn.n_support, count, support[1], query[1], (X, y))
            return numbered_draws(order_rows(self.tasks, drawn), count, support[1], query[1], (X, y))

        return CompilerDraws(shapes, draw, min(batches.size, len(self.tasks)))


@dataclass(frozen=True)
class Regression:
    """Tasks with numbers to predict: their network, adaptation and episodes.

    Attributes
    ----------
    loss : RegressionLoss
    support_size, split, check_plausibility
        As the estimators take them.
    object_rows : bool
        Whether rows are objects, for a collate_fn.
    """

    loss: RegressionLoss
    support_size: Any
    split: str
    check_plausibility: bool
    object_rows: bool = False

    def read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        """Return the tasks that a fit or a score was given."""
        return require_channels_first(as_tasks(X, y, groups, object_rows=self.object_rows), self.check_plausibility)

    def network(
        self, settings: NetworkSettings, training: TaskSet, tasks: TaskSet, before: RegressionNetwork | None
    ) -> RegressionNetwork:
        """Return the network that the settings ask for; a warm start goes on from the one before.

        Initial weights are drawn from torch's global generator.
        """
        n_outputs = 1 if training.y.ndim == 1 else training.y.shape[1]
        single_target = training.y.ndim == 1
        if before is not None:
            n_before = len(before.targets_scaling.mean)
            if n_outputs != n_before:
                raise TaskError(
                    f"warm_start goes on from {n_before} target{'s' * (n_before != 1)}, but the tasks have "
                    f"{n_outputs}; fit a new model."
                )
            return replace(deepcopy(before), single_target=single_target, collate_fn=settings.collate_fn)
        require_targets(self.loss, training.y, partial(row_of_task, training))
        targets = torch.tensor(training.y.reshape(len(training.y), -1))
        scaling = Scaling.identity(n_outputs)
        if settings.standardize is not False:
            scaling = Scaling.learn(targets, centred=self.loss.centred)
        if settings.closed_form and not self.loss.closed_form:
            raise ValueError(
                f"a head in closed form minimises the squared error; loss={self.loss.name!r} needs "
                "inner_solver='gradient'."
            )
        forward, parts = build_parts(settings, training, n_outputs)
        return RegressionNetwork(forward, **parts, targets_scaling=scaling, single_target=single_target, loss=self.loss)

    def adaptation(self, inner: InnerSettings, meta: MetaSettings, network: RegressionNetwork) -> Adaptation:
        """Return the adaptation that the settings ask for."""
        if self.loss != network.loss:
            if type(self.loss) is type(network.loss) is RowLoss:
                raise ValueError(
                    "loss: another function was set after the fit; set that of the fit, or fit a new model."
                )
            names = repr(self.loss.name), repr(network.loss.name)
            asked, fitted = names if names[0] != names[1] else (self.loss.describe(), network.loss.describe())
            raise ValueError(f"loss={asked} was set after the fit, which had {fitted}; fit anew, without warm_start.")
        return Adaptation.of(inner, meta, network.forward)

    def sampler(
        self,
        network: RegressionNetwork,
        tasks: TaskSet,
        adaptation: Adaptation,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> "RegressionSampler":
        """Return what episodes are drawn from; a head that learns by whole tasks needs no draws of support rows."""
        whole = training and adaptation.whole_tasks
        support_size, split = (0, "first") if whole else (self.support_size, self.split)
        return RegressionSampler(network, tasks, adaptation, rng, support_size, split)

    def learned(
        self, network: RegressionNetwork, adaptation: Adaptation, params: Params, tasks: TaskSet, seed: int
    ) -> dict[str, Any]:
        """Return the attributes that a fit sets beside those of every kind."""
        return {
            "_seen": None if holds_objects(tasks.X) else SeenTasks.learn(tasks, seed),
            "_conformal": None,
            "_y_mean": tasks.y.mean(axis=0, dtype=np.float64),
            "n_outputs_": 1 if tasks.y.ndim == 1 else tasks.y.shape[1],
        }

    def guard_answers(
        self, network: RegressionNetwork, adaptation: Adaptation, params: Params, batching: str
    ) -> Callable[[TaskSet], Answers]:
        """Return what adapts to the support of tasks and predicts their query, for the guard."""
        return partial(query_answers, network, adaptation, params, batching)

    def spread(self, network: RegressionNetwork, tasks: TaskSet) -> NDArray[np.float64]:
        """Return the scale of every target, for the guard."""
        return spread_of(tasks.y)


def require_targets(loss: RegressionLoss, y: NDArray[Any], place: Callable[[int], str]) -> None:
    """Raise a TaskError at the first target for which a loss is not defined."""
    if loss.lowest_target == -np.inf:
        return
    low = (y.reshape(len(y), -1) < loss.lowest_target).any(axis=1)
    if low.any():
        row = int(np.argmax(low))
        raise TaskError(
            f"{place(row)}: y is {np.min(y[row]):g}; loss={loss.name!r} needs targets of at least "
            f"{loss.lowest_target:g}."
        )


def query_answers(
    network: RegressionNetwork, adaptation: Adaptation, meta: Params, batching: str, tasks: TaskSet
) -> Answers:
    """Adapt to the support of every task and predict its query, for the guard."""
    sampler = RegressionSampler(network, tasks, adaptation, np.random.default_rng(0), None, "random")
    truth, adapted, rows = sampler.predict_queries(meta, batching)
    population = network.predict(adaptation.zero_shot(meta), tasks.X[rows])
    shape = len(rows), -1
    return Answers(truth.reshape(shape), adapted.reshape(shape), population.astype(np.float64).reshape(shape), rows)
