"""From settings and tasks to a network: its module, its scaling, and the forward pass they ask for."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from metaest.estimators.inputs import check_columns
from metaest.estimators.networks.codes import codes_of, row_of_task, standardised_columns
from metaest.estimators.networks.module_checks import check_module, check_second_derivative, check_weights
from metaest.estimators.networks.network import RegressionNetwork
from metaest.exceptions import TaskError
from metaest.functional import (
    MLP,
    ContextForward,
    ConvNet,
    HeadForward,
    ModuleForward,
    Scaling,
    split_head,
    task_normed,
)
from metaest.functional.modules.head import last_layer
from metaest.functional.modules.recurrent import step_by_step
from metaest.tasks import TaskSet

__all__ = ["build_parts", "build_regression", "device_of", "goes_on"]

# rows on which a module is tried
PROBES = 32


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


def goes_on(model: Any) -> bool:
    """Tell whether a fit goes on from the one before."""
    return bool(model.warm_start) and hasattr(model, "_network")


def build_parts(model: Any, tasks: TaskSet, n_outputs: int) -> tuple[ModuleForward, dict[str, Any]]:
    """Return the forward pass that the settings ask for, and what else every network has."""
    device = device_of(model.device)
    dtype = {"float32": torch.float32, "float64": torch.float64}[model.dtype]
    shape = tasks.X.shape[1:]
    module = _module(model, (shape[0] + int(model.context_dim), *shape[1:]), n_outputs).to(device, dtype)
    columns = standardised_columns(model.standardize, tasks.feature_names, shape[0])
    scaling = Scaling.learn(torch.tensor(tasks.X)).only(torch.from_numpy(columns))
    plain = scaling.apply(torch.tensor(tasks.X[:PROBES])).to(device, dtype)
    rows = _with_context(plain, int(model.context_dim))
    if model.module is not None:
        check_module(module, rows)
    codes = None if model.module is None else codes_of(module, rows, tasks, columns, model.standardize)
    if codes is not None:
        copied = deepcopy(module).eval()
        codes.require(
            lambda X: copied(_with_context(X, int(model.context_dim))),
            tasks.X[:PROBES],
            plain,
            partial(row_of_task, tasks),
        )
    forward = _forward(module, rows, n_outputs, int(model.context_dim), model.inner_solver)
    widens = _can_widen(forward, plain[:2])
    bends = model.inner_solver == "gradient" and model.inner_steps and model.meta_gradient in ("exact", "implicit")
    if model.module is not None and widens and bends:
        check_second_derivative(forward, plain)
    return forward, {
        "features_scaling": scaling,
        "dtype": dtype,
        "device": device,
        "widens": widens,
        "codes": codes,
    }


def _module(model: Any, shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Return a module of our own: the built-in network, a copy of the user's module, or what the user's factory makes.

    Raises
    ------
    TypeError
        When `module` is, or makes, something else.
    ValueError
        When it normalises by running statistics, or has nothing to learn.
    """
    module = model.module
    if module is None:
        sizes = _sizes(model.hidden_layer_sizes)
        if len(shape) == 1:
            return MLP(shape[0], n_outputs, sizes.tolist(), model.activation, model.normalization)
        return ConvNet(shape, n_outputs, sizes.tolist(), model.activation, model.normalization)
    built_by = None if isinstance(module, nn.Module) else (shape[0] if len(shape) == 1 else shape, n_outputs)
    built = module if built_by is None else module(*built_by)
    if not isinstance(built, nn.Module):
        raise TypeError(f"module must be, or return, a torch.nn.Module; got {type(built).__name__}.")
    check_weights(built)
    built = step_by_step(task_normed(built))
    if built_by is not None:
        # what a file keeps of how it was built
        built._metaest_called_with = built_by  # type: ignore[assignment]
    if not any(parameter.requires_grad for parameter in built.parameters()):
        raise ValueError("module has no parameter with requires_grad=True; there is nothing to learn.")
    return built


def _with_context(X: torch.Tensor, n_context: int) -> torch.Tensor:
    """Add columns, or channels of images, for a context vector of zero."""
    return torch.cat([X, X.new_zeros(len(X), n_context, *X.shape[2:])], dim=1)


def _can_widen(forward: ModuleForward, X: torch.Tensor) -> bool:
    """Whether the module can be evaluated in float64; one that holds float32 tensors of its own cannot."""
    params = {name: value.double() for name, value in forward.parameters().items()}
    try:
        with torch.no_grad():
            output = forward(params, X.double())
    except RuntimeError:
        return False
    return output.dtype == torch.float64


def _forward(module: nn.Module, X: torch.Tensor, n_outputs: int, n_context: int, inner_solver: str) -> ModuleForward:
    """Return the forward pass that the settings ask for; `X` holds a few standardised rows, and contexts of zero."""
    if inner_solver != "gradient":
        body, n_hidden = split_head(module, X)
        return HeadForward(body, n_outputs, n_hidden)
    if n_context:
        return ContextForward(module, n_outputs, n_context)
    return ModuleForward(module, n_outputs, last_layer(module, X))


def device_of(setting: str) -> torch.device:
    """Return the device that a setting names, or raise a ValueError where torch has none such."""
    if setting == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device='cuda': torch finds no CUDA device here; take device='cpu', or 'auto', which takes a GPU where "
            "there is one."
        )
    return torch.device("cuda" if setting != "cpu" and torch.cuda.is_available() else "cpu")


def _sizes(given: Any) -> NDArray[np.int64]:
    """Return the numbers of units of the hidden layers; there may be none."""
    try:
        sizes = np.atleast_1d(np.asarray(given))
    except (TypeError, ValueError, RuntimeError):  # ragged, or no numbers at all
        sizes = np.array([np.nan])
    if sizes.ndim != 1 or (len(sizes) and sizes.dtype.kind not in "iu") or (sizes < 1).any():
        raise ValueError(f"hidden_layer_sizes must be positive whole numbers of units, got {given!r}.")
    return sizes.astype(np.int64)
