"""How time and memory grow with tasks, inner steps and width, as `compile="auto"` has it.

Each line is a process of its own: meta-steps a second once they run, seconds before the first one (tracing and
compiling, nothing kept from before), and the peak memory of the whole process, torch included.

    make bench
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from metaest import MAMLRegressor, TaskSet

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe

START = {"tasks": 1000, "steps": 5, "width": 40}
LINES = [
    *({"tasks": n} for n in (10, 1_000, 100_000, 1_000_000)),
    *({"steps": n} for n in (1, 10, 20, 50)),
    *({"width": n} for n in (16, 64, 128, 256, 512, 1000)),
]


def fit(n_tasks, steps, width, max_iter):
    """Fit once; return steps a second, seconds before the first, and what took the steps."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-5, 5, (20 * n_tasks, 1)).astype("float32")
    y = np.sin(X[:, 0] + np.repeat(rng.uniform(0, 3, n_tasks), 20)).astype("float32")
    tasks = TaskSet.from_arrays(X, y, np.repeat(np.arange(n_tasks), 20))
    model = MAMLRegressor(hidden_layer_sizes=(width, width), activation="relu", inner_steps=steps, inner_lr=1e-4,
                          support_size=10, meta_lr=1e-4, max_iter=max_iter, random_state=0)  # fmt: skip
    started = time.perf_counter()
    model.fit(tasks)
    whole = time.perf_counter() - started
    seconds = model.history_["seconds"].to_numpy()
    # all steps of one call have the same time
    first = int(np.flatnonzero(np.diff(seconds))[0]) + 1 if model.compiled_ else 20
    rate = (max_iter - first) / (seconds[-1] - seconds[first - 1])
    return rate, whole - max_iter / rate, "compiled" if model.compiled_ else "torch"


def line(changed):
    """Run one line in this process and print it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    own = {**START, **changed}
    # enough to time after the first call, which is up to 256 steps of machine code, or 20 of torch
    n = 24 if own["width"] > 256 else 320 if own["width"] > 64 or own["steps"] > 20 else 1024
    rate, before, how = fit(own["tasks"], own["steps"], own["width"], n)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n_parameters = own["width"] * (own["width"] + 4) + 1
    print(
        f"| {own['tasks']:,} | {own['steps']} | {n_parameters:,} | {how} | {rate:,.{0 if rate > 10 else 2}f} | {max(0.0, before):.1f} | {peak:,.0f} |"
    )


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line", nargs=2, help="one line, as its name and value")
    arguments = parser.parse_args()
    if arguments.line:
        line({arguments.line[0]: int(arguments.line[1])})
        return
    print(describe())
    print("\n| tasks | inner steps | parameters | by | meta-steps a second | seconds before | peak memory, MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for changed in LINES:
        [(name, value)] = changed.items()
        with tempfile.TemporaryDirectory() as empty:
            environment = {**os.environ, "METAEST_CACHE_DIR": empty}
            subprocess.run([sys.executable, __file__, "--line", name, str(value)], check=True, env=environment)


if __name__ == "__main__":
    main()
