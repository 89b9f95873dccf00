"""Meta-steps a second: compiled and eager, through MAMLRegressor, and JAX, learn2learn, higher and TorchOpt if there.

Before anything is timed, every implementation's meta-gradient of the same tasks at the same weights is compared with
torch's in double precision. One thread, pinned to one processor; the median of several repetitions that alternate. Ours
draws its tasks and their support inside the time; JAX is given them, and so are the others (one call a step: the rows themselves).

    make bench
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import peers
import torch
from timing import stay_on_one_processor
from workloads import WORKLOADS

from metaest import MAMLRegressor
from metaest.functional import Episodes, GradientDescent, ModuleForward, Rows, mapped, squared_error, task_losses

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
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
        runs["JAX, a call a step"] = partial(timed, jax.one_call_a_step, draws)
        runs["JAX, scan"] = partial(timed, jax.scanned, draws)
    few = {"eager": 32}
    for name, peer in peers.available(workload, META_LR).items():
        away = np.linalg.norm(peer.gradient(draws) - truth)
        assert away < 1e-5 * np.linalg.norm(truth), f"{name}: another meta-gradient"
        runs[name], few[name] = partial(timed, peer.run, draws), 16
    for name, run in runs.items():
        least = few.get(name, 320)
        run(least)  # compile, and warm up
        found[name] = [run, max(least, int(1.5 * run(least)) // 16 * 16), []]
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


def native_share(workload, n=4096):
    """Return the share of a compiled fit's time that is spent in machine code, after its first call."""
    from metaest.jit import meta_steps

    seconds, made = [], meta_steps.compile_function

    def timed_code(*arguments):
        call = made(*arguments)

        def run(*given):
            started = time.perf_counter()
            result = call(*given)
            seconds.append(time.perf_counter() - started)
            return result

        return run

    meta_steps.compile_function = timed_code
    try:
        history = model_of(workload, True, n).fit(workload.tasks()).history_["seconds"].to_numpy()
    finally:
        meta_steps.compile_function = made
    # the first two calls are the judged step and those with it
    first = np.flatnonzero(np.diff(history))[0] + 1
    return sum(seconds[2:]) / (history[-1] - history[first - 1])


def main():
    """Time the workloads and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    stay_on_one_processor()
    print(describe())
    others = ["JAX, a call a step", "JAX, scan", "learn2learn", "higher", "TorchOpt", "TorchOpt, vmap"]
    for package in ("jax", "higher", "torchopt"):
        print(package, version(package) if find_spec(package) else "is not installed", end="; ")
    print("learn2learn", "0.2.0" if "LEARN2LEARN" in os.environ else "is not there")
    print(f"\n| meta-steps a second | compiled | eager | {' | '.join(others)} |")
    print("|" + "---|" * (len(others) + 3))
    ratios = []
    for workload in WORKLOADS:
        if arguments.only not in workload.name:
            continue
        rates = time_of(workload, arguments.repetitions)
        names = ("compiled", "eager", *others)
        cells = [f"{rates[name]:,.{0 if rates[name] > 50 else 1}f}" if name in rates else "-" for name in names]
        print(f"| {workload.name} | {' | '.join(cells)} |", flush=True)
        to = [rates.get(name) for name in names[1:]]
        best = max(filter(None, to[1:3]), default=None)
        ratios.append((workload.name, *(rates["compiled"] / own if own else None for own in (*to, best))))
    print(f"\n| compiled to | eager | {' | '.join(others)} | JAX's better |")
    print("|" + "---|" * (len(others) + 3))
    for name, *own in ratios:
        cells = ["-" if ratio is None else f"{ratio:,.{2 if ratio < 10 else 0}f}" for ratio in own]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| not in machine code | share of a fit's time |\n|---|---|")
    for workload in WORKLOADS[:3]:
        if arguments.only in workload.name:
            share = statistics.median(native_share(workload) for _ in range(3))
            print(f"| {workload.name} | {100 * (1 - share):.1f} % |", flush=True)


if __name__ == "__main__":
    main()
