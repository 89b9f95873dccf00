"""Meta-training: from an estimator's settings and tasks to a network and its meta-learned weights."""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from metaest.estimators.episodes import Source
from metaest.estimators.inputs import check_columns
from metaest.estimators.network import Network, batched, build_module, can_widen, seeded
from metaest.estimators.plan import Differentiated, Plan, Schedule, is_setting
from metaest.exceptions import TaskError
from metaest.functional import (
    BatchForward,
    ContextForward,
    Episodes,
    HeadForward,
    ModuleForward,
    OuterLoop,
    Params,
    Scaling,
    StepInfo,
    last_layer,
    remaining_slope,
    repeat_for_tasks,
    split_head,
    squared_error,
)
from metaest.tasks import TaskSet, check_split

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Trained", "history_frame", "meta_train"]

VALIDATION_SPLITS = 4
# share of the slope that may be left where the implicit gradient is taken
STEEP = 0.1
# batches of tasks from which the noise of a Bayesian head is taken
SETTLING = 8
# rows on which a module is tried
PROBES = 32
_logger = logging.getLogger("metaest")


class Trained(NamedTuple):
    """The result of meta-training."""

    network: Network
    params: Params
    history: list[StepInfo]
    batching: str
    batching_reason: str


def meta_train(model: Any, tasks: TaskSet, seed: int) -> Trained:
    """Meta-learn the weights of `model` (an estimator's settings) from `tasks`; `model` is not changed."""
    rng = np.random.default_rng(seed)
    training, held_out = _hold_out(model, tasks, rng)
    with seeded(seed):
        network = _network(model, training)
    plan, schedule = Plan.of(model, network.forward), Schedule(model, model.max_iter)
    _check_something_adapts(plan, schedule, model, training)
    before = model._params if _goes_on(model) else None
    params = plan.meta_parameters(network.forward.parameters(), before)
    source = Source(network, training, model.support_size, model.split, rng)
    batches = source.batches(model.meta_batch_size)
    forward, batching, reason = batched(network.forward, source.episodes(next(batches)).support)
    if batching == "loop":
        _logger.info("tasks are evaluated one after the other: %s", reason)

    def losses(params: Params, drawn: tuple[Differentiated, Episodes]) -> torch.Tensor:
        differentiated, episodes = drawn
        return plan.losses(forward, params, episodes, differentiated)

    validate = None
    if held_out is not None:
        judge = Source(network, held_out, model.support_size, model.split, np.random.default_rng(seed))
        fixed = judge.episodes(np.tile(np.arange(len(held_out)), VALIDATION_SPLITS))

        def validate(params: Params) -> float:
            network.forward.module.eval()
            value = float(losses(params, (schedule.judged, fixed)).detach().mean())
            network.forward.module.train()
            return value

    kinds = map(schedule.at, itertools.count())
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
    # a user's module may draw (dropout): from the seed, and not from what the user's process has drawn so far
    with contextlib.nullcontext() if model.module is None else seeded(seed):
        network.forward.module.train()
        result = loop.run(params, lambda: (next(kinds), source.episodes(next(batches))), losses, validate)
    network.forward.module.eval()
    if plan.proximal and plan.steps:
        _warn_of_slopes(plan, forward, result.params, source.episodes(next(batches)))
    with torch.no_grad():
        settled = plan.settled(forward, result.params, [source.episodes(next(batches)) for _ in range(SETTLING)])
    return Trained(network, settled, result.history, batching, reason)


def _check_something_adapts(plan: Plan, schedule: Schedule, model: Any, tasks: TaskSet) -> None:
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


def _warn_of_slopes(plan: Plan, forward: BatchForward, params: Params, episodes: Episodes) -> None:
    """Tell when adaptations end far from the minimum that the implicit meta-gradient supposes."""
    solver, n_tasks = plan.descent(params), len(episodes.support.X)
    slopes = remaining_slope(
        forward, squared_error, solver, repeat_for_tasks(plan.start(params), n_tasks), episodes.support
    )
    if (left := float(slopes.median())) > STEEP:
        warnings.warn(
            f"meta_gradient='implicit' supposes adaptations that reach their minimum; after {solver.steps} inner steps "
            f"{100 * left:.0f} % of the slope is left in the median task. Take more inner_steps, a larger inner_lr or "
            "another meta-gradient.",
            ConvergenceWarning,
            stacklevel=4,
        )


def history_frame(history: list[StepInfo]) -> pd.DataFrame:
    """Return one row a meta-step: step, meta_loss, validation_loss, seconds."""
    import pandas as pd

    frame = pd.DataFrame(history, columns=list(StepInfo._fields))
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


def _goes_on(model: Any) -> bool:
    return bool(model.warm_start) and hasattr(model, "_network")


def _network(model: Any, tasks: TaskSet) -> Network:
    n_features, n_outputs = tasks.X.shape[1], 1 if tasks.y.ndim == 1 else tasks.y.shape[1]
    if _goes_on(model):
        check_columns(model, tasks, n_features, "warm_start")
        if (n_features, n_outputs) != (model.n_features_in_, model.n_outputs_):
            raise TaskError(
                f"warm_start goes on from {model.n_features_in_} features and {model.n_outputs_} targets, but the "
                f"tasks have {n_features} and {n_outputs}; fit a new model."
            )
        network: Network = replace(deepcopy(model._network), single_target=tasks.y.ndim == 1)
        return network
    device = torch.device("cuda" if model.device == "auto" and torch.cuda.is_available() else _plain(model.device))
    dtype = {"float32": torch.float32, "float64": torch.float64}[model.dtype]
    n_context = int(model.context_dim)
    module = build_module(model.module, n_features + n_context, n_outputs, model.hidden_layer_sizes, model.activation)
    if model.standardize:
        features_scaling = Scaling.learn(torch.tensor(tasks.X))
        targets_scaling = Scaling.learn(torch.tensor(tasks.y.reshape(len(tasks.y), -1)))
    else:
        features_scaling, targets_scaling = Scaling.identity(n_features), Scaling.identity(n_outputs)
    rows = features_scaling.apply(torch.tensor(tasks.X[:PROBES])).to(device, dtype)
    forward = _forward(module.to(device, dtype), rows, n_outputs, n_context, model.inner_solver)
    return Network(
        forward,
        features_scaling,
        targets_scaling,
        dtype,
        device,
        tasks.y.ndim == 1,
        widens=can_widen(forward, n_features),
    )


def _forward(
    module: torch.nn.Module, X: torch.Tensor, n_outputs: int, n_context: int, inner_solver: str
) -> ModuleForward:
    """Return the forward pass that the settings ask for; `X` holds a few standardised rows."""
    X = torch.cat([X, X.new_zeros(len(X), n_context)], dim=1)
    if inner_solver != "gradient":
        body, n_hidden = split_head(module, X)
        return HeadForward(body, n_outputs, n_hidden)
    if n_context:
        return ContextForward(module, n_outputs, n_context)
    return ModuleForward(module, n_outputs, last_layer(module, X))


def _plain(device: str) -> str:
    return "cpu" if device == "auto" else device
