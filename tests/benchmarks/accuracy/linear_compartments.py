"""Linear compartments with dose records and covariates over time, beside what NONMEM and fine integrations give.

* nmtest of nlmixr2data (GPL-3): concentrations that NONMEM 7.4.3 computed for 54 kinds of dose record; 14 of them, with
  lags beyond the next record, hold its artefacts and are left out (the data's documentation).
* mipdeval (MIT): PsN's predictions of vancomycin levels by the population of Thomson et al. (2009), for ten simulated
  patients whose weight and creatinine clearance change, after one, two, three ... levels.
* Laws: a steady state is many doses, closed forms are the matrix exponential, changing constants are a fine integration.
* The memory that a fit to 1,000 patients with 30 dose records takes.

The files are not part of this repository: METAEST_DATA_HOME/nlmixr2data/nmtest.csv and prospective/.

    python tests/benchmarks/accuracy/linear_compartments.py [nmtest vancomycin laws memory]
"""

import os
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import describe
from scipy.integrate import solve_ivp

from metaest import TaskSet
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    Regimen,
    TimeVarying,
    TwoCompartmentRegressor,
    load_published,
)
from metaest_domains.physiology.changing import Changing, Coefficient
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.events import Arrival
from metaest_domains.physiology.mammillary import Mammillary
from metaest_domains.physiology.pharmacokinetics import OneCompartment, TwoCompartments

ARTEFACTS = {409, 410, 411, 415, 425, 509, 510, 610, 709, 725, 809, 825, 909, 1009}
PARTS = ("nmtest", "vancomycin", "laws", "memory")


class CentralLag(OneCompartment):
    """One compartment whose lag and bioavailability are those of doses into the central compartment, as in nmtest."""

    def arrival(self, usual, constants):
        one = torch.ones_like(constants["lag_2"].expand(usual.shape))
        lag = torch.where(usual, 0.0, constants["lag_2"])
        return Arrival(lag, torch.where(usual, one, constants["available_2"]))


def main():
    torch.set_num_threads(1)
    print(describe())
    warnings.simplefilter("ignore")
    home = Path(os.environ.get("METAEST_DATA_HOME", "nowhere"))
    parts = sys.argv[1:] or PARTS
    if "nmtest" in parts:
        nmtest(pd.read_csv(home / "nlmixr2data" / "nmtest.csv"))
    if "vancomycin" in parts:
        vancomycin(home / "prospective")
    if "laws" in parts:
        laws()
    if "memory" in parts:
        memory()


def values(cls, regimen, times, oral, constants, changing=None, wide=True):
    """Return concentrations of an equation, carried from event to event."""
    X = regimen.rows(times)
    if wide and not any(name.startswith("dose_reset") for name in X):
        X = pd.concat(
            [X, pd.DataFrame(0.0, X.index, [f"dose_reset_{i + 1}" for i in range(len(regimen.time))])], axis=1
        )
    equation = cls(Doses.find(list(X.columns), X.shape[1]), None, {}, oral, tuple(X.columns), "rate", changing)
    given = {name: torch.full((len(X),), value, dtype=torch.float64) for name, value in constants.items()}
    return equation(torch.tensor(X.to_numpy()), **given).numpy()


def nmtest(frame):
    """Print how far concentrations are from NONMEM's, as a share of the greatest of each kind of record."""
    errors = {}
    for ID, records in frame.groupby("id"):
        doses, samples = records[records["evid"] != 0], records[records["evid"] == 0]
        rate = np.where(doses["rate"] == -1, doses["rat2"], np.maximum(doses["rate"], 0.0))
        regimen = Regimen(
            doses["time"].to_numpy(float), doses["amt"].to_numpy(float),
            np.where(doses["rate"] == -2, doses["dur2"], 0.0), interval=doses["ii"], number=doses["addl"] + 1,
            steady=doses["ss"], compartment=doses["cmt"], rate=rate, reset=doses["evid"].isin([3, 4]).astype(float),
        )  # fmt: skip
        first = records.iloc[0]
        constants = {"clearance": 1.1, "volume": 20.0, "absorption_rate": 1.5}
        constants |= {"lag_2": float(first["lagt"]), "available_2": float(first["bioav"])}
        computed = 1000 * values(CentralLag, regimen, samples["time"].to_numpy(float), True, constants)
        errors[ID] = np.abs(computed - samples["cp"]).max() / samples["cp"].abs().max()
    kept = pd.Series({ID: error for ID, error in errors.items() if ID not in ARTEFACTS})
    print(
        f"nmtest: {len(kept)} kinds of record, greatest difference {kept.max():.1e} of the maximum (id {kept.idxmax()})"
    )


def vancomycin(folder):
    """Print the greatest difference of predictions from PsN's, and the time of one adaptation."""
    data, theirs = pd.read_csv(folder / "nm_vanco.csv"), pd.read_csv(folder / "proseval_vanco_thomson.csv")
    model = TwoCompartmentRegressor.from_population(
        load_published("vancomycin", "thomson-2009"), time_varying={"crcl": "nocb", "weight": "nocb"}
    )
    population, individual, spent = [], [], 0.0
    for ID, records in data.groupby("ID"):
        doses, samples = records[records["EVID"] == 1], records[records["EVID"] == 0]
        paths = {
            "crcl": TimeVarying(records["TIME"], records["CRCL"] * 1000 / 60),  # L/h
            "weight": TimeVarying(records["TIME"], records["WT"]),
        }
        regimen = Regimen(doses["TIME"], doses["AMT"], doses["AMT"] / doses["RATE"], paths)
        X, y = model.rows(regimen, samples["TIME"].to_numpy(float)), samples["DV"].to_numpy(float)
        predictions = theirs[(theirs["ID"] == ID) & (theirs["EVID"] != 1)]
        for k, of_k in predictions.groupby("OBS"):
            started = time.process_time()
            patient = model.adapt(X[: int(k)], y[: int(k)], guard=False)
            spent += time.process_time() - started
            individual += list(np.abs(patient.predict(X) / of_k["IPRED"].to_numpy() - 1))
            population += list(np.abs(model.predict(X) / of_k["PRED"].to_numpy() - 1))
    n = theirs.groupby(["ID", "OBS"]).ngroups
    print(
        f"vancomycin: {n} adaptations of {data['ID'].nunique()} patients, {len(individual)} predictions; greatest relative "
        f"difference from PsN's {max(individual):.1e}, of the population's {max(population):.1e}; "
        f"{1000 * spent / n:.0f} ms of CPU an adaptation"
    )


def laws():
    """Print how well steady states, closed forms and changing constants keep the laws."""
    worst = {}
    two = {"clearance": 4.0, "volume": 70.0, "exchange": 6.0, "peripheral": 40.0}
    at = 9600.0 + np.array([0.0, 0.5, 3.0, 11.0, 20.0, 45.0])
    for oral, durations, lags in ((False, (0.0, 3.0, 12.0, 30.0), (0.0,)), (True, (0.0,), (0.0, 0.7, 12.0, 30.0))):
        for duration in durations:
            for lag in lags:
                constants = two | ({"absorption_rate": 1.1, "lag": lag} if oral else {})
                many = Regimen(9600.0 - 12.0 * np.arange(800)[::-1], 100.0, duration)
                steady = Regimen([9600.0], 100.0, duration, interval=12.0, steady=1)
                pair = [values(TwoCompartments, regimen, at, oral, constants) for regimen in (steady, many)]
                worst["steady state, many doses"] = max(
                    worst.get("steady state, many doses", 0.0), np.abs(pair[0] / pair[1] - 1).max()
                )
    rng, regimen, times = (
        np.random.default_rng(0),
        Regimen([0.0, 5.0, 12.0], [100.0, 50.0, 80.0]),
        np.linspace(0.1, 90, 40),
    )
    for _ in range(200):
        constants = {name: float(np.exp(rng.uniform(-4, 4))) for name in two} | {
            "absorption_rate": float(np.exp(rng.uniform(-4, 4)))
        }
        if rng.uniform() < 0.3:
            constants["absorption_rate"] = constants["clearance"] / constants["volume"] * (1 + 1e-9 * rng.normal())
        pair = [values(TwoCompartments, regimen, times, True, constants, wide=wide) for wide in (True, False)]
        worst["events, superposition"] = max(
            worst.get("events, superposition", 0.0), (np.abs(pair[0] - pair[1]) / pair[1].max()).max()
        )
        rates = [torch.tensor([[float(np.exp(rng.uniform(-13, 13)))]], dtype=torch.float64) for _ in range(4)]
        span = torch.tensor([[float(np.exp(rng.uniform(-6, 6)))]], dtype=torch.float64)
        closed, general = (
            system.after(span, inflow=True) for system in (Mammillary(*rates), Mammillary(*rates).rates())
        )
        seen = general.share[..., 1, :] > 1e-200
        worst["closed forms, matrix exponential, rates over 11 orders of magnitude"] = max(
            worst.get("closed forms, matrix exponential, rates over 11 orders of magnitude", 0.0),
            float(torch.where(seen, closed.share[..., 1, :] / general.share[..., 1, :] - 1, 0.0).abs().max()),
        )
    worst["changing constants, fine integration"] = changing_constants(two)
    for name, error in worst.items():
        print(f"{name}: {error:.1e}")


def changing_constants(two):
    """Return the greatest relative difference from a fine integration of a clearance that follows a covariate."""
    breaks, path = np.array([0.0, 9.0, 20.0, 40.0]), np.array([80.0, 60.0, 95.0, 70.0])
    regimen = Regimen([0.0, 12.0, 20.0], [100.0, 80.0, 50.0], 2.0, {"crcl": TimeVarying(breaks, path)})
    coefficient = Coefficient("slope", "clearance", "crcl", 80.0, 10.0)
    times, worst = np.array([0.5, 5.0, 13.0, 19.0, 30.0, 39.0, 60.0]), 0.0
    for method in ("locf", "nocb"):
        changing = Changing((("crcl", method),), None, (), (coefficient,))
        computed = values(TwoCompartments, regimen, times, False, two | {"slope": 0.3}, changing, wide=False)

        def slope(t, x, value, running):
            out = two["clearance"] * np.exp(0.3 * (value - 80) / 10) / two["volume"]
            there, back = two["exchange"] / two["volume"], two["exchange"] / two["peripheral"]
            return [running - (out + there) * x[0] + back * x[1], there * x[0] - back * x[1]]

        x, now = np.zeros(2), 0.0
        for stop in np.unique(np.concatenate([breaks, regimen.time, regimen.time + 2.0, times])):
            if stop > now:
                middle = 0.5 * (now + stop)
                k = np.searchsorted(breaks, middle) - (method == "locf")
                on = (regimen.time <= middle) & (middle < regimen.time + 2.0)
                further = path[min(k, 3)], float((on * regimen.amount / 2.0).sum())
                x = solve_ivp(slope, (now, stop), x, "DOP853", rtol=1e-12, atol=1e-14, args=further).y[:, -1]
                now = stop
            if stop in times:
                worst = max(worst, abs(computed[list(times).index(stop)] * two["volume"] / x[0] - 1))
    return worst


def memory():
    """Print the peak memory of fits to 1,000 patients with 30 dose records, above that before the fit."""
    rng, first = np.random.default_rng(0), np.eye(30)[0]
    for what, fields in (
        ("doses", {}),
        ("doses, the first at steady state", {"steady": first, "interval": 12 * first}),
    ):
        frames, y, groups = [], [], []
        for i in range(1000):
            cl, v = 4 * np.exp(0.3 * rng.normal()), 70 * np.exp(0.2 * rng.normal())
            regimen = Regimen(12.0 * np.arange(30), 100.0, 1.0, **fields)
            at = np.sort(rng.uniform(1, 370, 4))
            age = at[:, None] - regimen.time
            decay = np.where(age > 0, np.exp(-cl / v * np.maximum(age, 0)), 0.0)
            y.append((100 / v * decay).sum(axis=1) * np.exp(0.1 * rng.normal(size=4)))
            frames.append(regimen.rows(at))
            groups += [i] * 4
        tasks = TaskSet.from_arrays(pd.concat(frames, ignore_index=True), np.concatenate(y), groups)
        del frames
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        model = OneCompartmentRegressor(route="iv", noise="proportional").fit(tasks)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"1,000 patients, 30 {what}: {(peak - before) / 1024:.0f} MB above the {before / 1024:.0f} MB before the fit "
            f"(X holds {tasks.X.nbytes / 2**20:.0f} MB), {time.process_time() - started:.1f} s of CPU, compiled: "
            f"{model.compiled_}"
        )


if __name__ == "__main__":
    main()
