"""An adaptation (which parameters move, from where, at which rates), and the meta-gradient of each meta-step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from sklearn.utils._param_validation import validate_parameter_constraints
from torch import Tensor

from metaest.estimators.networks.constraints import ADAPTING
from metaest.functional import (
    BatchForward,
    ClosedForm,
    ContextForward,
    Episodes,
    GradientDescent,
    HeadForward,
    LinearHead,
    MetaGradientName,
    ModuleForward,
    Params,
    Rows,
    repeat_for_tasks,
    squared_error,
    task_losses,
)
from metaest.functional.inner.solver import InnerSolver
from metaest.functional.modules.context import CONTEXT
from metaest.functional.modules.head import layer_of
from metaest.functional.modules.normalization import PER_STEP, is_statistic

__all__ = ["Adaptation", "Differentiated", "Schedule", "is_setting", "moving_names"]


Differentiated = tuple[MetaGradientName, Sequence[float] | None]
"""The kind of a meta-gradient, and the weights of the losses after each inner step."""
# before the name of a learned rate among the meta-parameters; for one rate of all there is no name
RATE = "inner_lr:"
_ANEW = "fit anew, without warm_start."


@dataclass(frozen=True)
class Adaptation:
    """The adaptation a model's settings ask for.

    Attributes
    ----------
    steps : int
    rate : float
        Where learned rates start.
    learn : False, "one", "per-parameter" or "per-layer-and-step"
    moving : tuple of str
        Names of the parameters that move.
    proximal : float
    n_context : int
        Length of the context vector; 0 for none.
    head : LinearHead or None
        What is solved in closed form.
    normed : bool
        Whether layers normalise by statistics of a task.
    per_step : bool
        Whether these are, after the fit, those of all tasks in each inner step, and not of the task's support.
    max_batch_bytes : int or None
        Memory that tasks adapted at once may take.
    """

    loss: ClassVar[Any] = staticmethod(squared_error)

    steps: int
    rate: float
    learn: str | bool
    moving: tuple[str, ...]
    proximal: float
    n_context: int
    head: LinearHead | None
    normed: bool
    per_step: bool
    max_batch_bytes: int | None

    @classmethod
    def of(cls, model: Any, forward: ModuleForward) -> Self:
        """Read a model's settings.

        Raises
        ------
        ValueError
            When they contradict each other, or name no parameter of the network.
        """
        # they may have been set since the fit checked them
        settings = {name: getattr(model, name) for name in ADAPTING}
        validate_parameter_constraints(ADAPTING, settings, type(model).__name__)
        n_context, closed = int(model.context_dim), model.inner_solver != "gradient"
        if closed != isinstance(forward, HeadForward):
            raise ValueError(f"inner_solver={model.inner_solver!r} was set after the fit; {_ANEW}")
        if n_context != (forward.n_context if isinstance(forward, ContextForward) else 0):
            raise ValueError(f"context_dim={n_context} was set after the fit; {_ANEW}")
        if ":" in "".join(forward.names):
            raise ValueError(f"module: names of parameters cannot hold a colon: {', '.join(forward.names)}.")
        moving = forward.names if closed else (CONTEXT,) if n_context else moving_names(forward, model.adapt_layers)
        _check_together(model, closed, n_context, set(moving) == set(forward.names))
        implicit = model.meta_gradient == "implicit" and not closed
        return cls(
            int(model.inner_steps),
            float(model.inner_lr),
            model.learn_inner_lr,
            moving,
            float(model.proximal) if implicit else 0.0,
            n_context,
            cls._head(model, forward) if isinstance(forward, HeadForward) else None,
            bool(forward.norms),
            model.batch_statistics == "per-step",
            model.max_batch_bytes,
        )

    @staticmethod
    def _head(model: Any, forward: HeadForward) -> LinearHead:
        assert forward.n_outputs is not None
        return LinearHead(model.inner_solver == "bayes", forward.n_hidden, forward.n_outputs)

    def meta_parameters(self, weights: Params, before: Params | None = None) -> Params:
        """Add to the weights what is learned with them: rates, or the prior of the head.

        Parameters
        ----------
        weights : dict of Tensor
        before : dict of Tensor, optional
            Of an earlier fit; what is still learned, and has the shape it had, goes on from there.
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
        for name, own in (before or {}).items():
            if name in fresh and own.shape == fresh[name].shape:
                fresh[name] = own
            elif name in fresh and self.learn == "per-layer-and-step" and is_setting(name):
                # other steps than before: what is learned of the first ones, and the last one's for more
                fresh[name] = own[torch.arange(len(fresh[name])).clamp(max=len(own) - 1)]
        return fresh

    def start(self, meta: Params, rows: Rows | None = None) -> Params:
        """Return where a task starts: the weights, and a context of zero or the prior of the head.

        Parameters
        ----------
        meta : dict of Tensor
        rows : Rows, optional
            Of the task: where classes have no meaning beyond it, they say how many there are.
        """
        weights = {name: value for name, value in meta.items() if not is_setting(name)}
        if self.normed:
            weights |= self._statistics(meta)
        if self.head is not None:
            if not set(self.head.meta_parameters(next(iter(weights.values())))) <= set(meta):
                raise ValueError(f"inner_solver was set after the fit to another closed form; {_ANEW}")
            return {**weights, **self.head.start(meta)}
        if self.n_context:
            weights[CONTEXT] = next(iter(weights.values())).new_zeros(self.n_context)
        return weights

    def zero_shot(self, meta: Params) -> Params:
        """Return the parameters that serve a task of which nothing is known."""
        return replace(self, steps=0).start(meta)

    def support(self, meta: Params, rows: Rows) -> Rows:
        """Return support rows with their weights."""
        return rows

    def output(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Evaluate rows of adapted tasks."""
        return forward(params, rows)

    def losses(self, forward: BatchForward, meta: Params, episodes: Episodes, differentiated: Differentiated) -> Tensor:
        """Return the meta-loss of each task; its gradient is the meta-gradient."""
        start = self.start(meta, episodes.query)
        if self.head is not None and self.steps:
            return self.head.losses(forward, repeat_for_tasks(start, len(episodes.query.X)), episodes)
        return task_losses(forward, self.loss, self.descent(meta), start, episodes, *differentiated)

    def _statistics(self, meta: Params) -> Params:
        """Return the statistics a task starts with: none where they will be those of its own support."""
        known = {name: value for name, value in meta.items() if is_statistic(name)}
        every_step = {name: value for name, value in known.items() if name.startswith(PER_STEP)}
        if self.per_step and self.steps and self.head is None:
            return every_step
        return {} if self.steps and not self.per_step else {n: own for n, own in known.items() if n not in every_step}

    def solver(self, meta: Params) -> InnerSolver:
        """Return the inner solver, at the rates learned so far."""
        if self.head is not None:
            return ClosedForm(self.head, steps=min(1, self.steps))
        return self.descent(meta)

    def descent(self, meta: Params) -> GradientDescent:
        """Return gradient steps at the rates learned so far."""
        return GradientDescent(self.steps, self._rates(meta), frozenset(self.moving), self.proximal)

    def slower(self, meta: Params, factor: float) -> tuple[Self, Params]:
        """Return the same at rates divided by `factor`, and the meta-parameters with it."""
        slowed = {name: value / factor if name.startswith(RATE) else value for name, value in meta.items()}
        return replace(self, rate=self.rate / factor), slowed

    def _rates(self, meta: Params) -> float | Tensor | dict[str, Tensor] | list[dict[str, Tensor]]:
        own = {name.removeprefix(RATE): value for name, value in meta.items() if name.startswith(RATE)}
        if set(own) != ({""} if self.learn == "one" else set(self.moving) if self.learn else set()):
            raise ValueError(
                f"learn_inner_lr={self.learn!r} or adapt_layers was set after the fit, which learned other rates; "
                f"{_ANEW}"
            )
        if not self.learn:
            return self.rate
        if self.learn == "one":
            return own[""]
        rates = {name: own[name] for name in self.moving}
        if self.learn == "per-parameter":
            return rates
        n_steps = len(next(iter(rates.values())))
        return [{name: rate[step] for name, rate in rates.items()} for step in range(n_steps)]


def _check_together(model: Any, closed: bool, n_context: int, all_move: bool) -> None:
    """Raise a ValueError when settings contradict each other."""
    if closed and (n_context or model.adapt_layers != "all" or model.learn_inner_lr):
        raise ValueError(
            f"inner_solver={model.inner_solver!r} adapts the last layer in closed form; leave adapt_layers, "
            "context_dim and learn_inner_lr at their defaults."
        )
    if n_context and model.adapt_layers != "all":
        raise ValueError(
            f"context_dim={n_context} moves the context vector alone; leave adapt_layers='all' "
            f"(got {model.adapt_layers!r})."
        )
    if closed:
        return
    if model.learn_inner_lr and model.meta_gradient in ("reptile", "implicit"):
        raise ValueError(
            f"learn_inner_lr={model.learn_inner_lr!r} needs a meta-gradient that goes through the steps; "
            f"{model.meta_gradient!r} gives none for the rates."
        )
    if model.meta_gradient == "reptile" and not all_move:
        raise ValueError(
            "meta_gradient='reptile' learns only what moves in an adaptation: with context_dim, or with adapt_layers "
            "other than 'all', the rest of the network would never be trained."
        )
    if model.meta_gradient == "implicit" and not model.proximal > 0:
        raise ValueError("meta_gradient='implicit' needs proximal above 0.")


def is_setting(name: str) -> bool:
    """Tell whether a meta-parameter is learned beside the network's weights, and so is not decayed."""
    return ":" in name


def moving_names(forward: ModuleForward, adapt_layers: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters that `adapt_layers` lets move.

    The head is the layer with parameters of its own that the module runs last.

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
    moving = [name for name in names if any(name == own or name.startswith(f"{own}.") for own in adapt_layers)]
    for own in adapt_layers:
        if not any(name == own or name.startswith(f"{own}.") for name in names):
            raise ValueError(f"adapt_layers: no parameter or layer {own!r}; there are {', '.join(names)}.")
    if not moving:
        raise ValueError("adapt_layers is empty: nothing would move; set inner_steps=0 to adapt nothing.")
    return tuple(moving)


class Schedule:
    """What the outer loop differentiates as it goes on.

    First-order gradients come before exact ones, the losses after every inner step before that after the last alone.

    Parameters
    ----------
    model : estimator
    max_iter : int
    """

    def __init__(self, model: Any, max_iter: int) -> None:
        closed = model.inner_solver != "gradient"  # there the gradient is exact, whatever the setting
        self.kind: MetaGradientName = "exact" if closed else model.meta_gradient
        self.first_order_until = float(model.first_order_share) * max_iter
        self.multi_step_until = float(model.multi_step_share) * max_iter
        self.steps = int(model.inner_steps)
        if (self.first_order_until or self.multi_step_until) and self.kind not in ("exact", "first-order"):
            raise ValueError(
                "first_order_share and multi_step_share need meta_gradient='exact' or 'first-order', "
                f"got {self.kind!r}."
            )

    def at(self, step: int) -> Differentiated:
        """Return the kind of meta-gradient and the weights of the steps' losses in a meta-step, counted from 0."""
        kind: MetaGradientName = "first-order" if step < self.first_order_until else self.kind
        if step >= self.multi_step_until or self.steps < 2:
            return kind, None
        each = (1 - step / self.multi_step_until) / self.steps
        return kind, [each] * (self.steps - 1) + [1 - each * (self.steps - 1)]

    @property
    def end(self) -> Differentiated:
        """What is differentiated at the end."""
        return self.kind, None

    @property
    def judged(self) -> Differentiated:
        """What gives the loss of rows that an adaptation has not seen; Reptile adapts on all of them."""
        return ("first-order" if self.kind == "reptile" else self.kind), None
