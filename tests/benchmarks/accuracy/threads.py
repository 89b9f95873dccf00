"""Calls and fits in threads against the same one after the other: how many answers differ, and what is left changed.

    python tests/benchmarks/accuracy/threads.py            # 16 threads, 16,000 calls, 32 fits
    python tests/benchmarks/accuracy/threads.py --calls 500

Models of every kind (networks, a module with dropout, attention, classifiers, policies, equations, domains; eager and
compiled) adapt, adapt many tasks, are guarded, predict intervals and simulate. Each round begins with copies of the
models that have no machine code yet, so that the first compilation is in threads, too.
"""

import argparse
import os
import pickle
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from machine import describe

sys.path.insert(0, str(Path(__file__).parents[2]))
import mixed_calls

A_ROUND = 1000


def state():
    """Return what a process has one of."""
    return {
        "warning filters": list(warnings.filters),
        "environment": dict(os.environ),
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": repr(np.random.get_state()),  # noqa: NPY002 - what others draw from
        "torch's threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "attention": torch.backends.cuda.flash_sdp_enabled(),
        "threads": len(threading.enumerate()),
    }


def mixed(models, n):
    """Return n calls, each kind in turn."""
    made = list(mixed_calls.calls(models).values())
    return [lambda i=i: made[i % len(made)](i) for i in range(n)]


def in_threads(n_threads, functions):
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(lambda function: function(), functions))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=16_000)
    parser.add_argument("--threads", type=int, default=16)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    before, rows = state(), []
    models = mixed_calls.fitted()
    rounds = max(1, arguments.calls // A_ROUND)
    size = min(A_ROUND, arguments.calls)
    once = [function() for function in mixed(models, size)]
    started, differ = time.perf_counter(), 0
    for _ in range(rounds):
        copies = pickle.loads(pickle.dumps(models))
        differ += sum(a != b for a, b in zip(once, in_threads(arguments.threads, mixed(copies, size)), strict=True))
    rows.append((f"calls in {arguments.threads} threads", rounds * size, differ, time.perf_counter() - started))
    fits = mixed_calls.half_compiled(32)
    one = {fit: fit() for fit in set(fits)}
    started = time.perf_counter()
    many = in_threads(8, fits)
    differ = sum(one[fit] != found for fit, found in zip(fits, many, strict=True))
    rows.append(("fits in 8 threads, half of them compiled", len(many), differ, time.perf_counter() - started))
    print("| what | number | with other bits than in one thread | seconds |\n|---|---|---|---|")
    for what, number, differ, seconds in rows:
        print(f"| {what} | {number:,} | {differ} | {seconds:.0f} |")
    after = state()
    print("changed in the process:", [name for name in before if before[name] != after[name]] or "nothing")


if __name__ == "__main__":
    main()
