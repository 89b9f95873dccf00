"""Graphs that are recorded as torch carries an equation out."""

import pytest
import torch

from metaest.jit import CompiledFunction, UnsupportedError
from metaest.jit.trace.graph import graph_of, program_of
from metaest.jit.trace.record import record


def slopes(x, k):
    with torch.enable_grad():
        k = k.detach().requires_grad_()
        value = torch.exp(-k * x).sum() + torch.sigmoid(k * 0.3)
        (slope,) = torch.autograd.grad(value, k, create_graph=True)
        (bend,) = torch.autograd.grad(slope, k)
    return [torch.stack([value.reshape(()), slope.reshape(()), bend.reshape(())])]


def examples():
    return [torch.linspace(0, 1, 4, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)]


def test_a_recorded_program_is_that_of_torchs_compiler(monkeypatch):
    from metaest.jit import function

    given = [torch.rand(4, dtype=torch.float64).numpy()[None], torch.rand(1, dtype=torch.float64).numpy()]
    [expected] = CompiledFunction(slopes, examples(), [False, False])(given, 1)
    shapes = graph_of(slopes, examples(), [False, False])[1]
    monkeypatch.setattr(function, "graph_of", lambda *arguments: (program_of(*arguments), shapes))
    [recorded] = CompiledFunction(slopes, examples(), [False, False])(given, 1)
    torch.testing.assert_close(torch.from_numpy(recorded), torch.from_numpy(expected), rtol=1e-15, atol=1e-15)
    by_torch = slopes(torch.from_numpy(given[0][0]), torch.from_numpy(given[1])[0])[0]
    torch.testing.assert_close(torch.from_numpy(recorded[0]), by_torch, rtol=1e-13, atol=1e-13)


def branches(x):
    return [x if float(x.sum()) > 0 else -x]


def writes(x):
    y = x * 1
    y += 1
    return [y]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (branches, "looks at a number"),
        (lambda x: [x * bool((x > 0).all())], "looks at a number"),
        (writes, "writes over a tensor"),
        (lambda x: [x + torch.rand(3)], "draws at random"),
        (lambda x: [x * torch.rand_like(x)], "draws at random"),
    ],
)
def test_what_is_no_sequence_of_operations_is_refused(function, words):
    with pytest.raises(UnsupportedError, match=words):
        record(function, [torch.ones(3)])


def test_numbers_that_a_function_makes_are_part_of_the_graph():
    program = program_of(lambda x: [x * torch.tensor([1.0, 2.0, 3.0])], [torch.ones(3)], [False])
    assert program.constants == [1.0, 2.0, 3.0]


def test_torchs_compiler_takes_operations_apart_that_have_no_rule():
    assert program_of(lambda x: [torch.nn.functional.softplus(x)], [torch.ones(3)], [False]).kernels
    with pytest.raises(UnsupportedError, match="erf"):
        program_of(lambda x: [torch.erf(x)], [torch.ones(3)], [False])
