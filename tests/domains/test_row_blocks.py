"""Rows that are evaluated a block at a time have the values and derivatives that they have together."""

import pytest
import torch

from metaest_domains.physiology.row_blocks import by_blocks


@pytest.mark.parametrize("size", [1, 3, 7])
def test_blocks_change_neither_values_nor_derivatives(size):
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(7, generator=generator, dtype=torch.float64)

    def evaluate(rows, constants):
        a, b, _ = constants
        return a * torch.exp(-b * X[rows]) + a.square() * b

    results = []
    for n in (7, size):
        leaves = [torch.rand(7, generator=torch.Generator().manual_seed(k)).double().requires_grad_() for k in range(3)]
        values = by_blocks(evaluate, leaves, 7, n)
        first = torch.autograd.grad((values.square() * X).sum(), leaves, create_graph=True, materialize_grads=True)
        total = sum((part * (k + 1) * X).sum() for k, part in enumerate(first))
        second = torch.autograd.grad(total, leaves, materialize_grads=True)
        results.append(torch.stack([values, *first, *second]).detach())
    torch.testing.assert_close(results[1], results[0], rtol=1e-13, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(by_blocks(evaluate, leaves, 7, size), results[0][0], rtol=1e-14, atol=0)
