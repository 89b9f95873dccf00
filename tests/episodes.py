"""Ragged episodes and gradients the tests of the functional core share."""

import torch

from metaest.functional import Episodes, Rows, squared_error, task_losses


def episodes(n_targets=1, sizes=((3, 4), (1, 6), (5, 2), (0, 3)), seed=0):
    """Ragged tasks of (support, query) sizes, padded with the first row."""
    generator = torch.Generator().manual_seed(seed)

    def rows(counts):
        longest = max(1, *counts)
        X = torch.randn(len(counts), longest, 2, generator=generator, dtype=torch.float64)
        y = torch.randn(len(counts), longest, n_targets, generator=generator, dtype=torch.float64)
        mask = (torch.arange(longest) < torch.tensor(counts)[:, None]).double()
        X = torch.where(mask[..., None] > 0, X, X[:, :1])
        return Rows(X, y, mask)

    return Episodes(rows([s for s, _ in sizes]), rows([q for _, q in sizes]))


def start(forward):
    return {name: value.requires_grad_() for name, value in forward.parameters().items()}


def meta_gradient(batch_forward, params, data, solver, kind="exact"):
    loss = task_losses(batch_forward, squared_error, solver, params, data, kind).mean()
    return dict(zip(params, torch.autograd.grad(loss, list(params.values()), materialize_grads=True), strict=True))


def relative_error(one, other):
    difference = sum((one[name] - other[name]).square().sum() for name in one).sqrt()
    return float(difference / sum(value.square().sum() for value in other.values()).sqrt())


def numeric_gradient(function, params, h=1e-5):
    found = {name: torch.zeros_like(value) for name, value in params.items()}
    for name, value in params.items():
        flat, out = value.detach().view(-1), found[name].view(-1)
        for i in range(len(flat)):
            kept = float(flat[i])
            ends = []
            for change in (h, -h):
                flat[i] = kept + change
                ends.append(float(function().detach()))
            flat[i] = kept
            out[i] = (ends[0] - ends[1]) / (2 * h)
    return found
