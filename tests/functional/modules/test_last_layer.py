"""The last layer is the one that runs last, whatever the order in which layers were declared."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from metaest.functional import HeadForward, split_head
from metaest.functional.modules.head import last_layer, layer_of

X = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 1)
        self.body = nn.Linear(2, 4)

    def forward(self, X):
        return self.head(torch.tanh(self.body(X)))


class TwoHeads(HeadFirst):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(4, 1)

    def forward(self, X):
        phi = torch.tanh(self.body(X))
        return torch.cat([self.head(phi), self.other(phi)], dim=1)


class Bounded(HeadFirst):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def forward(self, X):
        return self.after(super().forward(X))


def normed():
    return nn.Sequential(weight_norm(nn.Linear(2, 4)), nn.Tanh(), weight_norm(nn.Linear(4, 1)))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_it_is_found_by_running():
    assert last_layer(HeadFirst(), X) == "head"
    assert last_layer(normed(), X) == "2"
    assert last_layer(TwoHeads(), X) is None
    assert last_layer(nn.Linear(2, 1), X) == ""
    with pytest.raises(ValueError, match="does not take rows of 2 columns"):
        last_layer(nn.Linear(3, 1), X)


def test_it_changes_nothing():
    module = HeadFirst().train()
    before, drawn = {n: v.clone() for n, v in module.state_dict().items()}, torch.get_rng_state()
    last_layer(module, X)
    assert module.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in module.modules())


def test_what_stands_for_a_weight_is_its_layers_own():
    assert layer_of("2.parametrizations.weight.original0") == "2"
    assert layer_of("layers.0.bias") == "layers.0"
    assert layer_of("bias") == ""


def test_a_head_declared_first_is_split_off():
    module = HeadFirst()
    body, n_hidden = split_head(module, X)
    assert n_hidden == 4
    assert HeadForward(body, 1, n_hidden).names == ("body.weight", "body.bias")
    torch.testing.assert_close(module.head(body(X)), module(X))


@pytest.mark.parametrize("after", [nn.ReLU(), nn.Tanh(), nn.Softplus()])
def test_what_comes_after_a_head_is_found_whatever_its_weights(after):
    module = Bounded(after)
    with torch.no_grad():
        module.head.weight.mul_(1e-4)
        module.head.bias.fill_(1e-3)  # where tanh and relu do as good as nothing
    with pytest.raises(ValueError, match="something comes after"):
        split_head(module, X)


@pytest.mark.parametrize(("module", "message"), [(TwoHeads(), "does not end in one layer"), (normed(), "ends in '2'")])
def test_what_cannot_be_split(module, message):
    with pytest.raises(ValueError, match=message):
        split_head(module, X)
