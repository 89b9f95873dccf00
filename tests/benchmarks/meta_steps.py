"""Meta-steps a second: compiled and eager, through MAMLRegressor, and JAX where it is installed.

Before anything is timed, every implementation's meta-gradient of the same tasks at the same weights is compared with
torch's in double precision. One thread, pinned to one processor; the median of several repetitions that alternate. Ours
draws its tasks and their support inside the time; JAX is given them (one call a step: the rows themselves).

    make bench
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from workloads import WORKLOADS

from metaest import MAMLRegressor
from metaest.functional import Episodes, GradientDescent, ModuleForward, Rows, mapped, squared_error, task_losses

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "benchmarks"))
from machine import describe

META_LR = 1e-3


def model_of(workload, compiled, max_iter):
    """An estimator with a workload's settings."""
    return MAMLRegressor(
        module=workload.module(),
        inner_steps=workload.steps,
        inner_lr=workload.inner_lr,
        support_size=workload.n_rows,
        meta_batch_size=workload.n_tasks,
        meta_lr=META_LR,
        max_iter=max_iter,
        alpha=0.0,
        max_grad_norm=None,
        standardize=False,
        compile=compiled,
        random_state=0,
    )


def ours(workload, tasks, compiled, n):
    """Meta-steps a second of a fit, from its first call on."""
    model = model_of(workload, compiled, n).fit(tasks)
    assert model.compiled_ == compiled, model.compiled_reason_
    # all steps of one call have the same time: what comes after the first call counts
    seconds = model.history_["seconds"].to_numpy()
    first = np.flatnonzero(np.diff(seconds))[0] + 1
    return (n - first) / (seconds[-1] - seconds[first - 1])


def draws_of(workload, n, seed=0):
    """Row numbers of support and query for n steps."""
    rng = np.random.default_rng(seed)
    task = rng.integers(0, 1000, (n, workload.n_tasks, 1))
    order = 2 * workload.n_rows * task + np.argsort(rng.random((n, workload.n_tasks, 2 * workload.n_rows)), axis=-1)
    return order[..., : workload.n_rows], order[..., workload.n_rows :]


def gradient_in_torch(workload, tasks, draws, dtype):
    """The meta-gradient of the first draw."""
    forward = ModuleForward(workload.module().to(dtype), 1)
    params = {name: value.requires_grad_() for name, value in forward.parameters().items()}
    X, y = torch.tensor(tasks.X, dtype=dtype), torch.tensor(np.asarray(tasks.y), dtype=dtype)[:, None]
    ones = torch.ones(workload.n_tasks, workload.n_rows, dtype=dtype)
    rows = [Rows(X[own[0]], y[own[0]], ones) for own in draws]
    losses = task_losses(mapped(forward), squared_error, GradientDescent(workload.steps, workload.inner_lr), params,
                         Episodes(*rows))  # fmt: skip
    gradients = torch.autograd.grad(losses.mean(), list(params.values()))
    return np.concatenate([own.numpy().reshape(-1) for own in gradients])


def time_of(workload, repetitions):
    """Return steps a second of each implementation, medians."""
    tasks, found = workload.tasks(), {}
    draws = draws_of(workload, 64)
    truth = gradient_in_torch(workload, tasks, draws, torch.float64)
    runs = {
        "compiled": lambda n: ours(workload, tasks, True, n),
        "eager": lambda n: ours(workload, tasks, False, n),
    }
    try:
        import in_jax
    except ImportError:
        in_jax = None
    if in_jax is not None:
        jax = in_jax.InJax(workload, META_LR)
        _, slope = jax.gradient(jax.params, *jax.rows((draws[0][0], draws[1][0])))
        away = np.linalg.norm(np.concatenate([np.asarray(own).reshape(-1) for own in slope]) - truth)
        assert away < 1e-5 * np.linalg.norm(truth), "JAX: another meta-gradient"
        runs["JAX, a call a step"] = lambda n: timed(jax.one_call_a_step, draws, n)
        runs["JAX, scan"] = lambda n: timed(jax.scanned, draws, n)
    for name, run in runs.items():
        run(32 if name == "eager" else 320)  # compile, and warm up
        pilot = run(32 if name == "eager" else 320)
        found[name] = [run, max(32 if name == "eager" else 320, int(1.5 * pilot) // 16 * 16), []]
    for _ in range(repetitions):
        for own in found.values():
            own[2].append(own[0](own[1]))
    return {name: statistics.median(own[2]) for name, own in found.items()}


def timed(take, draws, n):
    """Steps a second of a function that takes n of them."""
    take(draws, 16)
    started = time.perf_counter()
    take(draws, n)
    return n / (time.perf_counter() - started)


def main():
    """Time the workloads and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(describe())
    try:
        import jax

        print(f"jax {jax.__version__}")
    except ImportError:
        print("JAX is not installed.")
    print("\n| meta-steps a second | compiled | eager | JAX, a call a step | JAX, scan | to eager | to JAX's better |")
    print("|---|---|---|---|---|---|---|")
    for workload in WORKLOADS:
        if arguments.only not in workload.name:
            continue
        rates = time_of(workload, arguments.repetitions)
        jax_rates = [rates.get(name) for name in ("JAX, a call a step", "JAX, scan")]
        cells = [f"{own:,.0f}" if own else "-" for own in (rates["compiled"], rates["eager"], *jax_rates)]
        best = max(filter(None, jax_rates), default=None)
        ratio = f"{rates['compiled'] / best:.2f}" if best else "-"
        print(
            f"| {workload.name} | {' | '.join(cells)} | {rates['compiled'] / rates['eager']:.1f} | {ratio} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
