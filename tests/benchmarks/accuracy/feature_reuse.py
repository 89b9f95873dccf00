"""Feature reuse against adaptation of the features: frozen features with a new head, ANIL, R2D2 and MAML.

A task is y = a tanh(2 u'x) + b + noise in four dimensions, along a direction u = (e1 + s v) / sqrt(1 + s^2) of unit
length, with v at right angles to e1:

    shared direction     s = 0: all tasks look along e1, and a head is all that differs
    private directions   s = 1, v at random: each new task looks along a direction of its own
    unseen direction     tasks to learn from have v = +-e2, new ones have v = +-e3

Frozen features are those of a network trained on all tasks, with one head for all of them or one for each; the new head
is ridge regression around the mean head, its strength chosen on 200 tasks of the training kind kept apart. All networks
have two hidden layers of 32 tanh units. Printed is the squared error on 50 rows over the variance of y, for 400 new
tasks.

    python tests/benchmarks/accuracy/feature_reuse.py --figure docs/figures/feature_reuse.png
"""

import argparse
import warnings

import numpy as np
import torch
from machine import describe
from matplotlib.figure import Figure
from torch import nn

from metaest import MAMLRegressor, OvershootWarning, Task, TaskSet

N_TRAIN, N_KEPT, N_NEW, N_QUERY, STEPS, HIDDEN = 1000, 200, 400, 50, 4000, 32
SHOTS = (5, 10, 20, 40)
STRENGTHS = 10.0 ** np.arange(-3, 4)
CASES = ("shared direction", "private directions", "unseen direction")
META = {
    "ANIL": {"adapt_layers": "head", "learn_inner_lr": "one"},
    "R2D2": {"inner_solver": "ridge"},
    "MAML": {"learn_inner_lr": "one"},
}
STYLES = {
    "frozen, one head": ("#8a8f98", ":"),
    "frozen, a head each": ("#20262e", ":"),
    "ANIL": ("#7a5195", "-"),
    "R2D2": ("#2f8f5b", "-"),
    "MAML": ("#0b6e99", "-"),
    "MAML, 50 steps": ("#0b6e99", "--"),
    "MAML, its head alone": ("#c4561d", "--"),
}


def draw(rng, case, n_tasks, n_rows, new=False):
    """Return tasks of a case, as they are to learn from or as new ones are."""
    v = rng.standard_normal((n_tasks, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    if case == "unseen direction":
        v = np.sign(v[:, :1]) * np.eye(3)[1 if new else 0]
    s = 0.0 if case == "shared direction" else 1.0
    u = np.column_stack([np.ones(n_tasks), s * v]) / np.sqrt(1 + s**2)
    a, b = rng.uniform(0.5, 2, (n_tasks, 1)), rng.normal(0, 0.5, (n_tasks, 1))
    X = rng.uniform(-1.5, 1.5, (n_tasks, n_rows, 4))
    y = a * np.tanh(2 * np.einsum("tij,tj->ti", X, u)) + b + 0.05 * rng.standard_normal((n_tasks, n_rows))
    return TaskSet([Task(i, X[i], y[i]) for i in range(n_tasks)])


class Frozen:
    """Features of a network trained on all tasks, with one head or one for each task; new tasks get a ridge head."""

    def __init__(self, tasks, kept, heads):
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())
        n = len(tasks)
        self.head = nn.Parameter(torch.zeros(n if heads else 1, HIDDEN + 1))
        X, y = torch.tensor(tasks.X).float().view(n, -1, 4), torch.tensor(tasks.y).float().view(n, -1)
        adam = torch.optim.Adam([*self.body.parameters(), self.head], lr=0.003)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
        for _ in range(STEPS):
            batch = torch.randint(n, (100,))
            head = self.head[batch] if heads else self.head
            adam.zero_grad()
            error = (self.features(X[batch]) * head[:, None]).sum(dim=-1) - y[batch]
            (error.square().mean() + 1e-4 * head.square().mean()).backward()
            adam.step()
            cosine.step()
        self.mean = self.head.detach().mean(dim=0).double().numpy()
        errors = [np.mean([squared_error(self, task, 10, s) for task in kept]) for s in STRENGTHS]
        self.strength = float(STRENGTHS[int(np.argmin(errors))])

    def features(self, X):
        return torch.cat([self.body(X), torch.ones_like(X[..., :1])], dim=-1)

    def numbers(self, X):
        with torch.no_grad():
            return self.features(torch.tensor(X).float()).double().numpy()

    def predict_from(self, X, y, query, strength=None):
        phi = self.numbers(X)
        gram = phi.T @ phi + (strength or self.strength) * np.eye(HIDDEN + 1)
        head = self.mean + np.linalg.solve(gram, phi.T @ (y - phi @ self.mean))
        return self.numbers(query) @ head


class Adapted:
    """A meta-learned model, with settings for its adaptation."""

    def __init__(self, model, **settings):
        self.model, self.settings = model, settings

    def predict_from(self, X, y, query):
        self.model.set_params(**self.settings)
        return self.model.adapt(X, y).predict(query)


def squared_error(method, task, shots, *own):
    """Adapt on the first rows, predict the last."""
    prediction = method.predict_from(task.X[:shots], task.y[:shots], task.X[-N_QUERY:], *own)
    return np.square(prediction - task.y[-N_QUERY:]).mean()


def meta_learned(tasks, settings):
    return MAMLRegressor(
        hidden_layer_sizes=(HIDDEN, HIDDEN),
        support_size=(5, 20),
        meta_lr=0.003,
        max_iter=STEPS,
        alpha=1.0,
        random_state=0,
        **settings,
    ).fit(tasks)


def study(case):
    """Print the table of a case; return mean and half width of the 95 % interval by method and rows."""
    rng = np.random.default_rng(0)
    tasks, kept = draw(rng, case, N_TRAIN, 40), draw(rng, case, N_KEPT, 10 + N_QUERY)
    new = draw(rng, case, N_NEW, SHOTS[-1] + N_QUERY, new=True)
    models = {name: meta_learned(tasks, own) for name, own in META.items()}
    methods = {
        "frozen, one head": Frozen(tasks, kept, heads=False),
        "frozen, a head each": Frozen(tasks, kept, heads=True),
        **{name: Adapted(model, inner_steps=5, adapt_layers=model.adapt_layers) for name, model in models.items()},
        "MAML, 50 steps": Adapted(models["MAML"], inner_steps=50, adapt_layers="all"),
        "MAML, its head alone": Adapted(models["MAML"], inner_steps=5, adapt_layers="head"),
    }
    print(f"\n{case:22}" + "".join(f"{shots:>8} rows   " for shots in SHOTS), flush=True)
    found = {}
    for name, method in methods.items():
        errors = np.array([[squared_error(method, task, shots) for task in new] for shots in SHOTS]) / np.var(new.y)
        found[name] = errors.mean(axis=1), 1.96 * errors.std(axis=1, ddof=1) / np.sqrt(N_NEW)
        cells = "".join(f"{mean:8.3f} ({half:.3f})" for mean, half in zip(*found[name], strict=True))
        print(f"{name:22}{cells}", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", OvershootWarning)
    print(describe())
    found = {case: study(case) for case in CASES}
    if arguments.figure:
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (case, methods) in zip(axes, found.items(), strict=True):
            for name, (mean, half) in methods.items():
                colour, line = STYLES[name]
                ax.errorbar(SHOTS, mean, half, color=colour, ls=line, marker="o", ms=4, lw=1.7, label=name)
            ax.set(xscale="log", yscale="log", xlabel="rows of the new task")
            ax.set_xticks(SHOTS, [str(shots) for shots in SHOTS], minor=False)
            ax.minorticks_off()
            ax.set_title(case, loc="left", fontsize=11)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("squared error / variance")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
        figure.savefig(arguments.figure, dpi=130)


if __name__ == "__main__":
    main()
