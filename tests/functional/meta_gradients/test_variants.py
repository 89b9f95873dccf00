"""Meta-gradients beside the exact one, which parameters move and at which rates: each against its own definition."""

import pytest
import torch

from episodes import episodes, meta_gradient, numeric_gradient, relative_error, start, way_back
from metaest.functional import (
    MLP,
    ContextForward,
    Episodes,
    GradientDescent,
    ModuleForward,
    Rows,
    looped,
    mapped,
    repeat_for_tasks,
    squared_error,
    task_losses,
)
from metaest.functional.meta_gradients.implicit import remaining_slope
from metaest.functional.modules.context import CONTEXT

torch.manual_seed(0)
HEAD = frozenset({"layers.1.weight", "layers.1.bias"})


@pytest.fixture
def forward():
    torch.manual_seed(1)
    return ModuleForward(MLP(2, 1, [6], "tanh").double(), 1)


def rates(forward, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 * torch.rand(value.shape, generator=generator, dtype=torch.float64)
        for name, value in forward.parameters().items()
    }


SOLVERS = {
    "one learned rate": lambda f, r: GradientDescent(2, r["one"]),
    "a rate each": lambda f, r: GradientDescent(2, {n: r[n] for n in f.parameters()}),
    "a rate each and step": lambda f, r: GradientDescent(
        3, [{n: r[n].mean() * (s + 1) for n in f.parameters()} for s in range(2)]
    ),
    "head": lambda f, r: GradientDescent(2, 0.1, HEAD),
    "body": lambda f, r: GradientDescent(2, 0.1, frozenset(f.parameters()) - HEAD),
    "proximal": lambda f, r: GradientDescent(3, 0.1, None, 0.5),
}


@pytest.mark.parametrize("kind", SOLVERS)
def test_exact_meta_gradients_in_weights_and_rates_equal_finite_differences(forward, kind):
    learned = {**rates(forward), "one": torch.tensor(0.1, dtype=torch.float64)}
    data, weights = episodes(), start(forward)
    learned = {name: value.requires_grad_() for name, value in learned.items()}
    everything = {**weights, **{f"rate {name}": value for name, value in learned.items()}}

    def loss():
        return task_losses(mapped(forward), squared_error, SOLVERS[kind](forward, learned), weights, data).mean()

    analytic = torch.autograd.grad(loss(), list(everything.values()), materialize_grads=True)
    assert relative_error(dict(zip(everything, analytic, strict=True)), numeric_gradient(loss, everything)) < 1e-6


def test_what_does_not_move_stays(forward):
    shared = repeat_for_tasks(forward.parameters(), 4)
    adapted = GradientDescent(3, 0.1, HEAD).solve(mapped(forward), squared_error, shared, episodes().support)
    for name, value in adapted.items():
        assert torch.equal(value, shared[name]) == (name not in HEAD)


def test_rates_for_each_step_that_are_equal_are_one_rate(forward):
    data, params = episodes(), start(forward)
    same = {name: torch.tensor(0.1, dtype=torch.float64) for name in params}
    for solver in (GradientDescent(3, same), GradientDescent(3, [same] * 3), GradientDescent(3, same["layers.0.bias"])):
        gradient = meta_gradient(mapped(forward), params, data, solver)
        assert relative_error(gradient, meta_gradient(mapped(forward), params, data, GradientDescent(3, 0.1))) < 1e-14


def test_the_multi_step_loss_is_the_weighted_sum_of_shorter_adaptations(forward):
    data, params, weights = episodes(), start(forward), (0.2, 0.3, 0.5)
    weighed = task_losses(mapped(forward), squared_error, GradientDescent(3, 0.1), params, data, "exact", weights)
    each = [task_losses(mapped(forward), squared_error, GradientDescent(s, 0.1), params, data) for s in (1, 2, 3)]
    expected = sum(weight * losses for weight, losses in zip(weights, each, strict=True))
    torch.testing.assert_close(weighed, expected, rtol=1e-13, atol=0)
    last = task_losses(mapped(forward), squared_error, GradientDescent(3, 0.1), params, data, "exact", (0, 0, 1))
    torch.testing.assert_close(last, each[-1], rtol=0, atol=0)


@pytest.mark.parametrize("batch", [mapped, looped])
def test_reptile_is_the_way_back_from_all_rows(forward, batch):
    data, params, solver = episodes(), start(forward), GradientDescent(4, 0.05)
    gradient = meta_gradient(batch(forward), params, data, solver, "reptile")
    expected = way_back(forward.module, params, data, 4, 0.05)
    assert relative_error(gradient, expected) < 1e-12


@pytest.mark.parametrize("moving", [None, HEAD])
def test_the_implicit_gradient_is_the_unrolled_one_at_the_minimum(forward, moving):
    data, params = episodes(), start(forward)
    long = GradientDescent(600, 0.1, moving, 1.0)
    unrolled = meta_gradient(mapped(forward), params, data, long)
    implicit = meta_gradient(mapped(forward), params, data, long, "implicit")
    assert relative_error(implicit, unrolled) < 1e-6
    assert relative_error(meta_gradient(mapped(forward), params, data, long, "first-order"), unrolled) > 0.05


def test_the_implicit_gradient_of_a_quadratic_task_is_its_closed_form():
    forward = ModuleForward(MLP(2, 1, [], "identity").double(), 1)
    data, params, strength = episodes(sizes=[(5, 4)]), start(forward), 0.7
    gradient = meta_gradient(mapped(forward), params, data, GradientDescent(500, 0.2, None, strength), "implicit")
    A, B = (torch.cat([rows.X[0], torch.ones(rows.X.shape[1], 1)], dim=1).double() for rows in data)
    theta = torch.cat([params["layers.0.weight"].reshape(-1), params["layers.0.bias"]]).detach()
    hessian, eye = 2 * A.T @ A / 5, torch.eye(3, dtype=torch.float64)
    phi = torch.linalg.solve(hessian + strength * eye, 2 * A.T @ data.support.y[0, :, 0] / 5 + strength * theta)
    at_end = 2 * B.T @ (B @ phi - data.query.y[0, :, 0]) / 4
    expected = torch.linalg.solve(eye + hessian / strength, at_end)
    stacked = torch.cat([gradient["layers.0.weight"].reshape(-1), gradient["layers.0.bias"]])
    torch.testing.assert_close(stacked, expected, rtol=1e-8, atol=1e-10)


def test_the_slope_that_is_left_falls_with_steps(forward):
    data, params = episodes(), start(forward)
    shared = repeat_for_tasks(params, 4)
    left = [
        remaining_slope(mapped(forward), squared_error, GradientDescent(n, 0.1, None, 1.0), shared, data.support)
        for n in (0, 5, 200)
    ]
    torch.testing.assert_close(left[0][:3], torch.ones(3, dtype=torch.float64))
    assert (left[1][:3] < 1).all()
    assert (left[2][:3] < 1e-4).all()
    assert left[2][3] == 0  # a task without rows stays at its minimum


def test_without_a_proximal_term_there_is_no_implicit_gradient(forward):
    with pytest.raises(ValueError, match="proximal above 0"):
        meta_gradient(mapped(forward), start(forward), episodes(), GradientDescent(3, 0.1), "implicit")
    with pytest.raises(ValueError, match="proximal must be"):
        GradientDescent(3, 0.1, None, -1.0)


@pytest.mark.parametrize("kind", ["reptile", "implicit"])
def test_values_are_query_losses(forward, kind):
    data, params = episodes(), start(forward)
    solver = GradientDescent(3, 0.1, None, 0.5)
    losses = task_losses(mapped(forward), squared_error, solver, params, data, kind)
    rows = Rows(*(torch.cat(parts, dim=1) for parts in zip(*data, strict=True)))
    seen = rows if kind == "reptile" else data.support
    same = task_losses(mapped(forward), squared_error, solver, params, Episodes(seen, data.query))
    torch.testing.assert_close(losses.detach(), same.detach())


def test_a_context_moves_and_the_network_does_not():
    torch.manual_seed(0)
    forward = ContextForward(MLP(2 + 3, 1, [6], "tanh").double(), 1, 3)
    data, params = episodes(), start(forward)
    zero = torch.zeros(3, dtype=torch.float64)
    shared = repeat_for_tasks({**params, CONTEXT: zero}, 4)
    solver = GradientDescent(2, 0.5, frozenset({CONTEXT}))
    adapted = solver.solve(mapped(forward), squared_error, shared, data.support)
    assert (adapted[CONTEXT][:3] != 0).any(dim=1).all()
    assert not adapted[CONTEXT][3].any()  # a task without support rows
    assert all(torch.equal(adapted[name], shared[name]) for name in params)
    with_zero = {**repeat_for_tasks(params, 4), CONTEXT: torch.zeros(4, 3, dtype=torch.float64)}
    torch.testing.assert_close(
        mapped(forward)(with_zero, data.query), mapped(forward)(repeat_for_tasks(params, 4), data.query)
    )

    def loss():
        return task_losses(mapped(forward), squared_error, solver, {**params, CONTEXT: zero}, data).mean()

    analytic = dict(zip(params, torch.autograd.grad(loss(), list(params.values())), strict=True))
    assert relative_error(analytic, numeric_gradient(loss, params)) < 1e-6
