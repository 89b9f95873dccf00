"""Fits of EquationRegressor beside R's nlme and lme4: the same model and rows, seconds and log-likelihood, in one run.

R comes from Debian's r-base-core, r-cran-nlme and r-cran-lme4; without it only our own column is printed. Phenobarbital
(59 newborns) needs the file of Monolix's demonstration in METAEST_DATA_HOME/monolix, and the 58 curves of PMMA along their
measured temperatures, thinned to 25 rows each, the MaCFP database in METAEST_DATA_HOME/macfp_pmma (see `histories.py`).

    python tests/benchmarks/speed/mixed_models.py
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metaest import EquationRegressor, Parameter, TaskSet
from metaest_datasets import load_orange, load_sleepstudy, load_theophylline
from metaest_domains.kinetics import NthOrderConversionRegressor
from metaest_domains.physiology import OneCompartmentRegressor, read_patients

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from equations_accuracy import absorption, line, logistic
from histories import REFERENCE, problem
from machine import describe

THEOPHYLLINE = {"Ke": Parameter(0.1, lower=0), "Ka": Parameter(1.5, lower=0), "Cl": Parameter(0.04, lower=0)}
ORANGE = {"Asym": Parameter(190.0), "xmid": Parameter(700.0), "scal": Parameter(350.0)}
# seconds that a fit may take where R takes less
LEAST = 0.03

TIMED = """
fits <- list()
for (i in 1:repeats) fits[[i]] <- system.time(fit <- tryCatch(run(), error = function(e) NULL))[["elapsed"]]
cat(median(unlist(fits)), if (is.null(fit)) NA else as.numeric(logLik(fit)), "\\n")
"""
ONE_COMPARTMENT = (
    "y ~ dose * exp(lKe + lKa - lCl) * (exp(-exp(lKe) * time) - exp(-exp(lKa) * time)) / (exp(lKa) - exp(lKe))"
)
THEOPHYLLINE_IN_R = f"""
library(nlme)
run <- function() nlme({ONE_COMPARTMENT}, data = d, fixed = lKe + lKa + lCl ~ 1, random = RANDOM, groups = ~task,
                       start = c(lKe = log(0.1), lKa = log(1.5), lCl = log(0.04)), method = "ML")
"""
IN_R = {
    "theophylline, Ka and Cl random, diagonal": THEOPHYLLINE_IN_R.replace("RANDOM", "pdDiag(lKa + lCl ~ 1)"),
    "theophylline, three random, full covariance": THEOPHYLLINE_IN_R.replace("RANDOM", "lKe + lKa + lCl ~ 1"),
    "orange trees, one random": """
library(nlme)
run <- function() nlme(y ~ Asym / (1 + exp((xmid - age) / scal)), data = d, fixed = Asym + xmid + scal ~ 1,
                       random = Asym ~ 1, groups = ~task, start = c(Asym = 190, xmid = 700, scal = 350), method = "ML")
""",
    "sleep study, a line each (lme4)": """
library(lme4)
run <- function() lmer(y ~ days + (days | task), data = d, REML = FALSE)
""",
    "phenobarbital, 59 newborns": """
library(nlme)
d$Subject <- factor(d$task)
run <- function() nlme(conc ~ phenoModel(Subject, time, dose, lCl, lV), data = d, fixed = lCl + lV ~ 1,
                       random = pdDiag(lCl + lV ~ 1), groups = ~Subject, start = c(lCl = -5, lV = 0.4),
                       na.action = NULL, naPattern = ~!is.na(conc), method = "ML")
""",
    "58 curves along their histories, three random": """
library(nlme)
h <- split(read.csv(paste0(path, ".histories")), read.csv(paste0(path, ".histories"))$curve)
conversion <- function(lk, lE, ln, t, curve) {
  result <- numeric(length(t))
  for (g in unique(curve)) {
    i <- which(curve == g)
    p <- h[[as.character(g)]]
    rate <- exp(lk[i[1]] - exp(lE[i[1]]) * (1 / p$T - 1 / 640) / 8.314462618e-3)
    theta <- approx(p$t, c(0, cumsum(diff(p$t) * (head(rate, -1) + tail(rate, -1)) / 2)), t[i])$y
    away <- exp(ln[i[1]]) - 1
    result[i] <- 1 - pmax(1 + away * theta, 1e-12)^(-1 / away)
  }
  result
}
run <- function() nlme(y ~ conversion(lk, lE, ln, time, curve), data = d, fixed = lk + lE + ln ~ 1,
                       random = pdDiag(lk + lE + ln ~ 1), groups = ~task, method = "ML",
                       start = c(lk = -5, lE = log(150), ln = log(1.2)))
""",
}


def frame_of(tasks, columns):
    """Return the rows as R reads them."""
    frame = pd.DataFrame(tasks.X[:, : len(columns)], columns=columns)
    return frame.assign(y=tasks.y, task=np.repeat(np.arange(len(tasks)), tasks.sizes))


def studies():
    """Yield name, model, tasks and the frame for R."""
    patients = load_theophylline(exclude_time_zero=True)
    frame = frame_of(patients, ["time", "dose"])
    names = list(IN_R)
    diagonal = EquationRegressor(absorption, THEOPHYLLINE, random=["Ka", "Cl"], covariance="diagonal")
    yield names[0], diagonal, patients, frame
    yield names[1], EquationRegressor(absorption, THEOPHYLLINE), patients, frame
    trees = load_orange()
    yield names[2], EquationRegressor(logistic, ORANGE, random=["Asym"]), trees, frame_of(trees, ["age"])
    sleepers = load_sleepstudy()
    yield names[3], EquationRegressor(line, {"a": 250.0, "b": 10.0}), sleepers, frame_of(sleepers, ["days"])
    path = Path(os.environ.get("METAEST_DATA_HOME", "")) / "monolix" / "phenobarbital.csv"
    if path.exists():
        records = pd.read_csv(path, sep=";", na_values=".")
        newborns = read_patients(records, patient="ID", time="TIME", dose="DOSE", target="CONC", covariates=["WEIGHT"])
        frame = records.rename(columns={"ID": "task", "TIME": "time", "DOSE": "dose", "CONC": "conc"})
        yield names[4], OneCompartmentRegressor(route="iv", noise="additive"), newborns, frame
    if (path.parents[1] / "macfp_pmma").exists():
        histories, curves = problem(1.0, 1)
        thin = [np.linspace(0, len(y) - 1, 25).round().astype(int) for _, y in curves]
        curves = TaskSet([(X[rows], y[rows]) for (X, y), rows in zip(curves, thin, strict=True)])
        fixed = {"reference": REFERENCE}
        model = NthOrderConversionRegressor(histories=histories, fixed=fixed, covariance="diagonal")
        frame = frame_of(curves, ["time", "curve"])
        frame.attrs["histories"] = pd.concat(
            pd.DataFrame({"curve": number, "t": t, "T": T}) for number, (t, T) in histories.items()
        )
        yield names[5], model, curves, frame


def by_r(name, frame, repeats):
    """Return R's median seconds and log-likelihood; NaN without R, or where its fit fails."""
    if shutil.which("Rscript") is None:
        return np.nan, np.nan
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        frame.to_csv(path, index=False)
        if "histories" in frame.attrs:
            frame.attrs["histories"].to_csv(f"{path}.histories", index=False)
        text = f'path <- "{path}"\nd <- read.csv("{path}")\nd$task <- factor(d$task)\nrepeats <- {repeats}\n{IN_R[name]}{TIMED}'
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        result = subprocess.run(["Rscript", "-e", text], capture_output=True, text=True, env=environment, check=False)
    words = result.stdout.split()
    return tuple(float(word) if word != "NA" else np.nan for word in words[-2:]) if words else (np.nan, np.nan)


def least(model, tasks, repeats):
    """Return the least processor time of some fits after one to warm up: what disturbs a fit only adds to it."""
    model.fit(tasks)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        model.fit(tasks)
        times.append(time.process_time() - started)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--only", default="", help="part of the name of what is fitted")
    parser.add_argument("--processor", action="store_true", help="least processor time of our own fits alone, in s")
    options = parser.parse_args()
    repeats = options.repeats
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    print("medians in s; first: the first fit of the process, machine code on disk or not as it was left\n")
    print("| | first | metaest | by torch | R | ratio | aim | log-likelihood | R's |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, model, tasks, frame in studies():
        if options.only not in name:
            continue
        if options.processor:
            print(f"| {name} | {least(model, tasks, repeats):.3f} |", flush=True)
            continue
        times = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model.fit(tasks)
            times.append(time.perf_counter() - started)
        ours, likelihood_of_ours = float(np.median(times[1:])), model.log_likelihood_
        by_torch = []
        for _ in range(repeats):
            started = time.perf_counter()
            model.set_params(compile=False).fit(tasks)
            by_torch.append(time.perf_counter() - started)
        theirs, likelihood = by_r(name, frame, repeats)
        aim = max(theirs * (2 if "lme4" in name else 1), LEAST) if np.isfinite(theirs) else LEAST
        print(
            f"| {name} | {times[0]:.3f} | {ours:.3f} | {np.median(by_torch):.3f} | {theirs:.3f} | {ours / theirs:.2f} | {aim:.3f} "
            f"| {likelihood_of_ours:.4f} | {likelihood:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
