"""A fitted network: what a model and every predictor adapted from it share, and never change."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaest.exceptions import DivergenceError, OvershootWarning
from metaest.functional import (
    MLP,
    BatchForward,
    GradientDescent,
    LinearHead,
    ModuleForward,
    Params,
    Rows,
    Scaling,
    Solver,
    looped,
    mapped,
    repeat_for_tasks,
    solve_damped,
    squared_error,
)

__all__ = ["Network", "batched", "build_module", "can_widen", "seeded"]

_GLOBAL_GENERATOR = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generator as if seeded, and leave it as it was; one thread at a time."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_module(
    module: nn.Module | Callable[[int, int], nn.Module] | None,
    n_features: int,
    n_outputs: int,
    hidden_layer_sizes: Any,
    activation: str,
) -> nn.Module:
    """Return a module of our own: the built-in network, a copy of the user's module, or what the user's factory makes.

    Raises
    ------
    TypeError
        When `module` is, or makes, something else.
    ValueError
        When it holds batch normalisation, or nothing to learn.
    """
    if module is None:
        sizes = np.atleast_1d(np.asarray(hidden_layer_sizes, dtype=int))
        if (sizes < 1).any():
            raise ValueError(f"hidden_layer_sizes must be positive numbers of units, got {hidden_layer_sizes!r}.")
        return MLP(n_features, n_outputs, sizes.tolist(), activation)
    built = deepcopy(module) if isinstance(module, nn.Module) else module(n_features, n_outputs)
    if not isinstance(built, nn.Module):
        raise TypeError(f"module must be, or return, a torch.nn.Module; got {type(built).__name__}.")
    for name, child in built.named_modules():
        if isinstance(child, nn.modules.batchnorm._NormBase):
            raise ValueError(
                f"module: layer {name!r} ({type(child).__name__}) normalises by statistics of the batch, which leak "
                "between rows and tasks; use LayerNorm or GroupNorm."
            )
    if not any(parameter.requires_grad for parameter in built.parameters()):
        raise ValueError("module has no parameter with requires_grad=True; there is nothing to learn.")
    return built


def batched(forward: ModuleForward, rows: Rows) -> tuple[BatchForward, str, str]:
    """Choose how a batch of tasks is evaluated: mapped over tasks, or one after the other.

    A module is mapped when torch can map it and the result on two tasks is that of the loop. Convolutions on a CPU
    are looped over, which is faster there.

    Returns
    -------
    forward : callable
    name : {"vmap", "loop"}
    reason : str
    """
    loop = looped(forward)
    if any(isinstance(child, nn.modules.conv._ConvNd) for child in forward.module.modules()) and not rows.X.is_cuda:
        return loop, "loop", "convolutions on a CPU are faster one task at a time"
    two = _padded(Rows(*(part[:2] for part in rows)))
    params = repeat_for_tasks(forward.parameters(), two.X.shape[0])
    training = forward.module.training
    forward.module.eval()
    try:
        with torch.no_grad():
            expected = loop(params, two)
            try:
                got = mapped(forward)(params, two)
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                return loop, "loop", f"torch.vmap cannot map the module: {str(error).splitlines()[0]}"
        real = two.mask[..., None]
        if torch.allclose(got * real, expected * real, rtol=1e-3, atol=1e-5):
            return mapped(forward), "vmap", "torch.vmap gives the loop's result"
        return loop, "loop", "torch.vmap gives another result than the loop"
    finally:
        forward.module.train(training)


def can_widen(forward: ModuleForward, n_features: int) -> bool:
    """Whether the module can be evaluated in float64; one that holds float32 tensors of its own cannot."""
    params = {name: value.double() for name, value in forward.parameters().items()}
    device = next(iter(params.values())).device
    try:
        with torch.no_grad():
            output = forward(params, torch.zeros(2, n_features, dtype=torch.float64, device=device))
    except RuntimeError:
        return False
    return output.dtype == torch.float64


def _padded(rows: Rows) -> Rows:
    """Add a row of padding to each task, so that a module whose rows see each other gives itself away."""
    X, y, mask = (torch.cat([part, part[:, :1]], dim=1) for part in rows)
    mask[:, -1] = 0
    return Rows(X, y, mask)


@dataclass(frozen=True)
class Network:
    """A network with the scaling of its columns.

    Attributes
    ----------
    forward : ModuleForward
        In evaluation mode.
    features_scaling, targets_scaling : Scaling
    dtype : torch.dtype
        Of adaptation.
    device : torch.device
    single_target : bool
        Whether predictions have shape (n_rows,).
    widens : bool
        Whether the module can be evaluated in float64; one that holds float32 tensors of its own cannot.
    """

    forward: ModuleForward
    features_scaling: Scaling
    targets_scaling: Scaling
    dtype: torch.dtype
    device: torch.device
    single_target: bool
    widens: bool = True

    def scale_features(self, X: NDArray[Any]) -> Tensor:
        """Standardise in the dtype of X, so that no digit is lost before the mean is taken off."""
        return self.features_scaling.apply(torch.tensor(X)).to(self.device)

    def scale_targets(self, y: NDArray[Any]) -> Tensor:
        """Standardise targets, as (n_rows, n_targets)."""
        return self.targets_scaling.apply(torch.tensor(y.reshape(len(y), -1))).to(self.device)

    def adapt(self, params: Params, solver: Solver, X: NDArray[Any], y: NDArray[Any]) -> Params:
        """Return parameters adapted on the rows of one task.

        Raises
        ------
        DivergenceError
            When they are not finite.
        """
        rows = Rows(
            self.scale_features(X).to(self.dtype)[None],
            self.scale_targets(y).to(self.dtype)[None],
            torch.ones(1, len(X), dtype=self.dtype, device=self.device),
        )
        start = repeat_for_tasks(params, 1)
        adapted, halvings = solve_damped(looped(self.forward), squared_error, solver, start, rows)
        result = {name: value[0] for name, value in adapted.items()}
        if not all(bool(torch.isfinite(value).all()) for value in result.values()):
            raise DivergenceError(
                f"adaptation on {len(X)} rows diverged: the weights are non-finite {solver.describe()}; lower "
                "inner_lr, or check the units of X and y. The fitted model is unchanged."
            )
        if isinstance(solver, GradientDescent) and (n := int(halvings[0])):
            warnings.warn(
                f"inner_lr={solver.describe_rate()} overshoots on this task (its support loss rose); it was adapted at "
                f"{solver.describe_rate(2**n)}. The task may be unlike those of the fit.",
                OvershootWarning,
                stacklevel=5,
            )
        return result

    def predict(self, params: Params, X: NDArray[Any]) -> NDArray[Any]:
        """Predict in the dtype of X, in the user's units."""
        rows = self.scale_features(X)
        rows = rows if self.widens else rows.to(self.dtype)
        with torch.no_grad():
            output = self.forward({name: value.to(rows.dtype) for name, value in params.items()}, rows)
        return self.in_units(output)

    def predict_sd(self, params: Params, head: LinearHead, X: NDArray[Any]) -> NDArray[Any]:
        """Return the standard deviation of an observation at each row, in the user's units."""
        rows = self.scale_features(X)
        rows = rows if self.widens else rows.to(self.dtype)
        one = {name: value.to(rows.dtype)[None] for name, value in params.items()}
        blank = rows.new_zeros(1, len(rows), len(self.targets_scaling.mean))
        with torch.no_grad():
            variance = head.variance(looped(self.forward), one, Rows(rows[None], blank, blank[..., 0] + 1))
        sd: NDArray[Any] = (variance[0].sqrt().cpu().double() * self.targets_scaling.scale).numpy()
        return sd[:, 0] if self.single_target else sd

    def in_units(self, output: Tensor) -> NDArray[Any]:
        """Return network outputs of shape (n_rows, n_targets) as the user's y."""
        output = output.cpu() if self.widens else output.cpu().double()
        y: NDArray[Any] = self.targets_scaling.undo(output).numpy()
        return y[:, 0] if self.single_target else y
