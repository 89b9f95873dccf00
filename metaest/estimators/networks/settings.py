"""The settings of an estimator, read once into typed groups; below `base.py` no function takes the estimator.

Each group reads a mapping of all settings by the names of the estimators' arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from metaest.functional import Callback, InnerSolver, MetaGradient, as_meta_gradient
from metaest.tasks.arguments import is_whole

__all__ = [
    "EngineSettings",
    "InnerSettings",
    "MetaSettings",
    "NetworkSettings",
    "OuterSettings",
    "Settings",
    "device_of",
]

# settings that ask for a linear head in closed form, as messages name them
RIDGE = repr("ridge")
BAYES = repr("bayes")
EVIDENCE = repr("evidence")


@dataclass(frozen=True)
class InnerSettings:
    """How a task adapts.

    Attributes
    ----------
    solver_name : str
        The setting `inner_solver` as messages name it.
    given : InnerSolver or None
        The setting where it is an object.
    steps : int
        0 where nothing is adapted; otherwise the number of inner steps, that of the object where one is given.
    rate : float
    learn : False, "one", "per-parameter" or "per-layer-and-step"
    adapt_layers : str or sequence of str
    context_dim : int
    rank : int
    proximal : float
    statistics_per_step : bool
        Whether layers normalise by averages over the training tasks, one for each step.
    max_batch_bytes : int or None
    """

    solver_name: str
    given: InnerSolver | None
    steps: int
    rate: float
    learn: str | bool
    adapt_layers: str | Sequence[str]
    context_dim: int
    rank: int
    proximal: float
    statistics_per_step: bool
    max_batch_bytes: int | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read how a task adapts."""
        solver, steps = values["inner_solver"], int(values["inner_steps"])
        given = solver if isinstance(solver, InnerSolver) else None
        if given is not None and steps:
            if not is_whole(given.steps) or given.steps < 0:
                raise ValueError(
                    f"inner_solver={type(given).__name__}: its steps must be a whole number of at least 0, got "
                    f"{given.steps!r}."
                )
            steps = int(given.steps)
        return cls(
            repr(solver) if given is None else type(given).__name__,
            given,
            steps,
            float(values["inner_lr"]),
            values["learn_inner_lr"],
            values["adapt_layers"],
            int(values["context_dim"]),
            int(values["rank"]),
            float(values["proximal"]),
            values["batch_statistics"] == "per-step",
            values["max_batch_bytes"],
        )

    @property
    def closed_form(self) -> bool:
        """Whether the last layer is solved in closed form."""
        return self.given is None and self.solver_name in (RIDGE, BAYES, EVIDENCE)

    @property
    def bayesian(self) -> bool:
        """Whether the closed form is Bayes' rule."""
        return self.closed_form and self.solver_name != RIDGE

    @property
    def by_evidence(self) -> bool:
        """Whether the prior of the closed form is learned by the evidence of whole tasks."""
        return self.given is None and self.solver_name == EVIDENCE

    @property
    def can_back_off(self) -> bool:
        """Whether there is a rate that a fit may lower."""
        if self.given is not None:
            return self.steps > 0 and self.given.backed_off(2.0) is not None
        return not self.closed_form and self.steps > 0 and self.rate > 0


@dataclass(frozen=True)
class MetaSettings:
    """The meta-gradient and its schedule.

    Attributes
    ----------
    gradient : MetaGradient
    multi_step_share, first_order_share : float
        Shares of the meta-steps, at the beginning of a fit.
    """

    gradient: MetaGradient
    multi_step_share: float
    first_order_share: float

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read the meta-gradient and its schedule."""
        gradient = as_meta_gradient(values["meta_gradient"])
        return cls(gradient, float(values["multi_step_share"]), float(values["first_order_share"]))


@dataclass(frozen=True)
class NetworkSettings:
    """The module and the scaling of its features.

    Attributes
    ----------
    hidden_layer_sizes, activation, normalization, module, standardize, collate_fn
        As the estimators take them.
    adapt_layers
        Layers that move: where the head is among them, classes may start alike.
    context_dim : int
    closed_form : bool
        Whether the last layer makes room for a head in closed form.
    direct : bool
        Whether columns are features of that head themselves, beside those of the network.
    second_derivatives : bool
        Whether a fit differentiates the module twice.
    device : torch.device
    dtype : torch.dtype
    """

    hidden_layer_sizes: Any
    activation: str
    normalization: str | None
    module: nn.Module | Callable[..., nn.Module] | None
    standardize: Any
    collate_fn: Callable[[list[Any]], torch.Tensor] | None
    adapt_layers: str | Sequence[str]
    context_dim: int
    closed_form: bool
    direct: bool
    second_derivatives: bool
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def read(cls, values: Mapping[str, Any], inner: InnerSettings, meta: MetaSettings) -> Self:
        """Read what the network is, for the other groups."""
        return cls(
            values["hidden_layer_sizes"],
            values["activation"],
            values["normalization"],
            values["module"],
            values["standardize"],
            values.get("collate_fn"),  # policies have none
            inner.adapt_layers,
            inner.context_dim,
            inner.closed_form,
            inner.by_evidence,
            not inner.closed_form and inner.steps > 0 and meta.gradient.second_derivatives,
            device_of(values["device"]),
            {"float32": torch.float32, "float64": torch.float64}[values["dtype"]],
        )


@dataclass(frozen=True)
class OuterSettings:
    """The outer loop; names are those of the estimators' arguments."""

    meta_lr: float
    meta_batch_size: int
    max_iter: int
    alpha: float
    max_grad_norm: float | None
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    callbacks: Sequence[Callback]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read the settings of the outer loop."""
        return cls(**{name: values[name] for name in cls.__annotations__})


@dataclass(frozen=True)
class EngineSettings:
    """What evaluates the numbers; names are those of the estimators' arguments."""

    compile: str | bool
    vectorize: str | bool
    max_batch_bytes: int | None
    dtype: str
    verbose: bool

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read the settings of the engine."""
        return cls(**{**{name: values[name] for name in cls.__annotations__}, "verbose": bool(values["verbose"])})


@dataclass(frozen=True)
class Settings:
    """All settings of a fit but those of the kind of task."""

    network: NetworkSettings
    inner: InnerSettings
    meta: MetaSettings
    outer: OuterSettings
    engine: EngineSettings

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read all groups."""
        inner, meta = InnerSettings.read(values), MetaSettings.read(values)
        network = NetworkSettings.read(values, inner, meta)
        return cls(network, inner, meta, OuterSettings.read(values), EngineSettings.read(values))


def device_of(setting: str) -> torch.device:
    """Return the device that a setting names, or raise a ValueError where torch has none such."""
    if setting == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device='cuda': torch finds no CUDA device here; take device='cpu', or 'auto', which takes a GPU where "
            "there is one."
        )
    return torch.device("cuda" if setting != "cpu" and torch.cuda.is_available() else "cpu")
