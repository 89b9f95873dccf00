"""Parent and metabolite of Monolix's demonstration: two outputs, values known to lie between zero and a limit."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from metaest import EquationRegressor, Parameter, Population, TaskSet
from metaest.population import Block, NoiseModel, OutputNoiseModel
from metaest.tasks import with_limits

FOLDER = Path(os.environ.get("METAEST_DATA_HOME", "none")) / "monolix"
pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="METAEST_DATA_HOME holds no monolix"),
    pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning"),
]
NAMES = ["ka", "V", "k", "k12", "k21", "km", "Kpm"]


def drug_and_metabolite(X, ka, V, k, k12, k21, km, Kpm):
    """By the matrix exponential of each row; columns time, dose, output."""
    zero = torch.zeros_like(X[:, 0])
    ka, V, k, k12, k21, km, Kpm = (value + zero for value in (ka, V, k, k12, k21, km, Kpm))
    rates = torch.stack([
        -ka, zero, zero, zero, ka, -(k + k12 + Kpm), k21, zero, zero, k12, -k21, zero, zero, Kpm, zero, -km,
    ], dim=-1).reshape(-1, 4, 4)  # fmt: skip
    amounts = torch.matrix_exp(rates * X[:, 0, None, None])[:, :, 0]
    return X[:, 1] / V * torch.where(X[:, 2] == 1, amounts[:, 1], amounts[:, 3])


def test_most_probable_constants_are_those_of_monolix():
    value = pd.read_csv(FOLDER / "population.csv").set_index(["project", "parameter"])["value"]["pm"]
    frame = pd.read_csv(FOLDER / "parent_metabolite.csv", encoding="utf-8-sig", na_values=".")
    frame = frame[frame.AMOUNT.isna()].assign(dose=1000.0, output=lambda d: d.OBSID.map({"1_Cp": 1, "2_Cm": 2}))
    frame = with_limits(frame[frame.ID <= 4], "OBS", "CENS", "LIMIT")
    columns = ["TIME", "dose", "output", "limit", "limit_from"]
    tasks = TaskSet.from_frame(frame, task="ID", features=columns, target="OBS")
    assert (tasks.y < tasks.X[:, 3]).sum() >= 3
    models = {1: ("a1_Cp", "b1_Cp"), 2: ("a2_Cm", "b2_Cm")}
    noise = {code: NoiseModel("combined1", sd=value[a], cv=value[b]) for code, (a, b) in models.items()}
    population = Population(
        {name: Parameter(value[f"{name}_pop"], lower=0) for name in NAMES},
        [Block(sd={name: value[f"omega_{name}"]}) for name in NAMES],
        OutputNoiseModel("output", noise),
        columns=dict.fromkeys(columns, ""),
    )
    limits = {"limit": "limit", "limit_from": "limit_from"}
    model = EquationRegressor.from_population(drug_and_metabolite, population, **limits)
    ours = model.adapt_many(tasks).params_
    modes = pd.read_csv(FOLDER / "individual.csv").set_index(["project", "parameter", "id"])["mode"]["pm"]
    for name in NAMES:
        apart = np.log(ours[name].to_numpy() / modes[name].loc[tasks.names].to_numpy()) / value[f"omega_{name}"]
        np.testing.assert_allclose(apart, 0, atol=2e-3)
