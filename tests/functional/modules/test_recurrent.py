"""Recurrent layers written out step by step return what torch's own layers return."""

import copy
import pickle

import pytest
import torch
from torch import nn

from metaest.functional.modules.recurrent import step_by_step

KINDS = [
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu"}),
    (nn.GRU, {}),
    (nn.LSTM, {}),
    (nn.LSTM, {"proj_size": 2}),
]


def pair(kind, **settings):
    torch.manual_seed(0)
    fused = kind(3, 4, **settings).double()
    return fused, step_by_step(copy.deepcopy(fused))


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_outputs_and_states_are_those_of_torch(kind, settings):
    for layers, backwards, batch_first, bias in [
        (1, True, True, False),
        (2, False, True, True),
        (2, True, False, True),
    ]:
        fused, stepped = pair(
            kind, num_layers=layers, bidirectional=backwards, batch_first=batch_first, bias=bias, **settings
        )
        assert isinstance(stepped, kind)
        for shape in ((5, 7, 3), (7, 3)):  # a batch of sequences, and one sequence
            X = torch.randn(*shape, dtype=torch.float64)
            expected = fused(X)
            torch.testing.assert_close(stepped(X), expected)
            states = expected[1]
            start = tuple(map(torch.randn_like, states)) if kind is nn.LSTM else torch.randn_like(states)
            torch.testing.assert_close(stepped(X, start), fused(X, start))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_packed_sequences_pickles_and_bad_shapes(kind):
    fused, stepped = pair(kind, batch_first=True)
    stepped = pickle.loads(pickle.dumps(stepped))
    X = torch.randn(4, 5, 3, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(X, [5, 4, 2, 1], batch_first=True)
    torch.testing.assert_close(stepped(packed)[0].data, fused(packed)[0].data)
    for layer in (fused, stepped):
        with pytest.raises(RuntimeError, match="Expected 3, got 2"):
            layer(X[..., :2])
        state = torch.zeros(1, 3, 4, dtype=torch.float64)
        with pytest.raises(RuntimeError, match="Expected hidden"):
            layer(X, (state, state) if kind is nn.LSTM else state)


def test_dropout_acts_between_layers_in_training_alone():
    fused, stepped = pair(nn.GRU, num_layers=2, dropout=0.5)
    X = torch.randn(5, 7, 3, dtype=torch.float64)
    assert not torch.equal(stepped(X)[0], stepped(X)[0])
    torch.testing.assert_close(stepped.eval()(X), fused.eval()(X))


def test_a_subclass_keeps_its_own_forward():
    class Doubled(nn.GRU):
        def forward(self, X):
            return 2 * super().forward(X)[0]

    layer = Doubled(3, 4)
    assert type(step_by_step(layer)) is Doubled


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(nn.RNNCell, {}), (nn.RNNCell, {"nonlinearity": "relu"}), (nn.GRUCell, {"bias": False}), (nn.LSTMCell, {})],
)
def test_cells_take_the_step_of_torch(kind, settings):
    fused, stepped = pair(kind, **settings)
    assert type(stepped) is not kind
    for shape in ((5, 3), (3,)):
        X = torch.randn(*shape, dtype=torch.float64)
        state = torch.randn(*shape[:-1], 4, dtype=torch.float64)
        state = (state, state + 1) if kind is nn.LSTMCell else state
        torch.testing.assert_close(stepped(X), fused(X))
        torch.testing.assert_close(stepped(X, state), fused(X, state))
    with pytest.raises(RuntimeError, match="must have 3 and 4 units"):
        stepped(X[:2])
