"""Adaptation after the fit: one task and ten thousand, compiled and by torch, through `adapt` and `adapt_many`.

W1 is an MLP 1-40-40-1 with five inner steps on ten rows. "inside" is the call of the compiled adaptation alone. One
thread, pinned to one processor; the median, and the quickest, of many calls.

    make bench
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from meta_steps import model_of
from timing import seconds, stay_on_one_processor
from workloads import WORKLOADS

from metaest import TaskSet
from metaest.estimators.networks.compiled import adapter_for, padded_support

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe


def main():
    """Time adaptations and print a table."""
    warnings.simplefilter("ignore")
    stay_on_one_processor()
    print(describe())
    [workload] = [own for own in WORKLOADS if own.name == "W1, 5 steps"]
    tasks = workload.tasks()
    model = model_of(workload, True, 500).fit(tasks)
    X, y = tasks[0].X[:10], np.asarray(tasks[0].y)[:10]
    many = TaskSet([(task.X[:10], np.asarray(task.y)[:10]) for task in tasks] * 10)
    support = model._network.rows(X, model._network.scale_targets(y))
    adapter = adapter_for(model._network, model._adaptation(), model._params, 10, support)
    rows = padded_support(support, adapter.n_rows)
    print("\n| W1, 5 steps | median | least |\n|---|---|---|")
    for name, compiled, call, n in (
        ("one task, inside", True, lambda: adapter(rows), 2000),
        ("one task, `adapt(X, y)`", True, lambda: model.adapt(X, y), 2000),
        ("one task, `adapt(X, y)` by torch", False, lambda: model.adapt(X, y), 200),
        ("10,000 tasks, `adapt_many`", True, lambda: model.adapt_many(many), 9),
        ("10,000 tasks, `adapt_many` by torch", False, lambda: model.adapt_many(many), 5),
    ):
        model.set_params(compile=compiled)
        times = 1e6 * seconds(call, n)
        print(f"| {name} | {np.median(times):,.0f} µs | {times[0]:,.0f} µs |", flush=True)


if __name__ == "__main__":
    main()
