"""A fitted network, shared by a model and its adapted predictors and never changed; how it is built and batched."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaest.estimators.networks.codes import Codes, codes_of, row_of_task, standardised_columns
from metaest.estimators.networks.module_checks import check_module, check_second_derivative, check_weights
from metaest.estimators.networks.rows import CollateFn, check_collated_settings, rows_as_tensor
from metaest.estimators.networks.settings import NetworkSettings
from metaest.exceptions import DivergenceError, OvershootWarning, TaskError, warn
from metaest.functional import (
    MLP,
    BatchForward,
    ContextForward,
    ConvNet,
    Forward,
    HeadForward,
    Loss,
    ModuleForward,
    Params,
    Rows,
    Scaling,
    looped,
    mapped,
    repeat_for_tasks,
    solve_damped,
    split_head,
    task_normed,
)
from metaest.functional.generator import undrawn
from metaest.functional.inner.solver import InnerSolver
from metaest.functional.modules.head import last_layer
from metaest.functional.modules.recurrent import step_by_step
from metaest.tasks import TaskSet

__all__ = ["Network", "batched", "build_parts", "require_finite_weights", "within_range"]


# rows on which a module is tried
PROBES = 32


def batched(forward: ModuleForward, rows: Rows, vectorize: str | bool = "auto") -> tuple[BatchForward, str, str]:
    """Choose how a batch of tasks is evaluated: mapped over tasks, or one after the other.

    A module is mapped when torch can map it and the result on two tasks is that of the loop. Convolutions on a CPU
    are looped over, which is faster there, unless mapping is asked for.

    Returns
    -------
    forward : callable
    name : {"vmap", "loop"}
    reason : str

    Raises
    ------
    ValueError
        When mapping is asked for and cannot be had.
    """
    if vectorize is False:
        return looped(forward), "loop", "vectorize=False"
    chosen, name, reason = _batched(forward, rows, vectorize)
    if vectorize is True and name == "loop":
        raise ValueError(f"vectorize=True is not possible: {reason}; use vectorize='auto'.")
    return chosen, name, reason


def _batched(forward: ModuleForward, rows: Rows, vectorize: str | bool) -> tuple[BatchForward, str, str]:
    loop = looped(forward)
    convolves = any(isinstance(child, nn.modules.conv._ConvNd) for child in forward.module.modules())
    if vectorize == "auto" and convolves and not rows.X.is_cuda:
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
        if not torch.allclose(got * real, expected * real, rtol=1e-3, atol=1e-5):
            return loop, "loop", "torch.vmap gives another result than the loop"
        failure = None if isinstance(forward.module, (MLP, ConvNet)) else _fails_in_training(forward, mapped, two)
        if failure is not None and _fails_in_training(forward, looped, two) is None:
            return loop, "loop", f"torch.vmap cannot map the module in training: {failure}"
        return mapped(forward), "vmap", "torch.vmap gives the loop's result"
    finally:
        forward.module.train(training)


def _fails_in_training(forward: ModuleForward, batched: Callable[[Forward], BatchForward], rows: Rows) -> str | None:
    """Return why second derivatives of the module in training mode cannot be had, or None where they can."""
    params = repeat_for_tasks(forward.parameters(), rows.X.shape[0])
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    forward.module.train()
    try:
        with torch.enable_grad(), undrawn():  # what is drawn here must not matter
            total = batched(forward)(leaves, rows).square().sum()
            slopes = torch.autograd.grad(total, list(leaves.values()), create_graph=True, materialize_grads=True)
            steepness = torch.stack([slope.square().sum() for slope in slopes]).sum()
            if steepness.requires_grad:
                torch.autograd.grad(steepness, list(leaves.values()), materialize_grads=True)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    finally:
        forward.module.eval()
    return None


def _padded(rows: Rows) -> Rows:
    """Add a row of padding to each task, so that a module whose rows see each other gives itself away."""
    X, y, mask = (torch.cat([part, part[:, :1]], dim=1) for part in rows)
    mask[:, -1] = 0
    return Rows(X, y, mask)


def within_range(
    scaled: Tensor, dtype: torch.dtype, name: str, place: Callable[[int], str] = lambda row: f"row {row}"
) -> Tensor:
    """Return standardised values in the dtype of adaptation, or raise a TaskError where they overflow.

    Parameters
    ----------
    scaled : Tensor of shape (rows, ...)
    dtype : torch.dtype
    name : {"X", "y"}
    place : callable
        Row number -> how the message begins.
    """
    narrow = scaled.to(dtype)
    if not all_finite(narrow):
        row, *rest = (int(i) for i in torch.nonzero(~torch.isfinite(narrow))[0])
        raise TaskError(
            f"{place(row)}: column {rest[0] if rest else 0} of {name} is {float(scaled[(row, *rest)]):.2g} after "
            f"standardising, beyond the range of {str(dtype).removeprefix('torch.')}; check its unit"
            + ("." if dtype == torch.float64 else ", or fit with dtype='float64'.")
        )
    return narrow


def all_finite(values: Tensor) -> bool:
    """Whether all values are finite: one sum tells so of most tensors, in a third of the time that a mask takes."""
    return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())


def require_finite_weights(params: Params, tasks: TaskSet) -> None:
    """Raise a DivergenceError that names the first task whose weights, of shape (tasks, ...), are not finite."""
    finite = torch.ones(len(tasks), dtype=torch.bool)
    for value in params.values():
        finite &= torch.isfinite(value.reshape(len(tasks), -1)).all(dim=1).cpu()
    if not bool(finite.all()):
        i = int(torch.nonzero(~finite)[0])
        raise DivergenceError(
            f"task {tasks.name_of(i)!r}: adaptation diverged: the weights are non-finite; lower "
            "inner_lr, or check the units of X and y. The fitted model is unchanged."
        )


@dataclass(frozen=True)
class Network:
    """A network with the scaling of its features.

    Attributes
    ----------
    forward : ModuleForward
        In evaluation mode.
    features_scaling : Scaling
    dtype : torch.dtype
        Of adaptation.
    device : torch.device
    widens : bool
        Whether the module can be evaluated in float64; one that holds float32 tensors of its own cannot.
    codes : Codes or None
        Check of rows where the module looks up codes.
    collate_fn : callable or None
        The user's function that makes a tensor of rows that are objects. Such rows are not standardised, may be padded
        by NaN, and their shape may differ from call to call.
    """

    forward: ModuleForward
    features_scaling: Scaling
    dtype: torch.dtype
    device: torch.device
    widens: bool
    codes: Codes | None
    collate_fn: CollateFn | None = field(default=None, kw_only=True)

    @property
    def loss(self) -> Loss:
        """The loss of a batch of tasks; the only definition of a kind's loss."""
        raise NotImplementedError

    def scale_features(self, X: NDArray[Any], place: Callable[[int], str] = "row {}".format) -> Tensor:
        """Standardise in the dtype of X, so that no digit is lost before the mean is taken off; collate objects."""
        if self.collate_fn is not None:
            return rows_as_tensor(X, self.collate_fn, place).to(self.device)
        scaled = self.features_scaling.apply(rows_as_tensor(X)).to(self.device)
        if self.codes is not None:
            self.codes.require(self._look_up, X, scaled.to(self.dtype))
        return scaled

    def features(self, X: NDArray[Any], dtype: torch.dtype | None, place: Callable[[int], str]) -> Tensor:
        """Return standardised rows in a dtype (None keeps theirs), or raise a TaskError where they overflow."""
        scaled = self.scale_features(X, place)
        if self.collate_fn is not None:
            return scaled.to(dtype or scaled.dtype)
        return within_range(scaled, dtype or scaled.dtype, "X", place)

    def require_codes(self, tasks: TaskSet) -> None:
        """Raise a TaskError that names the task and the row where the module has no entry for a code."""
        if self.codes is not None:
            scaled = self.features_scaling.apply(rows_as_tensor(tasks.X)).to(self.device, self.dtype)
            self.codes.require(self._look_up, tasks.X, scaled, partial(row_of_task, tasks))

    def _look_up(self, rows: Tensor) -> Tensor:
        return self.forward(self.forward.parameters(), rows)

    def rows(self, X: NDArray[Any], y: Tensor) -> Rows:
        """Return the rows of one task as a batch of one."""
        return Rows(
            self.features(X, self.dtype, "row {}".format)[None],
            within_range(y, self.dtype, "y")[None],
            torch.ones(1, len(X), dtype=self.dtype, device=self.device),
        )

    def adapt(self, params: Params, solver: InnerSolver, support: Rows) -> Params:
        """Return parameters adapted on the rows of one task.

        Raises
        ------
        DivergenceError
            When they are not finite.
        """
        start = repeat_for_tasks(params, 1)
        adapted, halvings = solve_damped(looped(self.forward), self.loss, solver, start, support)
        result = {name: value[0] for name, value in adapted.items()}
        if not all(map(all_finite, result.values())):
            raise DivergenceError(
                f"adaptation on {support.X.shape[1]} rows diverged: the weights are non-finite {solver.describe()}; "
                "lower inner_lr, or check the units of X and y. The fitted model is unchanged."
            )
        if n := int(halvings[0]):
            warn(
                f"inner_lr={solver.describe_rate()} overshoots on this task (its support loss rose); it was adapted at "
                f"{solver.describe_rate(2**n)}. The task may be unlike those of the fit.",
                OvershootWarning,
            )
        return result

    def widened(self, params: Params, X: NDArray[Any]) -> tuple[Params, Tensor]:
        """Return parameters and standardised rows in the dtype in which rows are predicted."""
        rows = self.features(X, None if self.widens else self.dtype, "predict, row {}".format)
        return {name: value.to(rows.dtype) for name, value in params.items()}, rows

    def output(self, params: Params, X: NDArray[Any]) -> Tensor:
        """Evaluate rows of one task."""
        wide, rows = self.widened(params, X)
        with torch.no_grad():
            return self.finite(self.forward(wide, rows), X)

    def finite(self, output: Tensor, X: NDArray[Any], where: str = "predict") -> Tensor:
        """Return outputs of rows, or raise a TaskError that names the first row whose output is not finite."""
        if all_finite(output):
            return output
        row = int(torch.nonzero(~torch.isfinite(output.reshape(len(output), -1)).all(dim=1))[0])
        if self.collate_fn is not None:
            raise TaskError(f"{where}: the answer for row {row} is not finite.")
        away = self.features_scaling.apply(rows_as_tensor(X[row : row + 1]).double())[0].abs()
        column = int(away.reshape(len(away), -1).amax(dim=1).argmax())
        raise TaskError(
            f"{where}: the answer for row {row} is not finite; column {column} of X lies "
            f"{float(away[column].max()):.2g} standard deviations of the fit from its mean there; check its unit."
        )


def build_parts(settings: NetworkSettings, tasks: TaskSet, n_outputs: int) -> tuple[ModuleForward, dict[str, Any]]:
    """Return the forward pass that the settings ask for, and the other fields of every network."""
    if settings.collate_fn is not None:
        return _parts_of_objects(settings, settings.collate_fn, tasks, n_outputs)
    device, dtype, n_context = settings.device, settings.dtype, settings.context_dim
    shape = tasks.X.shape[1:]
    module = _module(settings, (shape[0] + n_context, *shape[1:]), n_outputs).to(device, dtype)
    columns = standardised_columns(settings.standardize, tasks.feature_names, shape[0])
    scaling = Scaling.learn(rows_as_tensor(tasks.X)).only(torch.from_numpy(columns))
    plain = scaling.apply(rows_as_tensor(tasks.X[:PROBES])).to(device, dtype)
    rows = _with_context(plain, n_context)
    users = settings.module is not None
    if users:
        check_module(module, rows)
    codes = codes_of(module, rows, tasks, columns, settings.standardize) if users else None
    if codes is not None:
        copied = deepcopy(module).eval()
        codes.require(
            lambda X: copied(_with_context(X, n_context)),
            tasks.X[:PROBES],
            plain,
            partial(row_of_task, tasks),
        )
    forward = _forward(
        module, rows, n_outputs, settings, [] if codes is None else [place for place, _ in codes.columns]
    )
    widens = _can_widen(forward, plain[:2])
    if users and widens and settings.second_derivatives:
        check_second_derivative(forward, plain)
    return forward, {
        "features_scaling": scaling,
        "dtype": dtype,
        "device": device,
        "widens": widens,
        "codes": codes,
    }


def _parts_of_objects(
    settings: NetworkSettings, collate_fn: CollateFn, tasks: TaskSet, n_outputs: int
) -> tuple[ModuleForward, dict[str, Any]]:
    """Return what `build_parts` does, for rows that are objects: nothing of them is standardised or looked up."""
    check_collated_settings(settings.module, settings.standardize, settings.context_dim)
    rows = rows_as_tensor(tasks.X, collate_fn, partial(row_of_task, tasks))
    shape, probes = tuple(rows.shape[1:]), rows[:PROBES].to(settings.device, settings.dtype)
    module = _module(settings, shape, n_outputs).to(settings.device, settings.dtype)
    check_module(module, probes)
    forward = _forward(module, probes, n_outputs, settings, range(shape[0]))
    widens = _can_widen(forward, probes[:2])
    if widens and settings.second_derivatives:
        check_second_derivative(forward, probes)
    return forward, {
        "features_scaling": Scaling.identity(shape[0], len(shape) - 1),
        "dtype": settings.dtype,
        "device": settings.device,
        "widens": widens,
        "codes": None,
        "collate_fn": collate_fn,
    }


def _module(settings: NetworkSettings, shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Return the built-in network, a copy of the user's module, or what the user's factory makes.

    Raises
    ------
    TypeError
        When `module` is, or makes, something else.
    ValueError
        When it normalises by running statistics, or has nothing to learn.
    """
    module = settings.module
    if module is None:
        sizes = _sizes(settings.hidden_layer_sizes)
        if len(shape) == 1:
            return MLP(shape[0], n_outputs, sizes.tolist(), settings.activation, settings.normalization)
        return ConvNet(shape, n_outputs, sizes.tolist(), settings.activation, settings.normalization)
    built_by = None if isinstance(module, nn.Module) else (shape[0] if len(shape) == 1 else shape, n_outputs)
    built = module if built_by is None else module(*built_by)
    if not isinstance(built, nn.Module):
        raise TypeError(f"module must be, or return, a torch.nn.Module; got {type(built).__name__}.")
    check_weights(built)
    built = step_by_step(task_normed(built))
    if built_by is not None:
        # a file records how the module was built
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


def _forward(
    module: nn.Module, X: torch.Tensor, n_outputs: int, settings: NetworkSettings, indirect: Sequence[int]
) -> ModuleForward:
    """Return the forward pass that the settings ask for.

    Parameters
    ----------
    module : torch.nn.Module
    X : Tensor of shape (rows, ...)
        A few standardised rows, with contexts of zero.
    n_outputs : int
    settings : NetworkSettings
    indirect : sequence of int
        Columns that are no numbers for a linear head: codes, and all of what a collate_fn made.
    """
    if settings.closed_form:
        body, n_hidden = split_head(module, X)
        columns = range(X.shape[1]) if settings.direct and X.ndim == 2 else []
        return HeadForward(body, n_outputs, n_hidden, [place for place in columns if place not in indirect])
    if settings.context_dim:
        return ContextForward(module, n_outputs, settings.context_dim)
    return ModuleForward(module, n_outputs, last_layer(module, X))


def _sizes(given: Any) -> NDArray[np.int64]:
    """Return the numbers of units of the hidden layers; there may be none."""
    try:
        sizes = np.atleast_1d(np.asarray(given))
    except (TypeError, ValueError, RuntimeError):  # ragged, or no numbers at all
        sizes = np.array([np.nan])
    if sizes.ndim != 1 or (len(sizes) and sizes.dtype.kind not in "iu") or (sizes < 1).any():
        raise ValueError(f"hidden_layer_sizes must be positive whole numbers of units, got {given!r}.")
    return sizes.astype(np.int64)
