"""Seconds of fits to thermogravimetry along measured temperature histories, beside scipy on the same curves one by one.

The 58 curves of PMMA in nitrogen and argon of the MaCFP database (`macfp_pmma/tga.csv` in METAEST_DATA_HOME), without
those whose furnace held air or that are other curves again. Conversion is (m0 - m) / (m0 - m1) with the first and the
last mass of a curve; rows have conversions between 0.02 and 0.98. The histories are all points of the curves, whichever
rows are fitted. `--dense` puts points between the measured ones, by linear interpolation, to see how time grows.

    METAEST_DATA_HOME=... python tests/benchmarks/speed/histories.py
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import least_squares

from metaest_domains.kinetics import NthOrderConversionRegressor

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe

GASES = ("N2", "Ar")
# the same curves under another name, and curves with air left in the furnace (as the database says)
LEFT_OUT = ("LCPP_TGA_N2_10K", "TIFP_TGA_N2_10K_1", "TIFP_TGA_N2_10K_2", "UDRI")
WINDOW = (0.02, 0.98)
R = 8.314462618e-3
REFERENCE = 640.0


def curves(dense):
    """Return time (s), temperature (K) and conversion of each curve, with `dense` times as many points."""
    table = pd.read_csv(Path(os.environ["METAEST_DATA_HOME"]) / "macfp_pmma" / "tga.csv")
    result = []
    for name, curve in table[table["gas"].isin(GASES)].groupby("curve"):
        if name.startswith(LEFT_OUT):
            continue
        t = curve["time_s"].to_numpy() - curve["time_s"].iloc[0]
        later = np.diff(t, prepend=-1.0) > 0
        t, T, mass = t[later], curve["T_K"].to_numpy()[later], curve["mass"].to_numpy()[later]
        conversion = (mass[0] - mass) / (mass[0] - mass[-1])
        number = np.arange(len(t))
        fine = np.linspace(0, len(t) - 1, round(dense * len(t)))
        result.append(tuple(np.interp(fine, number, values) for values in (t, T, conversion)))
    return result


def problem(dense, every):
    """Return the histories, and a task of every so many rows for each curve."""
    histories, tasks = {}, []
    for number, (t, T, conversion) in enumerate(curves(dense), start=1):
        rows = np.flatnonzero((conversion >= WINDOW[0]) & (conversion <= WINDOW[1]))[::every]
        histories[number] = t, T
        tasks.append((np.column_stack([t[rows], np.full(len(rows), number)]), conversion[rows]))
    return histories, tasks


def by_scipy(histories, tasks):
    """Fit every curve alone, by the trapezoid rule on its points; the median constants."""
    constants_of_curves = []
    for X, y in tasks:
        t, T = histories[int(X[0, 1])]
        away = -(1 / T - 1 / REFERENCE) / R

        def residual(c, t=t, away=away, X=X, y=y):
            theta = np.interp(X[:, 0], t, cumulative_trapezoid(np.exp(c[0] + c[1] * away), t, initial=0.0))
            inside = np.maximum(1 + (c[2] - 1) * theta, 1e-12)
            return 1 - inside ** (1 / (1 - c[2])) - y

        constants_of_curves.append(least_squares(residual, [-5.0, 150.0, 1.2], x_scale=[1.0, 50.0, 0.5]).x)
    return np.median(constants_of_curves, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense", type=float, default=1.0, help="points for each measured one")
    parser.add_argument("--every", type=int, nargs="+", default=[36, 6, 1], help="every so many rows are fitted")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    histories, tasks = problem(1.0, 40)
    NthOrderConversionRegressor(histories=histories).fit(tasks[:6])  # imports
    print(
        "rows    points  CPU s   wall s  k_ref       E         order     log-likelihood  scipy: CPU s, k_ref, E, order"
    )
    for every in options.every:
        histories, tasks = problem(options.dense, every)
        model = NthOrderConversionRegressor(histories=histories, fixed={"reference": REFERENCE}, random_state=0)
        cpu, wall = time.process_time(), time.perf_counter()
        model.fit(tasks)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        started = time.process_time()
        k, E, order = by_scipy(histories, tasks)
        alone = time.process_time() - started
        constants = model.population_["value"]
        rows, points = sum(len(y) for _, y in tasks), sum(len(t) for t, _ in histories.values())
        print(f"{rows:<7} {points:<7} {cpu:<7.2f} {wall:<7.2f} {constants['k_ref']:<11.8f} {constants['E']:<9.5f} "
              f"{constants['order']:<9.6f} {model.log_likelihood_:<15.5f} {alone:.2f}, {np.exp(k):.5f}, {E:.1f}, "
              f"{order:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
