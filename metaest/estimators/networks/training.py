"""Meta-training: from settings and tasks to a network and its meta-learned weights."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.guard import Answers
from metaest.estimators.networks.adaptation import Adaptation, Differentiated, Schedule, is_setting
from metaest.estimators.networks.backing_off import back_off, warn_of_rate
from metaest.estimators.networks.checks import check_given
from metaest.estimators.networks.compiled import compiled_steps
from metaest.estimators.networks.episodes import KeptWithDraws, MetaDraws, saved_bytes, tasks_at_once
from metaest.estimators.networks.network import Network, batched
from metaest.estimators.networks.settings import InnerSettings, MetaSettings, NetworkSettings, OuterSettings, Settings
from metaest.estimators.networks.threads import scoped_threads
from metaest.exceptions import DivergenceError, IdentifiabilityWarning, TaskError, filters_kept, warn
from metaest.functional import (
    BatchForward,
    Episodes,
    History,
    Loss,
    OuterLoop,
    Params,
    Rows,
    StepInfo,
    repeat_for_tasks,
)
from metaest.functional.compiler import import_compiler
from metaest.functional.generator import Stream, seeded, undrawn
from metaest.functional.meta_gradients.implicit import remaining_slope
from metaest.functional.modules.forward import batch_statistics
from metaest.functional.modules.normalization import per_step, population_statistics
from metaest.functional.outer import State
from metaest.tasks import TaskSet, check_split

__all__ = ["Earlier", "Kind", "Trained", "finalise", "history_frame", "meta_train"]

if TYPE_CHECKING:
    import pandas as pd


# splits into support and query by which each held-out task is judged
VALIDATION_SPLITS = 4
# share of the first slope that may be left at the end of an adaptation, where the implicit gradient is taken
STEEP = 0.1
# batches of tasks from which the noise of a Bayesian head is taken
SETTLING = 8
# times that a fit which diverges is begun anew
RESTARTS = 6
_logger = logging.getLogger("metaest.fit")


class Trained(NamedTuple):
    """The result of meta-training."""

    network: Network
    params: Params
    history: History
    batching: str
    batching_reason: str
    compiled: bool
    compiled_reason: str
    adaptation: Adaptation


class Earlier(NamedTuple):
    """The fit that a warm start goes on from.

    Attributes
    ----------
    network : Network
    params : dict of Tensor
    adaptation : Adaptation
        At the rates that it was lowered to.
    """

    network: Network
    params: Params
    adaptation: Adaptation


class Kind(Protocol):
    """A kind of task: regression, classification, or policies.

    The network defines the loss, and the sampler gives the compiler its episodes.
    """

    @property
    def support_size(self) -> Any:
        """Support rows of an episode."""

    @property
    def split(self) -> str:
        """How they are chosen."""

    def read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        """Return the tasks that a fit was given."""

    def network(self, settings: NetworkSettings, training: TaskSet, tasks: TaskSet, before: Any) -> Any:
        """Return the network for these tasks, some of which may be held out of training."""

    def adaptation(self, inner: InnerSettings, meta: MetaSettings, network: Any) -> Any:
        """Return the adaptation that the settings ask for."""

    def sampler(
        self, network: Any, tasks: TaskSet, adaptation: Any, rng: np.random.Generator, *, training: bool
    ) -> Any:
        """Return what episodes are drawn from."""

    def learned(self, network: Any, adaptation: Any, params: Params, tasks: TaskSet, seed: int) -> dict[str, Any]:
        """Return the attributes that a fit sets beside those of every kind."""

    def guard_answers(
        self, network: Any, adaptation: Any, params: Params, batching: str
    ) -> Callable[[TaskSet], Answers]:
        """Return what adapts to the support of tasks and predicts their query, for the guard."""

    def spread(self, network: Any, tasks: TaskSet) -> NDArray[np.float64]:
        """Return the scale of every output, for the guard."""


def meta_train(
    kind: Kind,
    settings: Settings,
    tasks: TaskSet,
    seed: int,
    checkpoint: Checkpoint | None = None,
    earlier: Earlier | None = None,
) -> Trained:
    """Meta-learn the weights of a network from tasks.

    A fit that diverges is begun anew at half the inner rate, up to six times; then the first error is raised.
    """
    import_compiler()  # torch's optimisers do, and some modules
    kept = None if checkpoint is None else checkpoint.load()
    first_error = None if kept is None or kept["error"] is None else DivergenceError(kept["error"])
    runs = RESTARTS + 1 if settings.inner.can_back_off else 1
    for halvings in range(0 if kept is None else kept["halvings"], runs):
        attempt = _Attempt(checkpoint, kept, halvings, first_error)
        try:
            trained = _train(kind, settings, tasks, seed, attempt, earlier)
        except DivergenceError as error:
            first_error, kept = error if first_error is None else first_error, None
            _logger.info("the fit is begun anew at a lower inner rate: %s", error)
            continue
        warn_of_rate(settings.inner, trained.adaptation, None if earlier is None else earlier.adaptation)
        return trained
    assert first_error is not None
    raise first_error


def _judged(kind: Kind, network: Network, tasks: TaskSet, adaptation: Adaptation, seed: int) -> Episodes:
    """Return the episodes by which tasks held out of training are judged."""
    sampler = kind.sampler(network, tasks, adaptation, np.random.default_rng(seed), training=True)
    splits = 1 if adaptation.whole_tasks else VALIDATION_SPLITS
    episodes: Episodes = sampler.episodes(np.tile(np.arange(len(tasks)), splits))
    return episodes


class _Attempt(NamedTuple):
    """One run of a fit, at the inner rate halved `halvings` times; `kept` is where it goes on from."""

    checkpoint: Checkpoint | None
    kept: State | None
    halvings: int
    first_error: DivergenceError | None

    def keeping(self, draws: MetaDraws) -> KeptWithDraws | None:
        """Return where the outer loop keeps its state, and that of its draws."""
        if self.checkpoint is None:
            return None
        error = None if self.first_error is None else str(self.first_error)
        return KeptWithDraws(self.checkpoint, self.kept, draws, {"halvings": self.halvings, "error": error})


def _train(
    kind: Kind, settings: Settings, tasks: TaskSet, seed: int, attempt: _Attempt, earlier: Earlier | None
) -> Trained:
    """Meta-learn at the inner rate that is stable on the tasks at the start, halved `halvings` times."""
    outer, engine = settings.outer, settings.engine
    rng = np.random.default_rng(seed)
    training, held_out = _hold_out(outer, tasks, rng)
    with seeded(seed):
        network: Network = kind.network(settings.network, training, tasks, earlier and earlier.network)
    adaptation: Adaptation = kind.adaptation(settings.inner, settings.meta, network)
    if earlier is not None:
        adaptation = adaptation.at_rates_of(earlier.adaptation)
    schedule = Schedule(settings.meta, settings.inner, outer.max_iter)
    _check_something_adapts(kind, settings.inner, adaptation, schedule, training)
    params = adaptation.meta_parameters(network.forward.parameters(), earlier and earlier.params)
    sampler = kind.sampler(network, training, adaptation, rng, training=True)
    batches = sampler.batches(outer.meta_batch_size)
    first_episodes = sampler.episodes(next(batches))
    # a user's module may draw (dropout): from the seed, and not from what the user's process has drawn so far
    stream = None if settings.network.module is None else Stream(seed)
    drawing = contextlib.nullcontext if stream is None else stream.drawing
    with drawing():
        forward, batching, reason = batched(network.forward, adaptation.tried(first_episodes), engine.vectorize)
        check_given(settings, network, adaptation, forward, params, first_episodes)
        adaptation, params = back_off(adaptation, params, forward, sampler, outer.meta_batch_size, seed)
    if attempt.halvings:
        adaptation, params = adaptation.backed_off(params, 2.0**attempt.halvings) or (adaptation, params)
    _log_decisions(settings, training, len(tasks), seed, adaptation, f"{batching}: {reason}")
    sampler.adaptation = adaptation

    def losses(params: Params, drawn: tuple[Differentiated, Episodes]) -> torch.Tensor:
        differentiated, episodes = drawn
        with drawing():
            return adaptation.losses(forward, network.loss, params, episodes, differentiated)

    def parts(drawn: tuple[Differentiated, Episodes]) -> list[tuple[Differentiated, Episodes]]:
        differentiated, episodes = drawn
        return [(differentiated, part) for part in episodes.parts(at_once)]

    validate = None
    if held_out is not None:
        validation_episodes = _judged(kind, network, held_out, adaptation, seed)

        def validate(params: Params) -> float:
            network.forward.module.eval()
            values = [losses(params, part).detach() for part in parts((schedule.judged, validation_episodes))]
            value = float(torch.cat(values).mean())
            network.forward.module.train()
            return value

    loop = OuterLoop(
        max_iter=outer.max_iter,
        meta_lr=outer.meta_lr,
        weight_decay=outer.alpha / int(training.offsets[-1]),
        undecayed=is_setting,
        max_grad_norm=outer.max_grad_norm,
        n_iter_no_change=outer.n_iter_no_change,
        callbacks=outer.callbacks,
        verbose=engine.verbose,
    )
    with scoped_threads(network.forward.module, params, first_episodes):
        network.forward.module.train()
        at_once = (
            1 if batching == "loop" else _at_once(engine.max_batch_bytes, losses, params, schedule, first_episodes)
        )
        _logger.info("tasks differentiated at once: %s", "all" if at_once is None else f"at most {at_once}")
        made = compiled_steps(settings, adaptation, schedule, sampler, batches, loop, params, losses)
        draw = MetaDraws(sampler, batches, schedule, network.forward.module, stream)
        with _second_derivatives():
            result = loop.run(params, draw, losses, validate, made.steps, parts, attempt.keeping(draw))
    network.forward.module.eval()
    with drawing():
        if settings.meta.gradient.needs_proximal and adaptation.held:
            _warn_of_slopes(schedule, adaptation, forward, network.loss, result.params, sampler.episodes(next(batches)))
        last_episodes = [sampler.episodes(next(batches)) for _ in range(SETTLING)]
        params = finalise(adaptation, forward, network.loss, result.params, last_episodes)
    compiled, why = made.steps is not None, made.reason
    if made.steps is not None and made.steps.instead is not None:
        compiled, why = False, "machine code and torch give different meta-gradients"
    return Trained(network, params, result.history, batching, reason, compiled, why, adaptation)


def _log_decisions(
    settings: Settings, training: TaskSet, n_tasks: int, seed: int, adaptation: Adaptation, batching: str
) -> None:
    """Log what was decided before the first meta-step."""
    counts = len(training), n_tasks - len(training), int(training.offsets[-1])
    _logger.info("%d tasks learned from, %d held out, %d rows in %s; seed %d", *counts, settings.engine.dtype, seed)
    _logger.info("tasks are evaluated by %s", batching)
    if adaptation.rate != settings.inner.rate:
        _logger.info("the inner rate is lowered from %.3g to %.3g", settings.inner.rate, adaptation.rate)


@contextlib.contextmanager
def _second_derivatives() -> Iterator[None]:
    """Say what to do where torch has no second derivative of an operation."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "derivative for" not in str(error) and "differentiate twice" not in str(error):
            raise
        raise ValueError(
            f"module: torch has no second derivative of an operation in it ({str(error).splitlines()[0]}); with "
            "meta_gradient='first-order' none is needed."
        ) from error


def _at_once(bound: int | None, losses: Any, params: Params, schedule: Schedule, episodes: Episodes) -> int | None:
    """Return how many tasks of a meta-step are differentiated at once."""
    [one, *others] = episodes.parts(1)
    if bound is None or not others:
        return None
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    with undrawn():  # a module may draw: what it draws here must not matter
        of_one = saved_bytes(lambda: losses(leaves, (schedule.at(0), one)))
    return tasks_at_once(bound, of_one)


def _check_something_adapts(
    kind: Kind, inner: InnerSettings, adaptation: Adaptation, schedule: Schedule, tasks: TaskSet
) -> None:
    """Raise a ValueError where all there is to learn is how tasks adapt, and none can; warn where too few tell."""
    if adaptation.head is not None and len(tasks) <= adaptation.head.n_directions:
        warn(
            f"{len(tasks)} tasks cannot tell how tasks differ in {adaptation.head.n_directions} directions: standard "
            "deviations of new tasks will be too small. Give more tasks, or lower rank.",
            IdentifiabilityWarning,
        )
    gradient = schedule.gradient
    only_moves, ridge = gradient.trains_only_what_moves, inner.closed_form and not inner.bayesian
    if (ridge or only_moves) and adaptation.steps == 0:
        raise ValueError(
            f"inner_solver={inner.solver_name} with meta_gradient={gradient.name!r} learns from how tasks "
            "adapt; inner_steps=0 leaves nothing to learn."
        )
    if only_moves and inner.given is None and adaptation.rate == 0:
        raise ValueError(
            f"meta_gradient={gradient.name!r} learns from how tasks adapt; inner_lr=0 leaves nothing to learn."
        )
    bounds = check_split(kind.support_size, kind.split)
    if not (ridge or adaptation.learn) or (tasks.sizes.max() > 1 and not (bounds is not None and bounds[1] == 0)):
        return
    supports = map(tasks.support_of, range(len(tasks)))
    if not any(support is not None and len(support) for support in supports):
        raise ValueError(
            f"no task has a support row (support_size={kind.support_size!r}, at most {tasks.sizes.max()} rows a "
            f"task): inner_solver={inner.solver_name} with learn_inner_lr={inner.learn!r} learns from how "
            "tasks adapt."
        )


def _warn_of_slopes(
    schedule: Schedule, adaptation: Adaptation, forward: BatchForward, loss: Loss, params: Params, episodes: Episodes
) -> None:
    """Tell when adaptations end far from the minimum that the implicit meta-gradient supposes."""
    solver, n_tasks = adaptation.solver(params), len(episodes.support.mask)
    start = repeat_for_tasks(adaptation.start(params, episodes.query), n_tasks)
    slopes = remaining_slope(forward, loss, solver, start, adaptation.support(params, episodes.support))
    if (left := float(slopes.median())) > STEEP:
        warn(
            f"meta_gradient={schedule.gradient.name!r} supposes adaptations that reach their minimum; after "
            f"{solver.steps} inner steps {100 * left:.0f} % of the slope is left in the median task. Take more inner "
            "steps, a larger inner rate or another meta-gradient.",
            ConvergenceWarning,
        )


@filters_kept()
def history_frame(history: History) -> pd.DataFrame:
    """Return one row a meta-step: step, meta_loss, validation_loss, seconds."""
    import pandas as pd

    columns = {name: getattr(history, name) for name in StepInfo._fields[1:]}
    frame = pd.DataFrame({"step": np.arange(1, len(history) + 1), **columns})
    return frame.astype({"validation_loss": np.float64})


def _hold_out(outer: OuterSettings, tasks: TaskSet, rng: np.random.Generator) -> tuple[TaskSet, TaskSet | None]:
    if not outer.early_stopping:
        return tasks, None
    n_held_out = max(1, round(outer.validation_fraction * len(tasks)))
    if n_held_out >= len(tasks):
        raise TaskError(
            f"early_stopping holds out {n_held_out} of {len(tasks)} task{'s' * (len(tasks) != 1)} and leaves none to "
            "learn from; give more tasks or set early_stopping=False."
        )
    order = rng.permutation(len(tasks))
    return tasks[np.sort(order[n_held_out:])], tasks[np.sort(order[:n_held_out])]


def finalise(
    adaptation: Adaptation, forward: BatchForward, loss: Loss, meta: Params, drawn: Sequence[Episodes]
) -> Params:
    """Return the meta-parameters with what follows from them.

    Parameters
    ----------
    adaptation : Adaptation
    forward, loss : callable
    meta : dict of Tensor
    drawn : sequence of Episodes
        Of as many tasks each.

    Returns
    -------
    dict of Tensor
    """
    if adaptation.normed:
        meta = {**meta, **_statistics(adaptation, forward, loss, meta, drawn)}
    if adaptation.head is None or not adaptation.head.bayesian or not adaptation.steps:
        return meta
    with torch.no_grad():
        start = repeat_for_tasks(adaptation.start(meta), len(drawn[0].query.mask))
        return {**meta, **adaptation.head.finalise(forward, start, drawn)}


def _statistics(
    adaptation: Adaptation, forward: BatchForward, loss: Loss, meta: Params, drawn: Sequence[Episodes]
) -> Params:
    """Return the statistics of all rows of all tasks before adaptation, and those of supports in every inner step."""
    shared, steps = [], []
    for episodes in drawn:
        n_tasks = len(episodes.query.mask)
        start = repeat_for_tasks(
            {name: value.detach() for name, value in adaptation.start(meta, episodes.query).items()}, n_tasks
        )
        rows = Rows(*(torch.cat(parts, dim=1) for parts in zip(*episodes, strict=True)))
        with torch.no_grad():
            shared.append(batch_statistics(forward, start, rows))
        if adaptation.per_step and adaptation.head is None and adaptation.steps:
            support = adaptation.support(meta, episodes.support)
            path = adaptation.solver(meta).path(forward, loss, start, support)
            steps.append([{n: v.detach() for n, v in batch_statistics(forward, at, support).items()} for at in path])
    statistics = population_statistics(shared)
    if steps:
        statistics |= per_step([population_statistics(list(step)) for step in zip(*steps, strict=True)])
    return statistics
