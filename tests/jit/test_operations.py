"""Every operation that lanes know gives what torch gives, and what they do not know is said."""

import numpy as np
import pytest
import torch
from torch import nn

from metaest.jit import CompiledFunction, UnsupportedError

pytest.importorskip("llvmlite")
DOUBLE = torch.float64


def definite(x):
    return x @ x.t() + torch.eye(len(x), dtype=x.dtype)


FUNCTIONS = {
    "arithmetic": lambda x, y: x + y * 2 - 1 / (3 + y) - 2 * x / 7 + (1 - x) ** 3,
    "scaled sums": lambda x, y: torch.add(x, y, alpha=3) - torch.sub(x, y, alpha=0.5),
    "extremes": lambda x, y: torch.maximum(x, y) * torch.minimum(x, 0.2 * y) + x.clamp(-0.3, 0.4) + y.clamp(min=0.1),
    "comparisons": lambda x, y: torch.where((x > y) & (x < 1) | ~(y >= 0), x, -y) + (x == y) + (x != y) + (x <= y),
    "roots": lambda x, y: x.square().add(0.1).sqrt() + x.abs().add(0.1).rsqrt() + x.sign() + y.neg().reciprocal(),
    "waves": lambda x, y: torch.sin(1e6 * x) + torch.cos(y) * torch.sin(x),
    "products added": lambda x, y: torch.addcmul(x, x, y, value=-0.5) + torch.addcmul(y, x, x),
    "logarithms": lambda x, y: (x.abs() + 0.1).log10() + (y.abs() + 0.1).log2() + torch.exp2(x),
    "lists": lambda x, y: sum(x) * y.unbind(1)[2] + x.split(3)[1][0] + y.split([1, 3], dim=1)[1].sum(1) + torch.eye(4)[1],
    "floor": lambda x, y: (3 * x).floor() + y,
    "masks": lambda x, y: x.masked_fill(y > 0, 3.0),
    "sums": lambda x, y: x.sum(0) + y.sum(1, keepdim=True) + x.mean() + y.mean(0) + x.sum(),
    "largest": lambda x, y: x.amax(1) + y.logsumexp(1),
    "softmax": lambda x, y: nn.functional.log_softmax(x, dim=1) * nn.functional.softmax(y, dim=0),
    "products": lambda x, y: x @ y.t() + (x.t() @ y).sum() + (x @ y[0])[:, None] + x[0] @ y[1],
    "affine": lambda x, y: nn.functional.linear(x, y, y[:, 0]),
    "batches of products": lambda x, y: torch.bmm(x[None].expand(3, -1, -1), y.t()[None].expand(3, -1, -1)),
    "views": lambda x, y: torch.cat([x.reshape(-1)[3:9:2], y.t().flatten()[:2], x[1, -2:], x.t()[0]]),
    "stacks": lambda x, y: torch.stack([x, y]).permute(2, 0, 1).squeeze().unsqueeze(1),
    "parts": lambda x, y: x[:, 1:3].t() @ y[:, ::2] + x.view(2, -1)[:, None, :2].expand(2, 2, 2)[1],
    "made up": lambda x, y: torch.ones_like(x) + torch.zeros(3)[0] + torch.full((4, 4), 2.0)[:, :1] * x + x.new_zeros(4),
    "constants": lambda x, y: x * torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=DOUBLE),
    "activations": lambda x, y: nn.functional.relu(x) + nn.functional.silu(y) + nn.functional.elu(x) + nn.functional.softplus(y) + nn.functional.leaky_relu(x) + nn.functional.hardtanh(y),
    "layer norm": lambda x, y: nn.functional.layer_norm(x, (4,), y[0], y[1]),
    "written over": lambda x, y: torch.exp(x) + torch.exp(x).mul_(y) + torch.exp(x),
    "diagonals": lambda x, y: torch.diagonal(x) + torch.diag(y[0]) + torch.diagonal_scatter(x, y[1]),
    "triangles": lambda x, y: torch.tril(x) + torch.triu(y, 1) * torch.tril(y, -1).t(),
    "factors": lambda x, y: torch.linalg.cholesky_ex(definite(x))[0] + x,
    "triangular systems": lambda x, y: torch.linalg.solve_triangular(definite(x).tril(), y, upper=False)
    + torch.linalg.solve_triangular(definite(x).triu(), y[:, :2], upper=True).sum()
    + torch.linalg.solve_triangular(definite(y), x, upper=True, left=False),
    "definite systems": lambda x, y: torch.cholesky_solve(y, torch.linalg.cholesky_ex(definite(x))[0]),
    "products with an identity": lambda x, y: x @ torch.eye(6, dtype=DOUBLE)[:4, :3] @ y[:3] + torch.eye(4, dtype=DOUBLE) @ y,
    "nothing": lambda x, y: x,
}  # fmt: skip


def both(function, n_tasks=19, shape=(4, 4)):
    """What lanes and torch make of the same numbers."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n_tasks, *shape, generator=generator, dtype=DOUBLE) for _ in range(2))
    lanes = CompiledFunction(lambda x, y: [function(x, y)], [x[0], y[0]], [False, False])
    [by_program] = lanes([x.numpy(), y.numpy()], n_tasks)
    expected = torch.stack([torch.as_tensor(function(a, b)).double() for a, b in zip(x, y, strict=True)])
    return by_program, expected.numpy()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_operation_is_torchs(name):
    by_program, expected = both(FUNCTIONS[name])
    np.testing.assert_allclose(by_program, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"nothing", "floor", "written over"}))
def test_its_gradient_and_the_gradient_of_that_are_torchs(name):
    def second(x, y):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = y.detach().requires_grad_()
            total = (FUNCTIONS[name](x, y) ** 2).sum()
            a, b = torch.autograd.grad(total, [x, y], create_graph=True, materialize_grads=True)
            if not (a.requires_grad or b.requires_grad):
                return a.detach() + b.detach()
            twice = torch.autograd.grad((a * a).sum() + (a * b).sum(), [x, y], materialize_grads=True)
        return torch.cat([a.detach(), b.detach(), *twice])

    by_program, expected = both(second)
    np.testing.assert_allclose(by_program, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (33, 47), (64, 64)])
def test_products_of_any_shape(shape):
    rows, shared = shape
    by_program, expected = both(lambda x, y: torch.relu(x @ y.t()) @ y + x.sum(1, keepdim=True), 5, (rows, shared))
    np.testing.assert_allclose(by_program, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n_tasks", [1, 7, 8, 16, 37])
def test_any_number_of_tasks(n_tasks):
    by_program, expected = both(lambda x, y: x @ y, n_tasks)
    np.testing.assert_allclose(by_program, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, y: torch.erf(x), "erf.default cannot be compiled"),
        (lambda x, y: nn.functional.dropout(x), "draws at random"),
        (lambda x, y: x if x.sum() > 0 else y, "cannot trace"),
        (lambda x, y: torch.cat([x, y[:0]]), "an empty tensor"),
        (lambda x, y: torch.linalg.inv(x), "cannot be compiled"),
        (lambda x, y: x.double().to(torch.int64).double(), "numbers of torch.int64"),
        (lambda x, y: torch.div(x, y, rounding_mode="trunc"), "rounding"),
    ],
)
def test_what_cannot_be_compiled_is_said(function, words):
    with pytest.raises(UnsupportedError, match=words):
        both(function)


def test_what_is_not_a_number_stays_so():
    x = np.array([np.nan, 1.0, -1.0])
    lanes = CompiledFunction(
        lambda x: [torch.relu(x), x.clamp(-0.5, 0.5), x.tanh(), x.sum()], [torch.zeros((), dtype=DOUBLE)], [False]
    )
    for by_program in lanes([x], 3):
        assert np.isnan(by_program[0])
        assert np.isfinite(by_program[1:]).all()


@pytest.mark.parametrize("n", [1, 2, 3, 9, 26, 41])
@pytest.mark.parametrize("columns", [1, 3, 23])
def test_definite_systems_of_any_size(n, columns):
    def solution(x, y):
        factor, failed = torch.linalg.cholesky_ex(x @ x.t() + torch.eye(n, dtype=x.dtype))
        return torch.cholesky_solve(y[:, :columns], factor) + failed

    by_program, expected = both(solution, 11, (n, 25))
    np.testing.assert_allclose(by_program, expected, rtol=1e-11, atol=1e-11)


def test_a_matrix_that_is_not_definite_has_no_factor():
    def factor(x):
        values, failed = torch.linalg.cholesky_ex(x)
        return [torch.where(failed > 0, torch.nan, values), (failed > 0).double()]

    matrices = np.stack([np.eye(3), -np.eye(3), np.diag([1.0, 2.0, 0.0]), np.diag([4.0, 9.0, 16.0])])
    lanes = CompiledFunction(factor, [torch.eye(3, dtype=DOUBLE)], [False])
    values, failed = lanes([matrices], 4)
    np.testing.assert_array_equal(failed, [0, 1, 0, 0])
    np.testing.assert_array_equal(values[[0, 3]], [np.eye(3), np.diag([2.0, 3.0, 4.0])])
    assert np.isnan(values[1]).all()


def test_what_torch_works_out_in_double_precision_is_so_in_lanes():
    def function(x, y):
        wide = x.double() - y.double()
        total = (wide * wide).sum() + torch.where(wide > 1e-9, 1.0, 0.0).sum()
        return [total.float(), (wide @ wide.t()).float(), (x.double() + 1e-9 - x.double()).float()]

    generator = torch.Generator().manual_seed(0)
    x = 1 + 1e-3 * torch.randn(19, 4, 4, generator=generator, dtype=torch.float32)
    y = torch.nextafter(x, torch.full_like(x, 2.0))
    by_program = CompiledFunction(function, [x[0], y[0]], [False, False])([x.numpy(), y.numpy()], 19)
    expected = [function(a, b) for a, b in zip(x, y, strict=True)]
    for each, values in zip(by_program, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(each, torch.stack(values).numpy(), rtol=1e-6)
