r"""Recurrent layers written out step by step, so that ``torch.vmap`` maps them over tasks.

torch computes ``nn.RNN``, ``nn.GRU``, ``nn.LSTM`` and their cells by operations that it cannot map (torch 2.13), and
one task after the other they take ten times as long. The layers here have the same parameters, arguments and results;
a step of the gated recurrent unit, for instance, is

.. math:: r = \sigma(W_r x + U_r h + b_r), \quad z = \sigma(W_z x + U_z h + b_z), \quad
          n = \tanh\bigl(W_n x + b_n + r \odot (U_n h + c_n)\bigr), \quad h' = n + z \odot (h - n).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.nn.utils.rnn import PackedSequence

__all__ = ["step_by_step"]

State = tuple[Tensor, ...]


class _StepByStep(nn.RNNBase):
    """Base of the three layers: directions, stacked layers, and the order of the axes."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # names of torch's own layers
        """Evaluate sequences as torch's own layer does."""
        if isinstance(input, PackedSequence):
            return super().forward(input, hx)
        whole = input.dim() == 3
        X = input if whole else input.unsqueeze(0 if self.batch_first else 1)
        X = X.transpose(0, 1) if self.batch_first else X
        state = self._initial(X, hx, whole)
        n_directions = 2 if self.bidirectional else 1
        ends: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(n_directions):
                start = tuple(value[len(ends)] for value in state)
                output, end = self._one_direction(X, start, layer, backwards=direction == 1)
                outputs.append(output)
                ends.append(end)
            X = torch.cat(outputs, dim=-1) if n_directions > 1 else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                X = dropout(X, self.dropout, self.training)
        X = X.transpose(0, 1) if self.batch_first else X
        last = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
        if not whole:
            X, last = X.squeeze(0 if self.batch_first else 1), tuple(value.squeeze(1) for value in last)
        return X, last if self.mode == "LSTM" else last[0]

    def _initial(self, X: Tensor, hx: Any, whole: bool) -> State:
        """Return states of shape (layers * directions, sequences, units): those given, or zeros."""
        if X.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {X.shape[-1]}"
            )
        rows = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: 2 if self.mode == "LSTM" else 1]
        if hx is None:
            return tuple(X.new_zeros(rows, X.shape[1], size) for size in sizes)
        given = hx if isinstance(hx, tuple) else (hx,)
        given = given if whole else tuple(value.unsqueeze(1) for value in given)
        shapes = [(rows, X.shape[1], size) for size in sizes]
        if [tuple(value.shape) for value in given] != shapes:
            raise RuntimeError(f"Expected hidden size {shapes}, got {[list(value.shape) for value in given]}")
        return given

    def _one_direction(self, X: Tensor, state: State, layer: int, *, backwards: bool) -> tuple[Tensor, State]:
        """Return outputs of shape (steps, sequences, units), and the last state."""
        suffix = f"l{layer}" + "_reverse" * backwards
        names = [f"{kind}_{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")]
        W, U, b, c, projection = (getattr(self, name, None) for name in names)
        assert W is not None
        assert U is not None
        outputs = []
        # the products with the inputs of all steps are computed at once
        for entered in linear(X.flip(0) if backwards else X, W, b).unbind(0):
            state = self._step(entered, linear(state[0], U, c), state, projection)
            outputs.append(state[0])
        return torch.stack(outputs[::-1] if backwards else outputs), state

    def _step(self, entered: Tensor, fed_back: Tensor, state: State, projection: Tensor | None) -> State:
        raise NotImplementedError


class _RNN(_StepByStep, nn.RNN):
    def _step(self, entered: Tensor, fed_back: Tensor, state: State, projection: Tensor | None) -> State:
        return _rnn_step(entered + fed_back, self.mode == "RNN_RELU")


class _GRU(_StepByStep, nn.GRU):
    def _step(self, entered: Tensor, fed_back: Tensor, state: State, projection: Tensor | None) -> State:
        return _gru_step(entered, fed_back, state)


class _LSTM(_StepByStep, nn.LSTM):
    def _step(self, entered: Tensor, fed_back: Tensor, state: State, projection: Tensor | None) -> State:
        shown, cell = _lstm_step(entered + fed_back, state)
        return (shown if projection is None else linear(shown, projection)), cell


def _rnn_step(entered: Tensor, relu: bool) -> State:
    return (torch.relu(entered) if relu else torch.tanh(entered),)


def _gru_step(entered: Tensor, fed_back: Tensor, state: State) -> State:
    units = state[0].shape[-1]
    gates = torch.sigmoid(entered[..., : 2 * units] + fed_back[..., : 2 * units])
    new = torch.tanh(entered[..., 2 * units :] + gates[..., :units] * fed_back[..., 2 * units :])
    return (new + gates[..., units:] * (state[0] - new),)


def _lstm_step(entered: Tensor, state: State) -> State:
    enters, forgets, candidate, shows = entered.chunk(4, dim=-1)
    cell = torch.sigmoid(forgets) * state[1] + torch.sigmoid(enters) * torch.tanh(candidate)
    return torch.sigmoid(shows) * torch.tanh(cell), cell


class _Cell(nn.RNNCellBase):
    """Base of the three cells: a state of zeros by default, and a check of sizes."""

    def _entered(self, input: Tensor, hx: Any, n_states: int) -> tuple[Tensor, Tensor, State]:
        if hx is None:
            hx = (input.new_zeros(*input.shape[:-1], self.hidden_size),) * n_states
        state: State = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        if input.shape[-1] != self.input_size or any(value.shape[-1] != self.hidden_size for value in state):
            raise RuntimeError(
                f"input and hidden state must have {self.input_size} and {self.hidden_size} units, got "
                f"{input.shape[-1]} and {state[0].shape[-1]}"
            )
        return linear(input, self.weight_ih, self.bias_ih), linear(state[0], self.weight_hh, self.bias_hh), state


class _RNNCell(_Cell, nn.RNNCell):
    def forward(self, input: Tensor, hx: Any = None) -> Tensor:
        entered, fed_back, _ = self._entered(input, hx, 1)
        return _rnn_step(entered + fed_back, self.nonlinearity == "relu")[0]


class _GRUCell(_Cell, nn.GRUCell):
    def forward(self, input: Tensor, hx: Any = None) -> Tensor:
        return _gru_step(*self._entered(input, hx, 1))[0]


class _LSTMCell(_Cell, nn.LSTMCell):
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        entered, fed_back, state = self._entered(input, hx, 2)
        return _lstm_step(entered + fed_back, state)


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: _RNN,
    nn.GRU: _GRU,
    nn.LSTM: _LSTM,
    nn.RNNCell: _RNNCell,
    nn.GRUCell: _GRUCell,
    nn.LSTMCell: _LSTMCell,
}


def step_by_step(module: nn.Module) -> nn.Module:
    """Write the recurrent layers of a module out step by step, in place; subclasses of them stay as they are.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The same module, with the same parameters.
    """
    for layer in module.modules():
        if type(layer) in _KINDS:
            layer.__class__ = _KINDS[type(layer)]
    return module
