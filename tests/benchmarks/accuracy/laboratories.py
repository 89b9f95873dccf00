"""PMMA of several laboratories: the fastest run of a laboratory from three points of its slower ones.

Curves in nitrogen and argon of the MaCFP database (`macfp_pmma` in METAEST_DATA_HOME), as `speed/histories.py` reads
them. One reaction of order n along the measured temperatures; its constants vary between laboratories and, within a
laboratory, between runs. Each laboratory with two heating rates or more is left out in turn; the model that the others
taught adapts to three points drawn from the runs at all rates but the fastest, and predicts the runs at that. Beside it:
the same model without levels (three points are one task, and the runs of the fit are independent tasks), least squares
of the laboratory's own three points, and of all its points at slower rates. Shares are of rows inside 90 % intervals of
observations.

Then the temperature at which half of the mass is gone at 10 and 100 K/min, as groups predicted it before
(`predictions.csv`), as the runs at these nominal rates measured it, and as fits to the runs at 10 K/min alone and to all
runs predict it.

    METAEST_DATA_HOME=... python tests/benchmarks/accuracy/laboratories.py
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import least_squares

from metaest import TaskSet
from metaest_domains.kinetics import NthOrderConversionRegressor

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from histories import GASES, LEFT_OUT, REFERENCE, R

CONSTANTS = ["k_ref", "E", "order"]
# conversions of rows that are fitted and predicted, and of the points that a new laboratory gives
WINDOW, POINTS = (0.02, 0.98), (0.05, 0.95)
# rows of a curve in a fit, evenly over its rows in the window
ROWS = 12
# bounds of least squares: log k_ref, E and order
BOUNDS = ([-30.0, 10.0, 0.1], [10.0, 1000.0, 6.0])
MIDDLE = [-5.0, 180.0, 1.2]


def read():
    """Return a table of rows (lab, rate, run, time, conversion), and the history of each run by number."""
    table = pd.read_csv(Path(os.environ["METAEST_DATA_HOME"]) / "macfp_pmma" / "tga.csv")
    rows, histories = [], {}
    for name, curve in table[table["gas"].isin(GASES)].groupby("curve"):
        if name.startswith(LEFT_OUT):
            continue
        t = curve["time_s"].to_numpy() - curve["time_s"].iloc[0]
        later = np.diff(t, prepend=-1.0) > 0
        t, T, mass = t[later], curve["T_K"].to_numpy()[later], curve["mass"].to_numpy()[later]
        conversion = (mass[0] - mass) / (mass[0] - mass[-1])
        number = len(histories) + 1
        histories[number] = t, T
        inside = np.flatnonzero((conversion >= WINDOW[0]) & (conversion <= WINDOW[1]))
        lab, rate = curve["lab"].iloc[0], curve["rate_K_per_min"].iloc[0]
        rows += [(lab, rate, number, t[i], conversion[i]) for i in inside]
    return pd.DataFrame(rows, columns=["lab", "rate", "run", "time", "conversion"]), histories


def thinned(table):
    """Return about ROWS rows of each run."""
    parts = []
    for _, run in table.groupby("run"):
        chosen = np.unique(np.linspace(0, len(run) - 1, ROWS).round().astype(int))
        parts.append(run.iloc[chosen])
    return pd.concat(parts)


def inputs(table):
    """Return X of rows: time, number of the history, number of the run."""
    return np.column_stack([table["time"], table["run"], table["run"]]).astype(float)


def fitted(table, histories, *, nested):
    """Return a fit to laboratories with runs inside them, or to runs as tasks of their own."""
    rows = thinned(table)
    names = ("time", "history", "run")
    tasks = TaskSet.from_arrays(
        inputs(rows), rows["conversion"].to_numpy(), rows["lab" if nested else "run"].to_numpy(), feature_names=names
    )
    levels = {"levels": {"run": CONSTANTS}} if nested else {}
    model = NthOrderConversionRegressor(
        histories=histories, fixed={"reference": REFERENCE}, covariance="diagonal", random_state=0, **levels
    )
    return model.fit(tasks)


def by_least_squares(table, histories):
    """Return a function of rows, from constants fitted to some rows of one laboratory."""

    def curve(c, rows):
        values = np.empty(len(rows))
        for run in rows["run"].unique():
            t, T = histories[run]
            rate = np.exp(np.clip(c[0] - c[1] / R * (1 / T - 1 / REFERENCE), -700, 700))
            at = (rows["run"] == run).to_numpy()
            theta = np.interp(rows["time"].to_numpy()[at], t, cumulative_trapezoid(rate, t, initial=0.0))
            away = c[2] - 1 if abs(c[2] - 1) > 1e-6 else 1e-6
            values[at] = 1 - np.maximum(1 + away * theta, 1e-12) ** (-1 / away)
        return values

    result = least_squares(lambda c: curve(c, table) - table["conversion"], MIDDLE, x_scale=[1, 50, 0.5], bounds=BOUNDS)
    return lambda rows: curve(result.x, rows)


def half_mass(model, histories, rate):
    """Return the temperature, K, at which half of the mass is gone at a heating rate in K/min."""
    t = np.linspace(0.0, 900.0 / (rate / 60), 4000)
    number = max(histories) + 1
    program = NthOrderConversionRegressor(histories={number: (t, 300 + rate / 60 * t)}, fixed={"reference": REFERENCE})
    k, E, order = model.population_["value"][CONSTANTS]
    theta = cumulative_trapezoid(k * np.exp(-E / R * (1 / (300 + rate / 60 * t) - 1 / REFERENCE)), t, initial=0.0)
    values = program.shape(torch.from_numpy(theta), torch.tensor(order)).numpy()
    return 300 + rate / 60 * float(np.interp(0.5, values, t))


def half_measured(run, histories):
    """Return the temperature, K, at which half of the mass was gone in one run."""
    at = np.interp(0.5, run["conversion"], run["time"])
    return float(np.interp(at, *histories[run["run"].iloc[0]]))


def published():
    """Return the half-mass temperatures of the published predictions, by rate."""
    table = pd.read_csv(Path(os.environ["METAEST_DATA_HOME"]) / "macfp_pmma" / "predictions.csv")
    result = {}
    for (model, rate), curve in table.groupby(["model", "rate_K_per_min"]):
        mass, T = curve["mass"].to_numpy(), curve["T_K"].to_numpy()
        result.setdefault(rate, {})[model] = float(np.interp(-0.5 * mass[0], -mass, T))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20, help="draws of three points")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    table, histories = read()
    print(f"{table['lab'].nunique()} laboratories, {table['run'].nunique()} runs")
    print("RMSE of conversion in the fastest runs (share inside 90 % intervals), from three points of slower ones")
    print(f"{'laboratory':<10} {'fastest':>7} {'levels':>14} {'no levels':>14} {'three points':>13} {'all points':>11}")
    totals = []
    for lab, rows in table.groupby("lab"):
        if rows["rate"].nunique() < 2:
            continue
        rest = table[table["lab"] != lab]
        models = [fitted(rest, histories, nested=nested) for nested in (True, False)]
        fastest = rows["rate"].max()
        slow, fast = rows[rows["rate"] < fastest], rows[rows["rate"] == fastest]
        allowed = slow[slow["conversion"].between(*POINTS)]
        rng = np.random.default_rng(0)
        errors = []
        for _ in range(options.draws):
            few = allowed.iloc[np.sort(rng.choice(len(allowed), 3, replace=False))]
            answers = []
            for model in models:
                adapted = model.adapt(inputs(few), few["conversion"].to_numpy())
                low, high = adapted.predict_interval(inputs(fast))
                answers += [adapted.predict(inputs(fast)), (low <= fast["conversion"]) & (fast["conversion"] <= high)]
            alone = by_least_squares(few, histories)(fast)
            truth = fast["conversion"].to_numpy()
            errors.append(
                [np.mean((answers[0] - truth) ** 2), answers[1].mean(), np.mean((answers[2] - truth) ** 2),
                 answers[3].mean(), np.mean((alone - truth) ** 2)]
            )  # fmt: skip
        everything = np.sqrt(np.mean((by_least_squares(slow, histories)(fast) - fast["conversion"]) ** 2))
        mean = np.mean(errors, axis=0)
        totals.append([*mean, everything**2])
        print(
            f"{lab:<10} {fastest:>7.0f} {mean[0] ** 0.5:>7.3f} ({mean[1]:.2f}) {mean[2] ** 0.5:>7.3f} ({mean[3]:.2f}) "
            f"{mean[4] ** 0.5:>13.3f} {everything:>11.3f}",
            flush=True,
        )
    mean = np.mean(totals, axis=0)
    print(
        f"{'all':<10} {'':>7} {mean[0] ** 0.5:>7.3f} ({mean[1]:.2f}) {mean[2] ** 0.5:>7.3f} ({mean[3]:.2f}) "
        f"{mean[4] ** 0.5:>13.3f} {mean[5] ** 0.5:>11.3f}"
    )
    model = fitted(table, histories, nested=True)
    print("\nshares of the variance of each constant")
    print(model.variance_split_.round(2).to_string())
    slow = fitted(table[table["rate"] == 10], histories, nested=True)
    print("\ntemperature of half mass, K, at 10 and 100 K/min")
    groups = published()
    for rate in (10, 100):
        values = np.array(list(groups[rate].values()))
        measured = [half_measured(run, histories) for _, run in table[table["rate"] == rate].groupby("run")]
        print(
            f"{rate:>4}: measured {np.mean(measured):.0f} ({len(measured)} runs); published {values.min():.0f} to {values.max():.0f}, median {np.median(values):.0f}; fit to 10 "
            f"K/min {half_mass(slow, histories, rate):.0f}, to all runs {half_mass(model, histories, rate):.0f}"
        )


if __name__ == "__main__":
    main()
