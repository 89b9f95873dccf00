"""An inner solver to start from: gradient steps of a bounded length."""

from dataclasses import dataclass

import torch

from metaest.functional import InnerSolver


@dataclass(frozen=True)
class ClippedDescent(InnerSolver):
    r"""Steps along :math:`-g / \sqrt{1 + |g|^2}`, which are short where the gradient is and never longer than `rate`."""

    rate: float = 0.1
    rounds: int = 5

    def solve(self, forward, loss, params, support, *, differentiable=False):
        if not any(value.requires_grad for value in params.values()):
            params = {name: value.detach().requires_grad_() for name, value in params.items()}
        for _ in range(self.rounds):
            losses = loss(forward(params, support), support.y, support.mask)  # one a task
            slopes = torch.autograd.grad(losses.sum(), list(params.values()), create_graph=differentiable)
            squares = 1 + sum(slope.square().flatten(1).sum(dim=1) for slope in slopes)
            params = {
                name: value - self.rate * slope / squares.sqrt().reshape(-1, *[1] * (value.ndim - 1))
                for (name, value), slope in zip(params.items(), slopes, strict=True)
            }
        return params

    def backed_off(self, factor):
        return ClippedDescent(self.rate / factor, self.rounds)

    def describe_rate(self, factor=1.0):
        return f"{self.rate / factor:g}"

    def rates(self):
        return self.rate
