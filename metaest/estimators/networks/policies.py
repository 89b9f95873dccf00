"""Episodes of policies: a look at a stretch of time, and what comes after it."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.inputs import as_tasks
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.episodes import Batches, CompilerDraws, EpisodeSampler, batch_forward, numbered_draws
from metaest.estimators.networks.images import require_channels_first
from metaest.estimators.networks.network import Network, build_parts, within_range
from metaest.estimators.networks.settings import InnerSettings, MetaSettings, NetworkSettings
from metaest.exceptions import DivergenceError, TaskError
from metaest.functional import Episodes, Loss, Params, Rows, Utility, repeat_for_tasks, solve_damped
from metaest.functional.progress import progress
from metaest.jit import EpisodeDraws, EpisodeShapes, RowsShape
from metaest.tasks import Split, TaskSet

__all__ = ["Policies", "PolicyAdaptation", "PolicyNetwork", "PolicySampler", "adapted_params"]

# numbers in the rows of tasks that are adapted at once
VALUES_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class PolicyNetwork(Network):
    """A network whose output stands for an action.

    Attributes
    ----------
    utility : Utility
    n_targets : int
        1 for outcomes, 2 for outcomes and scales.
    """

    utility: Utility
    n_targets: int

    @property
    def loss(self) -> Loss:
        """Minus the utility."""
        return self.utility.loss

    def outcomes(self, y: NDArray[Any]) -> Tensor:
        """Return outcomes as (n_rows, n_targets), in the user's units: costs are in these."""
        return torch.tensor(y.reshape(len(y), -1)).to(self.device)

    def act(self, params: Params, X: NDArray[Any]) -> NDArray[Any]:
        """Return the action at every row of one task."""
        output = self.output(params, X)
        actions: NDArray[Any] = self.utility.actions(output[:, 0]).cpu().numpy()
        return actions


@dataclass(frozen=True)
class PolicyAdaptation(Adaptation):
    """The adaptation of a policy: up the utility of its support rows."""

    utility: Utility = field(default_factory=Utility)


class PolicySampler(EpisodeSampler):
    """Tasks whose rows are in order of time.

    In training an episode is a stretch anywhere in a task, as long as its parts where the task is; otherwise it begins
    with the task and ends with it.

    Parameters
    ----------
    network, tasks, adaptation, rng
        As :class:`EpisodeSampler` takes them.
    support_size, gap : int
    query_size : int or None
        None for all that comes after.
    """

    network: PolicyNetwork

    def __init__(
        self,
        network: PolicyNetwork,
        tasks: TaskSet,
        adaptation: Adaptation,
        rng: np.random.Generator,
        support_size: int,
        gap: int,
        query_size: int | None,
    ) -> None:
        super().__init__(network, tasks, adaptation, rng)
        self.support_size, self.gap, self.query_size = int(support_size), int(gap), query_size
        place = partial(row_of_task, tasks)
        self.standardised = self._X, within_range(network.outcomes(tasks.y), network.dtype, "y", place)
        short = np.flatnonzero(tasks.sizes <= self.support_size + self.gap)
        if len(short):
            i = int(short[0])
            raise TaskError(
                f"task {self._name(i)!r}: it has {tasks.sizes[i]} rows; a look of support_size={self.support_size}, "
                f"gap={self.gap} and one row to evaluate need {self.support_size + self.gap + 1}."
            )

    @property
    def widths(self) -> tuple[int, int]:
        """Columns of support and query that hold any episode."""
        longest = int(self.tasks.sizes.max()) - self.support_size - self.gap
        query = longest if self.query_size is None else min(longest, int(self.query_size))
        return max(1, self.support_size), query

    def split(self, chosen: NDArray[np.intp], *, training: bool) -> Split:
        """Return a stretch of each chosen task."""
        look, query = self.support_size, self.widths[1]
        sizes = self.tasks.sizes[chosen]
        beyond = np.maximum(sizes - (look + self.gap + query), 0)
        start = self.rng.integers(0, beyond, endpoint=True) if training else np.zeros(len(chosen), dtype=np.intp)
        first = self.tasks.offsets[chosen] + start
        columns, rows = np.arange(max(1, look)), np.arange(query)
        after = np.minimum(sizes - start - look - self.gap, query)[:, None]
        return Split(
            first[:, None] + columns,
            np.repeat((columns < look)[None], len(chosen), axis=0),
            (first + look + self.gap)[:, None] + np.minimum(rows, after - 1),
            rows < after,
        )

    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Draw a stretch of each chosen task."""
        split = self.split(chosen, training=True)
        return Episodes(self._gather(split.support, split.support_mask), self._gather(split.query, split.query_mask))

    def _gather(self, numbers: NDArray[np.intp], mask: NDArray[np.bool_]) -> Rows:
        return self.rows(numbers, mask, self.standardised[1][torch.from_numpy(numbers)])

    def draws(self, batches: Batches) -> CompilerDraws:
        """Return the shapes of stretches of time, and what draws them as numbers of the rows of all tasks."""
        X, y = self.standardised
        support, query = self.widths
        shapes = EpisodeShapes(RowsShape(support, False), RowsShape(query, True), tuple(X.shape[1:]), y.shape[1])

        def draw(count: int) -> EpisodeDraws:
            splits = [self.split(next(batches), training=True) for _ in range(count)]
            whole = Split(*(np.concatenate(parts) for parts in zip(*splits, strict=True)))
            return numbered_draws(whole, count, support, query, (X, y))

        return CompilerDraws(shapes, draw, min(batches.size, len(self.tasks)))

    def utilities(self, meta: Params, batching: str, *, verbose: bool = False) -> NDArray[np.float64]:
        """Adapt to the first rows of every task; return the utilities of what comes after the gap."""
        parts = []
        for chosen in progress(self.chunks(), verbose, "tasks scored", "task", len(self.tasks), len):
            split = self.split(chosen, training=False)
            support = self._gather(split.support, split.support_mask)
            query = self._gather(split.query, split.query_mask)
            params = adapted_params(self.network, self.adaptation, meta, support, batching)
            with torch.no_grad():
                output = batch_forward(self.network, batching)(params, query)
                actions = self.network.utility.actions(output[..., 0])
                rewards = self.network.utility.rewards(actions, query.y, query.mask)
                parts.append(self.network.utility.of_rewards(rewards, query.mask).double().numpy())
        utilities = np.concatenate(parts)
        if not np.isfinite(utilities).all():
            i = int(np.flatnonzero(~np.isfinite(utilities))[0])
            raise DivergenceError(
                f"task {self._name(i)!r}: its utility is not finite: outcomes or weights overflow; check the units of "
                "X and y, or lower inner_lr."
            )
        return utilities

    def chunks(self) -> Iterator[NDArray[np.intp]]:
        """Task numbers, some at a time."""
        size = max(1, min(256, VALUES_AT_ONCE // int(self.tasks.sizes.max() * self.tasks.X[0].size)))
        for first in range(0, len(self.tasks), size):
            yield np.arange(first, min(first + size, len(self.tasks)))


def adapted_params(network: Network, adaptation: Adaptation, meta: Params, support: Rows, batching: str) -> Params:
    """Adapt to the support of many tasks in one call; parameters of shape (tasks, ...)."""
    start = repeat_for_tasks(adaptation.start(meta), len(support.X))
    forward = batch_forward(network, batching)
    adapted, _ = solve_damped(forward, network.loss, adaptation.solver(meta), start, support)
    return {name: value.detach() for name, value in adapted.items()}


@dataclass(frozen=True)
class Policies:
    """Tasks in order of time to act in: their network, adaptation and episodes.

    Attributes
    ----------
    utility, limit, risk_aversion, cost, support_size, query_size, gap, split, check_plausibility
        As :class:`MAMLPolicy` takes them.
    """

    utility: Any
    limit: float
    risk_aversion: float
    cost: float
    support_size: int
    query_size: int | None
    gap: int
    split: str
    check_plausibility: bool

    def read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        """Return the tasks that a fit was given."""
        tasks = require_channels_first(as_tasks(X, y, groups), self.check_plausibility)
        if tasks.y.ndim == 2 and tasks.y.shape[1] > 2:
            raise TaskError(f"y has {tasks.y.shape[1]} columns; outcomes, or outcomes and scales, are wanted.")
        return tasks

    def network(
        self, settings: NetworkSettings, training: TaskSet, tasks: TaskSet, before: PolicyNetwork | None
    ) -> PolicyNetwork:
        """Return the network that the settings ask for; a warm start goes on from the one before.

        Initial weights are drawn from torch's global generator.
        """
        n_targets = 1 if tasks.y.ndim == 1 else tasks.y.shape[1]
        if before is not None:
            return replace(deepcopy(before), utility=self._utility(training))
        forward, parts = build_parts(settings, training, 1)
        return PolicyNetwork(forward, **parts, utility=self._utility(training), n_targets=n_targets)

    def _utility(self, training: TaskSet) -> Utility:
        """Return the utility, in units of the root mean square of what actions of size 1 earn."""
        y = training.y.reshape(len(training.y), -1).astype(np.float64)
        with np.errstate(over="ignore"):
            earned = y[:, 0] * (y[:, 1] if y.shape[1] == 2 else 1.0)
            unit = float(np.sqrt(np.square(earned).mean()))
        if not np.isfinite(unit):
            raise TaskError(
                f"y: outcomes as large as {np.abs(earned).max():.2g} have no finite square; check the unit."
            )
        if unit == 0:
            raise TaskError("y: all outcomes are 0 in all tasks; there is nothing to earn, and nothing to learn.")
        return Utility(self.utility, self.limit, self.risk_aversion, self.cost, unit)

    def adaptation(self, inner: InnerSettings, meta: MetaSettings, network: PolicyNetwork) -> PolicyAdaptation:
        """Return the adaptation that the settings ask for."""
        return PolicyAdaptation.of(inner, meta, network.forward, utility=network.utility)

    def sampler(
        self,
        network: PolicyNetwork,
        tasks: TaskSet,
        adaptation: PolicyAdaptation,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> PolicySampler:
        """Return what episodes are drawn from."""
        query_size = self.query_size if training else None
        return PolicySampler(network, tasks, adaptation, rng, self.support_size, self.gap, query_size)

    def learned(
        self, network: PolicyNetwork, adaptation: PolicyAdaptation, params: Params, tasks: TaskSet, seed: int
    ) -> dict[str, Any]:
        """Return the attributes that a fit sets beside those of every kind."""
        return {"n_outputs_": 1}

    def guard_answers(
        self, network: PolicyNetwork, adaptation: PolicyAdaptation, params: Params, batching: str
    ) -> NoReturn:
        """Refuse: there is no guard for policies."""
        raise NotImplementedError

    def spread(self, network: PolicyNetwork, tasks: TaskSet) -> NoReturn:
        """Refuse: there is no guard for policies."""
        raise NotImplementedError
