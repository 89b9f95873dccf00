"""Growth at a rate that follows each day's temperature, beside a rate that follows the mean temperature of a plant.

Twenty plants are measured on twenty days; the logarithm of the rate rises by 0.06 per degree, temperatures differ between
plants (SD 1.5) and from day to day (SD 5, correlation 0.7), lengths have an error of 1 mm. Each replicate is fitted
twice. A new plant is then predicted from its first five lengths and the temperatures of all its days.

::

    python tests/benchmarks/accuracy/changing_temperature.py
"""

import argparse
import warnings

import numpy as np
import pandas as pd
import torch

from metaest import EquationRegressor, Parameter, Task, TaskSet

SLOPE, PLANTS, DAYS, SUPPORT = 0.06, 20, 20, 5
CONSTANTS = {"start": Parameter(20.0, lower=0, unit="mm"), "rate": Parameter(3.0, lower=0, unit="mm/d")}


def length(X, start, rate):
    """Return the length at the end of each day: the sum of what grew on the days before and on it."""
    return start + torch.cumsum(rate.expand(len(X)) * X[:, 0], dim=0)


def plants(rng: np.random.Generator, n: int) -> TaskSet:
    """Return plants with their days, the temperature of each and its mean over the days."""
    tasks = []
    for i in range(n):
        daily = np.empty(DAYS)
        daily[0] = rng.normal(0, 5)
        for day in range(1, DAYS):
            daily[day] = 0.7 * daily[day - 1] + rng.normal(0, 5 * np.sqrt(1 - 0.7**2))
        heat = 18 + rng.normal(0, 1.5) + daily
        start, rate = 20 * np.exp(rng.normal(0, 0.1)), 3 * np.exp(rng.normal(0, 0.15) + SLOPE * (heat - 18))
        X = pd.DataFrame({"days": 1.0, "heat": heat, "mean_heat": heat.mean()})
        tasks.append(Task(f"plant {i}", X, start + np.cumsum(rate) + rng.normal(0, 1, DAYS)))
    return TaskSet(tasks)


def replicate(seed: int) -> list[dict[str, float]]:
    """Return for both ways the coefficient, its standard error, and the errors of a new plant."""
    rng = np.random.default_rng(seed)
    known, new = plants(rng, PLANTS), plants(rng, 1)[0]
    rows = []
    for column, settings in (("heat", {"time_varying": ["heat"]}), ("mean_heat", {})):
        model = EquationRegressor(length, CONSTANTS, covariates={"rate": [column]}, **settings).fit(known)
        learned = model.coefficients_.iloc[0]
        plant = model.adapt(new.X[:SUPPORT], new.y[:SUPPORT])
        low, high = plant.predict_interval(new.X)
        inside = (low <= new.y) & (new.y <= high)
        rows.append(
            {
                "way": column,
                "coefficient": learned["coefficient"],
                "standard_error": learned["standard_error"],
                "squared": float(np.mean((plant.predict(new.X) - new.y)[SUPPORT:] ** 2)),
                "inside": float(inside[SUPPORT:].mean()),
            }
        )
    return rows


def main() -> None:
    """Print one line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    n = parser.parse_args().replicates
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mean temperature leaves residuals that correlate, which it warns of
        table = pd.DataFrame([row for seed in range(n) for row in replicate(seed)])
    for way, rows in table.groupby("way", sort=False):
        away = (rows["coefficient"] - SLOPE).abs() / rows["standard_error"]
        print(
            f"{way}: coefficient {rows['coefficient'].mean():.4f} (SD {rows['coefficient'].std():.4f}, mean standard "
            f"error {rows['standard_error'].mean():.4f}); within 1.96 standard errors {(away < 1.96).mean():.0%}, within "
            f"3 {(away < 3).mean():.0%}; a new plant: RMSE {np.sqrt(rows['squared'].mean()):.2f} mm, 90 % intervals "
            f"cover {rows['inside'].mean():.1%}"
        )


if __name__ == "__main__":
    main()
