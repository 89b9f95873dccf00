"""A published model updated by a handful of local patients, beside the published one and a fit to them alone.

Simulated hospitals: one compartment, intravenous doses, three levels of each patient; the clearance of the local patients is
25 % above the published one, or as published. n local patients, then 50 next ones of the same hospital, adapted to their
first level and judged on the two others; errors are root mean squares relative to the true curve. Hospitals are the same for
all methods: ratios are means over hospitals of logarithms of ratios, with 95 % intervals.

Measured patients: theophylline in twelve of them (Boeckmann, Sheiner and Beal, 1994), ten levels after one oral dose. A
population is learned from six and given away; of the other six, n update it, and the others are adapted to their second, fifth
and eighth level and judged on the rest, in mg/L. Halves and patients are drawn anew in every replicate.

    python tests/benchmarks/accuracy/updating.py --replicates 200
    python tests/benchmarks/accuracy/updating.py --replicates 40 --measured
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from machine import describe

from metaest import DivergenceError, Parameter, Population, TaskError
from metaest.population import Block, NoiseModel
from metaest_datasets import load_theophylline
from metaest_domains.physiology import OneCompartmentRegressor

SIZES = (0, 1, 3, 5, 10, 20, 50)
TIMES = np.array([1.0, 6.0, 12.0])
NEXT = 50
# of theophylline: local patients, and rows that a patient is adapted to
MEASURED_SIZES = (0, 1, 3, 5)
SUPPORT = [1, 4, 7]


def published(clearance: float) -> Population:
    """Return the population of patients with this typical clearance."""
    return Population(
        {"clearance": Parameter(clearance, lower=0, unit="L/h"), "volume": Parameter(40.0, lower=0, unit="L")},
        Block(sd={"clearance": 0.3, "volume": 0.2}),
        NoiseModel("proportional", cv=0.15),
        columns={"time": "h", "dose": "mg"},
        equation="OneCompartmentRegressor",
        settings={"route": "iv"},
    )


def error(model: OneCompartmentRegressor, tasks, curves) -> float:
    """Return the error of a model on next patients, from their first level."""
    adapted = model.adapt_many({task.name: (task.X[:1], task.y[:1]) for task in tasks})
    predictions = np.array([patient.predict(task.X[1:]) for patient, task in zip(adapted, tasks, strict=True)])
    return float(np.sqrt(np.mean(np.log(np.maximum(predictions, 1e-9) / curves) ** 2)))


def hospital(shift: float, n: int, seed: int) -> dict[str, float]:
    """Return the errors of the methods in one simulated hospital."""
    truth = OneCompartmentRegressor.from_population(published(4.0 * shift))
    rng = np.random.default_rng(seed)
    X = np.column_stack([TIMES, np.full(len(TIMES), 300.0)])
    local = truth.simulate_tasks(X, n, random_state=seed) if n else None
    constants = np.exp(rng.normal(size=(NEXT, 2)) * [0.3, 0.2]) * [4.0 * shift, 40.0]
    curves = 300 / constants[:, [1]] * np.exp(-constants[:, [0]] / constants[:, [1]] * TIMES)
    levels = curves * (1 + 0.15 * rng.normal(size=curves.shape))
    tasks = [type("Next", (), {"name": str(i), "X": X, "y": y})() for i, y in enumerate(levels)]
    methods = {
        "as published": OneCompartmentRegressor.from_population(published(4.0)),
        "updated": OneCompartmentRegressor.from_population(published(4.0), prior_weight="auto"),
    }
    if n:
        methods["updated"].fit(local)
    errors = {name: error(model, tasks, curves[:, 1:]) for name, model in methods.items()}
    errors["weight"] = methods["updated"].prior_weights_["clearance"]
    if n >= 3:
        try:
            alone = OneCompartmentRegressor(route="iv", noise="proportional").fit(local)
            errors["own fit"] = error(alone, tasks, curves[:, 1:])
        except (DivergenceError, TaskError):
            errors["own fit"] = np.nan
    return errors


def measured(n: int, seed: int) -> dict[str, float]:
    """Return the errors of the methods on theophylline, with n local patients."""
    patients = load_theophylline()
    order = np.random.default_rng(seed).permutation(len(patients))
    half, local, others = np.split(order, [len(patients) // 2, len(patients) // 2 + n])
    given_away = OneCompartmentRegressor().fit(patients[half]).to_population()
    methods = {
        "as published": OneCompartmentRegressor.from_population(given_away),
        "updated": OneCompartmentRegressor.from_population(given_away, prior_weight="auto"),
    }
    if n:
        methods["updated"].fit(patients[local])
    errors = {name: error_of_levels(model, patients[others]) for name, model in methods.items()}
    errors["weight"] = methods["updated"].prior_weights_["clearance"]
    if n >= 3:
        try:
            errors["own fit"] = error_of_levels(OneCompartmentRegressor().fit(patients[local]), patients[others])
        except (DivergenceError, TaskError):
            errors["own fit"] = np.nan
    return errors


def error_of_levels(model: OneCompartmentRegressor, patients) -> float:
    """Return the root mean square error of levels of patients that were adapted to some of theirs."""
    squares = []
    for patient in patients:
        adapted = model.adapt(patient.X[SUPPORT], patient.y[SUPPORT], guard=False)
        rest = np.setdiff1d(np.arange(len(patient.y)), SUPPORT)
        squares.append((adapted.predict(patient.X[rest]) - patient.y[rest]) ** 2)
    return float(np.sqrt(np.mean(np.concatenate(squares))))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--measured", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe())
    start = time.process_time()
    rows = []
    cases = [(shift, n) for shift in (1.25, 1.0) for n in SIZES]
    if arguments.measured:
        cases = [("theophylline", n) for n in MEASURED_SIZES]
    for case, n in cases:
        replicates = range(arguments.replicates)
        each = [measured(n, seed) if arguments.measured else hospital(case, n, seed) for seed in replicates]
        rows.append(line(case, n, pd.DataFrame(each)))
        print(
            pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1, float_format="{:.4f}".format),
            flush=True,
        )
    print(f"{arguments.replicates} replicates of each kind, {time.process_time() - start:.0f} CPU s")


def line(case: float | str, n: int, table: pd.DataFrame) -> dict[str, float | str]:
    """Return a line of the table from the errors of all replicates."""
    row = {"clearance": case, "n": n, "weight": table["weight"].replace(np.inf, np.nan).median()}
    for name in ("as published", "own fit", "updated"):
        row[name] = table[name].mean() if name in table else np.nan
    for name in ("as published", "own fit"):
        if name in table:
            logs = np.log(table["updated"] / table[name]).dropna()
            ratio, width = np.exp(logs.mean()), 1.96 * logs.std() / np.sqrt(len(logs))
            row[f"over {name}"] = f"{ratio:.3f} ± {ratio * width:.3f}"
    return row


if __name__ == "__main__":
    main()
