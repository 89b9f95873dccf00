"""Run studies of real people, each left out in turn: theophylline, sleep deprivation, glucose.

python -m metaest_domains.physiology --output demo
python -m metaest_domains.physiology glucose
"""

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd

from metaest import MAMLRegressor
from metaest.diagnostics import LeaveOneOut
from metaest_domains.physiology.glucose_errors import plot_clarke
from metaest_domains.physiology.study import (
    leave_one_patient_out,
    leave_one_person_out,
    leave_one_sleeper_out,
    plot_patients,
    rmse_table,
    sleep_table,
)
from metaest_domains.physiology.study.glucose import METHODS as FORECASTS

STUDIES = ("theophylline", "sleep", "glucose")
NLME = """nlme: R's nlme 3.1-162, fitted to the same eleven patients, adapted on the same samples, given the equation
conc = dose exp(lKe+lKa-lCl) / (exp(lKa)-exp(lKe)) (exp(-exp(lKe) t) - exp(-exp(lKa) t)), with random lKa and lCl."""


def main() -> None:
    """Run the studies, print their tables and save their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=STUDIES, help=f"some of {', '.join(STUDIES)}; default: all")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for figures and tables")
    parser.add_argument("--jobs", type=int, default=-1, help="processes")
    parser.add_argument("--alpha", type=float, help="theophylline: weight decay in place of the default")
    arguments = parser.parse_args()
    unknown = set(arguments.studies) - set(STUDIES)
    if unknown:
        parser.error(f"there is no study {sorted(unknown)[0]!r}; there are {', '.join(STUDIES)}.")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.studies:
        started = time.perf_counter()
        {"theophylline": _theophylline, "sleep": _sleep, "glucose": _glucose}[name](arguments)
        print(f"({name}: {time.perf_counter() - started:.0f} s)\n", flush=True)


def _theophylline(arguments: argparse.Namespace) -> None:
    print("Theophylline: twelve patients, ten blood samples each. For every patient, a model is learned from the other")
    print("eleven and adapted to a few samples of the patient; the other samples are predicted.\n")
    model = MAMLRegressor(random_state=0)
    if arguments.alpha is not None:
        model.set_params(alpha=arguments.alpha)
    result = leave_one_patient_out(model, n_jobs=arguments.jobs, progress=True)
    table = rmse_table(result.errors)
    print("\nRMSE in mg/L over the samples not used, by number of samples used:\n")
    print(table.to_string(float_format="{:.2f}".format, na_rep="-"))
    print(f"\n{NLME}\n")
    print(_paired(result))
    result.errors.to_csv(arguments.output / "theophylline_errors.csv", index=False)
    table.to_csv(arguments.output / "theophylline_rmse.csv")
    _save(plot_patients(result), arguments.output / "theophylline.png")


def _sleep(arguments: argparse.Namespace) -> None:
    print("Sleep deprivation: eighteen people, reaction times on ten days. RMSE in ms over the days not used.\n")
    result = leave_one_sleeper_out(n_jobs=arguments.jobs, progress=True)
    for scheme, words in (("random", "days drawn at random"), ("first", "the first days")):
        print(f"\nAdapted on {words}:\n")
        print(sleep_table(result.errors, scheme).to_string(float_format="{:.1f}".format))
    print("\nlme4: R's lme4 1.1-31, y ~ x + (x | task), on the same days.")
    result.errors.to_csv(arguments.output / "sleep_errors.csv", index=False)


def _glucose(arguments: argparse.Namespace) -> None:
    print("Glucose: nineteen people, forecast 30 and 60 minutes ahead from two hours of readings; adapted on the first")
    print("24 hours, evaluated on the following days.\n")
    try:
        result = leave_one_person_out(n_jobs=arguments.jobs, progress=True)
    except OSError as error:
        print(f"skipped: {error}")
        return
    errors = result.errors
    for horizon, of_horizon in errors.groupby("horizon"):
        means = of_horizon.groupby("method").mean(numeric_only=True).drop(columns="horizon").loc[list(FORECASTS)]
        means[["A", "B", "C", "D", "E"]] *= 100
        print(f"\n{horizon} minutes ahead, mean over people (mg/dL; zones in %):\n")
        print(means.rename(index=FORECASTS).to_string(float_format="{:.2f}".format))
        _count_worse(of_horizon, horizon)
    print("\nguard:", ", ".join(f"{word} {n}" for word, n in result.decisions.value_counts().items()))
    print("settings:", "; ".join(f"{word} in {n} folds" for word, n in result.chosen.value_counts().items()))
    errors.to_csv(arguments.output / "glucose_errors.csv", index=False)
    truth, forecast = (pd.concat([pd.Series(pair[k]) for pair in result.forecasts.values()]) for k in (0, 1))
    axes = plot_clarke(truth, forecast)
    axes.set_title("30 minutes ahead, all people", loc="left", fontsize=10)
    _save(axes.figure, arguments.output / "glucose_clarke.png")


def _count_worse(errors: pd.DataFrame, horizon: object) -> None:
    rmse = errors.pivot_table(index="person", columns="method", values="rmse")
    worse = {name: int((rmse[name] > 1.01 * rmse["network"]).sum()) for name in ("adapted", "guarded")}
    gain = rmse["network"].mean() - rmse[["adapted", "guarded"]].mean()
    print(
        f"\nworse by more than 1 % than without adaptation, of {len(rmse)} people: {worse['adapted']} adapted, "
        f"{worse['guarded']} guarded; gain in RMSE: {gain['adapted']:.3f} adapted, {gain['guarded']:.3f} guarded"
    )


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150)
    print(f"\nFigure: {path}")


def _paired(result: LeaveOneOut) -> str:
    """Return a sentence with the number of patients for whom adapting helped, on average over repetitions."""
    few = result.errors[result.errors["k"] > 0]
    means = few.groupby(["k", "task"])[["maml", "pooled"]].mean()
    better = (means["maml"] < means["pooled"]).groupby("k").sum()
    counts = ", ".join(f"{int(n)} of 12 with {k}" for k, n in better.items())
    return f"Patients predicted better than by the pooled network: {counts} samples."


if __name__ == "__main__":
    main()
