"""Records of published files, read by their names of columns, and fits to simulated designs beside the true constants.

The files are those of NONMEM, Monolix, nlmixr2 and PsN users, as they wrote them; they are not part of this repository
(METAEST_DATA_HOME, folders monolix, nlmixr2data, nonmem_bauer2019, prospective, published_models). The first table says
what read_patients makes of each, with the arguments that it needs. The second has the simulated designs of nlmixr2data
(R. Schoemaker et al., ACOP 2016; every second subject): single doses, repeated ones and a steady state, 60 patients each,
of whom every constant is known.

The third is PsN's prospective evaluation of vancomycin (A. H. Thomson et al. 2009, as mipdeval has it): each of the five levels
of ten patients, predicted by the population and by the patient's first levels, with weight and creatinine clearance that change
by NONMEM's rule, as the file has them.

    python tests/benchmarks/accuracy/records.py [files | vancomycin | scipy | design | noise ...]
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
from scipy.optimize import least_squares

from metaest.exceptions import TaskError
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    TwoCompartmentRegressor,
    load_published,
    read_patients,
)

# file: how pandas reads it, and what read_patients needs to be told
FILES = {
    "monolix/warfarin.csv": ({}, {"covariates": ["wt", "sex", "age"], "output": "dvid"}),
    "monolix/phenobarbital.csv": ({"sep": ";"}, {"covariates": ["WEIGHT", "APGAR"]}),
    "monolix/theophylline.txt": ({"sep": "\t"}, {"covariates": ["WEIGHT"]}),
    "monolix/parent_metabolite.csv": ({}, {"dose": "AMOUNT", "target": "OBS", "output": "OBSID"}),
    "prospective/nm_vanco.csv": ({}, {"time_varying": ["WT", "CRCL"], "covariates": ["CL_HEMO"]}),
    "prospective/nm_busulfan.csv": ({}, {"covariates": ["AGE", "WT", "HT", "SEX", "REGI"]}),
    "nlmixr2data/nmtest.csv": ({}, {"target": "cp"}),
    "nlmixr2data/Oral_1CPT.csv": ({}, {}),
    "nlmixr2data/Infusion_2CPT.csv": ({}, {}),
    "nlmixr2data/Oral_2CPTMM.csv": ({}, {}),
    "published_models/patients_001.csv": ({}, {}),
    "published_models/patients_002.csv": ({}, {}),
    "published_models/patients_301.csv": ({}, {"time_varying": {"BW": "nocb", "SEX": "nocb"}}),
    "published_models/patients_401.csv": ({}, {"output": "CMT"}),
    "published_models/piperacillin_iov.csv": ({}, {"occasion": "OCC", "covariates": ["TBW"]}),
    "nonmem_bauer2019/402.csv": ({"skiprows": 1}, {}),
    "nonmem_bauer2019/504.csv": ({"skiprows": 1}, {"covariates": ["WT", "AGE", "SEX"]}),
    "nonmem_bauer2019/ad3tr4_loqb.csv": ({"skiprows": 1}, {"target": "CONC"}),
    "nonmem_bauer2019/superid30.csv": ({}, {"occasion": "OCC"}),
}
# noise of the fits: as the files' authors state it, and as the residuals at the true constants are (their mean is 2.3 %
# of the curve, that of a lognormal error of 20 % 2.0 %)
NOISE = ("proportional", "lognormal")
# design: model, the true constants by those of the model
DESIGNS = {
    "Oral_1CPT": (
        OneCompartmentRegressor(absorption="rate"), {"clearance": "CL", "volume": "V", "absorption_rate": "KA"},
    ),
    "Infusion_2CPT": (
        TwoCompartmentRegressor(route="iv"), {"clearance": "CL", "volume": "V", "exchange": "Q", "peripheral": "V2"},
    ),
}  # fmt: skip


def main():
    """Print both tables."""
    torch.set_num_threads(1)
    print(describe())
    warnings.simplefilter("ignore")
    home = Path(os.environ["METAEST_DATA_HOME"])
    chosen = sys.argv[1:] or ["files", "vancomycin", "scipy", *DESIGNS, *NOISE]
    if "files" in chosen:
        print(pd.DataFrame([read(home, name) for name in FILES]).to_string(index=False))
    if "vancomycin" in chosen:
        print(prospective(home / "prospective"))
    if "scipy" in chosen:
        by_least_squares(home)
    noises = [noise for noise in NOISE if noise in chosen] or NOISE
    for design in DESIGNS:
        for noise in noises if design in chosen else []:
            compare(design, noise, home)


def frame_of(home, name):
    """Return a file as pandas reads it, without what its authors say is to be left out."""
    frame = pd.read_csv(home / name, encoding="utf-8-sig", na_values=".", **FILES[name][0])
    if name.startswith("nlmixr2data/") and "SS" in frame:
        frame["SS"] = frame["SS"].replace(99, 0)  # their code of "no steady state"
    if name == "published_models/patients_002.csv":
        return frame.drop(columns="CMT")  # infusions into the central compartment, 2 beside an unused depot
    if name == "nlmixr2data/nmtest.csv":
        return frame[(frame["rate"] >= 0) & ~frame["id"].isin([5, 18, 19])]  # rates and durations that are estimated
    return frame


def read(home, name):
    """Return what is made of a file."""
    frame = frame_of(home, name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            tasks = read_patients(frame, **FILES[name][1])
        except TaskError as error:
            return {"file": name, "result": str(error)}
    columns = [column.removesuffix("_1") for column in tasks.feature_names if not column.rsplit("_", 1)[-1].isdigit()]
    further = [column[:-2] for column in tasks.feature_names if column.endswith("_1") and column[:-2] not in
               ("dose", "dose_time", "dose_duration")]  # fmt: skip
    unread = [str(word.message) for word in said if "not read;" in str(word.message)]
    return {
        "file": name,
        "patients": len(tasks),
        "observations": len(tasks.y),
        "doses": sum(column.startswith("dose_time_") for column in tasks.feature_names),
        "columns": " ".join([*columns[1:], *further]),
        "not read": " ".join(unread)[len("read_patients: column") :].split(" w")[0].lstrip("s ").replace("'", ""),
    }


def prospective(folder):
    """Return how far predictions of vancomycin are from NONMEM's, in a sentence."""
    frame = (
        pd.read_csv(folder / "nm_vanco.csv").rename(columns={"WT": "weight", "CRCL": "crcl"}).drop(columns="CL_HEMO")
    )
    frame["crcl"] *= 1000 / 60  # L/h to mL/min
    theirs = pd.read_csv(folder / "proseval_vanco_thomson.csv")
    methods = {"crcl": "nocb", "weight": "nocb"}
    model = TwoCompartmentRegressor.from_population(
        load_published("vancomycin", "thomson-2009"), n_doses=3, time_varying=methods
    )
    apart = {"PRED": [], "IPRED": []}
    for patient, records in frame.groupby("ID"):
        X, y = model.read(records)
        for used, rows in theirs[theirs["ID"] == patient].groupby("OBS"):
            levels = rows[rows["EVID"] != 1]  # those not used yet have EVID 2
            curves = {"PRED": model.predict(X), "IPRED": model.adapt(X[:used], y[:used], guard=False).predict(X)}
            for name, curve in curves.items():
                apart[name].append(np.abs(curve / levels[name].to_numpy() - 1).max())
    worst = {name: np.max(values) for name, values in apart.items()}
    return (
        f"\nvancomycin: {len(apart['IPRED'])} sets of used levels; from NONMEM's by {worst['PRED']:.1e} (population) and "
        f"{worst['IPRED']:.1e} (patients) of a level at most"
    )


def compare(design, noise, home):
    """Print the population of a design beside the geometric means, and how many intervals hold the true constants."""
    model, names = DESIGNS[design]
    model = model.set_params(noise=noise)
    frame = frame_of(home, f"nlmixr2data/{design}.csv")
    truth = frame.groupby("ID")[list(names.values())].first()
    tasks = read_patients(frame)
    started = time.process_time()
    model.fit(tasks)
    print(
        f"\n{design}, {noise} noise: {len(tasks)} patients, {len(tasks.y)} rows, {time.process_time() - started:.1f} CPU s a fit"
    )
    population = model.population_
    rows, inside = [], []
    adapted = [
        model.adapt(pd.DataFrame(task.X, columns=tasks.feature_names), task.y, guard=False) for task in tasks
    ]  # fmt: skip
    for ours, theirs in names.items():
        true = truth.loc[[task.name for task in tasks], theirs].to_numpy()
        ends = np.array([interval(patient, ours) for patient in adapted])
        covered = (ends[:, 0] <= true) & (true <= ends[:, 1])
        inside.append(covered)
        value, error = population.loc[ours, ["value", "standard_error"]]
        rows.append({
            "constant": theirs, "geometric mean": np.exp(np.log(true).mean()), "population": value,
            "difference, s.e.": (np.log(value) - np.log(true).mean()) / (error / value), "SD": np.log(true).std(),
            "SD, estimated": population.loc[ours, "scaled_sd"], "inside 95 %": 100 * covered.mean(),
        })  # fmt: skip
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    print(f"noise {float(model.noise_.iloc[0]):.3f} (true 0.2); inside 95 % in all: {100 * np.mean(inside):.1f} %")


def by_least_squares(home):
    """Print residuals of Oral_1CPT at the true constants, and intervals of scipy's fits of single subjects."""
    frame = frame_of(home, "nlmixr2data/Oral_1CPT.csv")
    population, spread, error = np.log([4.15, 65.4, 1.01]), np.array([0.263, 0.239, 0.354]), 0.198
    residuals, distances = [], []
    for _, records in frame.groupby("ID"):
        true = np.log(records[["CL", "V", "KA"]].iloc[0].to_numpy(dtype=float))
        y = records.loc[records["EVID"] == 0, "DV"].to_numpy()
        residuals.append(y / oral_curve(true, records) - 1)

        def loss(logs, records=records, y=y):
            rows = (np.log(y) - np.log(oral_curve(logs, records))) / error
            return np.concatenate([rows, (logs - population) / spread])

        fit = least_squares(loss, population)
        distances.append((fit.x - true) / np.sqrt(np.diag(np.linalg.inv(fit.jac.T @ fit.jac))))
    inside = 100 * (np.abs(distances) < 1.96).mean(axis=0)
    print(
        f"\nOral_1CPT at the true constants: mean residual {100 * np.concatenate(residuals).mean():.1f} % of the curve"
    )
    print("inside 95 % of scipy's fits (CL, V, KA):", ", ".join(f"{share:.1f}" for share in inside))


def oral_curve(logs, records):
    """Return the curve of one compartment at the observations, by closed forms; a steady state replaces earlier doses."""
    clearance, volume, absorption = np.exp(logs)
    rate = clearance / volume
    at = records.loc[records["EVID"] == 0, "TIME"].to_numpy()
    curve = np.zeros(len(at))
    for dose in records[records["EVID"] == 1].itertuples():
        later, since = at >= dose.TIME, np.maximum(at - dose.TIME, 0)
        left, gone = np.exp(-rate * since), np.exp(-absorption * since)
        if dose.SS == 1:
            left, gone = left / -np.expm1(-rate * dose.II), gone / -np.expm1(-absorption * dose.II)
            curve[later] = 0
        curve[later] += (dose.AMT * absorption / volume / (absorption - rate) * (left - gone))[later]
    return curve


def interval(patient, constant):
    """Return the 95 % interval of a constant of a patient."""
    answer = patient.derive(lambda **constants: constants[constant], level=0.95)
    return answer.lower, answer.upper


if __name__ == "__main__":
    main()
