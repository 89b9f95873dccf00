"""A published model updated by a handful of local patients, beside the published one and a fit to them alone.

Simulated hospitals: one compartment, intravenous doses, three levels of each patient; the clearance of the local patients is
25 % above the published one, or as published. n local patients, then 50 next ones of the same hospital, adapted to their
first level and judged on the two others; errors are root mean squares relative to the true curve. Hospitals are the same for
all methods: ratios are means over hospitals of logarithms of ratios, with 95 % intervals.

    python tests/benchmarks/accuracy/updating.py --replicates 200
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from machine import describe

from metaest import DivergenceError, Parameter, Population, TaskError
from metaest.population import Block, NoiseModel
from metaest_domains.physiology import OneCompartmentRegressor

SIZES = (0, 1, 3, 5, 10, 20, 50)
TIMES = np.array([1.0, 6.0, 12.0])
NEXT = 50


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=200)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe())
    start = time.process_time()
    rows = []
    for shift in (1.25, 1.0):
        for n in SIZES:
            table = pd.DataFrame([hospital(shift, n, seed) for seed in range(arguments.replicates)])
            row = {"clearance": shift, "n": n, "weight": table["weight"].replace(np.inf, np.nan).median()}
            for name in ("as published", "own fit", "updated"):
                row[name] = table[name].mean() if name in table else np.nan
            for name in ("as published", "own fit"):
                if name in table:
                    logs = np.log(table["updated"] / table[name]).dropna()
                    ratio, width = np.exp(logs.mean()), 1.96 * logs.std() / np.sqrt(len(logs))
                    row[f"over {name}"] = f"{ratio:.3f} ± {ratio * width:.3f}"
            rows.append(row)
            print(
                pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1, float_format="{:.4f}".format),
                flush=True,
            )
    print(f"{arguments.replicates} hospitals of each kind, {time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
