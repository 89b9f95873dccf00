"""Constants that vary between tasks and between units within them: simulated occasions, NONMEM's tutorial, speed.

    python tests/benchmarks/accuracy/occasions.py simulated --replicates 200
    python tests/benchmarks/accuracy/occasions.py nonmem
    python tests/benchmarks/accuracy/occasions.py speed
    python tests/benchmarks/accuracy/occasions.py polymer-simulated --replicates 200
    python tests/benchmarks/accuracy/occasions.py polymer

``simulated``: 60 patients of three occasions, six samples each after an oral dose; the logarithms of ka, ke and V vary
between patients (SDs 0.3, 0.25, 0.2) and ke and V between occasions (0.15, 0.1), noise of 8 %. Each replicate is a fit
with the levels as they are; of 3 training patients, and of 3 new ones of whom two occasions are known, the samples of
a further occasion are compared with 90 % intervals. ``nonmem`` needs METAEST_DATA_HOME (nonmem_bauer2019): sites,
subjects and occasions of the tutorial's example. ``speed``: 200 patients of three occasions of ten rows, three constants
at both levels, beside the same rows as 600 independent tasks. ``polymer-simulated``: curves of five filler contents at
nine temperatures, whose ln k and n deviate by filler (SDs 0.15, 0.1) and by curve (0.08, 0.05) from what temperature and
filler tell; one filler is left out, and three rows of each of its curves are adapted to. ``polymer``: the measured curves
(downloaded once), by the parallel equation of the study.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import describe

from metaest import EquationRegressor, Parameter, Task, TaskSet

CENTER = np.log([1.5, 0.25, 10.0])
BETWEEN, WITHIN = np.array([0.3, 0.25, 0.2]), np.array([0.0, 0.15, 0.1])
TIMES, DOSE, NOISE = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0]), 100.0, 0.08
PATIENTS, OCCASIONS, ASKED = 60, 3, 3
FILLERS, TEMPERATURES = (0.1, 0.5, 1.0, 3.0, 5.0), (42.0, 43.0, 44.0, 45.0, 46.0, 46.5, 47.0, 47.5, 48.0)
CONSTANTS = {"ka": Parameter(1.0, lower=0), "ke": Parameter(0.1, lower=0), "V": Parameter(8.0, lower=0)}


def oral(X, ka, ke, V):
    t = X[:, 0]
    return DOSE / V * ka / (ka - ke) * (torch.exp(-ke * t) - torch.exp(-ka * t))


def concentrations(phi, times):
    """Return the curve at logarithms phi of the constants."""
    ka, ke, V = np.exp(phi)
    return DOSE / V * ka / (ka - ke) * (np.exp(-ke * times) - np.exp(-ka * times))


def patient(rng, n_occasions):
    """Return rows and values of one simulated patient."""
    of_patient, X, y = CENTER + BETWEEN * rng.standard_normal(3), [], []
    for occasion in range(n_occasions):
        f = concentrations(of_patient + WITHIN * rng.standard_normal(3), TIMES)
        X.append(np.column_stack([TIMES, np.full(len(TIMES), float(occasion))]))
        y.append(f * (1 + NOISE * rng.standard_normal(len(TIMES))))
    return np.concatenate(X), np.concatenate(y)


def simulated(replicates):
    """Print estimates of variances over replicates, and coverage of intervals of a further occasion."""
    estimates, inside, widths = (
        [],
        {"training patient": [], "new patient": []},
        {"training patient": [], "new patient": []},
    )
    start = time.time()
    for replicate in range(replicates):
        rng = np.random.default_rng([7, replicate])
        everyone = {str(k): patient(rng, OCCASIONS + 1) for k in range(PATIENTS)}
        first = {name: (X[X[:, 1] < OCCASIONS], y[X[:, 1] < OCCASIONS]) for name, (X, y) in everyone.items()}
        levels = {1: ["ke", "V"]}
        settings = {"noise": "proportional", "covariance": "diagonal", "levels": levels}
        model = EquationRegressor(oral, CONSTANTS, **settings).fit(first)
        estimates.append(np.concatenate([model.population_["omega"], model.population_["omega_1"], model.noise_]) ** 2)
        for name in list(everyone)[:ASKED]:
            X, y = everyone[name]
            further = X[:, 1] == OCCASIONS
            low, high = model.adapt([], [], within=name).predict_interval(X[further])
            inside["training patient"].append(np.mean((low <= y[further]) & (y[further] <= high)))
            widths["training patient"].append(np.mean(np.log(high / np.maximum(low, 1e-3))))
            X, y = patient(rng, OCCASIONS)
            seen = X[:, 1] < OCCASIONS - 1
            low, high = model.adapt(X[seen], y[seen]).predict_interval(X[~seen])
            inside["new patient"].append(np.mean((low <= y[~seen]) & (y[~seen] <= high)))
            widths["new patient"].append(np.mean(np.log(high / np.maximum(low, 1e-3))))
    estimates = np.array(estimates)
    truth = np.concatenate([BETWEEN, WITHIN, [NOISE]]) ** 2
    rows = [f"between, {name}" for name in CONSTANTS] + [f"within, {name}" for name in CONSTANTS] + ["noise"]
    table = pd.DataFrame({"true": truth, "mean": estimates.mean(axis=0)}, index=rows)
    table["standard_error"] = estimates.std(axis=0, ddof=1) / np.sqrt(replicates)
    table["z"] = (table["mean"] - table["true"]) / table["standard_error"]
    print(
        f"variances over {replicates} replicates, {time.time() - start:.0f} s\n{table.drop('within, ka').to_string()}"
    )
    for who, shares in inside.items():
        shares = np.array(shares).reshape(replicates, -1)
        error = shares.mean(axis=1).std(ddof=1) / np.sqrt(replicates)
        print(f"a further occasion of a {who}: {shares.mean():.4f} of samples inside 90 % intervals, SE {error:.4f}")


def bolus(X, CL, V):
    return 1000.0 / V * torch.exp(-CL / V * X[:, 0])


def nonmem():
    """Print what is learned from NONMEM's tutorial of three levels, beside NONMEM's estimates and standard errors."""
    place = Path(os.environ["METAEST_DATA_HOME"]) / "nonmem_bauer2019"
    frame, told = pd.read_csv(place / "superid30.csv"), pd.read_csv(place / "estimates.csv")
    frame = frame[frame["EVID"] == 0]
    tasks = TaskSet.from_frame(frame, task="SID", features=["TIME"], target="DV", levels=["ID", "OCC"])
    constants = {"CL": Parameter(3.0, lower=0), "V": Parameter(50.0, lower=0)}
    both, start = ["CL", "V"], time.process_time()
    model = EquationRegressor(bolus, constants, noise="proportional", levels={"ID": both, "OCC": both}).fit(tasks)
    seconds = time.process_time() - start
    values = {
        "THETA1": model.population_.loc["CL", "scaled_value"],
        "THETA2": model.population_.loc["V", "scaled_value"],
    }
    for level, first in (("ID", 1), ("task", 3), ("OCC", 5)):
        block = model.covariance_.loc[level].to_numpy()
        for i, j in ((0, 0), (1, 0), (1, 1)):
            values[f"OMEGA({first + i},{first + j})"] = block[i, j]
    values["SIGMA(1,1)"] = model.noise_["cv"] ** 2
    table = pd.DataFrame({"metaest": values})
    for run, method, name in (
        ("superid30_1_foce", "First Order Conditional Estimation with Interaction (No Prior)", "FOCEI"),
        ("superid30_1_imp", "Importance Sampling (No Prior)", "importance"),
    ):
        theirs = told[(told["run"] == run) & (told["method"] == method)].set_index("parameter")
        table[name], error = theirs["value"], theirs["se"].astype(float)
        table[f"in SE of {name}"] = (table["metaest"] - table[name]) / error
    print(
        f"superid30, {len(frame)} rows, {seconds:.1f} s of processor time\n{table.to_string(float_format='{:.5g}'.format)}"
    )


def speed(repeats):
    """Print seconds of processor time of a fit with levels, beside one of independent tasks."""
    rng, times = np.random.default_rng(0), np.linspace(0.3, 12, 10)
    nested, flat = {}, []
    for k in range(200):
        of_patient, X, y = CENTER + BETWEEN * rng.standard_normal(3), [], []
        for occasion in range(3):
            f = concentrations(of_patient + np.array([0.2, 0.15, 0.1]) * rng.standard_normal(3), times)
            y.append(f + 0.2 * rng.standard_normal(10))
            X.append(np.column_stack([times, np.full(10, float(occasion))]))
            flat.append(Task(f"{k}, {occasion}", times[:, None], y[-1]))
        nested[k] = np.concatenate(X), np.concatenate(y)
    seconds = {"independent": [], "levels": []}
    for _ in range(repeats):
        for name, settings, tasks in (
            ("independent", {}, TaskSet(flat)),
            ("levels", {"levels": {1: [*CONSTANTS]}}, nested),
        ):
            start = time.process_time()
            EquationRegressor(oral, CONSTANTS, **settings).fit(tasks)
            seconds[name].append(time.process_time() - start)
    table = pd.DataFrame(seconds)
    table["ratio"] = table["levels"] / table["independent"]
    print("seconds of processor time; the first line compiles the equation\n" + table.round(2).to_string())


def polymer_curves(rng, of_filler, of_curve):
    """Return curves of the polymer study's design: five filler contents at nine temperatures, 20 rows each."""
    frames = []
    for filler in FILLERS:
        shift = of_filler * rng.standard_normal(2)
        for temperature in TEMPERATURES:
            deviation = shift + of_curve * rng.standard_normal(2)
            log_k = -3.2 - 0.22 * (temperature - 45.0) + 0.3 * np.log10(filler) + deviation[0]
            k, n = np.exp(log_k), 2.0 * np.exp(deviation[1])
            times = np.linspace(0.3, 1.9, 20) / k
            y = 1 - np.exp(-((k * times) ** n)) + 0.01 * rng.standard_normal(20)
            columns = {"time": times, "temperature": temperature + 273.15 - 318.15, "log_filler": np.log10(filler)}
            frames.append(pd.DataFrame({"filler": filler, "curve": f"{temperature:g}", **columns, "y": y}))
    return pd.concat(frames, ignore_index=True)


def avrami(X, k, n):
    return 1 - torch.exp(-((k * X[:, 0]) ** n))


def left_out(frame, filler, rng, equation, constants, covariates, levels):
    """Fit without a filler, adapt to three points of each of its curves, and return errors and shares inside."""
    features = ["time", *dict.fromkeys(column for columns in covariates.values() for column in columns)]
    kept, held = frame[frame["filler"] != filler], frame[frame["filler"] == filler]
    errors, inside = [], []
    if levels:
        settings = {"levels": {"curve": list(constants)}, "covariance": "diagonal"}
        tasks = TaskSet.from_frame(kept, task="filler", target="y", features=features, levels=["curve"])
    else:
        settings, kept = {}, kept.assign(task=kept["filler"].astype(str) + ", " + kept["curve"])
        tasks = TaskSet.from_frame(kept, task="task", target="y", features=features)
    model = EquationRegressor(equation, constants, covariates=covariates, **settings).fit(tasks)
    for _, rows in held.groupby("curve"):
        chosen = rng.choice(len(rows), 3, replace=False)
        rest = np.setdiff1d(np.arange(len(rows)), chosen)
        columns = [*features, "curve"] if levels else features
        adapted = model.adapt(rows[columns].iloc[chosen], rows["y"].iloc[chosen].to_numpy())
        asked, truth = rows[columns].iloc[rest], rows["y"].iloc[rest].to_numpy()
        low, high = adapted.predict_interval(asked)
        errors.append(np.mean(np.square(adapted.predict(asked) - truth)))
        inside.append(np.mean((low <= truth) & (truth <= high)))
    return np.array(errors), np.array(inside)


def polymer_simulated(replicates):
    """Print coverage of intervals of a filler left out, from simulated sets, with levels and without."""
    shares, roots = {"without levels": [], "levels": []}, {"without levels": [], "levels": []}
    constants = {"k": Parameter(0.03, lower=1e-4, upper=1.0), "n": Parameter(2.0, lower=0.3, upper=6.0)}
    covariates = {name: ["temperature", "log_filler"] for name in constants}
    for replicate in range(replicates):
        for name in shares:
            rng = np.random.default_rng([11, replicate])
            frame = polymer_curves(rng, np.array([0.15, 0.1]), np.array([0.08, 0.05]))
            filler = FILLERS[replicate % len(FILLERS)]
            errors, inside = left_out(frame, filler, rng, avrami, constants, covariates, name == "levels")
            shares[name].append(inside.mean())
            roots[name].append(errors.mean() ** 0.5)
    for name, values in shares.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        print(
            f"{name}: {np.mean(values):.3f} of rows inside 90 % intervals, SE {error:.3f}; RMSE {np.mean(roots[name]):.4f}"
        )


def polymer():
    """Print errors and coverage of each filler of the measured curves left out, at three points."""
    from metaest_domains.kinetics.study.polymer import FORMS, ORDERS, load_curves

    tasks = load_curves()
    frame = pd.DataFrame(tasks.X, columns=list(tasks.feature_names))
    names = np.repeat(tasks.names, tasks.sizes)
    frame = frame.assign(curve=names.astype(str), y=tasks.y.reshape(-1))
    family, settings = FORMS["parallel JMAK"]
    formula = family(**settings).fit(tasks)
    table = []
    for filler in np.unique(frame["filler"]):
        row = {"filler": filler}
        for name in ("without levels", "levels"):
            best = ORDERS["second, log filler"]
            covariates = dict.fromkeys(settings["parameters"], best)
            rng, results = np.random.default_rng(0), []
            for _ in range(2):
                results.append(
                    left_out(
                        frame, filler, rng, formula.equation_, settings["parameters"], covariates, name == "levels"
                    )
                )
            row[f"RMSE, {name}"] = float(np.mean([errors for errors, _ in results]) ** 0.5)
            row[f"inside, {name}"] = float(np.mean([inside for _, inside in results]))
        table.append(row)
        print(row, flush=True)
    table = pd.DataFrame(table).set_index("filler")
    print(table.round(4).to_string())
    print("all: " + ", ".join(f"{name} {value:.4f}" for name, value in table.mean().items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["simulated", "nonmem", "speed", "polymer-simulated", "polymer"])
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe())
    if given.what == "simulated":
        simulated(given.replicates)
    elif given.what == "nonmem":
        nonmem()
    elif given.what == "speed":
        speed(given.repeats)
    elif given.what == "polymer":
        polymer()
    else:
        polymer_simulated(given.replicates)
