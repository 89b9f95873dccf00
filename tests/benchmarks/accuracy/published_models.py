"""Constants of single patients from published populations, beside NONMEM's, and how long they take.

Simulated patients of M. Le Louedec et al. (2021, 10.1002/psp4.12689), 200 of each run, most probable deviations of NONMEM
from there and from C. Leven et al. (2022, 10.3390/pharmaceutics14020442). The files are not part of this repository:
METAEST_DATA_HOME/published_models holds patients_NNN.csv and map_NNN.csv. The objective is

    phi = sum((y - f)^2 / v + ln v) + eta' Omega^-1 eta,

with v = 0.05 where f is 0, as NONMEM's runs have it (W = F + 1 there); adaptation has v = 0.05 (f^2 + floor^2) in place of
that, and phi is evaluated with NONMEM's at what it returns. Samples that a run left out (MDV = 1) are left out.

Run 301 changes weight and sex at every row of a patient, which hold in the interval that ends there ("nocb"); run 401 has
a metabolite, a second output.

    python tests/benchmarks/accuracy/published_models.py [run ...]
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

from metaest import Parameter, Population
from metaest.population import Block, Category, NoiseModel, OutputNoiseModel, Power
from metaest_domains.physiology import (
    LinearCompartmentRegressor,
    MichaelisMentenRegressor,
    OneCompartmentRegressor,
    Regimen,
    TimeVarying,
    TwoCompartmentRegressor,
)

# relative variance of all runs, and the additive variance of run 405
RELATIVE, ADDITIVE = 0.05, 5000.0
# mg/L; the least sample is 0.1, and concentrations reach 1,000
FLOOR = 1e-4
# doses of a patient: one, then seven
N_DOSES = 8
ORAL = {"route": "oral", "absorption": "rate"}
ONE = {"clearance": ("CL", 4.0), "volume": ("VC", 70.0), "absorption_rate": ("KA", 1.0)}
TWO = {**ONE, "peripheral": ("VP", 50.0), "exchange": ("", 4.0)}
SATURABLE = {
    "capacity": ("VMAX", 10000.0),
    "volume": ("VC", 70.0),
    "absorption": ("KA", 1.0),
    "affinity": ("KM", 2500.0),
}
METABOLITE = {**ONE, "metabolite_clearance": ("CLM", 2.5), "metabolite_volume": ("VCM", 60.0)}
INTO_VEIN = {"clearance": ("CL", 4.0), "volume": ("VC", 70.0)}
# of each run: what it is, model, constants with NONMEM's names and typical values (no name: the same in all patients),
# settings, variance between patients
RUNS = {
    "001": ("one compartment, oral", OneCompartmentRegressor, ONE, ORAL, 0.2),
    "002": ("infusions", OneCompartmentRegressor, INTO_VEIN, {"route": "iv"}, 0.2),
    "003": ("lag", OneCompartmentRegressor, {**ONE, "lag": ("LAG", 1.0)}, {**ORAL, "lag": True}, 0.2),
    "101": ("two compartments", TwoCompartmentRegressor, TWO, ORAL, 0.2),
    "201": ("saturable elimination", MichaelisMentenRegressor, SATURABLE, {"route": "oral"}, 0.2),
    "301": ("weight and sex at every row", OneCompartmentRegressor, ONE, ORAL, 0.2),
    "401": (
        "metabolite",
        LinearCompartmentRegressor,
        METABOLITE,
        {"metabolite": True, "fixed": {"formation": 0.7}},
        0.2,
    ),
    "405": ("noise of two parts", OneCompartmentRegressor, ONE, ORAL, 0.2),
    "504": ("variance 1 between patients", OneCompartmentRegressor, ONE, ORAL, 1.0),
}
# covariates of a run, the formulas that read them, and how the model is told that they change
EFFECTS = {"clearance": [Power("BW", 1.5, reference=75.0), Category("SEX", {0: 1.0, 1: 0.75})]}
READS = {"301": {"BW": "kg", "SEX": ""}, "401": {"CMT": ""}}
CHANGING = {"301": {"time_varying": {"BW": "nocb", "SEX": "nocb"}}}
# how often the 200 patients are repeated for `adapt_many`; those of an integrated equation, which takes long, are not
REPEATED = 20


def main():
    torch.set_num_threads(1)
    print(describe())
    warnings.simplefilter("ignore")
    folder = Path(os.environ["METAEST_DATA_HOME"]) / "published_models"
    runs, tables = sys.argv[1:] or list(RUNS), []
    print("| run | | patients | within 0.01 SD | objective as good | either | ms adapt | compiled | ms adapt_many |")
    for run in runs:
        table, alone, compiled, together = beside_nonmem(run, folder)
        tables.append(table)
        print(
            f"| {run} | {RUNS[run][0]} | {shares(table)} | {alone:.2f} | {compiled:.2f} | {together:.3f} |", flush=True
        )
    print(f"| all | | {shares(pd.concat(tables))} | | | |")
    every = pd.concat(tables, keys=runs, names=["run"])
    worse = every[~(every["near"] | every["as_good"])]
    print("patients that are neither:", worse[["distance", "excess"]].round(6).to_string() if len(worse) else "none")
    print(f"largest difference of phi at NONMEM's deviations from NONMEM's own: {every['check'].abs().max():.1e}")


def beside_nonmem(run, folder):
    """Return one line a patient, and CPU milliseconds per patient: `adapt`, `adapt` in machine code, `adapt_many`."""
    _, cls, constants, _, variance = RUNS[run]
    changing = CHANGING.get(run, {})
    model = cls.from_population(population(run), n_doses=N_DOSES, compile=False, **changing)
    theirs = pd.read_csv(folder / f"map_{run}.csv").set_index("ID")
    tasks = patients(model, folder / f"patients_{'001' if run == '405' else run}.csv")
    varying = [name for name, (label, _) in constants.items() if label]
    typical = np.array([constants[name][1] for name in varying])
    results, alone = adapted(model, tasks)
    compiled = np.nan  # amounts that are carried from event to event are not compiled
    if run not in READS:
        _, compiled = adapted(cls.from_population(population(run), n_doses=N_DOSES, compile=True), tasks)
    best = theirs["BEST_OFV"] if "BEST_OFV" in theirs else theirs[["NONMEM_OFV", "POSOLOGYR_OFV"]].min(axis=1)
    rows = {}
    for ID, patient in results.items():
        eta = np.log(patient.params_.loc[varying, "value"].to_numpy() / typical)
        target = theirs.loc[ID, [f"NONMEM_{constants[name][0]}" for name in varying]].to_numpy(float)
        rows[ID] = {
            "distance": np.abs(eta - target).max() / np.sqrt(variance),
            "excess": objective(model, run, *tasks[ID], eta) - best[ID],
            "check": objective(model, run, *tasks[ID], target) - theirs.loc[ID, "NONMEM_OFV"],
        }
    table = pd.DataFrame(rows).T
    table = table.assign(near=table["distance"] < 0.01, as_good=table["excess"] <= 1e-4)
    together = np.nan  # patients whose covariates change as often as they like have other columns each
    if run != "301":
        repeated = 1 if cls is MichaelisMentenRegressor or run == "401" else REPEATED
        many = {f"{ID} {i}": rows for i in range(repeated) for ID, rows in tasks.items()}
        started = time.process_time()
        model.adapt_many(many)
        together = 1000 * (time.process_time() - started) / len(many)
    return table, alone, compiled, together


def adapted(model, tasks):
    """Return the adapted patients, and milliseconds for one once code for each number of samples is made."""
    results = {ID: model.adapt(X, y, guard=False) for ID, (X, y) in tasks.items()}
    started = time.process_time()
    for X, y in tasks.values():
        model.adapt(X, y, guard=False)
    return results, 1000 * (time.process_time() - started) / len(tasks)


def population(run, noise=None):
    """Return the population that the patients of a run were simulated from; its noise by default that of the run."""
    _, cls, constants, settings, variance = RUNS[run]
    usual = NoiseModel("proportional", cv=RELATIVE**0.5, floor=FLOOR)
    if run == "405":
        usual = NoiseModel("combined", sd=ADDITIVE**0.5, cv=RELATIVE**0.5)
    if run == "401":
        usual = OutputNoiseModel("CMT", {2: usual, 3: usual})
    return Population(
        {name: Parameter(value, lower=0) for name, (_, value) in constants.items()},
        [Block(variance={name: variance}) for name, (label, _) in constants.items() if label],
        usual if noise is None else noise,
        covariates=EFFECTS if run == "301" else {},
        columns={"time": "h", "dose": "mg", **READS.get(run, {})},
        target="mg/L",
        equation=cls.__name__,
        settings=settings,
    )


def patients(model, path):
    """Return rows and samples of every patient; doses that a record repeats (ADDL) are written out."""
    tasks = {}
    for ID, records in pd.read_csv(path).groupby("ID"):
        time, amount, duration = [], [], []
        for dose in records[records["EVID"] == 1].itertuples():
            at = dose.TIME + dose.II * np.arange(dose.ADDL + 1)
            lasts = dose.AMT / dose.RATE if getattr(dose, "RATE", 0) else 0.0
            time += list(at)
            amount += [dose.AMT] * len(at)
            duration += [lasts] * len(at)
        samples = records[(records["EVID"] == 0) & (records["MDV"] == 0)]
        covariates = {}
        if "BW" in records:
            covariates = {name: TimeVarying(records["TIME"], records[name]) for name in ("BW", "SEX")}
        if "CMT" in model.feature_names_in_:
            covariates = {"CMT": 2.0}
        X = model.rows(Regimen.sorted(time, amount, duration, covariates), samples["TIME"].to_numpy())
        if "CMT" in covariates:
            X["CMT"] = samples["CMT"].to_numpy()
        tasks[ID] = X, samples["DV"].to_numpy()
    return tasks


def objective(model, run, X, y, eta):
    """Return phi of a patient at deviations from typical constants."""
    _, _, constants, _, variance = RUNS[run]
    values = {name: value for name, (_, value) in constants.items()}
    for name, deviation in zip([name for name, (label, _) in constants.items() if label], eta, strict=True):
        values[name] *= np.exp(deviation)
    equation, _ = model.equation_for(list(X.columns))
    rows = torch.as_tensor(X.to_numpy(float))
    f = equation(rows, **{name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}).numpy()
    v = RELATIVE * np.where(f == 0, 1.0, f**2) + ADDITIVE * (run == "405")
    return ((y - f) ** 2 / v + np.log(v)).sum() + (eta**2).sum() / variance


def shares(table):
    """Return counts and shares of patients in one line."""
    either = table["near"] | table["as_good"]
    parts = [table["near"].mean(), table["as_good"].mean(), either.mean()]
    return " | ".join([str(len(table)), *(f"{100 * part:.1f} %" for part in parts)])


if __name__ == "__main__":
    main()
