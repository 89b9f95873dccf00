"""Run the studies of kinetics from few points (polymer crystallisation, steel tempering): tables and figures.

METAEST_DATA_HOME names a folder with the data; without it they are downloaded.

python -m metaest_domains.kinetics polymer steel next --output kinetics --jobs 2 --network
"""

import argparse
import time
from pathlib import Path

import pandas as pd

from metaest_datasets import fetch_steel_tempering
from metaest_domains.kinetics.jmak import JMAKRegressor
from metaest_domains.kinetics.study.evaluation import compare, table_of
from metaest_domains.kinetics.study.figures import (
    draw_constants,
    draw_curves,
    draw_errors,
    draw_steel_constants,
    draw_steels,
)
from metaest_domains.kinetics.study.next_point import gains_of, study_next_point
from metaest_domains.kinetics.study.polymer import PARAMETERS, load_curves, report_jmak, study_polymer, whole_curve
from metaest_domains.kinetics.study.steel import steel_model, study_steel


def main() -> None:
    """Run the studies, print their tables and save tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="polymer, steel, next (the gain of a suggested point); default: all")
    parser.add_argument("--output", type=Path, default=Path("kinetics"), help="folder for tables and figures")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--repetitions", type=int, default=5, help="random supports for each task and size")
    parser.add_argument("--network", action="store_true", help="meta-learn networks as well, for the polymer")
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
    print("Rows between 2 and 98 % of each curve; X needs the total heat of the curve, known only after its end.")
    output = arguments.output
    reference = "curve by curve: JMAK"
    repeated = {"repetitions": arguments.repetitions, "jobs": arguments.jobs}
    method = "parallel JMAK, covariates"
    rivals = ["Gaussian process", *["MAML network"] * arguments.network]
    curves = study_polymer("curve", network=arguments.network, **repeated)
    _show("Polymer, one curve left out", curves, output / "polymer_curves.csv", reference)
    _compare(curves, method, rivals)
    fillers = study_polymer("filler", network=arguments.network, **repeated)
    _show("Polymer, one filler content left out", fillers, output / "polymer_fillers.csv", reference)
    _compare(fillers, method, rivals)
    draw_curves().savefig(output / "kinetics_curves.png", dpi=130)
    draw_constants().savefig(output / "kinetics_constants.png", dpi=130)
    draw_errors(curves, "RMSE in X").savefig(output / "kinetics_errors.png", dpi=130)


def _steel(arguments: argparse.Namespace) -> None:
    output = arguments.output
    repeated = {"repetitions": 2 * arguments.repetitions, "jobs": arguments.jobs}
    steel = study_steel(**repeated)
    _show("Steel, one composition left out (HRC)", steel, output / "steel.csv", "pooled line")
    rivals = ["steel by steel: line, pooled C", "Gaussian process"]
    _compare(steel, "Hollomon-Jaffe, bent", ["Hollomon-Jaffe, bent, composition", *rivals])
    _compare(steel, "Hollomon-Jaffe, bent, composition", rivals)
    draw_steels().savefig(output / "tempering_curves.png", dpi=130)
    draw_steel_constants().savefig(output / "tempering_constants.png", dpi=130)
    draw_errors(steel, "RMSE in hardness (HRC)", 12).savefig(output / "tempering_errors.png", dpi=130)


def _next(arguments: argparse.Namespace) -> None:
    output = arguments.output
    jobs = arguments.jobs
    model = JMAKRegressor(parameters=PARAMETERS)
    times = arguments.repetitions
    plans = study_next_point(load_curves(), model, report_jmak, whole_curve, repetitions=times, jobs=jobs)
    _show_gains("Polymer", plans, output / "polymer_next_point.csv")
    steels = fetch_steel_tempering()
    plans = study_next_point(steels, steel_model(), _level_and_slope, repetitions=2 * times, jobs=jobs)
    _show_gains("Steel", plans, output / "steel_next_point.csv")


def _level_and_slope(constants: dict[str, float]) -> dict[str, float]:
    return {name: constants[name] for name in ("a", "b")}


STUDIES = {"polymer": _polymer, "steel": _steel, "next": _next}


def _show(title: str, records: pd.DataFrame, path: Path, reference: str) -> None:
    records.to_csv(path, index=False)
    errors = table_of(records)
    print(f"\n{title}: RMSE over the rows not used, by number of points")
    print(errors.to_string(float_format="{:.4f}".format))
    print(f"ratio to {reference!r}")
    print((errors / errors.loc[reference]).to_string(float_format="{:.3f}".format))
    print("share of rows inside the 90 % intervals")
    print(table_of(records, "covered").dropna(how="all").to_string(float_format="{:.3f}".format))
    for constant in ("ln_k", "n"):
        if constant in records:
            print(f"mean error of {constant} against the fit to the whole curve")
            print(table_of(records, constant).dropna(how="all").to_string(float_format="{:.4f}".format), flush=True)


def _compare(records: pd.DataFrame, method: str, others: list[str]) -> None:
    print(f"RMSE of {method!r} over that of others, 95 % intervals over tasks, share of tasks with the lower error")
    print(compare(records, method, others).to_string(float_format="{:.3f}".format), flush=True)


def _show_gains(title: str, records: pd.DataFrame, path: Path) -> None:
    records.to_csv(path, index=False)
    print(f"\n{title}, gain of a third measurement: mean errors of constants against the whole task, RMSE in y")
    print(gains_of(records).to_string(float_format="{:.4f}".format), flush=True)


if __name__ == "__main__":
    main()
