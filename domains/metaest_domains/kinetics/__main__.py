"""Calibrating kinetics from few points: polymer crystallisation and steel tempering, tables and figures.

METAEST_DATA_HOME names a folder with the data; without it they are fetched.

python -m metaest_domains.kinetics polymer steel --output kinetics --jobs 2 --network
"""

import argparse
import time
from pathlib import Path

import pandas as pd

from metaest_domains.kinetics.study.evaluation import table_of
from metaest_domains.kinetics.study.figures import plot_constants, plot_curves, plot_errors
from metaest_domains.kinetics.study.next_point import study_next_point
from metaest_domains.kinetics.study.polymer import study_polymer
from metaest_domains.kinetics.study.steel import study_steel


def main() -> None:
    """Run the studies, print their tables and save tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="polymer, steel; both if none is named")
    parser.add_argument("--output", type=Path, default=Path("kinetics"), help="folder for tables and figures")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--repetitions", type=int, default=5, help="random supports a task and size")
    parser.add_argument("--network", action="store_true", help="meta-learn networks too, for the polymer")
    arguments = parser.parse_args()
    for study in arguments.studies or STUDIES:
        if study not in STUDIES:
            parser.error(f"no study {study!r}; there are {', '.join(STUDIES)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for study in arguments.studies or STUDIES:
        started = time.perf_counter()
        STUDIES[study](arguments)
        print(f"\n{study}: {time.perf_counter() - started:.0f} s; tables and figures are in {arguments.output}\n")


def _polymer(arguments: argparse.Namespace) -> None:
    print("Rows between 2 and 98 % of each curve; X needs the curve's total heat, which is known afterwards only.")
    output, reference = arguments.output, "curve by curve: JMAK"
    settings = {"repetitions": arguments.repetitions, "jobs": arguments.jobs, "network": arguments.network}
    curves = study_polymer("curve", **settings)
    _show("Polymer, one curve left out", curves, output / "polymer_curves.csv", reference)
    fillers = study_polymer("filler", **settings)
    _show("Polymer, one filler content left out", fillers, output / "polymer_fillers.csv", reference)
    plans = study_next_point(repetitions=arguments.repetitions, jobs=arguments.jobs)
    plans.to_csv(output / "polymer_next_point.csv", index=False)
    gains = plans.groupby("plan", sort=False)[["ln_k", "n", "mse"]].mean().assign(rmse=lambda t: t["mse"] ** 0.5)
    print("\nPolymer, what a third point gains: mean errors of ln k and n, RMSE in X")
    print(gains.drop(columns="mse").to_string(float_format="{:.4f}".format), flush=True)
    plot_curves().savefig(output / "kinetics_curves.png", dpi=130)
    plot_constants().savefig(output / "kinetics_constants.png", dpi=130)
    plot_errors(curves, "RMSE in X").savefig(output / "kinetics_errors.png", dpi=130)


def _steel(arguments: argparse.Namespace) -> None:
    steel = study_steel(repetitions=2 * arguments.repetitions, jobs=arguments.jobs)
    _show("Steel, one composition left out (HRC)", steel, arguments.output / "steel.csv", "pooled line")
    plot_errors(steel, "RMSE in hardness (HRC)", 12).savefig(arguments.output / "tempering_errors.png", dpi=130)


STUDIES = {"polymer": _polymer, "steel": _steel}


def _show(title: str, records: pd.DataFrame, path: Path, reference: str) -> None:
    records.to_csv(path, index=False)
    errors = table_of(records)
    print(f"\n{title}: RMSE over the rows not used, by number of points")
    print(errors.to_string(float_format="{:.4f}".format))
    print(f"ratio to {reference!r}")
    print((errors / errors.loc[reference]).to_string(float_format="{:.3f}".format))
    print("share of rows inside 90 % intervals")
    print(table_of(records, "covered").dropna(how="all").to_string(float_format="{:.3f}".format))
    for constant in ("ln_k", "n"):
        if constant in records:
            print(f"mean error of {constant} against the fit to the whole curve")
            print(table_of(records, constant).dropna(how="all").to_string(float_format="{:.4f}".format), flush=True)


if __name__ == "__main__":
    main()
