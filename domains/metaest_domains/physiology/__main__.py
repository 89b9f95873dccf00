"""Leave-one-patient-out on theophylline: a table and a figure.

python -m metaest_domains.physiology --output demo
"""

import argparse
import time
from pathlib import Path

from metaest import MAMLRegressor
from metaest.diagnostics import LeaveOneOut
from metaest_domains.physiology.figure import plot_patients
from metaest_domains.physiology.theophylline import leave_one_patient_out, rmse_table

NLME = """nlme: R's nlme 3.1-162, fitted to the same eleven patients, adapted on the same samples, given the equation
conc = dose exp(lKe+lKa-lCl) / (exp(lKa)-exp(lKe)) (exp(-exp(lKe) t) - exp(-exp(lKa) t)), with random lKa and lCl."""


def main() -> None:
    """Run the study, print its table and save its figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the figure and the tables")
    parser.add_argument("--jobs", type=int, default=-1, help="processes")
    parser.add_argument("--alpha", type=float, help="another weight decay than the default, for all networks")
    arguments = parser.parse_args()

    print("Theophylline: twelve patients, ten blood samples each. For every patient, a model is meta-learned from the")
    print("other eleven and adapted to a few of the patient's own samples; the rest of the samples are predicted.\n")
    started = time.perf_counter()
    model = MAMLRegressor(random_state=0)
    if arguments.alpha is not None:
        model.set_params(alpha=arguments.alpha)
    result = leave_one_patient_out(model, n_jobs=arguments.jobs, progress=True)
    table = rmse_table(result.errors)
    print("\nRMSE in mg/L over the samples not used, by number of samples used:\n")
    print(table.to_string(float_format="{:.2f}".format, na_rep="-"))
    print(f"\n{NLME}\n")
    print(_paired(result))

    arguments.output.mkdir(parents=True, exist_ok=True)
    result.errors.to_csv(arguments.output / "theophylline_errors.csv", index=False)
    table.to_csv(arguments.output / "theophylline_rmse.csv")
    figure = arguments.output / "theophylline.png"
    plot_patients(result).savefig(figure, dpi=150)
    print(f"\nFigure: {figure}   ({time.perf_counter() - started:.0f} s)")


def _paired(result: LeaveOneOut) -> str:
    """For how many patients adapting helped, over their repetitions."""
    few = result.errors[result.errors["k"] > 0]
    means = few.groupby(["k", "task"])[["maml", "pooled"]].mean()
    better = (means["maml"] < means["pooled"]).groupby("k").sum()
    counts = ", ".join(f"{int(n)} of 12 with {k}" for k, n in better.items())
    return f"Patients predicted better than by the pooled network: {counts} samples."


if __name__ == "__main__":
    main()
