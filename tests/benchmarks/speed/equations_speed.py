"""How fast EquationRegressor fits and adapts, by torch and compiled, beside scipy.optimize.curve_fit in the same run.

python tests/benchmarks/speed/equations_speed.py
"""

import argparse
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import OptimizeWarning, curve_fit, minimize
from timing import seconds

from metaest import EquationRegressor, Parameter, TaskSet
from metaest.estimators.equations.batches import whole
from metaest.estimators.equations.compiled import compiled_for_adapting
from metaest_datasets import load_theophylline

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe

sys.path.insert(0, str(Path(__file__).parents[2]))
from equations import THEOPHYLLINE, absorption, avrami

CONSTANTS = {"k": Parameter(1.0, lower=0, unit="1/h"), "n": Parameter(1.5, lower=0)}


def avrami_numpy(t, k, n):
    return 1 - np.exp(-((k * t) ** n))


def curves(n_tasks, seed, n_rows=5):
    """SD of ln k 0.3, of ln n 0.2, medians 1 and 2, noise SD 0.02, times uniform from 0.05 to 2.5."""
    rng = np.random.default_rng(seed)
    k, n = np.exp(0.3 * rng.standard_normal(n_tasks)), 2 * np.exp(0.2 * rng.standard_normal(n_tasks))
    t = rng.uniform(0.05, 2.5, (n_tasks, n_rows))
    y = avrami_numpy(t, k[:, None], n[:, None]) + 0.02 * rng.standard_normal(t.shape)
    return TaskSet.from_arrays(t.reshape(-1, 1), y.reshape(-1), np.repeat(np.arange(n_tasks), n_rows))


def patients(n_tasks, seed, n_rows=11):
    """Theophylline's population: SD of ln Ke, Ka, Cl 0.15, 0.6, 0.25, noise SD 0.7 mg/L, samples over a day."""
    rng = np.random.default_rng(seed)
    ke, ka, cl = np.exp(np.log([0.087, 1.6, 0.04]) + [0.15, 0.6, 0.25] * rng.standard_normal((n_tasks, 1, 3))).T
    planned = [0, 0.25, 0.5, 1, 2, 3.5, 5, 7, 9, 12, 24]
    t = np.abs(planned[:n_rows] + 0.1 * rng.standard_normal((n_tasks, n_rows)))
    dose = np.broadcast_to(rng.uniform(3, 6, (n_tasks, 1)), t.shape)
    y = (dose.T * ke * ka / cl / (ka - ke) * (np.exp(-ke * t.T) - np.exp(-ka * t.T))).T
    y = y + 0.7 * rng.standard_normal(t.shape)
    return TaskSet.from_arrays(
        np.stack([t, dose], axis=2).reshape(-1, 2), y.reshape(-1), np.repeat(np.arange(n_tasks), n_rows)
    )


def theophylline(repeats):
    tasks = load_theophylline()
    print("\nFit of theophylline, 12 patients, 132 rows (seconds: least, median, most)")
    for label, settings in {
        "all three constants random, full covariance": {},
        "Ka and Cl random": {"random": ["Ka", "Cl"]},
        "diagonal covariance": {"covariance": "diagonal"},
    }.items():
        model = EquationRegressor(absorption, THEOPHYLLINE, **settings)
        times = seconds(lambda model=model: model.fit(tasks), repeats)
        print(f"  {label:46} {times[0]:.2f} {np.median(times):.2f} {times[-1]:.2f}")


def scipy_fits(tasks, start, count):
    """Seconds a task of curve_fit, task by task, and how often it raised."""
    X, y, failed = tasks.X[:, 0], tasks.y, 0
    started = time.perf_counter()
    for i in range(count):
        rows = slice(tasks.offsets[i], tasks.offsets[i + 1])
        try:
            curve_fit(avrami_numpy, X[rows], y[rows], p0=start)
        except RuntimeError:
            failed += 1
    return (time.perf_counter() - started) / count, failed


def many(n_tasks, repeats):
    model = EquationRegressor(avrami, CONSTANTS).fit(curves(100, 0))
    tasks, start = curves(n_tasks, 1), model.population_["value"].to_numpy()
    ours, by_torch, theirs = [], [], []
    for turn in range(repeats + 1):  # in turn, so that a machine whose speed drifts treats all alike
        for times, compiled in ((by_torch, False), (ours, True)):
            model.set_params(compile=compiled)
            started = time.perf_counter()
            adapted = model.adapt_many(tasks)
            times.append(time.perf_counter() - started)
            if turn == 0:
                print(f"\nfirst call, {'compiled' if compiled else 'by torch'}: {times.pop():.2f} s")
        each, failed = scipy_fits(tasks, start, 2000)
        theirs.append(n_tasks * each)
    theirs = theirs[1:]
    ratio = np.median(np.array(theirs) / np.array(ours))
    print(f"{n_tasks} curves of 5 points, standard errors included ({torch.get_num_threads()} thread(s))")
    print(f"  adapt_many, compiled            {1e3 * np.median(ours):8.1f} ms")
    print(f"  adapt_many, by torch            {1e3 * np.median(by_torch):8.1f} ms")
    print(f"  curve_fit, one after the other  {1e3 * np.median(theirs):8.1f} ms (from 2000; {failed} of them raised)")
    print(f"  ratio, median of {repeats} turns {ratio:.0f}")
    inside(model, tasks, repeats)
    for compiled in (True, False):
        model.set_params(compile=compiled)
        one = seconds(lambda: model.adapt(tasks.X[:5], tasks.y[:5]), 100)
        print(f"  adapt, one curve, {'compiled' if compiled else 'by torch'}     {1e3 * np.median(one):8.2f} ms")
    return model, tasks, adapted


def inside(model, tasks, repeats):
    """The search alone, rows ready: that of all tasks, and of one."""
    fitted = compiled_for_adapting(model._fitted, True, len(tasks.X))
    for label, some in ((f"{len(tasks)} curves", tasks), ("one curve", tasks[:1])):
        observations = whole(TaskSet(some))
        point = fitted.point(fitted.design_of_tasks(TaskSet(some)))
        given = fitted.model, *point, observations
        times = seconds(lambda given=given: fitted.solver.solve(*given), 20 * repeats)
        print(f"  inside, {label:23} {1e3 * np.median(times):8.3f} ms")


def within(model, tasks, adapted, count):
    """Compare the objective, prior included, with the best of several searches by scipy from other starts."""
    values = adapted.params_
    mean = model.population_["scaled_value"].to_numpy()
    precision, sd = np.linalg.inv(model.covariance_.to_numpy()), model.noise_["sd"]
    root = np.linalg.cholesky(model.covariance_.to_numpy())
    rng = np.random.default_rng(2)
    gaps = []
    for i in range(count):
        rows = slice(tasks.offsets[i], tasks.offsets[i + 1])
        t, y = tasks.X[rows, 0], tasks.y[rows]

        def objective(phi, t=t, y=y):
            with np.errstate(all="ignore"):
                residual = y - avrami_numpy(t, *np.exp(phi))
            away = phi - mean
            value = 0.5 * residual @ residual / sd**2 + 0.5 * away @ precision @ away
            return value if np.isfinite(value) else 1e12

        ours = objective(np.log(values.iloc[i][["k", "n"]].to_numpy(dtype=float)))
        starts = [mean, *(mean + root @ rng.standard_normal(2) * 1.5 for _ in range(8))]
        best = min(minimize(objective, start, method="Nelder-Mead", tol=1e-9).fun for start in starts)
        gaps.append(ours / min(best, ours) - 1)
    gaps = np.array(gaps)
    share = 100 * np.mean(gaps < 0.01)
    print(f"  within 1 % of the best value known: {share:.1f} % of {count}; largest gap {gaps.max():.2g}")
    print(f"  search ended: {values['status'].value_counts().to_dict()}")


def scaling():
    for what, make, equation, constants in (
        ("curves of 5 points", curves, avrami, CONSTANTS),
        ("patients of 11 samples", patients, absorption, THEOPHYLLINE),
    ):
        print(f"\nFit time by number of simulated {what}")
        for n_tasks in (12, 40, 120, 400, 1200, 4000, 12000):
            tasks = make(n_tasks, 3)
            line = f"  {n_tasks:6d}"
            for compiled in (False, True):
                model = EquationRegressor(equation, constants, compile=compiled)
                times = seconds(lambda model=model, tasks=tasks: model.fit(tasks), 3)
                line += f" {'compiled' if compiled else 'by torch'} {np.median(times):6.2f} s"
            print(line, flush=True)


def ragged(n_rows=1_000_000, n_tasks=100, seed=0):
    """A million rows in a hundred tasks whose lengths differ a thousandfold: seconds, and peak memory of this process."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(0, 1.5, n_tasks))
    sizes = np.maximum(20, (sizes / sizes.sum() * n_rows).astype(int))
    k, n = np.exp(0.3 * rng.standard_normal(n_tasks)), 2 * np.exp(0.2 * rng.standard_normal(n_tasks))
    number = np.repeat(np.arange(n_tasks), sizes)
    t = rng.uniform(0.05, 2.5, len(number))
    y = avrami_numpy(t, k[number], n[number]) + 0.02 * rng.standard_normal(len(t))
    tasks = TaskSet.from_arrays(t[:, None], y, number)
    started = time.perf_counter()
    EquationRegressor(avrami, CONSTANTS).fit(tasks)
    seconds_taken = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"\n{len(t)} rows in {n_tasks} tasks of {sizes.min()} to {sizes.max()}: {seconds_taken:.2f} s, {memory:.2f} GB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("fits", "sizes", "ragged"), help="one part alone")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    warnings.simplefilter("ignore", OptimizeWarning)
    warnings.simplefilter("ignore", RuntimeWarning)
    torch.set_num_threads(arguments.threads)
    print(describe())
    if arguments.only in (None, "ragged"):
        ragged()  # first, for its memory
    if arguments.only in (None, "fits"):
        theophylline(arguments.repeats)
        model, tasks, adapted = many(10_000, arguments.repeats)
        within(model, tasks, adapted, 500)
    if arguments.only in (None, "sizes"):
        scaling()


if __name__ == "__main__":
    main()
