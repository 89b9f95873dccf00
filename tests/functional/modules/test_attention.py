"""Attention and recurrence have exact meta-gradients, and torch's settings are left as they were."""

import threading

import pytest
import torch
from torch import nn
from torch.backends import cuda, mha

from metaest.functional import (
    Episodes,
    GradientDescent,
    ModuleForward,
    Rows,
    looped,
    mapped,
    squared_error,
    task_losses,
)
from metaest.functional.modules.attention import differentiable_attention
from metaest.functional.modules.head import last_layer
from metaest.functional.modules.recurrent import step_by_step


class Sequences(nn.Module):
    """Columns as the steps of a sequence, then one layer over all of them."""

    def __init__(self, between):
        super().__init__()
        self.enter = nn.Linear(1, 4)
        self.between = between
        self.head = nn.Linear(12, 1)

    def forward(self, X):
        return self.head(self.mix(self.enter(X[..., None])).flatten(1))

    def mix(self, h):
        return self.between(h)


class SelfAttention(Sequences):
    def mix(self, h):
        return self.between(h, h, h, need_weights=False)[0]


class Recurrent(Sequences):
    def mix(self, h):
        return self.between(h)[0]


class Functional(Sequences):
    def mix(self, h):
        heads = h.unflatten(-1, (2, 2)).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)


def modules():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
    return {
        "MultiheadAttention": SelfAttention(nn.MultiheadAttention(4, 2, batch_first=True)),
        "TransformerEncoder": Sequences(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)),
        "scaled_dot_product_attention": Functional(None),
        "GRU": Recurrent(nn.GRU(4, 4, batch_first=True)),
        "LSTM": Recurrent(nn.LSTM(4, 4, batch_first=True)),
    }


def rows(n_rows):
    return Rows(*(torch.randn(3, n_rows, k, dtype=torch.float64) for k in (3, 1)), torch.ones(3, n_rows).double())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", list(modules()))
def test_the_meta_gradient_is_that_of_finite_differences(name, training):
    module = step_by_step(modules()[name]).double().train(training)
    forward, episodes = ModuleForward(module, 1), Episodes(rows(4), rows(5))
    params = forward.parameters()
    along = {key: torch.randn_like(value) for key, value in params.items()}
    values = []
    for batched in (mapped, looped):

        def meta_loss(step, batched=batched):
            at = {key: (value + step * along[key]).requires_grad_() for key, value in params.items()}
            loss = task_losses(batched(forward), squared_error, GradientDescent(2, 0.1), at, episodes).mean()
            return loss, at

        loss, at = meta_loss(0.0)
        gradients = torch.autograd.grad(loss, list(at.values()), materialize_grads=True)
        slope = sum((gradient * along[key]).sum() for gradient, key in zip(gradients, at, strict=True))
        difference = (meta_loss(1e-5)[0] - meta_loss(-1e-5)[0]) / 2e-5
        torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-8)
        values.append(slope)
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-12)


def flags():
    return (
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
        cuda.math_sdp_enabled(),
        mha.get_fastpath_enabled(),
    )


@pytest.fixture
def settings_of_the_user():
    before = flags()
    cuda.enable_mem_efficient_sdp(False)
    yield flags()
    cuda.enable_mem_efficient_sdp(before[1])


def test_settings_come_back_after_an_error_and_after_calls_that_overlap(settings_of_the_user):
    inside = (False, False, False, True, False)

    def fails():
        with differentiable_attention:
            assert flags() == inside
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fails()
    assert flags() == settings_of_the_user
    entered, leave = threading.Event(), threading.Event()

    def overlapping():
        with differentiable_attention:
            entered.set()
            leave.wait()

    thread = threading.Thread(target=overlapping, daemon=True)
    with differentiable_attention:
        thread.start()
        entered.wait()
    assert flags() == inside  # the other call is still under way
    leave.set()
    thread.join()
    assert flags() == settings_of_the_user


def test_attention_that_ends_a_module_is_not_taken_for_one_layer():
    """Its output weights are read without running the layer that holds them."""

    class EndsInAttention(nn.MultiheadAttention):
        def forward(self, X):
            h = X[:, None, :]
            return super().forward(h, h, h, need_weights=False)[0][:, 0]

    assert last_layer(EndsInAttention(2, 1, batch_first=True), torch.randn(4, 2)) is None
    assert last_layer(SelfAttention(nn.MultiheadAttention(4, 2, batch_first=True)), torch.randn(4, 3)) == "head"
