"""W2: meta-steps a second of Conv4 on images, through MAMLClassifier and in learn2learn, higher and TorchOpt.

Four blocks of 64 channels with group normalisation over all channels, 28 x 28 pixels, five classes, one support and
15 query images each, four tasks a step, five exact inner steps. Convolutions are not compiled: ours loops over tasks,
and so do the others. Before anything is timed their meta-gradients are compared with ours in double precision. One
thread, pinned; medians of repetitions in turn.

    make bench
"""

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import peers
import torch
from timing import stay_on_one_processor
from torch import nn

from metaest import MAMLClassifier, TaskSet
from metaest.functional import ConvNet, Episodes, GradientDescent, ModuleForward, Rows, looped, task_losses

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe

META_LR, WAYS, QUERY = 1e-3, 5, 15


class Images:
    """What is timed, as `peers` wants it."""

    name, steps, n_tasks, inner_lr = "W2, 5 steps", 5, 4, 0.01

    @staticmethod
    def module():
        """Return Conv4 with its initial weights."""
        torch.manual_seed(0)
        return ConvNet((1, 28, 28), WAYS, normalization="group")

    @staticmethod
    def tasks(n=40):
        """Images of noise around a picture of each class."""
        rng = np.random.default_rng(0)
        y = np.tile(np.arange(WAYS), 1 + QUERY)
        pictures = rng.standard_normal((n, WAYS, 1, 28, 28))
        X = (pictures[:, y] + rng.standard_normal((n, len(y), 1, 28, 28))).astype("float32")
        return TaskSet([(own, y) for own in X])

    @staticmethod
    def targets(tasks):
        """Return numbers of classes."""
        return torch.tensor(np.asarray(tasks.y))

    @staticmethod
    def loss(prediction, y):
        """Return the mean cross-entropy."""
        return nn.functional.cross_entropy(prediction, y)

    @staticmethod
    def draws(n, seed=0):
        """Row numbers of support and query for n steps: the first row of each class, and the others."""
        task = np.random.default_rng(seed).integers(0, 40, (n, Images.n_tasks, 1))
        rows = task * WAYS * (1 + QUERY) + np.arange(WAYS * (1 + QUERY))
        return rows[..., :WAYS], rows[..., WAYS:]


def gradient_in_torch(draws):
    """The meta-gradient of the first draw in double precision, by the functional core."""
    module, tasks = Images.module().double(), Images.tasks()
    forward = ModuleForward(module, WAYS)
    params = {name: value.requires_grad_() for name, value in forward.parameters().items()}
    X, y = torch.tensor(tasks.X).double(), torch.tensor(np.asarray(tasks.y))[:, None]
    rows = [Rows(X[own[0]], y[own[0]], torch.ones(own[0].shape).double()) for own in draws]

    def loss(prediction, y, mask):
        return nn.functional.cross_entropy(prediction[0], y[0, :, 0])[None]

    solver = GradientDescent(Images.steps, Images.inner_lr)
    parts = [task_losses(looped(forward), loss, solver, params, Episodes(*(Rows(*(own[[t]] for own in side))
             for side in rows))) for t in range(Images.n_tasks)]  # fmt: skip
    gradients = torch.autograd.grad(torch.cat(parts).mean(), list(params.values()))
    return np.concatenate([own.numpy().reshape(-1) for own in gradients])


def ours(n):
    """Meta-steps a second of a fit."""
    model = MAMLClassifier(
        module=Images.module(), inner_steps=Images.steps, inner_lr=Images.inner_lr, k_shot=1, n_query=QUERY,
        shared_labels=True, meta_batch_size=Images.n_tasks, meta_lr=META_LR, max_iter=n + 1, alpha=0.0,
        max_grad_norm=None, standardize=False, random_state=0,
    ).fit(Images.tasks())  # fmt: skip
    seconds = model.history_["seconds"].to_numpy()
    return n / (seconds[-1] - seconds[0])


def timed(run, draws, n):
    """Steps a second of a function that takes n of them."""
    started = time.perf_counter()
    run(draws, n)
    return n / (time.perf_counter() - started)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    stay_on_one_processor()
    print(describe())
    draws = Images.draws(16)
    runs, truth = {"MAMLClassifier": ours}, gradient_in_torch(draws)
    for name, peer in peers.available(Images, META_LR).items():
        # in single precision rounding moves the largest of four pixels, and the gradient by 1e-4 with it
        peer.model.double()
        peer.X = peer.X.double()
        away = np.linalg.norm(peer.gradient(draws) - truth)
        assert away < 1e-10 * np.linalg.norm(truth), f"{name}: another meta-gradient"
    for name, peer in peers.available(Images, META_LR).items():
        runs[name] = lambda n, peer=peer: timed(peer.run, draws, n)
    rates = {name: [] for name in runs}
    for turn in range(arguments.repetitions + 1):
        for name, run in runs.items():
            rate = run(arguments.steps if turn else 1)
            if turn:
                rates[name].append(rate)
    medians = {name: statistics.median(own) for name, own in rates.items()}
    print("\n| " + Images.name + " | meta-steps a second | ours to it |\n|---|---|---|")
    for name, rate in medians.items():
        print(f"| {name} | {rate:.2f} | {medians['MAMLClassifier'] / rate:.2f} |")


if __name__ == "__main__":
    main()
