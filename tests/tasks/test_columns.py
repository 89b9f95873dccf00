"""Data as users have them, on the first attempt: a fit, or a sentence that says what to do."""

import io

import numpy as np
import pandas as pd
import pytest
import torch

from metaest import EquationRegressor, MAMLRegressor, Parameter, TaskError, TaskSet


def frame(n=6):
    """Sensors with a decaying signal."""
    hours = np.array([0.5, 1.0, 2.0, 4.0])
    parts = [
        pd.DataFrame({"sensor": f"S{i}", "hours": hours, "signal": (5 + i) * np.exp(-0.3 * hours)}) for i in range(n)
    ]
    return pd.concat(parts, ignore_index=True)


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def equation(tasks):
    constants = {"start": Parameter(5.0, lower=0), "rate": Parameter(0.2, lower=0)}
    return EquationRegressor(decay, constants, random=["start"]).fit(tasks)


def network(tasks):
    return MAMLRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(tasks)


@pytest.mark.parametrize("fit", [equation, network])
@pytest.mark.filterwarnings("ignore")
def test_an_export_fits_once_its_dose_rows_are_left_out(fit):
    export = frame().rename(columns={"sensor": "ID", "hours": "TIME", "signal": "DV"})
    doses = pd.DataFrame({"ID": export["ID"].unique(), "TIME": 0.0, "DV": 0.0, "AMT": 100.0, "EVID": 1})
    export = pd.concat([doses, export.assign(AMT=0.0, EVID=0)], ignore_index=True)
    settings = {"task": "ID", "features": ["TIME"], "target": "DV"}
    with pytest.raises(TaskError, match="column 'EVID' is 1 in row 0: such a row holds no observation; drop it"):
        fit(TaskSet.from_frame(export, **settings))
    with pytest.raises(TaskError, match="column 'EVID' is 1 in row 0"):  # also where it would be a feature
        fit(TaskSet.from_frame(export, task="ID", target="DV"))
    assert fit(TaskSet.from_frame(export[export["EVID"] == 0], **settings)).n_features_in_ == 1
    assert TaskSet.from_frame(export, task="ID", features=["TIME", "EVID", "AMT"], target="DV").X.shape[1] == 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"CENS": [0, 1] * 12}, "column 'CENS' is 1 in row 1: the target is beyond a limit.*limit="),
        ({"Mdv": ["1", "."] * 12}, "column 'Mdv' is 1 in row 0: such a row holds no observation"),
        ({"signal": ["<0.1", *frame()["signal"][1:]]}, "column 'signal' holds '<0.1' in row 0.*below the limit"),
        ({"signal": ["1.5", "<0.1"] * 12}, "y holds strings .'<0.1' among them., numbers are wanted"),
        (
            {"hours": pd.to_timedelta(frame()["hours"], unit="h")},
            "column 'hours' holds time differences.*elapsed hours",
        ),
        ({"hours": pd.Timestamp("2024-01-01")}, "column 'hours' holds dates.*elapsed hours"),
        ({"hours": ["8:30"] * 24}, r"column 'hours' holds strings.* \('8:30' in row 0\), numbers are wanted"),
        (
            {"hours": pd.Categorical(["a"] * 24)},
            r"column 'hours' holds categories \('a' in row 0\), numbers are wanted; encode",
        ),
        (
            {"signal": [np.nan, *frame()["signal"][1:]]},
            "task 'S0': column 'signal' of y holds NaN in row 0.*drop the row",
        ),
        ({"hours": [np.nan, *frame()["hours"][1:]]}, "task 'S0': column 'hours' of X holds NaN in row 0.*drop the row"),
    ],
)
def test_first_attempts_end_in_a_sentence(columns, message):
    with pytest.raises(TaskError, match=f"(?s){message}"):
        network(TaskSet.from_frame(frame().assign(**columns), task="sensor", features=["hours"], target="signal"))


def test_a_row_of_units_is_named():
    text = frame().to_csv(index=False).replace("signal\n", "signal\n,h,mV\n", 1)
    settings = {"task": "sensor", "features": ["hours"], "target": "signal"}
    with pytest.raises(TaskError, match="looks like a row of units: column 'hours' holds 'h'.*skiprows"):
        TaskSet.from_frame(pd.read_csv(io.StringIO(text)), **settings)
    assert len(TaskSet.from_frame(pd.read_csv(io.StringIO(text), skiprows=[1]), **settings)) == 6


def test_an_export_of_dose_records_is_refused_whatever_tells_them():
    export = pd.DataFrame({"ID": [1, 1, 2, 2], "TIME": [0.0, 2, 0, 2], "AMT": [100, 0, 100, 0], "DV": [0.0, 5, 0, 4]})
    roles = {"task": "ID", "features": ["TIME"], "target": "DV"}
    with pytest.raises(TaskError, match="column 'AMT' is 100 in row 0: such a row gives a dose; drop it, or read"):
        TaskSet.from_frame(export, **roles)
    assert len(TaskSet.from_frame(export, **{**roles, "features": ["TIME", "AMT"]})) == 2
    units = pd.DataFrame({"ID": ["-"], "TIME": ["h"], "AMT": ["mg"], "DV": ["mg/L"]})
    with pytest.raises(TaskError, match="looks like a row of units: column 'TIME' holds 'h'"):
        TaskSet.from_frame(pd.concat([units, export]), **roles)
