"""Meta-steps a second of closed-form heads, compiled and by torch: processor time, in turn, median of three turns.

Sinusoids of 20 rows, 25 tasks a step, the settings of MAMLRegressor otherwise.

    python tests/benchmarks/speed/heads.py
"""

import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from metaest import MAMLRegressor, TaskSet

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe

STEPS = {True: 768, False: 40}


def sinusoids(n_targets, n_tasks=1000, n_rows=20):
    """Return tasks whose targets are sines of the same x."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0.1, 3, (n_tasks, n_rows, 1))
    amplitude = rng.uniform(0.1, 5, (n_tasks, 1, n_targets))
    phase = rng.uniform(0, np.pi, (n_tasks, 1, n_targets))
    return TaskSet(list(zip(X, amplitude * np.sin(3 * X + phase), strict=True)))


def seconds(tasks, settings, compiled, max_iter):
    """Return the processor's seconds of a fit."""
    started = time.process_time()
    model = MAMLRegressor(**settings, max_iter=max_iter, compile=compiled, random_state=0).fit(tasks)
    assert model.compiled_ == compiled, model.compiled_reason_
    return time.process_time() - started


def rate(tasks, settings, compiled):
    """Return meta-steps a second: what a longer fit takes more than a shorter one."""
    steps, few = STEPS[compiled], STEPS[compiled] // 8
    return steps / (seconds(tasks, settings, compiled, steps + few) - seconds(tasks, settings, compiled, few))


def main():
    """Time the heads and print a table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    print("| head | hidden layers | support rows | targets | compiled | by torch | ratio |\n" + "|---" * 7 + "|")
    for solver in ("ridge", "bayes", "evidence"):
        for hidden, support, n_targets in (
            ((32, 32, 32), (1, 5), 1),
            ((40, 40), 10, 1),
            ((8, 8), 12, 4),
        ):
            tasks = sinusoids(n_targets)
            settings = {"inner_solver": solver, "hidden_layer_sizes": hidden, "support_size": support}
            seconds(tasks, settings, True, 320)  # compile
            turns = [[rate(tasks, settings, compiled) for compiled in (True, False)] for _ in range(3)]
            compiled, by_torch = (statistics.median(column) for column in zip(*turns, strict=True))
            ratio = statistics.median(one / other for one, other in turns)
            size = f"{support[0]} to {support[1]}" if isinstance(support, tuple) else support
            size = "all" if solver == "evidence" else size
            print(
                f"| {solver} | {hidden} | {size} | {n_targets} | {compiled:,.0f} | {by_torch:,.0f} | {ratio:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
