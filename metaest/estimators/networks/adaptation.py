"""An adaptation: which parameters move, from where and at which rates; and the meta-gradient of each meta-step."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from metaest.estimators.networks.settings import InnerSettings, MetaSettings
from metaest.functional import (
    BatchForward,
    ClosedForm,
    ContextForward,
    Episodes,
    EvidenceHead,
    GradientDescent,
    Head,
    HeadForward,
    InnerSolver,
    LinearHead,
    Loss,
    MetaGradient,
    ModuleForward,
    Params,
    QueryLoss,
    Rows,
    repeat_for_tasks,
    task_losses,
)
from metaest.functional.modules.context import CONTEXT
from metaest.functional.modules.head import layer_of
from metaest.functional.modules.normalization import PER_STEP, is_statistic

__all__ = ["Adaptation", "Differentiated", "Schedule", "is_setting", "moving_names"]

Differentiated = tuple[MetaGradient, Sequence[float | Tensor] | None]
"""A meta-gradient, and the weights of the query losses after each inner step."""

# prefix of learned rates among the meta-parameters; a single rate for all parameters has nothing after it
RATE = "inner_lr:"
_ANEW = "fit anew, without warm_start."


@dataclass(frozen=True)
class Adaptation:
    """How the tasks of a fitted model adapt.

    Attributes
    ----------
    steps : int
    rate : float
        Start of learned rates.
    learn : False, "one", "per-parameter" or "per-layer-and-step"
    moving : tuple of str
        Names of the parameters that move.
    proximal : float
    n_context : int
        Length of the context vector; 0 for none.
    head : Head or None
        The head that is solved in closed form.
    normed : bool
        Whether layers normalise by statistics of a task.
    per_step : bool
        Whether these are, after the fit, those of all tasks in each inner step, and not of the task's support.
    max_batch_bytes : int or None
        Memory that tasks adapted at once may take.
    solver_object : InnerSolver or None
        A solver that was passed as an object.
    """

    steps: int
    rate: float
    learn: str | bool
    moving: tuple[str, ...]
    proximal: float
    n_context: int
    head: Head | None
    normed: bool
    per_step: bool
    max_batch_bytes: int | None
    solver_object: InnerSolver | None = field(default=None, kw_only=True, hash=False)

    @classmethod
    def of(cls, inner: InnerSettings, meta: MetaSettings, forward: ModuleForward, **further: Any) -> Self:
        """Return the adaptation that settings ask for, with the `further` fields of a subclass.

        Raises
        ------
        ValueError
            When settings contradict each other, or name no parameter of the network.
        """
        closed, n_context = inner.closed_form, inner.context_dim
        if closed != isinstance(forward, HeadForward):
            raise ValueError(f"inner_solver={inner.solver_name} was set after the fit; {_ANEW}")
        if n_context != (forward.n_context if isinstance(forward, ContextForward) else 0):
            raise ValueError(f"context_dim={n_context} was set after the fit; {_ANEW}")
        if ":" in "".join(forward.names):
            raise ValueError(f"module: names of parameters cannot hold a colon: {', '.join(forward.names)}.")
        if closed:
            moving = forward.names
        elif n_context:
            moving = (CONTEXT,)
        else:
            moving = moving_names(forward, inner.adapt_layers)
        if inner.given is not None:
            inner.given.require(moving)
            moving = tuple(name for name in moving if inner.given.moves(name))
        _check_together(inner, meta, set(moving) == set(forward.names), bool(forward.norms))
        held = meta.gradient.needs_proximal and not closed
        return cls(
            inner.steps,
            inner.rate,
            inner.learn,
            moving,
            inner.proximal if held else 0.0,
            n_context,
            cls._head(inner, forward) if isinstance(forward, HeadForward) else None,
            bool(forward.norms),
            inner.statistics_per_step,
            inner.max_batch_bytes,
            solver_object=inner.given,
            **further,
        )

    @staticmethod
    def _head(inner: InnerSettings, forward: HeadForward) -> Head:
        """Return the head that a closed form solves."""
        assert forward.n_outputs is not None
        if inner.by_evidence:
            most = (forward.n_features + 1) * forward.n_outputs
            return EvidenceHead(forward.n_features, forward.n_outputs, min(inner.rank, most))
        return LinearHead(inner.bayesian, forward.n_hidden, forward.n_outputs)

    def meta_parameters(self, weights: Params, before: Params | None = None) -> Params:
        """Add to the weights the parameters learned with them: rates, or the prior of the head.

        Parameters
        ----------
        weights : dict of Tensor
        before : dict of Tensor, optional
            The meta-parameters of an earlier fit; those still learned, and of the same shape, go on from there.
        """
        like = next(iter(weights.values()))
        fresh = dict(weights)
        if self.head is not None:
            fresh |= self.head.meta_parameters(like)
        elif self.learn == "one":
            fresh[RATE] = like.new_tensor(self.rate)
        elif self.learn:
            for name in self.moving:
                shape = (self.n_context,) if name == CONTEXT else weights[name].shape
                shape = shape if self.learn == "per-parameter" else (max(1, self.steps),)
                fresh[RATE + name] = like.new_full(shape, self.rate)
        for name, value in (before or {}).items():
            if name in fresh and value.shape == fresh[name].shape:
                fresh[name] = value
            elif name in fresh and self.learn == "per-layer-and-step" and is_setting(name):
                # another number of steps than before: the first keep their rates, further ones take the last one's
                fresh[name] = value[torch.arange(len(fresh[name])).clamp(max=len(value) - 1)]
        return fresh

    def start(self, meta: Params, rows: Rows | None = None) -> Params:
        """Return the parameters that a task starts from: the weights, and a context of zero or the prior of the head.

        Parameters
        ----------
        meta : dict of Tensor
        rows : Rows, optional
            Rows of the task: where classes have no meaning beyond it, they say how many there are.
        """
        weights = {name: value for name, value in meta.items() if not is_setting(name)}
        if self.normed:
            weights |= self._statistics(meta)
        if self.head is not None:
            learned = self.head.meta_parameters(next(iter(weights.values())))
            if not set(learned) <= set(meta):
                raise ValueError(f"inner_solver was set after the fit to another closed form; {_ANEW}")
            if any(meta[name].shape != value.shape for name, value in learned.items()):
                raise ValueError(f"rank was set after the fit; {_ANEW}")
            return {**weights, **self.head.start(meta)}
        if self.n_context:
            weights[CONTEXT] = next(iter(weights.values())).new_zeros(self.n_context)
        return weights

    def zero_shot(self, meta: Params) -> Params:
        """Return the parameters that predict a task without rows."""
        return replace(self, steps=0).start(meta)

    def support(self, meta: Params, rows: Rows) -> Rows:
        """Return support rows as they are; a classifier weighs them by class."""
        return rows

    def output(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Evaluate rows of adapted tasks."""
        return forward(params, rows)

    def losses(
        self, forward: BatchForward, loss: Loss, meta: Params, episodes: Episodes, differentiated: Differentiated
    ) -> Tensor:
        """Return the meta-loss of each task; its gradient is the meta-gradient."""
        start = self.start(meta, episodes.query)
        if self.head is not None and self.whole_tasks:
            return self.head.losses(forward, repeat_for_tasks(start, 1), episodes)
        if self.head is not None and self.steps:
            return self.head.losses(forward, repeat_for_tasks(start, len(episodes.query.mask)), episodes)
        solver = self.solver(meta) if self.head is None else GradientDescent(0, 0.0)
        return task_losses(forward, loss, solver, start, episodes, *differentiated)

    @property
    def whole_tasks(self) -> bool:
        """Whether a fit learns by all rows of each task at once, so that its episodes need no support."""
        return self.head is not None and self.head.whole_tasks

    def tried(self, episodes: Episodes) -> Rows:
        """Return the rows of an episode on which it is tried how tasks are evaluated."""
        return episodes.query if self.whole_tasks else episodes.support

    def _statistics(self, meta: Params) -> Params:
        """Return the statistics a task starts with: none where they will be those of its support."""
        learned = {name: value for name, value in meta.items() if is_statistic(name)}
        every_step = {name: value for name, value in learned.items() if name.startswith(PER_STEP)}
        if self.per_step and self.steps and self.head is None:
            return every_step
        if self.steps and not self.per_step:
            return {}
        return {name: value for name, value in learned.items() if name not in every_step}

    @property
    def needs_statistics(self) -> bool:
        """Whether layers of an adapted task normalise by statistics of its support."""
        return bool(self.normed and self.steps) and not self.per_step

    def solver(self, meta: Params) -> InnerSolver:
        """Return the inner solver, at the rates learned so far."""
        if self.head is not None:
            return ClosedForm(self.head, steps=min(1, self.steps))
        if self.solver_object is not None:
            return self.solver_object if self.steps else GradientDescent(0, 0.0)
        return GradientDescent(self.steps, self._rates(meta), frozenset(self.moving), self.proximal)

    def backed_off(self, meta: Params, factor: float) -> tuple[Self, Params] | None:
        """Return the same at rates divided by `factor`, with the meta-parameters; None where there is no rate."""
        if self.head is not None or not self.steps:
            return None
        if self.solver_object is not None:
            solver = self.solver_object.backed_off(factor)
            return None if solver is None else (replace(self, solver_object=solver), meta)
        if not self.rate:
            return None
        slowed = {name: value / factor if name.startswith(RATE) else value for name, value in meta.items()}
        return replace(self, rate=self.rate / factor), slowed

    def at_rates_of(self, earlier: "Adaptation") -> Self:
        """Return the same at the rates that an earlier fit lowered its own to."""
        return replace(self, rate=earlier.rate, solver_object=earlier.solver_object)

    @property
    def held(self) -> float:
        """The strength with which the parameters of a task are held to their start."""
        if not self.steps:
            return 0.0
        return self.proximal if self.solver_object is None else self.solver_object.proximal

    @property
    def compilable(self) -> bool:
        """Whether the inner steps of a meta-step can be compiled."""
        return self.solver_object is None or self.solver_object.compilable

    def _rates(self, meta: Params) -> float | Tensor | dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return the rates of gradient steps, as they are set or learned."""
        learned = {name.removeprefix(RATE): value for name, value in meta.items() if name.startswith(RATE)}
        if set(learned) != ({""} if self.learn == "one" else set(self.moving) if self.learn else set()):
            raise ValueError(
                f"learn_inner_lr={self.learn!r} or adapt_layers was set after the fit, which learned other rates; "
                f"{_ANEW}"
            )
        if not self.learn:
            return self.rate
        if self.learn == "one":
            return learned[""]
        rates = {name: learned[name] for name in self.moving}
        if self.learn == "per-parameter":
            return rates
        n_steps = len(next(iter(rates.values())))
        return [{name: rate[step] for name, rate in rates.items()} for step in range(n_steps)]


def _check_together(inner: InnerSettings, meta: MetaSettings, all_move: bool, normed: bool) -> None:
    """Raise a ValueError when settings contradict each other."""
    elsewhere = inner.context_dim or inner.adapt_layers != "all" or inner.learn
    if inner.closed_form and elsewhere:
        raise ValueError(
            f"inner_solver={inner.solver_name} adapts the last layer in closed form; leave adapt_layers, "
            "context_dim and learn_inner_lr at their defaults."
        )
    if inner.given is not None and elsewhere:
        raise ValueError(
            f"inner_solver={inner.solver_name} says itself what moves and at which rates; leave adapt_layers, "
            "context_dim and learn_inner_lr at their defaults."
        )
    if inner.given is not None and normed and inner.statistics_per_step:
        raise ValueError(
            f"batch_statistics='per-step' needs gradient steps; with inner_solver={inner.solver_name} leave 'support'."
        )
    if inner.context_dim and inner.adapt_layers != "all":
        raise ValueError(
            f"context_dim={inner.context_dim} moves the context vector alone; leave adapt_layers='all' "
            f"(got {inner.adapt_layers!r})."
        )
    if inner.closed_form:
        return
    gradient = meta.gradient
    if inner.learn and not gradient.through_steps:
        raise ValueError(
            f"learn_inner_lr={inner.learn!r} needs a meta-gradient that goes through the steps; "
            f"{gradient.name!r} gives none for the rates."
        )
    if gradient.trains_only_what_moves and not all_move:
        raise ValueError(
            f"meta_gradient={gradient.name!r} learns only what moves in an adaptation: with context_dim, or with "
            "adapt_layers other than 'all', the rest of the network would never be trained."
        )
    proximal = inner.proximal if inner.given is None else inner.given.proximal
    if gradient.needs_proximal and not proximal > 0:
        if inner.given is None:
            raise ValueError(f"meta_gradient={gradient.name!r} needs proximal above 0.")
        raise ValueError(
            f"meta_gradient={gradient.name!r} needs a solver that holds parameters to their start; "
            f"{inner.solver_name}.proximal is 0."
        )


def is_setting(name: str) -> bool:
    """Tell whether a meta-parameter is learned beside the network's weights, and so is not decayed."""
    return ":" in name


def moving_names(forward: ModuleForward, adapt_layers: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters that `adapt_layers` lets move.

    The head is the last layer to run among those with parameters.

    Raises
    ------
    ValueError
        When a name is none of the module's, or nothing would move.
    """
    names = forward.names
    if isinstance(adapt_layers, str) and adapt_layers == "all":
        return names
    if isinstance(adapt_layers, str):
        if forward.last is None:
            raise ValueError(
                f"adapt_layers={adapt_layers!r}: the module does not end in one layer on which all outputs depend; "
                f"name the layers or parameters that are to move; there are {', '.join(names)}."
            )
        moving = [name for name in names if (layer_of(name) == forward.last) == (adapt_layers == "head")]
        if not moving:
            raise ValueError("adapt_layers='body': the module has one layer with parameters only, its head.")
        return tuple(moving)
    moving = [name for name in names if any(_belongs(name, layer) for layer in adapt_layers)]
    for layer in adapt_layers:
        if not any(_belongs(name, layer) for name in names):
            raise ValueError(f"adapt_layers: no parameter or layer {layer!r}; there are {', '.join(names)}.")
    if not moving:
        raise ValueError("adapt_layers is empty: nothing would move; set inner_steps=0 to adapt nothing.")
    return tuple(moving)


def _belongs(name: str, layer: str) -> bool:
    """Tell whether a parameter is the one named, or belongs to the layer named."""
    return name == layer or name.startswith(f"{layer}.")


class Schedule:
    """The meta-gradient of each meta-step.

    First-order gradients come before exact ones, and the losses after every inner step before that after the last.

    Parameters
    ----------
    meta : MetaSettings
    inner : InnerSettings
    max_iter : int
    """

    def __init__(self, meta: MetaSettings, inner: InnerSettings, max_iter: int) -> None:
        # a closed form is differentiated exactly, whatever the setting
        self.gradient: MetaGradient = QueryLoss() if inner.closed_form else meta.gradient
        self.first_order_until = meta.first_order_share * max_iter
        self.multi_step_until = meta.multi_step_share * max_iter
        self.steps = inner.steps
        first_order, name = self.gradient.first_order, self.gradient.name
        if self.first_order_until and first_order is None:
            raise ValueError(
                f"first_order_share needs a meta_gradient with a first-order form, such as 'exact'; {name!r} has none."
            )
        if self.multi_step_until and not self.gradient.takes_step_weights:
            raise ValueError(
                "multi_step_share needs a meta_gradient that weights the losses after each inner step, such as 'exact' "
                f"or 'first-order'; {name!r} does not."
            )
        if self.multi_step_until and inner.given is not None and inner.steps > 1 and not inner.given.yields_each_step:
            raise ValueError(
                f"multi_step_share needs the parameters after every step; {inner.solver_name} has steps={inner.steps} "
                "and does not override path."
            )
        self._first: MetaGradient = first_order or self.gradient

    def at(self, step: int) -> Differentiated:
        """Return the meta-gradient and the weights of the steps' losses in a meta-step, counted from 0."""
        gradient = self._first if step < self.first_order_until else self.gradient
        if step >= self.multi_step_until or self.steps < 2:
            return gradient, None
        each = (1 - step / self.multi_step_until) / self.steps
        return gradient, [each] * (self.steps - 1) + [1 - each * (self.steps - 1)]

    @property
    def end(self) -> Differentiated:
        """The meta-gradient of the last meta-step."""
        return self.gradient, None

    def stages(self, max_iter: int) -> list[range]:
        """Return the meta-steps in order, in ranges in which nothing but the weights of the steps' losses changes."""
        changes = {math.ceil(until) for until in (self.first_order_until, self.multi_step_until)}
        ends = sorted({change for change in changes if 0 < change < max_iter} | {max_iter})
        return [range(first, end) for first, end in itertools.pairwise([0, *ends])]

    @property
    def judged(self) -> Differentiated:
        """The meta-gradient whose values are losses of rows that an adaptation has not seen."""
        return self.gradient.validation, None
