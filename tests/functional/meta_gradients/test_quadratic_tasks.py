"""Quadratic tasks: each meta-gradient vanishes at its own weighted average of the optima, and nowhere else."""

import pytest
import torch

from episodes import meta_gradient
from metaest.functional import MLP, Episodes, GradientDescent, ModuleForward, Rows, mapped

RATE, STRENGTH, N_TASKS = 0.05, 2.0, 6
EYE = torch.eye(3, dtype=torch.float64)


def with_one(X):
    return torch.cat([X, torch.ones_like(X[..., :1])], dim=-1)


def hessian(X):
    return 2 * with_one(X).mT @ with_one(X) / X.shape[1]


def quadratic(equal):
    """Linear tasks without noise: their optima of shape (tasks, 3), and episodes of 4 support and 5 query rows."""
    generator = torch.Generator().manual_seed(0)
    optima = torch.randn(N_TASKS, 3, generator=generator, dtype=torch.float64)
    X = torch.randn(1 if equal else N_TASKS, 9, 2, generator=generator, dtype=torch.float64).expand(N_TASKS, -1, -1)
    rows = Rows(X, with_one(X) @ optima[..., None], torch.ones(N_TASKS, 9, dtype=torch.float64))
    return optima, Episodes(Rows(*(part[:, :4] for part in rows)), Rows(*(part[:, 4:] for part in rows)))


def power(X, steps, rate=RATE * EYE):
    return torch.linalg.matrix_power(EYE - rate @ hessian(X), steps)


RATES = torch.tensor([0.02, 0.08, 0.05], dtype=torch.float64)
EACH = {"layers.0.weight": RATES[None, :2], "layers.0.bias": RATES[2:]}

# the matrix by which the optimum of a task counts, from its support and query inputs
KINDS = {
    "joint": (GradientDescent(0, RATE), "exact", lambda S, Q: hessian(Q)),
    "exact, 1 step": (GradientDescent(1, RATE), "exact", lambda S, Q: power(S, 1).mT @ hessian(Q) @ power(S, 1)),
    "exact, 4 steps": (GradientDescent(4, RATE), "exact", lambda S, Q: power(S, 4).mT @ hessian(Q) @ power(S, 4)),
    "a rate each": (
        GradientDescent(3, EACH),
        "exact",
        lambda S, Q: power(S, 3, torch.diag(RATES)).mT @ hessian(Q) @ power(S, 3, torch.diag(RATES)),
    ),
    "first-order": (GradientDescent(4, RATE), "first-order", lambda S, Q: hessian(Q) @ power(S, 4)),
    "reptile": (
        GradientDescent(4, RATE),
        "reptile",
        lambda S, Q: EYE - power(torch.cat([S, Q], dim=1), 4),
    ),
    "implicit": (
        GradientDescent(600, RATE, None, STRENGTH),
        "implicit",
        lambda S, Q: (
            torch.linalg.inv(EYE + hessian(S) / STRENGTH) @ hessian(Q) @ torch.linalg.inv(EYE + hessian(S) / STRENGTH)
        ),
    ),
}


def slope(theta, data, solver, kind):
    forward = mapped(ModuleForward(MLP(2, 1, [], "identity").double(), 1))
    params = {"layers.0.weight": theta[None, :2].clone(), "layers.0.bias": theta[2:].clone()}
    params = {name: value.requires_grad_() for name, value in params.items()}
    gradient = meta_gradient(forward, params, data, solver, kind)
    return float(torch.cat([value.reshape(-1) for value in gradient.values()]).norm())


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_the_learned_start_is_the_weighted_average_of_the_optima(name, equal):
    solver, kind, weigh = KINDS[name]
    optima, data = quadratic(equal)
    weights = weigh(data.support.X, data.query.X)
    average = torch.linalg.solve(weights.sum(dim=0), (weights @ optima[..., None]).sum(dim=0))[:, 0]
    mean = optima.mean(dim=0)
    scale = slope(mean + 1, data, solver, kind)
    assert slope(average, data, solver, kind) < 1e-9 * scale
    if equal:
        torch.testing.assert_close(average, mean, rtol=1e-9, atol=1e-9)
    else:
        assert slope(mean, data, solver, kind) > 0.01 * scale
