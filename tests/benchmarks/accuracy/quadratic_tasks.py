"""What each meta-gradient learns on quadratic tasks, beside the closed form and the mean of the tasks' optima.

Forty straight lines without noise, four support and four query rows each. The squared error of a line is quadratic in
intercept and slope, so that s inner steps of rate r take a start to

    theta' - w = J (theta - w),   J = (I - r H)^s,   H = 2 A'A / n,

and the start of least query error is a weighted average of the optima w, with the weights J'QJ. Other meta-gradients
have other weights: QJ (first-order), I - J on all rows (Reptile), and the J of the proximal minimum (implicit).

    python tests/benchmarks/accuracy/quadratic_tasks.py --figure docs/figures/quadratic_tasks.png
"""

import argparse

import numpy as np
import torch
from machine import describe
from matplotlib.figure import Figure

from metaest import MAMLRegressor, Task, TaskSet

N_TASKS, N_NEW, ROWS, STEPS, RATE, PROXIMAL = 40, 4000, 4, 5, 0.1, 1.0
KINDS = {
    "joint training": {"inner_steps": 0},
    "exact (MAML)": {},
    "first-order": {"meta_gradient": "first-order"},
    "Reptile": {"meta_gradient": "reptile"},
    "implicit": {"meta_gradient": "implicit", "inner_steps": 120, "proximal": PROXIMAL},
}
COLOURS = dict(
    zip(
        [*KINDS, "mean of the optima"],
        ("#8a8f98", "#0b6e99", "#c4561d", "#7a5195", "#2f8f5b", "#20262e"),
        strict=True,
    )
)


def draw(rng, n_tasks, equal):
    """Return inputs of shape (tasks, rows) and the optima (intercept, slope); steeper lines lie on wider inputs."""
    width = np.exp(0.6 * rng.standard_normal((n_tasks, 1)))
    x = np.tile(rng.standard_normal((1, 2 * ROWS)), (n_tasks, 1)) if equal else rng.standard_normal((n_tasks, 2 * ROWS))
    noise = rng.standard_normal((n_tasks, 2))
    optima = np.column_stack([noise[:, 0], 1 + np.log(width[:, 0]) + 0.5 * noise[:, 1]])
    return (x if equal else width * x).clip(-3, 3), optima


def hessian(x):
    A = np.stack([np.ones_like(x), x], axis=-1)
    return 2 * A.swapaxes(1, 2) @ A / x.shape[1]


def contraction(H, steps=STEPS):
    return np.linalg.matrix_power(np.eye(2) - RATE * H, steps)


def weights(kind, x):
    """Return the matrix by which each task's optimum counts."""
    support, query = hessian(x[:, :ROWS]), hessian(x[:, ROWS:])
    if kind == "joint training":
        return query
    if kind == "Reptile":
        return np.eye(2) - contraction(hessian(x))
    J = np.linalg.inv(np.eye(2) + support / PROXIMAL) if kind == "implicit" else contraction(support)
    return query @ J if kind == "first-order" else J.swapaxes(1, 2) @ query @ J


def closed_form(kind, x, optima):
    W = weights(kind, x)
    return np.linalg.solve(W.sum(axis=0), np.einsum("tij,tj->i", W, optima))


def learned(kind, x, optima):
    """Return intercept and slope that MAMLRegressor finds."""
    y = optima[:, :1] + optima[:, 1:] * x
    tasks = TaskSet([Task(i, x[i][:, None], y[i], support=range(ROWS)) for i in range(len(x))])
    settings = {"inner_steps": STEPS, "inner_lr": RATE, "meta_lr": 0.03, "max_iter": 1500, **KINDS[kind]}
    model = MAMLRegressor(
        hidden_layer_sizes=(),
        activation="identity",
        meta_batch_size=len(x),
        alpha=0.0,
        max_grad_norm=None,
        standardize=False,
        dtype="float64",
        random_state=0,
        **settings,
    ).fit(tasks)
    line = model.predict(np.array([[0.0], [1.0]]))
    return np.array([line[0], line[1] - line[0]])


def error(start, x, optima, steps=STEPS, proximal=False):
    """Mean squared error on query rows after adapting from `start` on support rows."""
    support = hessian(x[:, :ROWS])
    J = np.linalg.inv(np.eye(2) + support / PROXIMAL) if proximal else contraction(support, steps)
    away = np.einsum("tij,tj->ti", J, start - optima)
    return float(np.mean(np.square(away[:, :1] + away[:, 1:] * x[:, ROWS:])))


def study(equal):
    """Print one table; return what the figure shows."""
    x, optima = draw(np.random.default_rng(0), N_TASKS, equal)
    new = draw(np.random.default_rng(1), N_NEW, equal)
    if equal:
        new = np.tile(x[:1], (N_NEW, 1)), new[1]
    mean, starts = optima.mean(axis=0), {}
    print(f"\n{'equal' if equal else 'unequal'} Hessians; mean squared error after adapting, and of {N_NEW} new tasks")
    errors = f"{f'{STEPS} steps':>9}{'new':>8}{'minimum':>9}{'new':>8}"
    print(f"{'':20}{'learned':>17}{'closed form':>17}{'to mean':>9}{errors}")
    for kind in [*KINDS, "mean of the optima"]:
        start = closed = mean
        if kind in KINDS:
            start, closed = learned(kind, x, optima), closed_form(kind, x, optima)
        starts[kind] = start
        errors = (error(start, *own, proximal=p) for p in (False, True) for own in ((x, optima), new))
        cells = (f"{start[0]:9.4f}{start[1]:8.4f}", f"{closed[0]:9.4f}{closed[1]:8.4f}")
        away = np.linalg.norm(start - mean)
        print(
            f"{kind:20}{''.join(cells)}{away:9.4f}"
            + "".join(f"{own:{w}.4f}" for own, w in zip(errors, (9, 8, 9, 8), strict=True))
        )
    return x, optima, starts


def plane(ax, x, optima, starts, title):
    """Draw optima, starts and closed forms over the contours of the error after adapting."""
    curvature = np.linalg.eigvalsh(hessian(x[:, :ROWS]))[:, -1]
    ax.scatter(*optima.T, s=12 * curvature, c="#c9ced6", lw=0, label="optima of tasks (area: curvature)")
    grid = np.meshgrid(np.linspace(-0.8, 0.8, 60), np.linspace(0.4, 1.8, 60))
    level = np.array([error(np.array(p), x, optima) for p in zip(*(g.ravel() for g in grid), strict=True)])
    ax.contour(*grid, level.reshape(grid[0].shape), levels=8, colors="#c3ccd6", linewidths=0.8)
    for kind, start in starts.items():
        ax.plot(*start, "o", ms=7, color=COLOURS[kind], label=kind, zorder=3)
        if kind in KINDS:
            ax.plot(*closed_form(kind, x, optima), "+", ms=16, mew=1.3, color=COLOURS[kind], zorder=4)
    ax.plot([], [], "+", ms=12, color="#20262e", label="closed form of each")
    ax.set(xlabel="intercept", ylabel="slope", xlim=(-0.8, 0.8), ylim=(0.4, 1.8))
    ax.set_title(title, loc="left", fontsize=11)


def by_steps(ax, x, optima, starts):
    """Draw the error from each start against the steps taken, relative to that from the mean of the optima."""
    steps = np.arange(16)
    errors = {kind: np.array([error(start, x, optima, s) for s in steps]) for kind, start in starts.items()}
    for kind, values in errors.items():
        ax.plot(steps, values / errors["mean of the optima"], "o-", ms=3, color=COLOURS[kind], lw=1.6)
    ax.axvline(STEPS, color="#20262e", lw=0.8, ls=":")
    ax.annotate("learned for", (STEPS, 1.3), xytext=(4, 0), textcoords="offset points", fontsize=9)
    ax.set(xlabel="inner steps taken", ylabel="query error / that from the mean", xlim=(-0.3, 15.3), ylim=(0.8, 1.4))
    ax.set_title("unequal Hessians, same tasks", loc="left", fontsize=11)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    unequal, equal = study(equal=False), study(equal=True)
    if arguments.figure:
        figure = Figure(figsize=(13.5, 4.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        plane(left, *unequal, "unequal Hessians")
        plane(middle, *equal, "equal Hessians")
        by_steps(right, *unequal)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False, fontsize=9)
        for ax in (left, middle, right):
            ax.spines[["top", "right"]].set_visible(False)
        figure.savefig(arguments.figure, dpi=130)


if __name__ == "__main__":
    main()
