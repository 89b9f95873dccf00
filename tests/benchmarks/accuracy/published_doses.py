"""Posteriors of single patients, and doses from them, beside Monolix's and the samplers of posologyr.

The first 20 of the simulated patients of published_models.py, with a standard deviation of 5 % of the curve in place of
a variance of 0.05 (run 405: 5000 mg/L beside it, so that the posterior is the population). Monolix's posteriors and the
doses are those of C. Leven et al. (2022, 10.3390/pharmaceutics14020442); its means and SDs are of 10,000 draws of a
Markov chain. The files are not part of this repository: METAEST_DATA_HOME/published_models.

Asked are, of one dose into the depot of an empty patient, the dose whose area from 0 to 12 h is at least 500 mg h/L with the
probability 0.89, the one whose level after 3 h is at least 30 mg/L with that probability, and the first of 3, 3.1, ... h
at which the level after 100 mg is below 0.5 mg/L with it. Ours are ends of intervals of 78 %, from weighted draws of the
posterior, and from its normal approximation, Laplace's.

    python tests/benchmarks/accuracy/published_doses.py [run ...]
"""

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import describe
from published_models import FLOOR, N_DOSES, RUNS, patients, population

from metaest.estimators.equations.draws import draws_of_prior
from metaest.population import NoiseModel
from metaest_domains.physiology import Regimen, auc

# linear ones; run 201 saturates, and the dose for an area is then no ratio
LINEAR = ("001", "003", "101", "405", "504")
CV, ADDITIVE = 0.05, 5000.0
N_PATIENTS = 20
# both ends of an interval of this level leave out 11 %
LEVEL = 0.78
AREA, UNTIL = 500.0, 12.0
CONCENTRATION, AT = 30.0, 3.0
LOW, AFTER, STEP, CHUNK = 0.5, 3.0, 0.1, 200
# names of constants in the file of posteriors
LABELS = {"CL": "Cl", "VC": "Vc", "KA": "Ka", "LAG": "ALAG", "VP": "Vp"}
SOURCES = ("draws", "Laplace")


def main():
    """Print the tables."""
    torch.set_num_threads(1)
    print(describe())
    warnings.simplefilter("ignore")
    folder = Path(os.environ["METAEST_DATA_HOME"]) / "published_models"
    posterior = pd.read_csv(folder / "posterior_monolix.csv").set_index(["run", "id", "parameter"])
    doses = pd.read_csv(folder / "doses.csv").set_index(["run", "id"])
    runs = sys.argv[1:] or LINEAR
    every = []
    for run in runs:
        started = time.process_time()
        tables = [of_patient(run, ID, X, y, model) for ID, X, y, model in adapted(run, folder)]
        seconds = (time.process_time() - started) / len(tables) / len(SOURCES)
        print(f"run {run}, {RUNS[run][0]}: {1000 * seconds:.0f} CPU ms a patient with three answers")
        print(moments(pd.concat([moment for moment, _ in tables]), posterior.loc[int(run)]))
        every.append(pd.concat([answer for _, answer in tables]).assign(run=int(run)))
    answers = pd.concat(every).set_index(["run", "id"], append=False)
    for run in runs:
        compare(run, answers.loc[[int(run)]], doses.loc[[int(run)]])
    compare("all", answers, doses.loc[[int(run) for run in runs]])


def adapted(run, folder):
    """Yield number, rows, samples of the first patients of a run, and the model with its population."""
    noise = NoiseModel("proportional", cv=CV, floor=FLOOR)
    if run == "405":
        noise = NoiseModel("combined1", sd=ADDITIVE, cv=CV)
    model = RUNS[run][1].from_population(population(run, noise), n_doses=N_DOSES)
    tasks = patients(model, folder / f"patients_{'001' if run == '405' else run}.csv")
    for ID, (X, y) in list(tasks.items())[:N_PATIENTS]:
        yield ID, X, y, model


def of_patient(run, ID, X, y, model):
    """Return mean and SD of the deviations of a patient, and the three answers, by draws and by Laplace's approximation."""
    constants = {name: (label, value) for name, (label, value) in RUNS[run][2].items() if label}
    moments, answers = [], []
    for source in SOURCES:
        patient = model.adapt(X, y, guard=False)
        if source == "Laplace":
            vars(patient)["_draws"] = draws_of_prior(patient._posterior)
        names, draws = list(patient.params_.index), patient._draws
        for name, (label, typical) in constants.items():
            eta = draws.phi[names.index(name)] - np.log(typical)
            mean = float(draws.weight @ eta)
            sd = float((draws.weight @ (eta - mean).square()).sqrt())
            moments.append({"source": source, "id": ID, "parameter": LABELS.get(label, label), "mean": mean, "sd": sd})
        answers.append({"source": source, "id": ID, **doses_of(model, patient)})
    return pd.DataFrame(moments), pd.DataFrame(answers)


def doses_of(model, patient):
    """Return the two doses and the time; levels are in proportion to the dose."""
    area = auc(patient, Regimen.sorted([0.0], [1.0]), end=UNTIL, level=LEVEL).lower
    level = interval(model, patient, 1.0, [AT])[0][0]
    first, reached = 0, np.empty(0)
    while not len(reached):
        times = AFTER + STEP * np.arange(first, first + CHUNK)
        reached = times[interval(model, patient, 100.0, times)[1] < LOW]
        first += CHUNK
    return {"dose_auc": AREA / area, "dose_conc": CONCENTRATION / level, "time": reached[0]}


def interval(model, patient, dose, times):
    """Return the ends of the interval of the level after one dose."""
    return patient.predict_interval(model.rows(Regimen.sorted([0.0], [dose]), times), level=LEVEL, of="curve")


def moments(table, theirs):
    """Return in lines how far means and SDs are from Monolix's."""
    lines = []
    for source, rows in table.groupby("source", sort=False):
        both = rows.set_index(["id", "parameter"]).join(theirs, rsuffix="_theirs")
        distance = (both["mean"] - both["mean_theirs"]).abs() / both["sd_theirs"]
        ratio = both["sd"] / both["sd_theirs"]
        lines.append(
            f"  {source}: means {distance.median():.3f} SD from Monolix's in the median, 90 % up to "
            f"{distance.quantile(0.9):.3f}, {distance.max():.2f} at most; SDs {ratio.median():.3f} of its, "
            f"80 % of them {ratio.quantile(0.1):.3f} to {ratio.quantile(0.9):.3f}"
        )
    return "\n".join(lines)


def compare(run, ours, theirs):
    """Print median and greatest differences from Monolix's doses, of ours and of posologyr's samplers."""
    for asked in ("dose_auc", "dose_conc", "time"):
        monolix = theirs[f"{asked}_monolix"]
        columns = {source: ours.loc[ours["source"] == source, asked] for source in SOURCES}
        columns |= {f"posologyr {name}": theirs[f"{asked}_{name}"] for name in ("mcmc", "sir")}
        parts = []
        for name, values in columns.items():
            difference = (values.reindex(monolix.index) / monolix - 1).abs()
            parts.append(f"{name} {100 * difference.median():.2f} (90 %: {100 * difference.quantile(0.9):.1f})")
        print(f"run {run}, {asked}, per cent from Monolix's in the median: " + ", ".join(parts))


if __name__ == "__main__":
    main()
