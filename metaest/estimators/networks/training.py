"""Meta-training: from settings and tasks to a network and its meta-learned weights."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.networks.adaptation import Adaptation, Differentiated, Schedule, is_setting
from metaest.estimators.networks.backing_off import back_off, warn_of_rate
from metaest.estimators.networks.compiled import lane_steps
from metaest.estimators.networks.episodes import KeptWithDraws, MetaDraws, saved_bytes, tasks_at_once
from metaest.estimators.networks.network import Network, batched, goes_on
from metaest.estimators.networks.threads import scoped_threads
from metaest.exceptions import DivergenceError, TaskError, filters_kept, warn
from metaest.functional import BatchForward, Episodes, History, OuterLoop, Params, Rows, StepInfo, repeat_for_tasks
from metaest.functional.compiler import import_compiler
from metaest.functional.generator import Stream, seeded, undrawn
from metaest.functional.meta_gradients.implicit import remaining_slope
from metaest.functional.modules.forward import batch_statistics
from metaest.functional.modules.normalization import per_step, population_statistics
from metaest.functional.outer import State
from metaest.tasks import TaskSet, check_split

__all__ = ["Trained", "finalise", "history_frame", "meta_train"]

if TYPE_CHECKING:
    import pandas as pd


VALIDATION_SPLITS = 4
# share of the slope that may be left where the implicit gradient is taken
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
    plan: Adaptation


def meta_train(model: Any, tasks: TaskSet, seed: int, checkpoint: Checkpoint | None = None) -> Trained:
    """Meta-learn the weights of `model` (a BaseMAML with its settings) from `tasks`; `model` is not changed.

    A fit that diverges is begun anew at half the inner rate, up to six times; then the first error is raised.
    """
    import_compiler()  # torch's optimisers do, and some modules
    descends = model.inner_solver == "gradient" and model.inner_steps and model.inner_lr
    kept = None if checkpoint is None else checkpoint.load()
    first_error = None if kept is None or kept["error"] is None else DivergenceError(kept["error"])
    for halvings in range(0 if kept is None else kept["halvings"], RESTARTS + 1 if descends else 1):
        attempt = _Attempt(checkpoint, kept, halvings, first_error)
        try:
            trained = _train(model, tasks, seed, attempt)
        except DivergenceError as error:
            first_error, kept = error if first_error is None else first_error, None
            _logger.info("the fit is begun anew at a lower inner rate: %s", error)
            continue
        earlier = model._rates[1] if goes_on(model) else None
        warn_of_rate(float(model.inner_lr), trained.plan, earlier)
        return trained
    assert first_error is not None
    raise first_error


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


def _train(model: Any, tasks: TaskSet, seed: int, attempt: _Attempt) -> Trained:
    """Meta-learn at the inner rate that is stable on the tasks at the start, halved `halvings` times."""
    rng = np.random.default_rng(seed)
    training, held_out = _hold_out(model, tasks, rng)
    with seeded(seed):
        network: Network = model._build(training, tasks)
    plan: Adaptation = model._plan_of(network)
    plan = model._slowed(plan) if goes_on(model) else plan
    schedule = Schedule(model, model.max_iter)
    _check_something_adapts(plan, schedule, model, training)
    before = model._params if goes_on(model) else None
    params = plan.meta_parameters(network.forward.parameters(), before)
    source = model._source(network, training, plan, rng, training=True)
    batches = source.batches(model.meta_batch_size)
    first = source.episodes(next(batches))
    # a user's module may draw (dropout): from the seed, and not from what the user's process has drawn so far
    stream = None if model.module is None else Stream(seed)
    drawing = contextlib.nullcontext if stream is None else stream.drawing
    with drawing():
        forward, batching, reason = batched(network.forward, first.support, model.vectorize)
        plan, params = back_off(plan, params, forward, source, model.meta_batch_size, seed)
    if attempt.halvings:
        plan, params = plan.slower(params, 2.0**attempt.halvings)
    _tell(model, training, len(tasks), seed, plan, f"{batching}: {reason}")
    source.plan = plan

    def losses(params: Params, drawn: tuple[Differentiated, Episodes]) -> torch.Tensor:
        differentiated, episodes = drawn
        with drawing():
            return plan.losses(forward, params, episodes, differentiated)

    def parts(drawn: tuple[Differentiated, Episodes]) -> list[tuple[Differentiated, Episodes]]:
        differentiated, episodes = drawn
        return [(differentiated, part) for part in episodes.parts(at_once)]

    validate = None
    if held_out is not None:
        judge = model._source(network, held_out, plan, np.random.default_rng(seed), training=True)
        fixed = judge.episodes(np.tile(np.arange(len(held_out)), VALIDATION_SPLITS))

        def validate(params: Params) -> float:
            network.forward.module.eval()
            found = [losses(params, part).detach() for part in parts((schedule.judged, fixed))]
            value = float(torch.cat(found).mean())
            network.forward.module.train()
            return value

    loop = OuterLoop(
        max_iter=model.max_iter,
        meta_lr=model.meta_lr,
        weight_decay=model.alpha / len(training.X),
        undecayed=is_setting,
        max_grad_norm=model.max_grad_norm,
        n_iter_no_change=model.n_iter_no_change,
        callbacks=model.callbacks,
        verbose=bool(model.verbose),
    )
    with scoped_threads(network.forward.module, params, first):
        network.forward.module.train()
        at_once = 1 if batching == "loop" else _at_once(model.max_batch_bytes, losses, params, schedule, first)
        _logger.info("tasks differentiated at once: %s", "all" if at_once is None else f"at most {at_once}")
        made = lane_steps(model, plan, schedule, source, batches, loop, params, losses)
        draw = MetaDraws(source, batches, schedule, network.forward.module, stream)
        with _second_derivatives():
            result = loop.run(params, draw, losses, validate, made.steps, parts, attempt.keeping(draw))
    network.forward.module.eval()
    with drawing():
        if plan.proximal and plan.steps:
            _warn_of_slopes(plan, forward, result.params, source.episodes(next(batches)))
        drawn = [source.episodes(next(batches)) for _ in range(SETTLING)]
        params = finalise(plan, forward, result.params, drawn)
    compiled, why = made.steps is not None, made.reason
    if made.steps is not None and made.steps.instead is not None:
        compiled, why = False, "machine code and torch give different meta-gradients"
    return Trained(network, params, result.history, batching, reason, compiled, why, plan)


def _tell(model: Any, training: TaskSet, n_tasks: int, seed: int, plan: Adaptation, batching: str) -> None:
    """Log what was decided before the first meta-step."""
    counts = len(training), n_tasks - len(training), len(training.X)
    _logger.info("%d tasks learned from, %d held out, %d rows in %s; seed %d", *counts, model.dtype, seed)
    _logger.info("tasks are evaluated by %s", batching)
    if plan.rate != float(model.inner_lr):
        _logger.info("the inner rate is lowered from %.3g to %.3g", model.inner_lr, plan.rate)


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


def _check_something_adapts(plan: Adaptation, schedule: Schedule, model: Any, tasks: TaskSet) -> None:
    """Raise a ValueError where all there is to learn is how tasks adapt, and none can."""
    reptile, ridge = schedule.kind == "reptile", model.inner_solver == "ridge"
    if (ridge or reptile) and plan.steps == 0:
        raise ValueError(
            f"inner_solver={model.inner_solver!r} with meta_gradient={model.meta_gradient!r} learns from how tasks "
            "adapt; inner_steps=0 leaves nothing to learn."
        )
    if reptile and plan.rate == 0:
        raise ValueError("meta_gradient='reptile' learns from how tasks adapt; inner_lr=0 leaves nothing to learn.")
    bounds = check_split(model.support_size, model.split)
    if not (ridge or plan.learn) or (tasks.sizes.max() > 1 and not (bounds is not None and bounds[1] == 0)):
        return
    if not any(own is not None and len(own) for own in map(tasks.support_of, range(len(tasks)))):
        raise ValueError(
            f"no task has a support row (support_size={model.support_size!r}, at most {tasks.sizes.max()} rows a "
            f"task): inner_solver={model.inner_solver!r} with learn_inner_lr={model.learn_inner_lr!r} learns from how "
            "tasks adapt."
        )


def _warn_of_slopes(plan: Adaptation, forward: BatchForward, params: Params, episodes: Episodes) -> None:
    """Tell when adaptations end far from the minimum that the implicit meta-gradient supposes."""
    solver, n_tasks = plan.descent(params), len(episodes.support.X)
    start = repeat_for_tasks(plan.start(params, episodes.query), n_tasks)
    slopes = remaining_slope(forward, plan.loss, solver, start, plan.support(params, episodes.support))
    if (left := float(slopes.median())) > STEEP:
        warn(
            f"meta_gradient='implicit' supposes adaptations that reach their minimum; after {solver.steps} inner steps "
            f"{100 * left:.0f} % of the slope is left in the median task. Take more inner_steps, a larger inner_lr or "
            "another meta-gradient.",
            ConvergenceWarning,
        )


@filters_kept()
def history_frame(history: History) -> pd.DataFrame:
    """Return one row a meta-step: step, meta_loss, validation_loss, seconds."""
    import pandas as pd

    columns = {name: getattr(history, name) for name in StepInfo._fields[1:]}
    frame = pd.DataFrame({"step": np.arange(1, len(history) + 1), **columns})
    return frame.astype({"validation_loss": np.float64})


def _hold_out(model: Any, tasks: TaskSet, rng: np.random.Generator) -> tuple[TaskSet, TaskSet | None]:
    if not model.early_stopping:
        return tasks, None
    n_held_out = max(1, round(model.validation_fraction * len(tasks)))
    if n_held_out >= len(tasks):
        raise TaskError(
            f"early_stopping holds out {n_held_out} of {len(tasks)} task{'s' * (len(tasks) != 1)} and leaves none to "
            "learn from; give more tasks or set early_stopping=False."
        )
    order = rng.permutation(len(tasks))
    return tasks[np.sort(order[n_held_out:])], tasks[np.sort(order[:n_held_out])]


def finalise(plan: Adaptation, forward: BatchForward, meta: Params, drawn: Sequence[Episodes]) -> Params:
    """Return the meta-parameters with what follows from them.

    Parameters
    ----------
    plan : Adaptation
    forward : callable
    meta : dict of Tensor
    drawn : sequence of Episodes
        Of as many tasks each.

    Returns
    -------
    dict of Tensor
    """
    if plan.normed:
        meta = {**meta, **_statistics(plan, forward, meta, drawn)}
    if plan.head is None or not plan.head.bayesian or not plan.steps:
        return meta
    with torch.no_grad():
        start = repeat_for_tasks(plan.start(meta), len(drawn[0].query.X))
        return {**meta, **plan.head.finalise(forward, start, drawn)}


def _statistics(plan: Adaptation, forward: BatchForward, meta: Params, drawn: Sequence[Episodes]) -> Params:
    """Return the statistics of all rows of all tasks before adaptation, and those of supports in every inner step."""
    shared, steps = [], []
    for episodes in drawn:
        n_tasks = len(episodes.query.X)
        start = repeat_for_tasks(
            {name: own.detach() for name, own in plan.start(meta, episodes.query).items()}, n_tasks
        )
        rows = Rows(*(torch.cat(parts, dim=1) for parts in zip(*episodes, strict=True)))
        with torch.no_grad():
            shared.append(batch_statistics(forward, start, rows))
        if plan.per_step and plan.head is None and plan.steps:
            support = plan.support(meta, episodes.support)
            path = plan.descent(meta).path(forward, plan.loss, start, support)
            steps.append([{n: v.detach() for n, v in batch_statistics(forward, at, support).items()} for at in path])
    found = population_statistics(shared)
    if steps:
        found |= per_step([population_statistics(list(own)) for own in zip(*steps, strict=True)])
    return found
