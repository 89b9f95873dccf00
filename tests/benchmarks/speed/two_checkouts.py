"""Two checkouts in turn: import, meta-steps of two kinds and a fit of an equation; CPU time of pairs of processes.

python tests/benchmarks/speed/two_checkouts.py OLD NEW --pairs 10
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import t as student

# calls of which a process takes the fastest
REPEATS = 3
PARTS = ("import", "W1, 6,000 steps", "W3, 12,000 steps", "theophylline by torch, 3 fits")


def cpu(call):
    """Return the least CPU seconds of some calls after one to warm up: what disturbs a process only adds to them."""
    call(1)
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call(0)
        times.append(time.process_time() - started)
    return min(times)


def timed():
    """Return the times of this process, whose path leads to one of the checkouts."""
    started = time.process_time()
    import metaest  # noqa: F401

    times = [time.process_time() - started]
    import torch
    from workloads import JMAK

    from metaest import EquationRegressor, MAMLRegressor, Parameter
    from metaest_datasets import make_avrami_tasks, make_sinusoids

    sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
    from equations_accuracy import absorption

    from metaest_datasets import load_theophylline

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    waves, curves, patients = (
        make_sinusoids(200, 20, random_state=0),
        make_avrami_tasks(200, random_state=0)[0],
        load_theophylline(),
    )
    common = {"inner_lr": 0.01, "compile": True, "random_state": 0}

    def w1(warm):
        MAMLRegressor(
            hidden_layer_sizes=(40, 40), activation="relu", inner_steps=1, meta_batch_size=25, support_size=10,
            max_iter=300 if warm else 6000, **common,
        ).fit(waves)  # fmt: skip

    def w3(warm):
        MAMLRegressor(
            module=JMAK(), inner_steps=5, meta_batch_size=64, support_size=5, standardize=False,
            max_iter=300 if warm else 12_000, **common,
        ).fit(curves)  # fmt: skip

    constants = {"Ke": Parameter(0.1, lower=0), "Ka": Parameter(1.5, lower=0), "Cl": Parameter(0.04, lower=0)}

    def equation(warm):
        for _ in range(1 if warm else 3):
            EquationRegressor(absorption, constants, random=["Ka", "Cl"], compile=False).fit(patients)

    return [*times, *map(cpu, (w1, w3, equation))]


def of_checkout(folder):
    """Return the times of a new process that takes metaest from a checkout."""
    places = [folder, folder / "domains", folder / "datasets"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--here"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=folder).stdout
    return [float(word) for word in printed.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="*")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--here", action="store_true", help="print the times of this process")
    arguments = parser.parse_args()
    if arguments.here:
        print(*timed())
        return
    old, new = (folder.resolve() for folder in arguments.checkouts)
    times = np.empty((arguments.pairs, 2, len(PARTS)))
    for i, pair in enumerate(times):
        for which in (0, 1) if i % 2 == 0 else (1, 0):  # neither is always the first one
            pair[which] = of_checkout((old, new)[which])
    ratios = np.log(times[:, 1] / times[:, 0])
    center, error = ratios.mean(axis=0), ratios.std(axis=0, ddof=1) / len(ratios) ** 0.5
    reach = student.ppf(0.975, len(ratios) - 1) * error
    print("| CPU time | old, s | new, s | new / old | 95 % |\n|---|---|---|---|---|")
    for part, (before, after), middle, away in zip(PARTS, np.median(times, axis=0).T, center, reach, strict=True):
        low, high = np.exp(middle - away), np.exp(middle + away)
        print(f"| {part} | {before:.2f} | {after:.2f} | {np.exp(middle):.3f} | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    main()
