"""Utilities by hand, their gradients, and their indifference to padding and units."""

import numpy as np
import pytest
import torch

from metaest.functional import Utility

KINDS = ["mean-variance", "sharpe", "sortino"]


def rows(n_tasks=3, n_rows=9, scaled=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(n_tasks, n_rows, 2 if scaled else 1, generator=generator, dtype=torch.float64)
    if scaled:
        y[..., 1] = y[..., 1].exp()
    return torch.randn(n_tasks, n_rows, 1, generator=generator, dtype=torch.float64), y


def by_hand(utility, output, y):
    """One task, one row after the other."""
    before, earned = 0.0, []
    for z, outcome in zip(output[:, 0].tolist(), y.tolist(), strict=True):
        held = utility.limit * np.tanh(z) * (outcome[1] if len(outcome) == 2 else 1.0)
        earned.append(held * outcome[0] - utility.cost * abs(held - before))
        before = held
    earned = np.array(earned)
    small = (1e-3 * utility.unit) ** 2
    if utility.kind == "sharpe":
        return earned.mean() / np.sqrt(earned.var() + small)
    if utility.kind == "sortino":
        return earned.mean() / np.sqrt(np.square(np.minimum(earned, 0)).mean() + small)
    return (earned.mean() - utility.risk_aversion * earned.var()) / utility.unit


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_utility_is_what_it_says(kind, scaled):
    utility = Utility(kind, limit=1.5, risk_aversion=0.3, cost=0.1, unit=2.0)
    output, y = rows(scaled=scaled)
    utilities = -utility.loss(output, y, torch.ones(3, 9, dtype=torch.float64))
    np.testing.assert_allclose(utilities, [by_hand(utility, output[i], y[i]) for i in range(3)], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_differences(kind):
    utility = Utility(kind, risk_aversion=0.3, cost=0.1)
    output, y = rows()
    mask = (torch.arange(9) < torch.tensor([9, 5, 1])[:, None]).double()
    output.requires_grad_()
    assert torch.autograd.gradcheck(lambda values: utility.loss(values, y, mask), output)
    assert torch.autograd.gradgradcheck(lambda values: utility.loss(values, y, mask), output)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_earns_nothing_and_costs_nothing(kind):
    utility = Utility(kind, risk_aversion=0.3, cost=0.1)
    output, y = rows()
    mask = torch.ones(3, 9, dtype=torch.float64)
    mask[:, 6:] = 0
    ones = torch.ones(3, 6, dtype=torch.float64)
    torch.testing.assert_close(utility.loss(output, y, mask), utility.loss(output[:, :6], y[:, :6], ones))


@pytest.mark.parametrize("kind", KINDS)
def test_units_do_not_matter(kind):
    output, y = rows(scaled=False)
    mask = torch.ones(3, 9, dtype=torch.float64)
    small = Utility(kind, risk_aversion=0.3, cost=0.1, unit=1.0).loss(output, y, mask)
    large = Utility(kind, risk_aversion=0.003, cost=10.0, unit=100.0).loss(output, 100 * y, mask)
    torch.testing.assert_close(small, large)


def test_a_task_without_rows_has_no_utility():
    output, y = rows()
    assert (Utility().loss(output, y, torch.zeros(3, 9, dtype=torch.float64)) == 0).all()
