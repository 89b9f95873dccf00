"""The same meta-steps in learn2learn, higher and TorchOpt, as far as they are installed.

learn2learn 0.2.0 does not install on Python 3.11: its C files were made by a Cython of before, and its package imports
gym. Its MAML is plain Python, and that is all that is used here: unpack the source distribution and say where it is in
LEARN2LEARN. Nothing else had to be repaired.
"""

import importlib
import os
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap


def available(workload, meta_lr):
    """Return the peers that can be had, by name."""
    found = {}
    for name, kind in {
        "learn2learn": Learn2Learn,
        "higher": Higher,
        "TorchOpt": TorchOpt,
        "TorchOpt, vmap": TorchOptMapped,
    }.items():
        try:
            found[name] = kind(workload, meta_lr)
        except ImportError:
            continue
    return found


class Peer:
    """Meta-steps of a workload, one call a step, rows of the episodes ready in memory.

    Parameters
    ----------
    workload : Workload
    meta_lr : float
    """

    def __init__(self, workload, meta_lr):
        self.workload = workload
        self.model = workload.module()
        tasks = workload.tasks()
        self.X = torch.tensor(tasks.X)
        self.y = workload.targets(tasks)
        self.loss = workload.loss
        self.prepare()
        self.optimiser = torch.optim.Adam(self.meta_parameters(), lr=meta_lr)

    def meta_parameters(self):
        """Return what the outer loop moves, in the order of the model's parameters."""
        return list(self.model.parameters())

    def episodes(self, draws, step):
        """Return rows of support and query of the tasks of one step."""
        support, query = (torch.from_numpy(own[step]) for own in draws)
        return list(zip(self.X[support], self.y[support], self.X[query], self.y[query], strict=True))

    def gradient(self, draws):
        """Return the meta-gradient of the first draw, flat."""
        self.optimiser.zero_grad()
        self.backward(self.episodes(draws, 0))
        return np.concatenate([own.grad.numpy().reshape(-1) for own in self.meta_parameters()])

    def run(self, draws, n):
        """Take n steps."""
        ready = [self.episodes(draws, step) for step in range(min(n, len(draws[0]), 16))]
        for step in range(n):
            self.optimiser.zero_grad()
            self.backward(ready[step % len(ready)])
            self.optimiser.step()

    def backward(self, episodes):
        """Leave the meta-gradient of the mean query loss in the parameters: one task after the other."""
        for episode in episodes:
            (self.query_loss(*episode) / len(episodes)).backward()


class Learn2Learn(Peer):
    """``learn2learn.algorithms.MAML``: a clone of the module for each task."""

    def prepare(self):
        """Import the algorithm alone."""
        where = os.environ.get("LEARN2LEARN")
        if where is None:
            raise ImportError("LEARN2LEARN is not set")
        for name, folder in (("learn2learn", "learn2learn"), ("learn2learn.algorithms", "learn2learn/algorithms")):
            module = types.ModuleType(name)
            module.__path__ = [str(Path(where) / folder)]
            sys.modules.setdefault(name, module)
        maml = importlib.import_module("learn2learn.algorithms.maml")
        self.maml = maml.MAML(self.model, lr=self.workload.inner_lr)

    def query_loss(self, Xs, ys, Xq, yq):
        """Return the loss of the query after adapting to the support."""
        learner = self.maml.clone()
        for _ in range(self.workload.steps):
            learner.adapt(self.loss(learner(Xs), ys))
        return self.loss(learner(Xq), yq)


class Higher(Peer):
    """``higher.innerloop_ctx``."""

    def prepare(self):
        """Import it."""
        self.higher = importlib.import_module("higher")
        self.inner = torch.optim.SGD(self.model.parameters(), lr=self.workload.inner_lr)

    def query_loss(self, Xs, ys, Xq, yq):
        """Return the loss of the query after adapting to the support."""
        with self.higher.innerloop_ctx(self.model, self.inner, copy_initial_weights=False) as (model, inner):
            for _ in range(self.workload.steps):
                inner.step(self.loss(model(Xs), ys))
            return self.loss(model(Xq), yq)


class TorchOpt(Peer):
    """``torchopt.MetaSGD``, back to the start after each task."""

    def prepare(self):
        """Import it."""
        self.torchopt = importlib.import_module("torchopt")
        self.inner = self.torchopt.MetaSGD(self.model, lr=self.workload.inner_lr)

    def backward(self, episodes):
        """Adapt, and go back to the start, task after task."""
        before = [self.torchopt.extract_state_dict(own, by="reference") for own in (self.model, self.inner)]
        for Xs, ys, Xq, yq in episodes:
            for _ in range(self.workload.steps):
                self.inner.step(self.loss(self.model(Xs), ys))
            loss = self.loss(self.model(Xq), yq) / len(episodes)
            for own, state in zip((self.model, self.inner), before, strict=True):
                self.torchopt.recover_state_dict(own, state)
            loss.backward()


class TorchOptMapped(Peer):
    """Functional ``torchopt.sgd``, all tasks at once by ``torch.func.vmap``."""

    def prepare(self):
        """Import it, and write the loss of one task."""
        self.torchopt = importlib.import_module("torchopt")
        if any(isinstance(own, nn.Conv2d) for own in self.model.modules()):
            raise ImportError("convolutions of a task's own weights are slower mapped")
        inner = self.torchopt.sgd(self.workload.inner_lr)

        def support_loss(params, X, y):
            return self.loss(functional_call(self.model, params, (X,)), y)

        def of_one(params, Xs, ys, Xq, yq):
            state = inner.init(params)
            for _ in range(self.workload.steps):
                updates, state = inner.update(grad(support_loss)(params, Xs, ys), state, inplace=False)
                params = self.torchopt.apply_updates(params, updates, inplace=False)
            return support_loss(params, Xq, yq)

        self.params = {name: own.detach().clone().requires_grad_() for name, own in self.model.named_parameters()}
        self.of_all = vmap(of_one, in_dims=(None, 0, 0, 0, 0))

    def meta_parameters(self):
        """Return leaves of its own."""
        return list(self.params.values())

    def backward(self, episodes):
        """Map over the tasks."""
        self.of_all(self.params, *map(torch.stack, zip(*episodes, strict=True))).mean().backward()
