"""Populations learned from few tasks: how often 90 % intervals of constants hold, plugged in and integrated.

Two equations with two constants that vary between tasks: a decay a exp(-k t) with SDs 0.3 of ln k and ln a, medians
0.5 and 10 (noise SD 0.5, six rows from t = 0.25 to 6), and a line a + b x with SDs 1 and 0.5 (noise SD 0.3, six rows
from x = -1 to 1). Each replicate fits the same tasks with ``small_sample="none"`` and ``"integrate"``, and asks for the
constants of 4 new tasks, before their rows and after 3 of them (the first, a middle and the last), and of the population.

    python tests/benchmarks/accuracy/few_tasks.py --replicates 2000
    python tests/benchmarks/accuracy/few_tasks.py --replicates 2000 --covariance full

Widths are medians, in the unconstrained space for the decay; ``zero`` is the share of standard deviations between tasks
that the maximum of the likelihood takes as zero. ``ratio`` is the root mean square error of a constant of a new task over
its standard error, 1 where these hold.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from machine import describe

from metaest import EquationRegressor, Parameter, TaskSet

N_ROWS, N_NEW = 6, 4
SUPPORT = [0, 2, 5]
ASKED = ("before rows", "after 3 rows", "population")
SETTINGS = ("none", "integrate")


def decay(X, k, a):
    return a * torch.exp(-k * X[:, 0])


def line(X, a, b):
    return a + b * X[:, 0]


def simulate_decay(phi, rng):
    """Return times and values of decays with the logarithms phi of their constants."""
    t = np.linspace(0.25, 6, N_ROWS)
    k, a = np.exp(phi).T[:, :, None]
    return t, a * np.exp(-k * t) + 0.5 * rng.standard_normal((len(phi), N_ROWS))


def simulate_line(phi, rng):
    """Return places and values of lines with the constants phi."""
    x = np.linspace(-1, 1, N_ROWS)
    return x, phi[:, :1] + phi[:, 1:] * x + 0.3 * rng.standard_normal((len(phi), N_ROWS))


# equation, its parameters, center and SD of the constants, simulation, from values to the unconstrained space
DESIGNS = {
    "decay": (
        decay,
        {"k": Parameter(1.0, lower=0), "a": Parameter(5.0, lower=0)},
        np.log([0.5, 10.0]),
        np.array([0.3, 0.3]),
        simulate_decay,
        np.log,
    ),
    "line": (line, {"a": 0.0, "b": 1.0}, np.array([1.0, 2.0]), np.array([1.0, 0.5]), simulate_line, np.asarray),
}


def replicate(design, n_tasks, covariance, seed):
    """Return by setting and question: whether intervals hold, their widths, and standardised errors; zero SDs."""
    equation, parameters, center, sd, simulate, unconstrained = DESIGNS[design]
    rng = np.random.default_rng(seed)
    x, y = simulate(center + sd * rng.standard_normal((n_tasks, 2)), rng)
    tasks = TaskSet([(x[:, None], values) for values in y])
    truth = center + sd * rng.standard_normal((N_NEW, 2))
    _, new = simulate(truth, rng)
    answers, zero = {}, 0.0
    for setting in SETTINGS:
        model = EquationRegressor(equation, parameters, covariance=covariance, small_sample=setting, compile=False).fit(
            tasks
        )
        if setting == "none":
            zero = float((model.population_["omega"] == 0).mean())
        before = model.adapt([], []).params_
        after = [model.adapt(x[SUPPORT, None], values[SUPPORT]).params_ for values in new]
        tables = {"before rows": [before] * N_NEW, "after 3 rows": after, "population": [model.population_]}
        for asked, several in tables.items():
            low, high = (
                unconstrained(np.array([table[end] for table in several], dtype=float))
                for end in ("lower_90", "upper_90")
            )
            value = unconstrained(np.array([table["value"] for table in several], dtype=float))
            error = np.array([table["standard_error"] for table in several], dtype=float)
            if unconstrained is np.log:
                error = error / np.exp(value)
            true = center if asked == "population" else truth
            answers[setting, asked] = (low <= true) & (true <= high), high - low, (value - true) / error
    return answers, zero


def report(design, n_tasks, covariance, n_replicates):
    """Print coverage, width and ratio of all intervals of a design."""
    start, results = time.process_time(), []
    for seed in range(n_replicates):
        results.append(replicate(design, n_tasks, covariance, [n_tasks, seed]))
    zero = np.mean([zero for _, zero in results])
    seconds = (time.process_time() - start) / n_replicates
    names = list(DESIGNS[design][1])
    print(
        f"\n{design}, {n_tasks} tasks, {covariance}: {n_replicates} replicates, {seconds:.2f} s each, zero {zero:.1%}"
    )
    print(f"  {'':12} {'':10} " + " ".join(f"{name:>8} {'+-':>5} {'width':>7} {'ratio':>6}" for name in names))
    for asked in ASKED:
        for setting in SETTINGS:
            parts = [np.array([answers[setting, asked][i] for answers, _ in results]) for i in range(3)]
            held, width, z = parts
            cells = []
            for k in range(len(names)):
                of_replicate = held[..., k].reshape(n_replicates, -1).mean(axis=1)
                error = 1.96 * of_replicate.std(ddof=1) / np.sqrt(n_replicates)
                cells.append(
                    f"{of_replicate.mean():8.1%} {100 * error:5.1f} {np.median(width[..., k]):7.3f} "
                    f"{np.sqrt(np.square(z[..., k]).mean()):6.2f}"
                )
            print(f"  {asked:12} {setting:10} " + " ".join(cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS), choices=DESIGNS)
    parser.add_argument("--tasks", nargs="+", type=int, default=[5, 8, 12])
    parser.add_argument("--covariance", default="diagonal", choices=["diagonal", "full"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe())
    for design in arguments.designs:
        for n_tasks in arguments.tasks:
            report(design, n_tasks, arguments.covariance, arguments.replicates)


if __name__ == "__main__":
    main()
