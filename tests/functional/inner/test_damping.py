"""A rate that overshoots is taken back for the task it overshoots on, and for no other."""

import pytest
import torch

from metaest.functional import (
    MLP,
    GradientDescent,
    ModuleForward,
    Rows,
    mapped,
    repeat_for_tasks,
    solve_damped,
    squared_error,
)


@pytest.fixture
def problem():
    """Two linear tasks; the second one's row lies far out, so that its Hessian is large."""
    forward = ModuleForward(MLP(1, 1, [], "identity").double(), 1)
    X = torch.tensor([[[1.0]], [[30.0]]], dtype=torch.float64)
    rows = Rows(X, torch.ones(2, 1, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64))
    return mapped(forward), repeat_for_tasks(forward.parameters(), 2), rows


def test_only_the_overshooting_task_is_slowed(problem):
    forward, params, rows = problem
    solver = GradientDescent(10, 0.1)
    plain = solver.solve(forward, squared_error, params, rows)
    damped, halvings = solve_damped(forward, squared_error, solver, params, rows)
    assert halvings[0] == 0
    # 2 / largest eigenvalue of the Hessian 2 (x^2 + 1) is the largest stable rate; the first halving below it stops
    largest = 1 / (30.0**2 + 1)
    assert 0.1 / 2 ** int(halvings[1]) <= largest < 0.1 / 2 ** (int(halvings[1]) - 1)
    for name in params:
        torch.testing.assert_close(damped[name][0], plain[name][0].detach())
    before = squared_error(forward(params, rows), rows.y, rows.mask)
    after = squared_error(forward(damped, rows), rows.y, rows.mask)
    assert bool((after <= before).all())
    slower = GradientDescent(10, 0.1 / 2 ** int(halvings[1])).solve(forward, squared_error, params, rows)
    for name in params:
        torch.testing.assert_close(damped[name][1], slower[name][1].detach())


def test_without_overshoot_it_is_plain_gradient_descent(problem):
    forward, params, rows = problem
    solver = GradientDescent(3, 1e-4)
    plain = solver.solve(forward, squared_error, params, rows)
    damped, halvings = solve_damped(forward, squared_error, solver, params, rows)
    assert halvings.tolist() == [0, 0]
    assert all(torch.equal(damped[name], plain[name]) for name in params)


def test_what_cannot_be_saved_is_left_non_finite(problem):
    forward, params, rows = problem
    damped, halvings = solve_damped(forward, squared_error, GradientDescent(200, 1e12), params, rows)
    assert int(halvings.max()) == 20
    assert not all(bool(torch.isfinite(value).all()) for value in damped.values())
