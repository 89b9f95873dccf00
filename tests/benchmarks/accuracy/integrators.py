"""Integrated models against scipy's LSODA, side by side with explicit methods; CPU seconds of fits.

python tests/benchmarks/accuracy/integrators.py             # accuracy and seconds of curves; dopri5 needs torchdiffeq
python tests/benchmarks/accuracy/integrators.py --fits      # CPU seconds of fits of 5 and 15 patients
"""

import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from machine import describe
from scipy.integrate import solve_ivp

from metaest_domains.physiology import (
    MichaelisMentenRegressor,
    MinimalModelRegressor,
    Regimen,
    insulin_rows,
    read_patients,
)
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.integrated import SaturableEquation
from metaest_domains.physiology.minimal_model import MinimalModel

# random patients of each model
N = 200
# steps of the method with fixed steps, from a stop to a time
STEPS = 48
# relative tolerance of the adaptive methods
TOLERANCE = 1e-9
INSULIN = (np.array([0.0, 4.0, 20.0, 60.0, 180.0]), np.array([10.0, 90.0, 40.0, 20.0, 10.0]))


class Saturable:
    """A patient's gut and concentration, with jumps at doses and infusions between them."""

    def __init__(self, rng):
        route, n = rng.choice(["oral", "iv", "infusion"]), int(rng.integers(1, 6))
        volume, affinity, rate = np.exp(rng.normal([3, 1, -2], [1, 2, 1.5]))
        self.constants = {"volume": volume, "capacity": rate * volume * affinity, "affinity": affinity}
        self.oral = route == "oral"
        self.absorption = np.exp(rng.normal(0, 1.5)) if self.oral else 0.0
        if self.oral:
            self.constants["absorption"] = self.absorption
        start = np.sort(rng.choice([0.0, 12.0, 24.0, 48.0, 168.0, 336.0], n, replace=False))
        duration = rng.choice([0.5, 2.0, 30.0], n) if route == "infusion" else np.zeros(n)
        amount = affinity * volume * np.exp(rng.normal(0, 2)) * rng.uniform(0.5, 2, n)
        self.regimen = Regimen(start, amount, duration)
        late = 1000 * np.log(2) / rate * rng.uniform(0, 1, 3) ** 3
        self.times = np.sort([*rng.uniform(0, 400, 7), *late])
        self.stops = np.unique([*start, *(start + duration)])
        self.scale = np.array([amount.max(), amount.max() / volume])
        self.shown = 1

    def jump(self, begin):
        """Return what enters the state at a stop."""
        given = self.regimen.amount[(self.regimen.time == begin) & (self.regimen.duration == 0)].sum()
        return np.array([given, 0.0] if self.oral else [0.0, given / self.constants["volume"]])

    def slope(self, begin):
        """Return the right-hand side after a stop, for numpy and torch alike."""
        regimen, (volume, capacity, affinity) = self.regimen, list(self.constants.values())[:3]
        runs = (regimen.duration > 0) & (regimen.time <= begin) & (begin < regimen.time + regimen.duration)
        inflow = float((regimen.amount[runs] / np.maximum(regimen.duration[runs], 1e-300)).sum())

        def slope(t, state):
            taken = self.absorption * state[0]
            return -taken, (taken + inflow - capacity * state[1] / (affinity + state[1])) / volume

        return slope

    def ours(self):
        """Return the concentrations of the domain's equation."""
        n = len(self.regimen.time)
        number = np.arange(1, n + 1)
        doses = Doses(0, tuple(number), tuple(n + number), tuple(2 * n + number))
        X = torch.from_numpy(np.array(self.regimen.rows(self.times), dtype=np.float64))
        constants = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.constants.items()}
        return SaturableEquation(doses, None, {}, self.oral)(X, **constants).numpy()


class Glucose:
    """A glucose tolerance test: glucose and remote insulin."""

    def __init__(self, rng):
        self.constants = np.array([0.02, 5e-4, 0.03, 260.0]) * np.exp(rng.normal(size=4) * [1, 1, 1.5, 0.3])
        late = 1000 * np.log(2) / self.constants[0] * rng.uniform(0, 1, 3) ** 3
        self.times = np.sort([*rng.uniform(0, 180, 7), *late])
        self.stops, self.shown = INSULIN[0], 0
        self.scale = np.array([self.constants[3], self.constants[0]])

    def jump(self, begin):
        """Return glucose at the beginning."""
        return np.array([self.constants[3] if begin == 0 else 0.0, 0.0])

    def slope(self, begin):
        """Return the right-hand side after a measurement of insulin."""
        effectiveness, sensitivity, action, _ = self.constants
        k = int(np.flatnonzero(INSULIN[0] == begin)[0])
        level, rise = INSULIN[1][k], [*(np.diff(INSULIN[1]) / np.diff(INSULIN[0])).tolist(), 0.0]

        def slope(t, state):
            insulin = level + rise[k] * (t - begin) - 10.0
            return effectiveness * (90.0 - state[0]) - state[1] * state[0], action * (sensitivity * insulin - state[1])

        return slope

    def ours(self):
        """Return the glucose of the domain's equation."""
        X = torch.from_numpy(np.array(insulin_rows(self.times, *INSULIN, 90.0, 10.0), dtype=np.float64))
        return MinimalModel(5)(X, *torch.from_numpy(self.constants)).numpy()


def by_stops(patient, run):
    """Integrate from stop to stop; `run(slope, grid, state)` returns states of shape (grid, 2)."""
    values, state, peak = np.zeros(len(patient.times)), np.zeros(2), 0.0
    for begin, end in zip(patient.stops, [*patient.stops[1:], np.inf], strict=True):
        here = (patient.times >= begin) & (patient.times < end)
        last = end if np.isfinite(end) else max(begin + 1.0, patient.times.max())
        close = begin + (last - begin) * np.linspace(0, 1, 60) ** 4 if run is lsoda else []  # to see the peak
        grid = np.unique([begin, *patient.times[here], *close, last])
        states = run(patient.slope(begin), grid, state + patient.jump(begin), patient.scale)
        values[here] = states[np.searchsorted(grid, patient.times[here]), patient.shown]
        state, peak = states[-1], max(peak, states[:, patient.shown].max())
    return values, peak


def lsoda(slope, grid, state, scale):
    """Scipy's LSODA."""
    return solve_ivp(
        slope, (grid[0], grid[-1]), state, t_eval=grid, method="LSODA", rtol=TOLERANCE, atol=1e-3 * TOLERANCE * scale
    ).y.T


def fixed_steps(slope, grid, state, scale):
    """Runge and Kutta's method of order 4 with 48 steps to every time, short ones first."""
    states = [state]
    for end in grid[1:]:
        length, reached = end - grid[0], state
        for i in range(STEPS):
            s, h = i / STEPS, 1 / STEPS

            def stretched(s, reached, length=length):
                return 2 * s * length * np.array(slope(grid[0] + length * s * s, reached))

            k1 = stretched(s, reached)
            k2 = stretched(s + h / 2, reached + h / 2 * k1)
            k3 = stretched(s + h / 2, reached + h / 2 * k2)
            reached = reached + h / 6 * (k1 + 2 * k2 + 2 * k3 + stretched(s + h, reached + h * k3))
        states.append(reached)
    return np.array(states)


def dopri5(slope, grid, state, scale):
    """Torchdiffeq's adaptive method, at most 2,000 steps from stop to stop."""
    from torchdiffeq import odeint

    return odeint(
        lambda t, s: torch.stack(slope(t, s)),
        torch.from_numpy(state),
        torch.from_numpy(grid),
        rtol=TOLERANCE,
        atol=torch.from_numpy(1e-3 * TOLERANCE * scale),
        method="dopri5",
        options={"max_num_steps": 2000},
    ).numpy()


def curves(name, kind):
    """Print errors relative to the peak of each patient, and CPU seconds."""
    rng = np.random.default_rng(0)
    patients = [kind(rng) for _ in range(N)]
    started = time.process_time()
    reference = [by_stops(patient, lsoda) for patient in patients]
    print(f"\n{name}: {N} random patients, 10 times each, up to 1,000 terminal half-lives; LSODA at {TOLERANCE:g}: "
          f"{time.process_time() - started:.1f} s")  # fmt: skip
    print(f"{'':34} {'largest error':>14} {'median':>10} {'above 1e-6':>11} {'failed':>7} {'CPU s':>7}")
    methods = {
        "metaest": lambda patient: patient.ours(),
        "48 fixed steps of order 4": lambda patient: by_stops(patient, fixed_steps)[0],
        "dopri5 (torchdiffeq), adaptive": lambda patient: by_stops(patient, dopri5)[0],
    }
    for label, method in methods.items():
        errors, failed, started = [], 0, time.process_time()
        for patient, (expected, peak) in zip(patients, reference, strict=True):
            try:
                with np.errstate(all="ignore"):
                    error = np.abs(method(patient) - expected).max() / peak
                errors.append(error if np.isfinite(error) else np.inf)
            except AssertionError:  # torchdiffeq: too many steps, or too short ones
                failed += 1
            except ImportError:
                break
        if errors:
            spent = time.process_time() - started
            wrong = int((np.array(errors) > 1e-6).sum())
            print(f"{label:34} {max(errors):14.1e} {np.median(errors):10.1e} {wrong:11} {failed:7} {spent:7.1f}")


def doses_and_samples(n, regimen, times, seed, **constants):
    """Return n patients whose volume and capacity vary, with 5 % noise."""
    rng, frames = np.random.default_rng(seed), []
    slopes = Saturable.__new__(Saturable)
    for i in range(n):
        drawn = dict(constants, volume=constants["volume"] * np.exp(0.2 * rng.normal()))
        drawn["capacity"] *= np.exp(0.2 * rng.normal())
        slopes.oral, slopes.absorption = "absorption" in drawn, drawn.get("absorption", 0.0)
        slopes.constants, slopes.regimen, slopes.times, slopes.shown = drawn, regimen, np.array(times), 1
        slopes.stops = np.unique([*regimen.time, *(regimen.time + regimen.duration)])
        slopes.scale = np.array([1.0, 0.1])
        seen = by_stops(slopes, lsoda)[0] * np.exp(0.05 * rng.normal(size=len(times)))
        given = pd.DataFrame({"time": regimen.time, "dose": regimen.amount})
        frames.append(pd.concat([given, pd.DataFrame({"time": times, "concentration": seen})]).assign(patient=i))
    return read_patients(pd.concat(frames, ignore_index=True))


def tolerance_tests(n, seed):
    """Return n glucose tolerance tests with noise of 2 mg/dL."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(n):
        test = Glucose(rng)
        test.constants = np.array([0.02, 5e-4, 0.03, 260.0]) * np.exp(rng.normal(size=4) * [0, 0.4, 0, 0.1])
        test.times = np.array([2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 120.0, 179.0])
        glucose = by_stops(test, lsoda)[0] + 2 * rng.normal(size=len(test.times))
        pairs.append((insulin_rows(test.times, *INSULIN, 90.0, 10.0), glucose))
    return pairs


def fits():
    """Print CPU seconds of fits."""
    oral = {"volume": 35.0, "capacity": 12.0, "affinity": 3.0, "absorption": 1.6}
    vein = {name: oral[name] for name in ("volume", "capacity", "affinity")}
    once, weekly = Regimen.repeated(300.0), Regimen.repeated(300.0, 24.0, 7)
    early, days = [1.0, 2.0, 4.0, 8.0, 12.0, 24.0], [1.0, 4.0, 12.0, 30.0, 75.0, 100.0, 145.0, 168.0]
    settings = {"random": ["volume", "capacity"], "noise": "proportional", "random_state": 0}

    def saturable(**more):
        return MichaelisMentenRegressor(**settings, **more)

    runs = {
        "oral, one dose, 5 patients": (saturable(), doses_and_samples(5, once, early, 0, **oral)),
        "oral, one dose, 15 patients": (saturable(), doses_and_samples(15, once, early, 0, **oral)),
        "oral, 7 daily doses, 5 patients": (saturable(), doses_and_samples(5, weekly, days, 0, **oral)),
        "oral, 7 daily doses, 15 patients": (saturable(), doses_and_samples(15, weekly, days, 0, **oral)),
        "vein, one dose, 15 patients": (saturable(route="iv"), doses_and_samples(15, once, early, 0, **vein)),
        "minimal model, 5 tests": (MinimalModelRegressor(random=["sensitivity", "start"]), tolerance_tests(5, 0)),
        "minimal model, 15 tests": (MinimalModelRegressor(random=["sensitivity", "start"]), tolerance_tests(15, 0)),
    }
    print(f"\n{'':34} {'CPU s':>7}   constants of the population")
    for name, (model, tasks) in runs.items():
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(tasks)
        spent = time.process_time() - started
        print(
            f"{name:34} {spent:7.1f}   {np.array2string(model.population_['value'].to_numpy(), precision=4)}",
            flush=True,
        )


def main():
    torch.set_num_threads(1)
    print(describe())
    if "--fits" in sys.argv:
        fits()
    else:
        curves("Elimination that saturates", Saturable)
        curves("Minimal model", Glucose)


if __name__ == "__main__":
    main()
