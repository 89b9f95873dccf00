"""Inner solvers that a user writes stand beside those of the package; tests/test_skeletons.py has meta-gradients."""

import pickle
from dataclasses import dataclass

import pytest
import torch

from episodes import episodes, meta_gradient, numeric_gradient, relative_error, start
from metaest.functional import (
    META_GRADIENTS,
    MLP,
    ClosedForm,
    GradientDescent,
    Implicit,
    InnerSolver,
    LinearHead,
    ModuleForward,
    QueryLoss,
    Reptile,
    as_meta_gradient,
    looped,
    mapped,
    repeat_for_tasks,
    solve_damped,
    squared_error,
    task_losses,
)


@dataclass(frozen=True)
class Heavy(InnerSolver):
    """Gradient steps with momentum."""

    rate: float = 0.05
    momentum: float = 0.5
    rounds: int = 3

    def solve(self, forward, loss, params, support, *, differentiable=False):
        if not any(value.requires_grad for value in params.values()):
            params = {name: value.detach().requires_grad_() for name, value in params.items()}
        speed = dict.fromkeys(params, 0.0)
        for _ in range(self.rounds):
            total = loss(forward(params, support), support.y, support.mask).sum()
            slopes = torch.autograd.grad(total, list(params.values()), create_graph=differentiable)
            for name, slope in zip(params, slopes, strict=True):
                speed[name] = self.momentum * speed[name] - self.rate * slope
            params = {name: value + speed[name] for name, value in params.items()}
        return params


@pytest.fixture
def forward():
    torch.manual_seed(1)
    return ModuleForward(MLP(2, 1, [6], "tanh").double(), 1)


@pytest.mark.parametrize("batch", [mapped, looped])
def test_without_momentum_a_custom_solver_is_gradient_descent(forward, batch):
    data, params = episodes(), start(forward)
    for kind in ("exact", "first-order", "reptile"):
        gradient = meta_gradient(batch(forward), params, data, Heavy(momentum=0.0), kind)
        assert (
            relative_error(gradient, meta_gradient(batch(forward), params, data, GradientDescent(3, 0.05), kind))
            < 1e-12
        )


def test_the_exact_gradient_through_a_custom_solver_equals_finite_differences(forward):
    data, params, solver = episodes(), start(forward), Heavy()

    def meta_loss():
        return task_losses(mapped(forward), squared_error, solver, params, data).mean()

    analytic = meta_gradient(mapped(forward), params, data, solver)
    assert relative_error(analytic, numeric_gradient(meta_loss, params)) < 1e-6


def test_a_custom_solver_lives_with_the_defaults(forward):
    solver, data = Heavy(), episodes()
    shared = repeat_for_tasks(forward.parameters(), 4)
    path = list(solver.path(mapped(forward), squared_error, shared, data.support))
    assert len(path) == solver.steps + 1 == 2
    assert path[0] is shared
    adapted, halvings = solve_damped(mapped(forward), squared_error, Heavy(rate=50.0), shared, data.support)
    assert halvings.tolist() == [0, 0, 0, 0]  # there is no rate to lower
    assert not any(value.requires_grad for value in adapted.values())
    assert solver.describe() == "by Heavy"
    assert solver.rates() is None
    assert solver.backed_off(2) is None
    assert not solver.compilable
    assert solver.moves("layers.0.weight")
    assert not solver.moves("norm:layers.0")
    with pytest.raises(ValueError, match="needs proximal above 0"):
        task_losses(mapped(forward), squared_error, solver, start(forward), data, "implicit")


def test_the_solvers_of_the_package_tell_what_they_are():
    steps, head = GradientDescent(5, 0.1), ClosedForm(LinearHead(False, 3, 1))
    assert (steps.steps, steps.rates(), steps.compilable, steps.describe_rate(4)) == (5, 0.1, True, "0.025")
    assert steps.backed_off(4) == GradientDescent(5, 0.025)
    assert GradientDescent(0, 0.1).backed_off(2) is None
    assert GradientDescent(3, 0.0).backed_off(2) is None
    assert not GradientDescent(0, 0.1).compilable
    assert (head.steps, head.rates(), head.compilable, head.backed_off(2)) == (1, None, False, None)


def test_names_stand_for_objects_with_their_facts():
    for name, kind in META_GRADIENTS.items():
        assert as_meta_gradient(name) is kind
        assert as_meta_gradient(kind) is kind
        assert kind.name == name
        assert pickle.loads(pickle.dumps(kind)) == kind
    exact, first, reptile, implicit = (META_GRADIENTS[n] for n in ("exact", "first-order", "reptile", "implicit"))
    assert (exact, first, reptile, implicit) == (QueryLoss(), QueryLoss(exact=False), Reptile(), Implicit())
    assert [kind.through_steps for kind in META_GRADIENTS.values()] == [True, True, False, False]
    assert [kind.takes_step_weights for kind in META_GRADIENTS.values()] == [True, True, False, False]
    assert [kind.second_derivatives for kind in META_GRADIENTS.values()] == [True, False, False, True]
    assert [kind.trains_only_what_moves for kind in META_GRADIENTS.values()] == [False, False, True, False]
    assert [kind.needs_proximal for kind in META_GRADIENTS.values()] == [False, False, False, True]
    assert [kind.first_order for kind in META_GRADIENTS.values()] == [first, first, None, None]
    assert [kind.validation for kind in META_GRADIENTS.values()] == [exact, first, first, implicit]


def test_settings_that_are_no_meta_gradient_are_told(forward):
    with pytest.raises(ValueError, match="'exact', 'first-order', 'reptile', 'implicit', or a MetaGradient .* 'maml'"):
        as_meta_gradient("maml")
    for wrong, got in ((None, "NoneType"), (Reptile, "the class Reptile")):
        with pytest.raises(TypeError, match=f"'reptile', 'implicit', or a MetaGradient object; got {got}"):
            as_meta_gradient(wrong)
    with pytest.raises(ValueError, match="'reptile' takes no step_weights"):
        task_losses(
            mapped(forward),
            squared_error,
            GradientDescent(2, 0.1),
            start(forward),
            episodes(),
            "reptile",
            step_weights=[0.5, 0.5],
        )
