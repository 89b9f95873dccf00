"""Laws of the meta-gradient: finite differences, plain loops, and the closed forms of linear and quadratic tasks."""

import pytest
import torch
from torch import nn

from episodes import episodes, loop_over_tasks, meta_gradient, numeric_gradient, relative_error, start
from metaest.functional import (
    MLP,
    Episodes,
    GradientDescent,
    ModuleForward,
    Rows,
    cross_entropy,
    looped,
    mapped,
    squared_error,
    task_losses,
)

torch.manual_seed(0)


class Decay(nn.Module):
    """A physical curve with two constants: dose * exp(-exp(log_k) * t) * exp(log_a)."""

    def __init__(self):
        super().__init__()
        self.log_k = nn.Parameter(torch.tensor(-1.0))
        self.log_a = nn.Parameter(torch.tensor(0.5))

    def forward(self, X):
        return torch.exp(self.log_a - torch.exp(self.log_k) * X[:, 0])


class Normalised(nn.Module):
    """Two layers with layer normalisation between them."""

    def __init__(self, n_features=2, n_outputs=1):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_features, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, n_outputs))

    def forward(self, X):
        return self.net(X)


MODULES = {
    "mlp-tanh": lambda: MLP(2, 1, [7, 5], "tanh"),
    "mlp-silu": lambda: MLP(2, 1, [7], "silu"),
    "mlp-two-targets": lambda: MLP(2, 2, [6], "logistic"),
    "linear": lambda: MLP(2, 1, [], "identity"),
    "equation": Decay,
    "layer-norm": Normalised,
}


@pytest.fixture(params=MODULES)
def forward(request):
    torch.manual_seed(1)
    module = MODULES[request.param]().double()
    return ModuleForward(module, 2 if request.param == "mlp-two-targets" else 1)


@pytest.mark.parametrize("steps", [1, 3])
def test_exact_meta_gradient_equals_finite_differences(forward, steps):
    data, solver, params = episodes(forward.n_outputs), GradientDescent(steps, 0.05), start(forward)
    analytic = meta_gradient(mapped(forward), params, data, solver)

    def meta_loss():
        return task_losses(mapped(forward), squared_error, solver, params, data).mean()

    assert relative_error(analytic, numeric_gradient(meta_loss, params)) < 1e-6


@pytest.mark.parametrize("kind", ["exact", "first-order"])
@pytest.mark.parametrize("batch", [mapped, looped])
def test_ragged_batch_equals_a_plain_loop(forward, batch, kind):
    data, params = episodes(forward.n_outputs), start(forward)
    gradient = meta_gradient(batch(forward), params, data, GradientDescent(3, 0.05), kind)
    plain = loop_over_tasks(forward.module, params, data, 3, 0.05, kind == "exact")
    assert relative_error(gradient, plain) < 1e-12


def test_a_ragged_batch_in_float32_equals_the_loop_to_1e_6():
    torch.manual_seed(0)
    forward = ModuleForward(MLP(2, 1, [40, 40], "tanh"), 1)
    sizes = [(1 + 7 * i % 50, 3 + 11 * i % 150) for i in range(12)]
    data = Episodes(*(Rows(*(part.float() for part in rows)) for rows in episodes(sizes=sizes)))
    params = start(forward)
    gradient = meta_gradient(mapped(forward), params, data, GradientDescent(2, 0.01))
    plain = loop_over_tasks(forward.module, params, data, 2, 0.01, True)
    assert relative_error(gradient, plain) < 1e-6


def test_first_order_is_the_query_gradient_at_the_adapted_parameters(forward):
    data, params, solver = episodes(forward.n_outputs), start(forward), GradientDescent(2, 0.05)
    gradient = meta_gradient(mapped(forward), params, data, solver, "first-order")
    shared = {name: value.detach().expand(4, *value.shape) for name, value in params.items()}
    adapted = solver.solve(mapped(forward), squared_error, shared, data.support)
    adapted = {name: value.detach().requires_grad_() for name, value in adapted.items()}
    loss = squared_error(mapped(forward)(adapted, data.query), data.query.y, data.query.mask).mean()
    there = torch.autograd.grad(loss, list(adapted.values()))
    definition = {name: gradient.sum(dim=0) for name, gradient in zip(adapted, there, strict=True)}
    assert relative_error(gradient, definition) < 1e-12


def linear_loss(prediction, target, mask):
    return ((prediction * target).sum(dim=-1) * mask).sum(dim=1)


def test_first_order_equals_exact_for_a_linear_inner_loss():
    forward = ModuleForward(MLP(2, 1, [], "identity").double(), 1)
    data, params = episodes(), start(forward)
    got = {}
    for kind in ("exact", "first-order"):
        shared = {name: value.expand(4, *value.shape) for name, value in params.items()}
        adapted = GradientDescent(3, 0.1).solve(
            mapped(forward), linear_loss, shared, data.support, differentiable=kind == "exact"
        )
        loss = squared_error(mapped(forward)(adapted, data.query), data.query.y, data.query.mask).mean()
        got[kind] = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    assert relative_error(got["exact"], got["first-order"]) < 1e-12


@pytest.mark.parametrize("steps", [1, 4])
def test_the_jacobian_of_a_quadratic_task_is_a_power_of_one_minus_rate_times_hessian(steps):
    forward = ModuleForward(MLP(2, 1, [], "identity").double(), 1)
    support = episodes(sizes=[(5, 1)]).support
    rate = 0.1
    A = torch.cat([support.X[0], torch.ones(5, 1)], dim=1)
    hessian = 2 * A.T @ A / 5
    expected = torch.linalg.matrix_power(torch.eye(3, dtype=torch.float64) - rate * hessian, steps)

    def adapt(weight, bias):
        params = {"layers.0.weight": weight[None], "layers.0.bias": bias[None]}
        solved = GradientDescent(steps, rate).solve(
            mapped(forward), squared_error, params, support, differentiable=True
        )
        return torch.cat([solved["layers.0.weight"].reshape(-1), solved["layers.0.bias"].reshape(-1)])

    weight, bias = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((1, 2), (1,)))
    by_weight, by_bias = torch.autograd.functional.jacobian(adapt, (weight, bias))
    jacobian = torch.cat([by_weight.reshape(3, 2), by_bias.reshape(3, 1)], dim=1)
    torch.testing.assert_close(jacobian, expected, rtol=1e-12, atol=1e-12)


def test_no_step_and_no_rate_leave_the_parameters(forward):
    data, params = episodes(forward.n_outputs), start(forward)
    shared = {name: value.expand(4, *value.shape) for name, value in params.items()}
    for solver in (GradientDescent(0, 0.1), GradientDescent(3, 0.0)):
        solved = solver.solve(mapped(forward), squared_error, shared, data.support)
        assert all(torch.equal(solved[name], shared[name]) for name in shared)
    joint = squared_error(mapped(forward)(shared, data.query), data.query.y, data.query.mask)
    torch.testing.assert_close(
        task_losses(mapped(forward), squared_error, GradientDescent(3, 0.0), params, data), joint
    )
    query_only = dict(zip(params, torch.autograd.grad(joint.mean(), list(params.values())), strict=True))
    assert relative_error(meta_gradient(mapped(forward), params, data, GradientDescent(3, 0.0)), query_only) < 1e-12


@pytest.mark.parametrize("batch", [mapped, looped])
def test_task_and_row_order_and_more_padding_change_nothing(forward, batch):
    data, params, solver = episodes(forward.n_outputs), start(forward), GradientDescent(2, 0.05)
    base = meta_gradient(mapped(forward), params, data, solver)
    swapped = Episodes(*(Rows(*(part.flip(0) for part in rows)) for rows in data))
    assert relative_error(meta_gradient(batch(forward), params, swapped, solver), base) < 1e-12
    rows_turned = Episodes(*(Rows(*(part.flip(1) for part in rows)) for rows in data))
    assert relative_error(meta_gradient(batch(forward), params, rows_turned, solver), base) < 1e-12

    def pad(rows):
        X, y, mask = (torch.cat([part, part[:, :1].expand(-1, 7, *part.shape[2:])], dim=1) for part in rows)
        mask[:, -7:] = 0
        return Rows(X, y, mask)

    padded = Episodes(pad(data.support), pad(data.query))
    assert relative_error(meta_gradient(batch(forward), params, padded, solver), base) < 1e-12


def test_cross_entropy_is_that_of_each_task():
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    numbers = torch.tensor([[0, 2, 1, 0], [1, 0, 0, 0]])
    target = nn.functional.one_hot(numbers, 3)
    target[1, :, 2] = -1  # a class the second task does not have
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.float64)
    expected = torch.stack(
        [
            nn.functional.cross_entropy(logits[0, :3], numbers[0, :3]),
            nn.functional.cross_entropy(logits[1, :1, :2], numbers[1, :1]),
        ]
    )
    torch.testing.assert_close(cross_entropy(logits, target, mask), expected)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, target, mask), logits)


def test_a_task_without_rows_has_no_loss_and_no_gradient():
    prediction = torch.ones(1, 2, 1, requires_grad=True)
    loss = squared_error(prediction, torch.zeros(1, 2, 1), torch.zeros(1, 2))
    assert float(loss.detach()) == 0.0
    assert torch.equal(torch.autograd.grad(loss.sum(), prediction)[0], torch.zeros(1, 2, 1))


def test_padding_outside_the_domain_would_poison_but_a_repeated_row_does_not():
    """Why padding repeats a valid row: a mask of 0 does not stop NaN in the gradient of log(0)."""

    class Log(nn.Module):
        def __init__(self):
            super().__init__()
            self.power = nn.Parameter(torch.tensor(0.5))

        def forward(self, X):
            return (self.power * torch.log(X[:, 0])).sqrt()

    forward = ModuleForward(Log(), 1)
    y, mask = torch.ones(1, 2, 1), torch.tensor([[1.0, 0.0]])
    for fill, finite in ((0.0, False), (2.0, True)):
        rows = Rows(torch.tensor([[[2.0], [fill]]]), y, mask)
        params = {"power": torch.tensor([0.5], requires_grad=True)}
        loss = squared_error(mapped(forward)(params, rows), rows.y, rows.mask).sum()
        gradient = torch.autograd.grad(loss, params["power"])[0]
        assert bool(torch.isfinite(gradient).all()) is finite


@pytest.mark.parametrize(("steps", "rate"), [(-1, 0.1), (1, -0.1), (1, float("nan")), (1, float("inf"))])
def test_impossible_solver_settings(steps, rate):
    with pytest.raises(ValueError, match="inner_steps and inner_lr"):
        GradientDescent(steps, rate)
