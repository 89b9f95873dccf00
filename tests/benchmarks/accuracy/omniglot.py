"""Characters of alphabets never seen: Omniglot's two small background sets, and its twenty one-shot runs.

Trained on the five alphabets of one set, tested on those of the other that it does not share; both directions.
Training characters are turned by quarters and mirrored, each a character of its own, and distorted a little in
training; test characters are neither. What a trained network says of a drawing, of the support or of the query, is its
mean over five looks at it: as it is, and turned and moved a little to four sides. 600 episodes of 5 classes with 1 or 5
drawings each, 15 others of each class to be judged by, drawn from all test characters. One model of a method serves
1 shot, 5 shots and the 20-way runs.

"default" is AutoMetaClassifier(n_way=5), with no other setting; its network distorts and looks likewise. With it, memory at
its peak in training is printed.

With --validate a model is trained on three alphabets of a set and judged on the two others: settings were chosen so.

    python tests/benchmarks/accuracy/omniglot.py
    python tests/benchmarks/accuracy/omniglot.py --validate --methods MAML --set inner_steps=3 inner_lr=0.1
"""

import argparse
import resource
import time
from ast import literal_eval
from functools import partial

import numpy as np
import torch
from machine import describe
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from metaest import AutoMetaClassifier, MAMLClassifier, Task, make_episodes
from metaest.diagnostics import pretrained
from metaest.functional import ConvNet
from metaest_datasets import fetch_omniglot_runs, fetch_omniglot_small

HELD_OUT = {1: ("Balinese", "Korean"), 2: ("Sanskrit", "Tagalog")}
N_EPISODES, N_VALIDATION, N_QUERY = 600, 200, 15
# angle, and shares of half the width and height
LOOKS = [(0.12, 0.05, 0.0), (-0.12, -0.05, 0.0), (0.12, 0.0, -0.05), (-0.12, 0.0, 0.05)]
COMMON = {
    "n_way": 5,
    "k_shot": (1, 5),
    "n_query": 5,
    "normalization": "batch",
    "meta_batch_size": 4,
    "meta_lr": 0.002,
    "max_grad_norm": 10.0,
    "random_state": 0,
}
METHODS = {
    "default": {},
    "MAML": {"inner_steps": 5, "inner_lr": 0.2, "k_shot": 1, "max_iter": 5_000, "learn_inner_lr": "per-layer-and-step"},
    "ANIL": {"inner_steps": 5, "inner_lr": 0.5, "max_iter": 5_000, "adapt_layers": "head"},
    "R2D2": {"inner_solver": "ridge", "n_way": 20, "max_iter": 4_000},
    "fine-tuned": {
        "inner_steps": 20,
        "inner_lr": 0.1,
        "adapt_layers": "head",
        "normalization": "layer",
        "max_iter": 600,
    },
    "nearest neighbour": {},
}


class Distorted(nn.Module):
    """A network that sees drawings distorted a little: in training one way each, later the mean over five looks."""

    def __init__(self, shape, n_outputs, width, normalization, amount):
        super().__init__()
        self.network = ConvNet(shape, n_outputs, (width,) * 4, "relu", normalization)
        self.amount = amount

    def forward(self, X):
        if self.training:
            return self.network(self.distorted(X))
        output = self.network(torch.cat([X, *(moved(X, *own) for own in LOOKS)]))
        return output.reshape(1 + len(LOOKS), len(X), *output.shape[1:]).mean(dim=0)

    def distorted(self, X):
        angle, shear, stretch, shift = (self.amount * own for own in (0.2, 0.15, 0.15, 0.12))
        u = 2 * torch.rand(6, len(X), dtype=X.dtype) - 1
        cos, sin = torch.cos(angle * u[0]), torch.sin(angle * u[0])
        wide, high = 1 + stretch * u[2], 1 + stretch * u[3]
        rows = [cos * wide, -sin + shear * u[1], shift * u[4], sin, cos * high, shift * u[5]]
        return mapped(X, torch.stack(rows, dim=1).view(-1, 2, 3))


def moved(X, angle, right, down):
    cos, sin = np.cos(angle), np.sin(angle)
    rows = torch.tensor([[cos, -sin, right], [sin, cos, down]], dtype=X.dtype)
    return mapped(X, rows.expand(len(X), 2, 3))


def mapped(X, rows):
    grid = nn.functional.affine_grid(rows, list(X.shape), align_corners=False)
    return nn.functional.grid_sample(X, grid, padding_mode="border", align_corners=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--amount", type=float, default=1.5, help="of distortion in training")
    parser.add_argument("--set", nargs="*", default=[], help="other settings, as name=value")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    print(f"{'':18} {'set':>4} {'1 shot':>15} {'5 shots':>15} {'20 runs, error':>15} {'steps':>7} {'CPU minutes':>12}")
    for method in arguments.methods:
        results = []
        for part in arguments.parts:
            started = time.process_time()
            changed = dict(pair.split("=", 1) for pair in arguments.set)
            settings = {**METHODS[method], **{name: _value(text) for name, text in changed.items()}}
            training, tests, runs = _data(part, arguments.validate)
            model = _fit(method, settings, training, arguments.width, arguments.amount)
            minutes = (time.process_time() - started) / 60
            scores = [_scores(model, test) for test in tests]
            error = 100 * (1 - _scores(model, runs).mean())
            results.append([*(100 * own for own in scores), error])
            cells = [f"{_interval(own):>15}" for own in results[-1][:2]]
            steps = settings.get("max_iter", "")
            print(f"{method:18} {part:4} {' '.join(cells)} {error:13.1f} % {steps:>7} {minutes:12.1f}", flush=True)
        if len(results) > 1:
            cells = [f"{_interval(*(own[i] for own in results)):>15}" for i in range(2)]
            error = np.mean([own[2] for own in results])
            print(f"{method:18} both {' '.join(cells)} {error:13.1f} %", flush=True)


def _value(text):
    try:
        return literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _data(part, validate):
    """Return training drawings as one task, test episodes with 1 and 5 shots, and the twenty runs."""
    own = fetch_omniglot_small(part, rotations=True)
    held_out = HELD_OUT[part] if validate else ()
    kept = [task for task in own if task.name not in held_out]
    X, y = np.concatenate([task.X for task in kept]), np.concatenate([task.y for task in kept])
    mirrored = np.char.add("mirrored ", y.astype(str))
    training = Task("all", np.concatenate([X, X[..., ::-1]]), np.concatenate([y.astype(str), mirrored]))
    other = fetch_omniglot_small(part if validate else 3 - part)
    unseen = [task for task in other if (task.name in held_out if validate else task.name not in own.names)]
    X, y = np.concatenate([task.X for task in unseen]), np.concatenate([task.y for task in unseen])
    n_episodes = N_VALIDATION if validate else N_EPISODES
    tests = [make_episodes(X, y, 5, k, N_QUERY, n_episodes=n_episodes, random_state=1) for k in (1, 5)]
    return training, tests, fetch_omniglot_runs()


def _fit(method, settings, training, width, amount):
    if method == "nearest neighbour":
        return None
    if method == "default":
        model = AutoMetaClassifier(n_way=5, random_state=0).fit([training])
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{model.choice_}; {gigabytes:.1f} GB\n{model.table_.to_string()}", flush=True)
        return model
    settings = {**COMMON, **settings}
    module = partial(Distorted, width=width, normalization=settings.pop("normalization"), amount=amount)
    model = MAMLClassifier(module=module, **settings)
    return pretrained(model, [training]) if method == "fine-tuned" else model.fit([training])


def _scores(model, tasks):
    """Return the accuracy in each task."""
    if model is not None:
        whole = {"n_way": None, "n_query": None}
        model.set_params(**{name: value for name, value in whole.items() if name in model.get_params(deep=False)})
        return model.task_scores(tasks).to_numpy()
    scores = []
    for task in tasks:
        known = np.isin(np.arange(len(task)), task.support)
        flat = task.X.reshape(len(task), -1)
        nearest = KNeighborsClassifier(1).fit(flat[known], task.y[known])
        scores.append(nearest.score(flat[~known], task.y[~known]))
    return np.array(scores)


def _interval(*scores):
    """Return the mean over directions, and half the width of its 95 % interval over episodes."""
    mean = np.mean([own.mean() for own in scores])
    error = np.sqrt(sum(own.var(ddof=1) / len(own) for own in scores)) / len(scores)
    return f"{mean:.2f} ± {1.96 * error:.2f}"


if __name__ == "__main__":
    main()
