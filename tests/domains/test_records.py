"""Records in the forms that users have: NONMEM exports, units below the header, dates, gaps, categories, two patients."""

import datetime
import io
import warnings

import numpy as np
import pandas as pd
import pytest

from metaest import Parameter, Population, TaskError
from metaest.population import Block, NoiseModel
from metaest_domains.physiology import OneCompartmentRegressor, Regimen, clearance, read_patients

NONMEM = {"patient": "ID", "time": "TIME", "dose": "AMT", "target": "DV"}


def plain(**columns):
    """Two patients with two doses each."""
    frame = pd.DataFrame({
        "patient": ["A", "A", "A", "A", "B", "B", "B", "B"], "time": [0.0, 2, 12, 14.5, 0, 3, 12, 20],
        "dose": [320.0, None, 320, None, 200, None, 200, None], "concentration": [None, 7.1, None, 9.8, None, 5, None, 3.0],
    })  # fmt: skip
    return frame.assign(**columns)


def export(**columns):
    """The same as an export of NONMEM, with additional doses."""
    frame = pd.DataFrame({
        "ID": [1, 1, 1, 2, 2, 2], "TIME": [0.0, 2, 14.5, 0, 3, 20], "AMT": [320.0, 0, 0, 200, 0, 0],
        "EVID": [1, 0, 0, 1, 0, 0], "MDV": [1, 0, 0, 1, 0, 0], "ADDL": [1, 0, 0, 1, 0, 0], "II": [12.0, 0, 0, 12, 0, 0],
        "SS": 0, "RATE": 0, "CMT": [1, 2, 2, 1, 2, 2], "CENS": 0, "DV": [0.0, 7.1, 9.8, 0, 5, 3],
    })  # fmt: skip
    return frame.assign(**columns)


def test_an_export_is_the_same_as_plain_records():
    expected = read_patients(plain())
    for frame in (export(), export().sample(frac=1, random_state=0).sort_values(["ID", "TIME"]),
                  export().drop(columns=["MDV"]), export().drop(columns=["EVID"]),
                  export().rename(columns=lambda name: name.lower() if name not in NONMEM.values() else name),
                  export().astype({"AMT": object, "DV": object}).replace({"AMT": {0.0: "."}}),
                  pd.read_csv(io.StringIO(export().to_csv(index=False).replace(",0,0.0,", ",.,.,"))),
                  export(CMT=["depot", "central", "central"] * 2), export(SS="."), export(RATE=np.nan)):  # fmt: skip
        read = read_patients(frame, **NONMEM)
        np.testing.assert_array_equal(read.X, expected.X)
        np.testing.assert_array_equal(read.y, expected.y)


def test_further_doses_are_as_if_written_out():
    five = pd.DataFrame({"patient": "A", "time": [0.0, 7, 14, 21, 28, 30, 50], "dose": [80.0] * 5 + [None] * 2,
                         "concentration": [None] * 5 + [4.0, 1.0]})  # fmt: skip
    short = five.iloc[[0, 5, 6]].assign(Addl=[4, None, None], Ii=[7, None, None])
    np.testing.assert_array_equal(read_patients(short).X, read_patients(five).X)
    # a sample at the time of a further dose was taken before it
    at_dose = short.assign(time=[0.0, 14.0, 50.0])
    assert read_patients(at_dose).X[0, 1:6].tolist() == [80, 80, 0, 0, 0]
    regimen, _, _ = Regimen.read(short)
    assert regimen.time.tolist() == [0, 7, 14, 21, 28]


def test_a_rate_is_the_dose_over_the_duration():
    rate = plain(Rate=[160.0, 0, 0, 0, 0, 0, 100, 0])
    lasting = plain(hours=[2.0, None, 0, None, 0, None, 2, None])
    np.testing.assert_array_equal(read_patients(rate).X, read_patients(lasting, duration="hours").X)
    assert read_patients(rate.assign(hours=lasting["hours"]), duration="hours").X[0, 5] == 2
    with pytest.raises(
        TaskError, match="task 'A': column 'Rate' is 160 in row 0: not the dose divided by the duration"
    ):
        read_patients(rate.assign(hours=lasting["hours"] * 2), duration="hours")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"SS": [99, 0, 0, 0, 0, 0]}, "task 1: column 'SS' is 99 in row 0: it must be 0, 1 .steady state. or 2"),
        ({"SS": [0, 1, 0, 0, 0, 0]}, "column 'SS' is 1 in row 1: a steady state requires a dose"),
        ({"SS": [1, 0, 0, 0, 0, 0], "ADDL": 0, "II": 0}, "column 'SS' is 1 in row 0: a steady state needs the time"),
        ({"EVID": [3, 0, 0, 1, 0, 0]}, "column 'EVID' is 3 in row 0: a reset without a dose, but the row has a dose"),
        ({"EVID": [2, 0, 0, 1, 0, 0]}, "column 'EVID' is 2 in row 0: another event, but the row has a dose"),
        ({"EVID": [101, 0, 0, 1, 0, 0]}, "column 'EVID' is 101 in row 0: it must be 0 .an observation., 1"),
        ({"EVID": [1, 0, 4, 1, 0, 0], "MDV": 1, "AMT": [9.0, 0, None, 9, 0, 0]}, "column 'EVID' is 4 in row 2: a dose"),
        ({"EVID": [0, 0, 0, 1, 0, 0]}, "column 'EVID' is 0 in row 0: an observation, but the row has a dose"),
        ({"AMT": [320.0, 0, 0, None, 0, 0]}, "column 'EVID' is 1 in row 3: a dose, but column 'AMT' is empty"),
        ({"MDV": [0, 0, 0, 1, 0, 0]}, "column 'MDV' is 0 in row 0: an observation, but the row is a dose"),
        ({"MDV": [1, 0, 2, 1, 0, 0]}, "column 'MDV' is 2 in row 2: it must be 0 or 1"),
        ({"ADDL": [0, 0, 0, 1, 0, 0]}, "column 'II' is 12 in row 0: the time between further doses, but their number"),
        ({"II": 0.0}, "column 'ADDL' is 1 in row 0: further doses need the time between them"),
        ({"ADDL": [1.5, 0, 0, 1, 0, 0]}, "column 'ADDL' is 1.5 in row 0: it must be a whole number"),
        ({"ADDL": [-1, 0, 0, 1, 0, 0]}, "column 'ADDL' is -1 in row 0: it must be a whole number"),
        ({"ADDL": [1, 3, 0, 1, 0, 0]}, "column 'ADDL' is 3 in row 1: further doses require a dose"),
        (
            {"RATE": [-2, 0, 0, 0, 0, 0]},
            "column 'RATE' is -2 in row 0: a duration that is estimated is not implemented; write the rate",
        ),
        ({"RATE": [0, 10, 0, 0, 0, 0]}, "column 'RATE' is 10 in row 1: a rate requires a dose"),
        (
            {"CMT": [2, 2, 2, 2, 2, 2]},
            "task 1: all doses enter compartment 2 .column 'CMT'., which is the central one in",
        ),
        ({"CMT": [-2, 2, 2, 1, 2, 2]}, "task 1: column 'CMT' is -2 in row 0: a compartment that is turned off"),
        ({"CMT": [1.5, 2, 2, 1, 2, 2]}, "task 1: column 'CMT' is 1.5 in row 0: it must be the number of a compartment"),
        ({"CMT": [1, 2, 3, 1, 2, 2]}, "task 1: column 'CMT'.* is 3 for observations, and 2 for those of patient 1"),
        ({"CMT": ["gut", 2, 2, "iv", 2, 2], "ID": 1, "TIME": range(6)}, "column 'CMT' is 'gut' and 'iv' for doses"),
        (
            {"DVID": [0, 1, 2, 0, 1, 1]},
            "task 1: column 'DVID' .kind of observation. is 2 for observations.*output='DVID'",
        ),
        ({"PCSPEC": [None, "PLASMA", "URINE", None, "PLASMA", "PLASMA"]}, "'PCSPEC'.*is 'URINE' for observations"),
        (
            {"ADM": [1, 0, 0, 2, 0, 0]},
            "task 2: column 'ADM' .kind of administration. is 2 for doses.*columns=.'CMT': 'ADM'",
        ),
        ({"AVALU": ["", "mg/L", "ug/L", "", "mg/L", "mg/L"]}, "column 'AVALU'.*'ug/L'.*convert them to one unit"),
        ({"OCC": [1, 1, 2, 1, 1, 1]}, "task 1: column 'OCC' .* is 1 and 2; pass occasion='OCC'"),
        ({"CENS": [0, 0, 2, 0, 0, 0]}, "column 'CENS' is 2 in row 2: it must be one of 0, 1, -1"),
        ({"BLQ": [0, 0, 1, 0, 0, 0]}, "task 1: columns 'CENS' and 'BLQ' .* contradict each other in row 2; drop one"),
        (
            {"tinf": [2, 0, 0, 0, 0, 0], "RATE": [20, 0, 0, 0, 0, 0]},
            "column 'RATE' is 20 in row 0: not the dose divided",
        ),
        ({"tinf": [0, 2, 0, 0, 0, 0]}, "column 'tinf' is 2 in row 1: a duration requires a dose"),
        ({"tinf": 0.0, "DUR": 0.0}, "columns 'DUR' and 'tinf' mean the same"),
        ({"C": [".", "C", ".", ".", ".", "."]}, "column 'C' is C in row 1: mark of a comment.*drop these rows"),
        ({"L2": [1, 1, 1, 1, 1, 1]}, "column 'L2' is 1 in row 0: group of observations"),
        ({"CALL": [0, 9, 0, 0, 0, 0]}, "column 'CALL' is 9 in row 1"),
        ({"DTYPE": ["", "COPY", "", "", "", ""]}, "column 'DTYPE' is COPY in row 1"),
        ({"Y": [0, 7, 9, 0, 5, 3]}, "column 'Y' has the name of the target, and differs from column 'DV'"),
        ({"SUBJID": [1, 1, 2, 2, 2, 2], "id": 7}, "column 'id' has the name of the patient, and differs"),
        ({"addl": [4, 0, 0, 0, 0, 0]}, "columns 'ADDL' and 'addl' mean the same"),
        ({"SS": ["yes", 0, 0, 0, 0, 0]}, "task 1: column 'SS' holds 'yes' in row 0, which is not a number"),
    ],
)
def test_what_these_models_cannot_do_is_refused(columns, message):
    with pytest.raises(TaskError, match=f"(?s){message}"):
        read_patients(export(**columns), **NONMEM)


def test_a_value_in_a_row_without_observation_is_not_read():
    frame = export(DV=[99.0, 7.1, 9.8, 0, 5, 3], MDV=[1, 0, 1, 1, 0, 0])
    assert read_patients(frame, **NONMEM).y.tolist() == [7.1, 5, 3]
    # neither EVID nor MDV: a 0 in the row of a dose is a placeholder, unless another such row has a value
    bare = export().drop(columns=["EVID", "MDV"])
    assert read_patients(bare).y.tolist() == [7.1, 9.8, 5, 3]
    with pytest.raises(
        TaskError, match="task 1: row 0 has a dose and a DV .2.; write two rows, the DV first if it was"
    ):
        read_patients(bare.assign(DV=[2.0, 7.1, 9.8, 0, 5, 3]))
    two = bare.assign(ID=1, TIME=[0.0, 2, 14.5, 15, 18, 20], ADDL=0, II=0)
    with pytest.raises(TaskError, match="row 0 has a dose and a DV .0.; write two rows.*if the 0 stands for no value"):
        read_patients(two.assign(DV=[0.0, 7.1, 9.8, 4, 5, 3]))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_and_time_differences_are_hours_by_default(unit):
    expected = read_patients(plain())
    differences = pd.to_timedelta(plain()["time"], unit="h").astype(f"timedelta64[{unit}]")
    start = pd.to_datetime(["2024-03-30 20:00"] * 4 + ["2025-01-01 00:00"] * 4).tz_localize("Europe/Berlin")
    for time in (differences, start + differences, list(differences), (start + differences).astype(object)):
        np.testing.assert_array_equal(read_patients(plain(time=time)).X, expected.X)
        minutes = read_patients(plain(time=time), time_unit="min").X
        np.testing.assert_allclose(minutes[:, 0], 60 * expected.X[:, 0])
        np.testing.assert_allclose(minutes[:, 3:5], 60 * expected.X[:, 3:5])
    every = plain(time=differences, addl=[1, 0, 0, 0, 0, 0, 0, 0], ii=pd.to_timedelta([6.0] + [0] * 7, unit="h"))
    assert read_patients(every).X[0, 4:7].tolist() == [0, 6, 12]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"time": ["2024-03-30 08:00"] * 8},
            "task 'A': column 'time' holds '2024-03-30 08:00' in row 0.*pd.to_datetime",
        ),
        (
            {"time": ["08:30"] * 8},
            "column 'time' holds '08:30' in row 0, a time of day; add its day as a column DATE, or let pd.to_timedelta",
        ),
        ({"concentration": [None, "<0,5", None, 9.8, None, 5, None, 3]}, "'<0,5' in row 1.*pass the limit as limit="),
        (
            {"concentration": [None, "BLQ", None, 9.8, None, 5, None, 3]},
            "column 'concentration' marks row 1 as known by a limit only, but nothing gives the limit; add it in a column",
        ),
        ({"dose": ["320,5", None, 320, None, 200, None, 200, None]}, "'320,5' in row 0.*decimal=','"),
        ({"dose": pd.to_timedelta([1] * 8, unit="h")}, "column 'dose' holds time differences, numbers are wanted"),
        ({"time": [datetime.time(8)] * 8}, "column 'time' holds times of day without a date"),
        ({"concentration": [None, np.inf, None, 9.8, None, 5, None, 3]}, "column 'concentration' is inf in row 1"),
        ({"dose": [True, False] * 4}, "task 'A': column 'dose' holds True or False; numbers are wanted"),
        ({"dose": [True, None] * 4}, "task 'A': column 'dose' holds True or False"),
        ({"patient": ["A", None] * 4}, "column 'patient' is missing in row 1"),
    ],
)
def test_cells_that_are_no_numbers_are_named(columns, message):
    with pytest.raises(TaskError, match=f"(?s){message}"):
        read_patients(plain(**columns))


def test_a_row_of_units_is_named():
    text = "patient,time,dose,concentration\n,h,mg,mg/L\nA,0,320,\nA,2,,7.1\n"
    with pytest.raises(TaskError, match=r"first row \(index 0\) looks like a row of units.*'time' holds 'h'.*skiprows"):
        read_patients(pd.read_csv(io.StringIO(text)))
    assert read_patients(pd.read_csv(io.StringIO(text), skiprows=[1])).y.tolist() == [7.1]


def test_categories_as_covariates_are_refused_and_others_named_in_a_warning():
    frame = plain(sex=pd.Categorical(["f"] * 4 + ["m"] * 4))
    with pytest.raises(TaskError, match="task 'A': column 'sex' holds 'f' in row 0.*encode categories"):
        read_patients(frame, covariates=["sex"])
    with pytest.warns(UserWarning, match="read_patients: column 'sex' was not read; list properties of the patient"):
        read_patients(frame)
    with pytest.warns(UserWarning, match="read_patients: columns 'sex', 'eye' were not read"):
        read_patients(frame.assign(OCC=1, eye=2))  # one occasion says nothing
    assert read_patients(plain(sex=[0] * 4 + [1] * 4), covariates=["sex"]).X[:, -1].tolist() == [0, 0, 1, 1]


@pytest.mark.filterwarnings("ignore:task .*times start anew")
def test_doses_that_are_there_twice_are_asked_about():
    with pytest.warns(
        UserWarning, match="task 'A': two doses of 320 at time 0 are both used; drop one .* .2 patients."
    ):
        assert read_patients(pd.concat([plain(), plain()]), repeated_id="same").X[0, 1:5].tolist() == [320, 320, 0, 0]
    with pytest.warns(UserWarning, match="task 'A': two doses of 320 at time 12 are both used"):
        read_patients(plain(addl=[1] + [0] * 7, ii=[12.0] + [0] * 7))


@pytest.mark.parametrize("n_doses", [0, 2.0, "4", True])
def test_columns_for_doses_are_a_whole_number(n_doses):
    with pytest.raises(ValueError, match=f"n_doses must be a whole number from 1 to 100,000, got {n_doses!r}"):
        read_patients(plain(), n_doses=n_doses)


def test_gaps_are_named():
    gap = plain(concentration=[None, None, None, 9.8, None, 5, None, 3])
    with pytest.warns(UserWarning, match="1 record has neither a dose nor a concentration.*row 1 of task 'A'"):
        assert read_patients(gap).y.tolist() == [9.8, 5, 3]


@pytest.mark.filterwarnings("ignore:task .*times start anew")
@pytest.mark.parametrize("column", ["patient", "ID", "id", "Subject", "subject_id", "USUBJID"])
def test_the_records_of_two_patients_are_not_read_as_one(column):
    frame = plain().rename(columns={"patient": column})
    with pytest.raises(
        TaskError, match=f"records of 2 patients .column '{column}': 'A', 'B'.; pass those of one patient"
    ):
        Regimen.read(frame)
    regimen, _, y = Regimen.read(frame[frame[column] == "B"])
    assert (regimen.amount.tolist(), y.tolist()) == ([200, 200], [5, 3])
    with pytest.raises(TaskError, match=f"records of 2 patients .column '{column}'"):
        Regimen.read(frame.set_index(column))
    with pytest.raises(TaskError, match=f"no column '{column}': it is in the index; pass frame.reset_index"):
        read_patients(frame.set_index(column), patient=column)
    unusual = frame.rename(columns={column: "mouse"})
    with pytest.raises(TaskError, match="records of 2 patients"):
        Regimen.read(unusual, patient="mouse")
    with pytest.warns(UserWarning, match="column 'mouse' was not read"):
        Regimen.read(unusual)
    with pytest.raises(TaskError, match="no column 'animal'"):
        Regimen.read(frame, patient="animal")
    with pytest.raises(TaskError, match="records of 2 patients .column.*: 'A', nan."):
        Regimen.read(frame.assign(**{column: ["A"] * 4 + [None] * 4}))


def test_arguments_that_name_columns_badly():
    with pytest.raises(TaskError, match="no column 'time'; the frame has .* Say which one it is by time="):
        read_patients(plain().rename(columns={"time": "when"}))
    with pytest.raises(TaskError, match="no column 'Time'; the frame has .*, such as time='time'"):
        read_patients(plain(), time="Time")
    with pytest.raises(TaskError, match="columns 'dose' and 'AMT' may both be the dose, and differ; .* by dose="):
        read_patients(plain(AMT=1.0))
    with pytest.raises(TaskError, match="column 'AMT' has the name of the dose, and differs from column 'dose'"):
        read_patients(plain(AMT=1.0), dose="dose")
    assert len(read_patients(plain(AMT=plain()["dose"])).y) == 4
    with pytest.raises(TaskError, match="column 'time' is named by two arguments"):
        read_patients(plain(), covariates=["time"])
    with pytest.raises(TaskError, match="covariates must be a list"):
        read_patients(plain(sex=1), covariates="sex")
    with pytest.raises(TaskError, match="column 'time' occurs twice"):
        read_patients(pd.concat([plain(), plain()[["time"]]], axis=1))
    with pytest.raises(TaskError, match="time_unit must be one of"):
        read_patients(plain(), time_unit="hours")


def test_a_model_reads_an_export_of_a_new_patient():
    rng = np.random.default_rng(5)
    frames = []
    for i in range(12):
        cl = 3 * np.exp(0.2 * rng.normal())
        at = np.array([1.0, 5.0, 11.0, 13.0, 20.0])
        seen = sum(320 / 30 * np.exp(-cl / 30 * (at - t)) * (at > t) for t in (0, 12))
        rows = pd.DataFrame({"ID": i, "TIME": [0.0, *at], "AMT": [320.0] + [0] * 5, "EVID": [1] + [0] * 5,
                             "ADDL": [1] + [0] * 5, "II": [12.0] + [0] * 5,
                             "DV": [0.0, *seen * np.exp(0.05 * rng.normal(size=5))]})  # fmt: skip
        frames.append(rows)
    frame = pd.concat(frames, ignore_index=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = read_patients(frame[frame["ID"] < 11], **NONMEM)
        model = OneCompartmentRegressor(route="iv", random=["clearance"], noise="proportional").fit(fitted)
        columns = {name: NONMEM[name] for name in ("time", "dose", "target")}
        patient = model.adapt(*model.read(frame[frame["ID"] == 11], **columns), guard=False)
    assert clearance(patient).value == pytest.approx(cl, rel=0.1)
    with pytest.raises(TaskError, match="records of 2 patients .column 'ID': 10, 11."):
        model.read(frame[frame["ID"] > 9], **columns)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
@pytest.mark.parametrize("n_doses", [1, 2])
def test_records_of_any_number_of_doses_are_adapted_to_together(n_doses):
    population = Population(
        {
            "clearance": Parameter(4.0, lower=0),
            "volume": Parameter(70.0, lower=0),
            "absorption": Parameter(1.0, lower=0),
        },
        Block(sd={"clearance": 0.4, "volume": 0.3}),
        NoiseModel("proportional", cv=0.2, floor=0.01),
        columns={"time": "h", "dose": "mg"},
        target="mg/L",
        equation="OneCompartmentRegressor",
        settings={"route": "oral"},
    )
    model = OneCompartmentRegressor.from_population(population, n_doses=n_doses)
    frame = pd.DataFrame(
        {
            "patient": list("aaabbbb"),
            "time": [0.0, 2.0, 11.5, 0.0, 3.0, 8.0, 10.0],
            "dose": [1000.0, 0.0, 0.0, 750.0, 0.0, 500.0, 0.0],
            "concentration": [np.nan, 9.0, 5.0, np.nan, 7.0, np.nan, 11.0],
        }
    )
    tasks = read_patients(frame)
    together = model.adapt_many(tasks)
    for task, curve in zip(tasks, np.split(together.predict(tasks), tasks.offsets[1:-1]), strict=True):
        rows = pd.DataFrame(task.X, columns=list(tasks.feature_names))
        alone = model.adapt(rows, task.y)
        np.testing.assert_allclose(together.params_.loc[task.name, "clearance"], alone.params_["value"]["clearance"])
        np.testing.assert_allclose(curve, alone.predict(rows))
        np.testing.assert_allclose(together[task.name].predict(rows), alone.predict(rows))
    assert np.isfinite(model.log_likelihood(tasks).value)
    with pytest.raises(TaskError, match="(?s)unseen at fit time.*colour"):
        model.adapt_many({"a": (rows.assign(colour=1.0), task.y)})
