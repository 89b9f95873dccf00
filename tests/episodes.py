"""Ragged episodes and gradients the tests of the functional core share."""

import torch
from torch.func import functional_call

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


def loop_over_tasks(module, params, data, steps, rate, exact):
    """MAML as the paper's algorithm 1 writes it, one task at a time and without padding."""
    total = 0.0
    for t in range(data.support.X.shape[0]):
        n, m = (int(part.mask[t].sum()) for part in data)
        theta = dict(params)
        for _ in range(steps if n else 0):
            output = functional_call(module, theta, (data.support.X[t, :n],)).reshape(n, -1)
            loss = (output - data.support.y[t, :n]).square().mean()
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=exact)
            theta = {k: v - rate * g for (k, v), g in zip(theta.items(), gradients, strict=True)}
        output = functional_call(module, theta, (data.query.X[t, :m],)).reshape(m, -1)
        total = total + (output - data.query.y[t, :m]).square().mean()
    mean = total / data.support.X.shape[0]
    return dict(zip(params, torch.autograd.grad(mean, list(params.values())), strict=True))


def way_back(module, params, data, steps, rate):
    """Reptile as the paper writes it: from weights adapted on all rows of a task, one task at a time."""
    n_tasks = data.support.X.shape[0]
    total = {name: torch.zeros_like(value) for name, value in params.items()}
    for t in range(n_tasks):
        X, y = (
            torch.cat([part[t, : int(rows.mask[t].sum())] for rows, part in zip(data, parts, strict=True)])
            for parts in ((data.support.X, data.query.X), (data.support.y, data.query.y))
        )
        own = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        for _ in range(steps):
            loss = (functional_call(module, own, (X,)).reshape(len(X), -1) - y).square().mean()
            slopes = torch.autograd.grad(loss, list(own.values()))
            own = {n: (v - rate * g).detach().requires_grad_() for (n, v), g in zip(own.items(), slopes, strict=True)}
        for name in total:
            total[name] += (params[name] - own[name]).detach() / n_tasks
    return total


def relative_error(one, other):
    difference = sum((one[name] - other[name]).square().sum() for name in one).sqrt()
    return float(difference / sum(value.square().sum() for value in other.values()).sqrt())


def numeric_gradient(function, params, h=1e-5):
    gradient = {name: torch.zeros_like(value) for name, value in params.items()}
    for name, value in params.items():
        flat, out = value.detach().view(-1), gradient[name].view(-1)
        for i in range(len(flat)):
            value_there = float(flat[i])
            ends = []
            for change in (h, -h):
                flat[i] = value_there + change
                ends.append(float(function().detach()))
            flat[i] = value_there
            out[i] = (ends[0] - ends[1]) / (2 * h)
    return gradient
