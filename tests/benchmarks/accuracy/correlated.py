"""Residuals that correlate in time: coverage of adapted constants, false alarms of the test, agreement with nlme.

Decay curves a exp(-k t): ln a and ln k are normal between tasks (SD 0.3, medians e and 1/e), the noise has SD 0.1 and
the correlation exp(-|t - t'| / tau). Each replicate fits 20 tasks of 200 rows, once with ``noise_correlation="car1"``
and once as if rows were independent, and adapts to 3 new tasks of 200 rows.

    python tests/benchmarks/accuracy/correlated.py --replicates 1000
    python tests/benchmarks/accuracy/correlated.py --alarms 1000
    python tests/benchmarks/accuracy/correlated.py --nlme

Replicates are kept in a file (``--output``), and those that are there are not computed again. ``--nlme`` needs R with
nlme, and fits straight lines to the weights of rats (BodyWeight; Hand and Crowder, 1996, Practical Longitudinal Data
Analysis), which R brings along.
"""

import argparse
import io
import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import describe

from metaest import CorrelatedResidualsWarning, EquationRegressor, Parameter
from metaest.tasks import TaskSet

N_TASKS, N_ROWS, N_NEW, SPACING, NOISE, SPREAD = 20, 200, 3, 0.02, 0.1, 0.3
TRUE = np.array([1.0, -1.0])
CONSTANTS = {"a": Parameter(2.0, lower=0), "k": Parameter(0.5, lower=0)}
# correlation times, in row spacings
TIMES = (0.5, 2.0, 20.0)
# tasks and rows of fits to independent rows, of which the share with a warning is counted
DESIGNS = ((5, 6), (20, 6), (10, 20), (20, 200))
# what R is asked
NLME = """
suppressMessages(library(nlme)); d <- as.data.frame(BodyWeight)
f <- lme(weight ~ Time * Diet, data = BodyWeight, random = ~ Time | Rat, method = "ML",
         correlation = corCAR1(form = ~ Time | Rat),
         control = lmeControl(maxIter = 500, msMaxIter = 500, tolerance = 1e-9, msTol = 1e-10))
cat(format(as.numeric(logLik(f)), digits = 12), format(coef(f$modelStruct$corStruct, unconstrained = FALSE),
    digits = 12), f$sigma, "\\n")
write.csv(data.frame(rat = as.character(d$Rat), Time = d$Time, second = 1 * (d$Diet == "2"),
                     third = 1 * (d$Diet == "3"), weight = d$weight), stdout(), row.names = FALSE)
"""


def decay(X, a, k):
    return a * torch.exp(-k * X[:, 0])


def line(X, a, b):
    return a + b * X[:, 0]


def simulate(n_tasks, n_rows, tau, rng):
    """Return tasks whose residuals have a correlation time in row spacings (0: independent), and their constants."""
    t = SPACING * N_ROWS / n_rows * np.arange(1, 1 + n_rows)
    rho = np.exp(-1 / tau) if tau else 0.0
    r = rng.standard_normal((n_tasks, n_rows))
    for i in range(1, n_rows):
        r[:, i] = rho * r[:, i - 1] + np.sqrt(1 - rho**2) * r[:, i]
    phi = TRUE + SPREAD * rng.standard_normal((n_tasks, 2))
    a, k = np.exp(phi).T[:, :, None]
    y = a * np.exp(-k * t) + NOISE * r
    X = np.tile(t, n_tasks)[:, None]
    return TaskSet.from_arrays(X, y.reshape(-1), np.repeat(np.arange(n_tasks), n_rows)), phi


def covered(tau, seed):
    """Return one replicate: constants inside their intervals, mean widths, correlation time, whether it warned."""
    rng = np.random.default_rng([seed, int(10 * tau)])
    tasks, _ = simulate(N_TASKS, N_ROWS, tau, rng)
    new, phi = simulate(N_NEW, N_ROWS, tau, rng)
    result = {"tau": tau, "seed": seed}
    for kind in ("car1", None):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = EquationRegressor(decay, CONSTANTS, noise_correlation=kind).fit(tasks)
        tables = [one.params_ for one in model.adapt_many(new)]
        ends = np.log([table[["lower_90", "upper_90"]].to_numpy(dtype=float) for table in tables])
        inside = (ends[..., 0] <= phi) & (phi <= ends[..., 1])
        name = kind or "independent"
        result[f"inside_{name}"] = inside.astype(int).tolist()
        result[f"width_{name}"] = np.diff(ends, axis=2).mean(axis=0)[:, 0].tolist()
        result[f"told_{name}"] = any(issubclass(w.category, CorrelatedResidualsWarning) for w in told)
        if kind:
            result["learned"] = float(model.noise_["correlation_time"] / SPACING)
    return result


def alarmed(design, seed):
    """Return whether a fit to independent rows warned."""
    rng = np.random.default_rng([seed, *design])
    tasks, _ = simulate(*design, 0.0, rng)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        EquationRegressor(decay, CONSTANTS).fit(tasks)
    alarm = any(issubclass(w.category, CorrelatedResidualsWarning) for w in told)
    return {"design": list(design), "seed": seed, "alarm": alarm}


def kept(path, cases, key, compute):
    """Compute what is not in the file yet, and return all of it."""
    done = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    seen = {key(entry) for entry in done}
    with path.open("a") as file:
        for case, seed in cases:
            if (case, seed) not in seen:
                done.append(compute(case, seed))
                file.write(json.dumps(done[-1]) + "\n")
                file.flush()
    wanted = set(cases)
    return [entry for entry in done if key(entry) in wanted]


def print_coverage(path, replicates):
    cases = [(tau, seed) for seed in range(replicates) for tau in TIMES]
    results = kept(path, cases, lambda e: (e.get("tau"), e["seed"]), covered)
    print(f"90 % intervals of constants of new tasks ({N_TASKS} tasks of {N_ROWS} rows; {replicates} replicates, "
          f"{N_NEW} new tasks each)")  # fmt: skip
    print(
        "tau/spacing  learned   covered, car1: ln a   ln k    independent: ln a   ln k   width car1/independent  warned"
    )
    for tau in TIMES:
        rows = [entry for entry in results if entry["tau"] == tau]
        inside = {name: np.mean([e[f"inside_{name}"] for e in rows], axis=(0, 1)) for name in ("car1", "independent")}
        error = np.sqrt(0.09 / (len(rows) * N_NEW))
        ratio = np.mean([np.divide(e["width_car1"], e["width_independent"]) for e in rows], axis=0)
        print(
            f"{tau:11g} {np.median([e['learned'] for e in rows]):8.3g} {' ':17} "
            + " ".join(f"{100 * share:5.1f} %" for share in inside["car1"])
            + f" {' ':17} "
            + " ".join(f"{100 * share:5.1f} %" for share in inside["independent"])
            + f" {ratio[0]:15.2f} {ratio[1]:5.2f}"
            + f" {np.mean([e['told_independent'] for e in rows]):7.1%} {np.mean([e['told_car1'] for e in rows]):6.1%}"
            + f"   (standard error {100 * error:.1f} %)"
        )


def print_alarms(path, replicates):
    cases = [(design, seed) for design in DESIGNS for seed in range(replicates)]
    results = kept(path, cases, lambda e: (tuple(e.get("design", ())), e["seed"]), alarmed)
    print("Fits to independent rows that warned of correlated residuals")
    for design in DESIGNS:
        alarms = [entry["alarm"] for entry in results if tuple(entry["design"]) == design]
        print(f"{design[0]:4} tasks of {design[1]:3} rows: {sum(alarms)} of {len(alarms)}")


def print_nlme():
    answer = subprocess.run(["Rscript", "-e", NLME], capture_output=True, text=True, check=True).stdout
    first, table = answer.split("\n", 1)
    height, phi, sigma = (float(number) for number in first.split())
    rats = pd.read_csv(io.StringIO(table))
    diets = ["second", "third"]
    model = EquationRegressor(
        line, {"a": 300.0, "b": 0.5}, covariates={"a": diets, "b": diets}, noise_correlation="car1",
        correlation_time="Time",
    ).fit(rats[["Time", *diets]], rats["weight"], groups=rats["rat"])  # fmt: skip
    learned = np.exp(-1 / model.noise_["correlation_time"])
    print("BodyWeight, weight ~ Time * Diet, random = ~ Time | Rat, corCAR1(form = ~ Time | Rat), ML")
    print(f"  nlme     log-likelihood {height:.6f}  phi {phi:.6f}  sigma {sigma:.5f}")
    print(f"  metaest  log-likelihood {model.log_likelihood_:.6f}  phi {learned:.6f}  sigma {model.noise_['sd']:.5f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=0, help="of each correlation time")
    parser.add_argument("--alarms", type=int, default=0, help="fits to independent rows of each design")
    parser.add_argument("--nlme", action="store_true", help="compare with nlme; needs R")
    parser.add_argument("--output", type=Path, default=Path("correlated.jsonl"), help="file of replicates")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    if arguments.nlme:
        print_nlme()
    if arguments.replicates:
        print_coverage(arguments.output, arguments.replicates)
    if arguments.alarms:
        print_alarms(arguments.output, arguments.alarms)
