"""Two data sets too small for meta-learning, fitted with the equations of the catalogue.

Bainite (two curves, each fitted alone) and the decomposition of ammonium chloride (three heating rates, one set of
constants). METAEST_DATA_HOME names a folder with the data; without it they are fetched.

    python tests/benchmarks/accuracy/kinetics_examples.py
"""

import warnings

import torch
from machine import describe

from metaest import TaskSet
from metaest_datasets import fetch_bainite, fetch_nh4cl_tga
from metaest_domains.kinetics import (
    AustinRickettRegressor,
    FirstOrderConversionRegressor,
    JMAKRegressor,
    NthOrderConversionRegressor,
)


def show(what, model):
    table = model.population_
    constants = ", ".join(f"{name} {row['value']:.4g} ({row['standard_error']:.1g})" for name, row in table.iterrows())
    print(f"  {what:38} {constants}; noise {model.noise_['sd']:.4f}, BIC {model.bic_:.0f}", flush=True)


def main():
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="one task says nothing")
    print(describe())
    print("\nBainite, every 20th row; constants (standard errors)")
    curves = fetch_bainite()
    for name, task in zip(curves.names.tolist(), curves, strict=True):
        own = TaskSet.from_mapping({name: (task.X[::20], task.y[::20])})
        for family in (JMAKRegressor, AustinRickettRegressor):
            show(f"{name} {family.__name__}", family(optional=["plateau", "incubation"]).fit(own))
    print("\nAmmonium chloride, every 5th row, the same constants for 3, 5 and 10 K/min (k_ref in 1/s, E in kJ/mol)")
    runs = fetch_nh4cl_tga()
    kept = [runs.feature_names.index(name) for name in ("time", "start", "rate")]
    heated = TaskSet.from_mapping(
        {name: (task.X[::5][:, kept], task.y[::5]) for name, task in zip(runs.names.tolist(), runs, strict=True)}
    )
    for family in (FirstOrderConversionRegressor, NthOrderConversionRegressor):
        model = family(random=[]).fit(heated)
        show(f"{family.__name__} at {model.fixed_['reference']:.0f} K", model)


if __name__ == "__main__":
    main()
