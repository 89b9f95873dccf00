"""Print what fits survive: kills of fits with checkpoints, Ctrl-C at random moments, and memory after many fits.

    python tests/benchmarks/accuracy/interruptions.py kills [--kills 100]
    python tests/benchmarks/accuracy/interruptions.py ctrl-c [--moments 50]
    python tests/benchmarks/accuracy/interruptions.py memory [--fits 200]

Kills are SIGKILLs of processes at random moments, several in one fit; a fit is then called again until it ends, and its
numbers are compared, bit by bit, with those of a fit that nobody killed. Ctrl-C is SIGINT from another thread. Memory
is the resident memory of a fresh process after its tenth fit and after its last.
"""

import argparse
import contextlib
import gc
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from metaest import EquationRegressor, MAMLClassifier, MAMLPolicy, MAMLRegressor, Task
from metaest_datasets import load_theophylline, make_sinusoids

sys.path.insert(0, str(Path(__file__).parents[2]))
from ctrl_c import changed, wait_after_ctrl_c
from equations import THEOPHYLLINE, absorption

KILLED = ["network", "compiled network", "equation", "compiled equation"]


def dropping(n_features, n_targets):
    first, second = torch.nn.Linear(n_features, 8), torch.nn.Linear(8, n_targets)
    return torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Dropout(0.1), second)


def sinusoids():
    return make_sinusoids(40, n_rows=10, random_state=0)


def classes():
    return [Task(wave.name, wave.X, np.where(wave.y > 0, "high", "low")) for wave in sinusoids()]


def returns():
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((60, 2)), rng.standard_normal(60)) for _ in range(8)]


# steps are many enough for a kill to meet a fit at work
KINDS = {
    "network": (MAMLRegressor, {"hidden_layer_sizes": (16,), "max_iter": 80, "compile": False}, sinusoids),
    "compiled network": (MAMLRegressor, {"hidden_layer_sizes": (32, 32), "max_iter": 1500, "compile": True}, sinusoids),
    "module": (MAMLRegressor, {"module": dropping, "max_iter": 80, "compile": False}, sinusoids),
    "classifier": (MAMLClassifier, {"hidden_layer_sizes": (8,), "max_iter": 80, "compile": False}, classes),
    "policy": (MAMLPolicy, {"hidden_layer_sizes": (8,), "max_iter": 80, "compile": False, "support_size": 10,
                            "query_size": 20}, returns),
    "equation": (EquationRegressor, {"compile": False}, load_theophylline),
    "compiled equation": (EquationRegressor, {"compile": True}, load_theophylline),
    "descent": (EquationRegressor, {"objective": "query", "inner_solver": "gradient", "max_iter": 60},
                load_theophylline),
}  # fmt: skip


def make(kind, **settings):
    cls, settings_of_kind, tasks = KINDS[kind]
    further = {"equation": absorption, "parameters": THEOPHYLLINE} if cls is EquationRegressor else {}
    return cls(**{**further, **settings_of_kind, "random_state": 0, **settings}), tasks()


def digest(model):
    """Return a hash of the bits that a fit has learned."""
    parts = list(model._params.values()) if hasattr(model, "_params") else list(model._fitted.population)
    history = model.history_.drop(columns="seconds", errors="ignore").to_numpy(dtype=float)
    content = b"".join(part.detach().numpy().tobytes() for part in parts) + history.tobytes()
    return hashlib.sha256(content).hexdigest()


def fits(kind, folder, out):
    """Fit with checkpoints, and send the hash of what was learned, and how often a checkpoint could not be read."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, tasks = make(kind, checkpoint=folder, checkpoint_every=5)
        bits = digest(model.fit(tasks))
    out.send((bits, sum("cannot be read" in str(warning.message) for warning in caught)))


def kills(wanted, chosen):
    print(f"{'fit':20s} {'kills':>5s} {'fits that ended':>15s} {'same bits':>9s} {'unreadable':>10s}")
    rng, context, rows = np.random.default_rng(0), multiprocessing.get_context("fork"), []
    for kind in chosen:
        model, tasks = make(kind)
        expected = digest(model.fit(tasks))
        begins = time.perf_counter()
        model.fit(tasks)
        seconds = time.perf_counter() - begins
        killed, ended = 0, []
        with tempfile.TemporaryDirectory() as folder:
            # a fit is killed again and again until it ends, and then begun anew; the last one is let be
            while killed <= wanted // len(chosen):
                last = killed == wanted // len(chosen)
                out, sent = context.Pipe(duplex=False)
                process = context.Process(target=fits, args=(kind, folder, sent))
                process.start()
                sent.close()
                process.join(None if last else float(rng.uniform(0, 1.3 * seconds)))
                if process.is_alive():
                    process.kill()
                    killed += 1
                process.join()
                with contextlib.suppress(EOFError):
                    ended.append(out.recv())
                if last:
                    break
        same, unreadable = sum(bits == expected for bits, _ in ended), sum(damaged for _, damaged in ended)
        rows.append((killed, len(ended), same, unreadable))
        print(f"{kind:20s} {killed:5d} {len(ended):15d} {same:9d} {unreadable:10d}", flush=True)
    killed, ended, same, unreadable = (sum(column) for column in zip(*rows, strict=True))
    print(f"{'all':20s} {killed:5d} {ended:15d} {same:9d} {unreadable:10d}")


def works():
    """Return what is interrupted, by name: a model, and a call that works on it."""
    for kind in ("network", "compiled network", "classifier", "equation", "compiled equation", "descent"):
        model, tasks = make(kind)
        yield kind, model.fit(tasks), lambda model=model, tasks=tasks: model.fit(tasks)
    model, tasks = make("network", hidden_layer_sizes=(8,), max_iter=50)
    model.fit(tasks[:20])
    few = tasks[30].X[:5], tasks[30].y[:5]
    yield "guard", model, lambda: (model._judges.clear(), model.adapt(*few, guard=True))
    yield "calibrate", model, lambda: model.calibrate(tasks[20:], support_size=(1, 5))


def ctrl_c(wanted):
    print(f"{'work':20s} {'moments':>7s} {'heard':>5s} {'longest wait':>12s} {'state whole':>11s}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
    rng = np.random.default_rng(0)
    for name, model, work in works():
        before, begins = dict(vars(model)), time.perf_counter()
        work()
        seconds = time.perf_counter() - begins
        learned = changed(model, before)
        heard, waits, whole, moments = 0, [0.0], 0, -(-wanted // 8)
        for _ in range(moments):
            before = dict(vars(model))
            wait = wait_after_ctrl_c(work, float(rng.uniform(0, seconds)))
            if wait is not None:
                heard += 1
                waits.append(wait)
            whole += changed(model, before) in (set(), learned)
        print(f"{name:20s} {moments:7d} {heard:5d} {1000 * max(waits):9.0f} ms {whole:11d}", flush=True)


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def tensors():
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def memory(wanted):
    print(f"{'fit':20s} {'fits':>5s} {'MB after ten':>12s} {'growth since':>12s} {'tensors since':>13s}")
    for kind in KINDS:
        command = [sys.executable, __file__, "grow", "--kind", kind, "--fits", str(wanted)]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout, end="", flush=True)


def grow(kind, wanted):
    torch.set_num_threads(1)
    few = {} if "equation" in kind else {"max_iter": 10}
    for done in range(1, wanted + 1):
        model, tasks = make(kind, **few)
        model.fit(tasks)
        if done == 10:
            before, alive = resident(), tensors()
    grown = resident() - before
    print(f"{kind:20s} {wanted:5d} {before:12.0f} {grown:9.1f} MB {tensors() - alive:13d}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "ctrl-c", "memory", "grow"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--fits", type=int, default=200)
    parser.add_argument("--kind", choices=KINDS, default=None)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    calls = {
        "kills": lambda: kills(given.kills, [given.kind] if given.kind else KILLED),
        "ctrl-c": lambda: ctrl_c(given.moments),
        "memory": lambda: memory(given.fits),
        "grow": lambda: grow(given.kind, given.fits),
    }
    calls[given.what]()
