"""Networks whose last, linear layer is one for each task, and the search for the layer a module ends in.

The last layer is found by running the module, since the order of declaration says nothing.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from metaest.functional.modules.attention import differentiable_attention
from metaest.functional.modules.forward import ModuleForward
from metaest.functional.types import Params

__all__ = ["HEAD", "PREFIX", "HeadForward", "last_layer", "layer_of", "split_head"]

# prefix of the names of parameters that belong to a head and not to the network
PREFIX = "head:"
HEAD = PREFIX + "weights"


class HeadForward(ModuleForward):
    """Features of a module, one more that is one, and linear weights on them.

    Parameters
    ----------
    module : torch.nn.Module
        Returns features of shape (rows, n_hidden).
    n_outputs : int or None
        Targets; None where their number follows from the weights.
    n_hidden : int
    direct : sequence of int, default=()
        Columns of X that are features themselves, before those of the module.

    Attributes
    ----------
    n_features : int
        Of module and columns, without the constant one.
    """

    def __init__(self, module: nn.Module, n_outputs: int | None, n_hidden: int, direct: Sequence[int] = ()) -> None:
        super().__init__(module, n_outputs)
        self.n_hidden = n_hidden
        self.direct = tuple(direct)
        self.n_features = n_hidden + len(self.direct)
        self._features = ModuleForward(module, n_hidden)

    def run(
        self, params: Params, X: Tensor, mask: Tensor | None = None, collects: bool = False
    ) -> tuple[Tensor, Params]:
        """Predict one task; its weights have shape (n_features + 1, columns), and are all one if none are given."""
        body = {name: value for name, value in params.items() if not name.startswith(PREFIX)}
        phi, statistics = self._features.run(body, X, mask, collects)
        phi = _beside(X, self.direct, phi)
        weights = params[HEAD] if HEAD in params else X.new_ones(self.n_features + 1, self.n_outputs or 1)
        return phi @ weights[:-1] + weights[-1], statistics

    def as_module(self, params: Params) -> nn.Module:
        """Return the features with a linear layer that holds the task's weights."""
        weights = params[HEAD]
        # weights that are replaced are not drawn: torch's generator stays as it was
        layer = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, self.n_features, weights.shape[1], dtype=weights.dtype, device=weights.device
        )
        with torch.no_grad():
            layer.weight.copy_(weights[:-1].T)
            layer.bias.copy_(weights[-1])
        body = super().as_module(params)
        return nn.Sequential(ColumnsBeside(body, self.direct) if self.direct else body, layer)

    def __getstate__(self) -> dict[str, object]:
        fields = {"module": self.module, "n_outputs": self.n_outputs, "n_hidden": self.n_hidden}
        return {**fields, "direct": self.direct}


class ColumnsBeside(nn.Module):
    """The features of a module, after columns of its rows.

    Parameters
    ----------
    body : torch.nn.Module
    direct : sequence of int
    """

    def __init__(self, body: nn.Module, direct: Sequence[int]) -> None:
        super().__init__()
        self.body = body
        self.direct = tuple(direct)

    def forward(self, X: Tensor) -> Tensor:
        """Return features of rows."""
        return _beside(X, self.direct, self.body(X))


def _beside(X: Tensor, direct: tuple[int, ...], phi: Tensor) -> Tensor:
    """Return features after columns of X."""
    if not direct:
        return phi
    columns = X if direct == tuple(range(X.shape[1])) else X[:, list(direct)]
    return torch.cat([columns, phi], dim=1)


def split_head(module: nn.Module, X: Tensor) -> tuple[nn.Module, int]:
    """Return a copy of the module without its last layer, which must be linear, and the number of its features.

    Parameters
    ----------
    module : torch.nn.Module
    X : Tensor of shape (rows, columns)
        A few rows to run it on.

    Raises
    ------
    ValueError
        When the last layer is not linear, is all there is, or something comes after it.
    """
    name = last_layer(module, X)
    layer = None if name is None else module.get_submodule(name)
    if name is None or type(layer) is not nn.Linear:
        raise ValueError(
            "a head in closed form replaces the last layer, which must be a torch.nn.Linear; the module "
            + ("does not end in one layer." if name is None else f"ends in {name!r}, a {type(layer).__name__}.")
        )
    body = deepcopy(module)
    parent, _, attribute = name.rpartition(".")
    if not name or not any(p.requires_grad for n, p in module.named_parameters() if layer_of(n) != name):
        raise ValueError("a head in closed form needs features to stand on; the module is one linear layer.")
    setattr(body.get_submodule(parent), attribute, nn.Identity())
    _check_split(module, body, name, X)
    return body, layer.in_features


def _check_split(module: nn.Module, body: nn.Module, name: str, X: Tensor) -> None:
    """Raise a ValueError when the module is not its head on its body's features, whatever the head's weights."""
    whole, features = deepcopy(module).eval(), deepcopy(body).eval()
    layer = whole.get_submodule(name)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 10.0):
        with torch.no_grad():
            for value in layer.parameters():
                value.copy_(scale * torch.randn(value.shape, generator=generator, dtype=torch.float32))
            split, together = layer(features(X)).reshape(len(X), -1), whole(X).reshape(len(X), -1)
        if not torch.allclose(split, together, atol=1e-5, rtol=1e-4):
            raise ValueError(
                "a head in closed form needs a module that returns what its last linear layer returns; something "
                "comes after it."
            )


def layer_of(name: str) -> str:
    """Return the layer a parameter belongs to; the parts of a parametrised weight are the layer's, too."""
    parts = name.split(".")
    return ".".join(parts[: parts.index("parametrizations")] if "parametrizations" in parts else parts[:-1])


def last_layer(module: nn.Module, X: Tensor) -> str | None:
    """Return the name of the layer with trainable parameters that a module runs last.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed: a copy is run, in evaluation mode.
    X : Tensor of shape (rows, columns)
        A few rows to run it on.

    Returns
    -------
    str or None
        None where some of the outputs do not depend on that layer: the module does not end in one layer.

    Raises
    ------
    ValueError
        When the module does not take such rows.
    """
    module = deepcopy(module).eval()
    owners = {layer_of(name) for name, value in module.named_parameters() if value.requires_grad}
    entered: list[str] = []
    for name, layer in module.named_modules():
        if name in owners:
            layer.register_forward_pre_hook(lambda *_, entering=name: entered.append(entering))
    before = _run(module, X)
    if not entered:
        return None
    last = entered[-1]
    inside = f"{last}." if last else ""
    if any(name.startswith(inside) and name not in entered for name in owners):
        return None  # attention reads the weights of a layer inside it without running that layer
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.requires_grad and layer_of(name) == last:
                value.add_(torch.randn(value.shape, generator=generator, dtype=torch.float32).to(value))
    changed = (_run(module, X) != before).any(dim=0)
    return last if bool(changed.all()) else None


def _run(module: nn.Module, X: Tensor) -> Tensor:
    """Return outputs of shape (rows, outputs)."""
    try:
        with torch.no_grad(), differentiable_attention:
            output: Tensor = module(X)
    except RuntimeError as error:
        raise ValueError(f"module: it does not take rows of {X.shape[1]} columns: {error}") from error
    return output.reshape(len(X), -1)
