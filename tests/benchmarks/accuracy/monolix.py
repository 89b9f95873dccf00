"""Phenobarbital, warfarin and theophylline beside Monolix: estimates, constants of the patients, likelihoods.

The projects of Monolix's demonstrations with Monolix's outputs (2023R1; theophylline 5.1.1), collected in the R package
monolix2rx. The files are not part of this repository: METAEST_DATA_HOME/monolix.

    pb  phenobarbital, boluses, V and k, ln V by the class of the APGAR score
    w1  warfarin, one compartment, oral, with a lag: Tlag, ka, V, Cl; noise of two added SDs
    w2  ... with ln(weight / 70) on V and Cl
    w3  ... with the sex on V and Cl
    tp  theophylline, doses per kg, oral

Constants are lognormal between patients, and independent. Three things are compared: a fit, in Monolix's standard errors;
the most probable constants of every patient at Monolix's population, in its standard deviations between patients; and -2 log
likelihood at that population by importance sampling. Monolix's of w2 and tp is linearised, and not comparable. The sixth
project, pm, has two outputs, parent and metabolite, in one task, which these models do not have.

    python tests/benchmarks/accuracy/monolix.py [project ...]
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

from metaest import EquationRegressor, Parameter, Population
from metaest.population import Block, Category, NoiseModel, Power
from metaest_domains.physiology import OneCompartmentRegressor, read_patients

FILES = {"pb": ("phenobarbital.csv", ";"), "tp": ("theophylline.txt", "\t")}
WARFARIN = ("warfarin.csv", ",")
# constants by the names that Monolix gives them
RATES = {"volume": "V", "rate": "k"}
ORAL = {"absorption_rate": "ka", "volume": "V", "clearance": "Cl"}
WITH_LAG = {"lag": "Tlag", **ORAL}
NAMES = {"pb": RATES, "w1": WITH_LAG, "w2": WITH_LAG, "w3": WITH_LAG, "tp": ORAL}
# of fits: coefficients by constant and column
COEFFICIENTS = {
    "pb": {"volume": {"high": "beta_V_tAPGAR_High", "low": "beta_V_tAPGAR_Low"}},
    "w2": {"volume": {"lw70": "beta_V_lw70"}, "clearance": {"lw70": "beta_Cl_lw70"}},
    "w3": {"volume": {"female": "beta_V_tSex_F"}, "clearance": {"female": "beta_Cl_tSex_F"}},
}
# of Monolix's populations: columns and their units
COLUMNS = {"pb": {"apgar": ""}, "w2": {"wt": "kg"}, "w3": {"sex": ""}}
# whose likelihood Monolix linearised
LINEARISED = ("w2", "tp")
N_SAMPLES = 10_000


def boluses(X, volume, rate):
    """Return the level after doses into a vein; the columns are those of read_patients."""
    n = (X.shape[1] - 1) // 3
    since = X[:, :1] - X[:, 1 + n : 1 + 2 * n]
    left = torch.where(since >= 0, torch.exp(-rate * since.clamp(min=0)), 0.0)
    return (X[:, 1 : 1 + n] * left).sum(dim=1) / volume


def main():
    """Print the tables of the projects."""
    torch.set_num_threads(1)
    print(describe())
    warnings.simplefilter("ignore")
    folder = Path(os.environ["METAEST_DATA_HOME"]) / "monolix"
    rows = pd.read_csv(folder / "population.csv").set_index(["project", "parameter"])[["value", "se"]]
    likelihood = pd.read_csv(folder / "likelihood.csv").set_index(["project", "criterion"])["value"]
    individual = pd.read_csv(folder / "individual.csv").set_index(["project", "parameter", "id"])["mode"]
    for project in sys.argv[1:] or NAMES:
        records, theirs = read(project, folder), rows.loc[project]
        started = time.process_time()
        fitted = fit(project, records)
        print(f"\n{project}: {time.process_time() - started:.2f} CPU s a fit")
        print(beside(project, fitted, theirs).to_string(float_format="{:.4g}".format))
        model, tasks = published(project, records, theirs)
        print(modes(project, model, tasks, theirs, individual.loc[project]))
        how = (
            "linearised" if project in LINEARISED else f"s.e. {likelihood.get((project, 'standardError'), np.nan):.2f}"
        )
        ofv = likelihood[project, "OFV"]
        print(f"-2 log L at Monolix's estimates: {minus_two_log(model, tasks)}; Monolix {ofv:.2f}, {how}")
        print(f"-2 log L at ours: {minus_two_log(fitted, tasks_of(project, records, fit=True))}")


def read(project, folder):
    """Return the records of a project, with the columns that fits and populations read."""
    name, separator = FILES.get(project, WARFARIN)
    records = pd.read_csv(folder / name, sep=separator, encoding="utf-8-sig", na_values=".").rename(columns=str.lower)
    records = records.rename(columns={"amt": "dose", "conc": "level", "dv": "level"})
    if project == "pb":
        return records.assign(high=1.0 * (records["apgar"] >= 8), low=1.0 * (records["apgar"] <= 3))
    if project == "tp":
        return records
    # the second kind of observation is the activity of prothrombin
    records = records[records["dvid"] != 2]
    return records.assign(lw70=np.log(records["wt"] / 70), female=1.0 - records["sex"])


def tasks_of(project, records, *, fit):
    """Return the patients as tasks with the covariates of a fit, or of Monolix's population."""
    columns = {column for chosen in COEFFICIENTS.get(project, {}).values() for column in chosen}
    covariates = sorted(columns) if fit else list(COLUMNS.get(project, {}))
    frame = records[["id", "time", "dose", "level", *covariates]]
    return read_patients(frame, patient="id", dose="dose", time="time", target="level", covariates=covariates)


def fit(project, records):
    """Return the fit of a project; initial values are read off the rows, or round numbers of the right size."""
    tasks, names = tasks_of(project, records, fit=True), list(NAMES[project])
    covariates = {constant: list(columns) for constant, columns in COEFFICIENTS.get(project, {}).items()}
    shared = {"random": names, "covariates": covariates or None, "covariance": "diagonal"}
    if project == "pb":
        return EquationRegressor(
            of_columns(tasks), {name: Parameter(0.1, lower=0) for name in names}, noise="proportional", **shared
        ).fit(tasks)
    lag = "lag" in names
    return OneCompartmentRegressor(lag=lag, absorption="rate", noise="combined1", **shared).fit(tasks)


def of_columns(tasks):
    """Return the equation of boluses for tasks whose last columns are covariates."""
    n = sum(name.startswith("dose") for name in tasks.feature_names)

    def equation(X, volume, rate):
        return boluses(X[:, : 1 + n], volume, rate)

    return equation


def beside(project, model, theirs):
    """Return estimates beside Monolix's, and their distance in its standard errors."""
    names, population = NAMES[project], model.to_population()
    reference = {column: 0.0 for columns in COEFFICIENTS.get(project, {}).values() for column in columns}
    ours = {f"{names[name]}_pop": value for name, value in population.typical(reference).items()}
    for constant, columns in COEFFICIENTS.get(project, {}).items():
        for column, label in columns.items():
            moved = population.typical({**reference, column: 1.0})
            ours[label] = np.log(moved[constant] / ours[f"{names[constant]}_pop"])
    ours |= {f"omega_{label}": model.population_.loc[name, "omega"] for name, label in names.items()}
    ours |= {{"sd": "a", "cv": "b"}[name]: value for name, value in model.noise_.items()}
    table = pd.DataFrame({"metaest": ours, "Monolix": theirs["value"], "s.e.": theirs["se"]}).loc[list(ours)]
    return table.assign(distance=(table["metaest"] - table["Monolix"]) / table["s.e."])


def published(project, records, theirs):
    """Return a model with Monolix's population, and the patients as it reads them."""
    value, names, covariates = theirs["value"], NAMES[project], COLUMNS.get(project, {})
    constants = {name: Parameter(value[f"{label}_pop"], lower=0) for name, label in names.items()}
    blocks = [Block(sd={name: value[f"omega_{label}"]}) for name, label in names.items()]
    formulas = effects(project, value)
    if project == "pb":
        tasks = tasks_of(project, records, fit=False)
        noise, columns = NoiseModel("proportional", cv=value["b"]), dict.fromkeys(tasks.feature_names, "")
        population = Population(constants, blocks, noise, covariates=formulas, columns=columns)
        return EquationRegressor.from_population(of_columns(tasks), population), tasks
    population = Population(
        constants,
        blocks,
        NoiseModel("combined1", sd=value["a"], cv=value["b"]),
        covariates=formulas,
        columns={"time": "h", "dose": "mg", **covariates},
        settings={"route": "oral", "absorption": "rate", "lag": "lag" in names},
    )
    most = int((records["dose"] > 0).groupby(records["id"]).sum().max())
    model = OneCompartmentRegressor.from_population(population, n_doses=most)
    chosen = records[["id", "time", "dose", "level", *covariates]]
    return model, {ID: model.read(rows, target="level") for ID, rows in chosen.groupby("id")}


def effects(project, value):
    """Return the covariate formulas of Monolix's population."""
    if project == "pb":
        low, high = np.exp(value["beta_V_tAPGAR_Low"]), np.exp(value["beta_V_tAPGAR_High"])
        usual = dict.fromkeys((4, 5, 6, 7), 1.0)
        return {
            "volume": Category("apgar", {**dict.fromkeys((1, 2, 3), low), **usual, **dict.fromkeys((8, 9, 10), high)})
        }
    if project == "w2":
        return {"volume": Power("wt", value["beta_V_lw70"], 70), "clearance": Power("wt", value["beta_Cl_lw70"], 70)}
    if project == "w3":
        female = {"volume": value["beta_V_tSex_F"], "clearance": value["beta_Cl_tSex_F"]}
        return {name: Category("sex", {0: np.exp(beta), 1: 1.0}) for name, beta in female.items()}
    return {}


def modes(project, model, tasks, theirs, individual):
    """Return in a line how far the most probable constants of the patients are from Monolix's."""
    parts = []
    for name, label in NAMES[project].items():
        wanted = np.log(individual[label].to_numpy())
        values = np.log([patient.params_.loc[name, "value"] for patient in model.adapt_many(tasks)])
        distance = np.abs(values - wanted) / theirs.loc[f"omega_{label}", "value"]
        parts.append(f"{label} {distance.max():.4f} ({(distance <= 0.02).sum()} of {len(distance)} up to 0.02)")
    return "largest distance of modes, in SD between patients: " + ", ".join(parts)


def minus_two_log(model, tasks):
    """Return -2 log likelihood in words, by importance sampling and by Laplace's approximation."""
    started = time.process_time()
    exact = model.log_likelihood(tasks, "importance", n_samples=N_SAMPLES, random_state=0)
    seconds = time.process_time() - started
    laplace = -2 * model.log_likelihood(tasks).value
    return f"{-2 * exact.value:.2f} (s.e. {2 * exact.standard_error:.2f}, {seconds:.1f} s; Laplace {laplace:.2f})"


if __name__ == "__main__":
    main()
