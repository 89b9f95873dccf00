"""Row functions: derivatives of any order by torch, shapes, and maps."""

import torch

from metaest.functional import RowFunction


class Power(RowFunction):
    """base^number"""

    def derivatives(self, number, given, orders):
        (base,) = given
        assert number.shape == base.shape == (number.numel(),)
        return [base**number * base.log() ** order for order in orders]


X = torch.linspace(-1, 2, 6, dtype=torch.float64)
BASE = torch.linspace(0.5, 3, 6, dtype=torch.float64)


def test_torch_differentiates_to_any_order():
    x = X.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Power()(x, BASE), x)
    assert torch.autograd.gradgradcheck(lambda x: Power()(x, BASE), x)
    value = Power()(x, BASE)
    for order in range(1, 4):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        torch.testing.assert_close(value, BASE**x * BASE.log() ** order)


def test_shapes_that_go_together_are_broadcast():
    value = Power()(X[:, None], BASE)
    torch.testing.assert_close(value, BASE ** X[:, None])


def test_functions_of_tasks_are_mapped():
    x = X.clone().requires_grad_()
    mapped = torch.vmap(lambda x: Power()(x, BASE))(x[:, None].expand(-1, 6))
    torch.testing.assert_close(mapped, BASE ** x[:, None])
    (slope,) = torch.autograd.grad(mapped.sum(), x)
    torch.testing.assert_close(slope, (BASE ** x[:, None] * BASE.log()).sum(dim=1).detach())
    both = torch.vmap(lambda x, base: Power()(x, base), in_dims=(0, 0))(X[:, None], BASE[:, None])
    torch.testing.assert_close(both[:, 0], BASE**X)
