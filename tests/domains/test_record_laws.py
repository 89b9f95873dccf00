"""Records say the same in whatever order, spelling, unit or convention they are written."""

import datetime
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaest import TaskError
from metaest_domains.physiology import OneCompartmentRegressor, Regimen, clearance, dose_for, read_patients
from metaest_domains.physiology.record_columns import _INSTEAD, _USUAL, PATIENT_COLUMNS


def export(**columns):
    """Two patients: repeated infusions, and a dose at steady state; covariates that change."""
    frame = pd.DataFrame({
        "ID": [1, 1, 1, 1, 2, 2, 2, 2], "TIME": [0.0, 2.5, 14.1, 40.3, 0, 3, 20.7, 30],
        "AMT": [320.0, 0, 0, 0, 200, 0, 100, 0], "EVID": [1, 0, 0, 0, 1, 0, 1, 0], "MDV": [1, 0, 0, 0, 1, 0, 1, 0],
        "ADDL": [1, 0, 0, 0, 0, 0, 0, 0], "II": [12.0, 0, 0, 0, 24, 0, 0, 0], "SS": [0, 0, 0, 0, 1, 0, 0, 0],
        "RATE": [160.0, 0, 0, 0, 0, 0, 0, 0], "CMT": [1, 2, 2, 2, 1, 2, 2, 2], "CRCL": [80.0, 80, 70, 60, 90, 90, 90, 85],
        "WT": [70.0] * 4 + [60.0] * 4, "DV": [0.0, 7.1, 9.8, 2.2, 0, 5, 0, 3],
    })  # fmt: skip
    return frame.assign(**columns)


COVARIATES = {"covariates": ["WT"], "time_varying": ["CRCL"]}


def assert_same(first, second):
    assert first.feature_names == second.feature_names
    np.testing.assert_array_equal(first.X, second.X)
    np.testing.assert_array_equal(first.y, second.y)
    np.testing.assert_array_equal(first.offsets, second.offsets)


def test_columns_hold_what_the_records_say():
    tasks = read_patients(export(), **COVARIATES)
    X = pd.DataFrame(tasks.X, columns=tasks.feature_names)
    assert X[["dose_1", "dose_2", "dose_time_2", "dose_rate_1"]].iloc[1].tolist() == [320, 320, 12, 160]
    assert X[["dose_steady_1", "dose_interval_1", "dose_steady_2", "dose_compartment_2"]].iloc[4].tolist() == [
        1,
        24,
        0,
        2,
    ]
    assert X[["CRCL_1", "CRCL_3", "CRCL_time_3", "CRCL_4", "CRCL_time_4"]].iloc[0].tolist() == [80, 70, 14.1, 60, 40.3]
    assert X["WT"].tolist() == [70] * 3 + [60] * 2


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_with_different_times_does_not_matter(seed):
    mixed = export().sample(frac=1, random_state=seed)
    order = mixed.drop_duplicates("ID")["ID"].tolist()
    read = read_patients(mixed, repeated_id="same", **COVARIATES)
    expected = read_patients(pd.concat([export().loc[lambda f, i=i: f["ID"] == i] for i in order]), **COVARIATES)
    assert_same(read, expected)


NAMES = {
    "NONMEM": {},
    "lower case": {
        name: name.lower() for name in ("ID", "TIME", "AMT", "EVID", "ADDL", "II", "SS", "RATE", "CMT", "DV")
    },
    "Monolix": {"DV": "Y"},
    "CDISC": {"ID": "USUBJID", "TIME": "AFRLT", "AMT": "DOSEA", "DV": "AVAL"},
    "plain": {"ID": "patient", "TIME": "time", "AMT": "dose", "DV": "concentration"},
}


@pytest.mark.parametrize("names", NAMES)
def test_names_in_any_spelling_and_by_mapping_are_the_same_records(names):
    expected = read_patients(export(), **COVARIATES)
    assert_same(read_patients(export().rename(columns=NAMES[names]), **COVARIATES), expected)
    strange = {name: f"column {j}" for j, name in enumerate(export().columns) if name not in ("WT", "CRCL")}
    assert_same(read_patients(export().rename(columns=strange), columns=strange, **COVARIATES), expected)
    spelled = {name.lower(): column for name, column in strange.items()}
    assert_same(read_patients(export().rename(columns=strange), columns=spelled, **COVARIATES), expected)


def test_doses_of_adpc_stand_in_observations_too():
    adpc = export().drop(columns=["EVID", "MDV", "AMT", "DV"]).rename(columns={"ID": "USUBJID", "TIME": "AFRLT"})
    is_dose = export()["EVID"] == 1
    adpc["PARAMCD"] = np.where(is_dose, "DOSE", "XAN")
    adpc["AVAL"] = np.where(is_dose, export()["AMT"], export()["DV"])
    adpc["AVALU"] = np.where(is_dose, "mg", "ug/mL")
    adpc["DOSEA"] = export()["AMT"].where(is_dose).ffill()
    expected = read_patients(export(), **COVARIATES)
    assert_same(read_patients(adpc, **COVARIATES), expected)
    assert_same(read_patients(adpc.drop(columns="DOSEA"), **COVARIATES), expected)
    assert_same(read_patients(adpc.rename(columns={"AFRLT": "NFRLT"}), **COVARIATES), expected)
    with pytest.warns(UserWarning, match="column 'NFRLT' was not read"):
        assert_same(read_patients(adpc.assign(NFRLT=np.round(adpc["AFRLT"])), **COVARIATES), expected)
    with pytest.raises(TaskError, match="'DOSEA' stands in doses and in observations, and nothing tells them apart"):
        read_patients(adpc.drop(columns=["PARAMCD", "AVALU"]), **COVARIATES)


def test_a_population_data_set_of_cdisc_is_read_as_it_is():
    adppk = export().rename(columns={"ID": "USUBJID", "TIME": "AFRLT"})
    is_dose = export()["EVID"] == 1
    adppk = adppk.assign(
        SUBJID=adppk["USUBJID"].map({1: "01-007", 2: "01-009"}), AMT=adppk["AMT"].where(is_dose), AVAL=adppk["DV"],
        DOSEA=export()["AMT"].where(is_dose).ffill(), PARAMCD=np.where(is_dose, "DOSE", "XAN"), BLQFL="N", BLQFN=0,
        ALLOQ=0.1, AVALU=np.where(is_dose, None, "ug/mL"), ROUTE="ORAL", DTYPE=None,
    )  # fmt: skip
    expected = read_patients(export(LLOQ=0.1), **COVARIATES)
    with pytest.warns(UserWarning, match="column 'DOSEA' was not read"):
        assert_same(read_patients(adppk, **COVARIATES), expected)


def clock(hours, form):
    """Times of day and days, for hours from a day at 20:00."""
    moments = [datetime.datetime(2024, 2, 28, 20) + datetime.timedelta(hours=hour) for hour in hours]
    day = {"DATE": "%m/%d/%Y", "DAT1": "%d/%m/%y", "DAT2": "%Y-%m-%d", "DAT3": "%y/%d/%m"}.get(form)
    if form == "number":
        return {"DATE": [m.toordinal() for m in moments], "TIME": [20 + h - 24 * ((20 + h) // 24) for h in hours]}
    if form == "dates":
        return {"DATE": pd.to_datetime([m.date() for m in moments]), "TIME": [m.time() for m in moments]}
    if form == "objects":
        return {"DATE": [m.date() for m in moments], "TIME": [f"{m:%I:%M:%S %p}" for m in moments]}
    return {form: [f"{m:{day}}" for m in moments], "TIME": [f"{m:%H:%M:%S}" for m in moments]}


@pytest.mark.parametrize("form", ["DATE", "DAT1", "DAT2", "DAT3", "number", "dates", "objects"])
def test_days_with_times_of_day_dates_time_differences_and_hours_are_equal_bits(form):
    expected = read_patients(export(), **COVARIATES)
    differences = pd.to_timedelta(export()["TIME"], unit="h")
    moments = pd.Timestamp("2024-02-28 20:00") + differences
    for time in (differences, moments, moments.dt.tz_localize("UTC"), moments.astype(object)):
        assert_same(read_patients(export(TIME=time), **COVARIATES), expected)
    assert_same(read_patients(export(**clock(export()["TIME"], form)), **COVARIATES), expected)
    minutes = read_patients(export(TIME=differences, II=pd.to_timedelta(export()["II"], unit="h")), time_unit="min",
                            **COVARIATES)  # fmt: skip
    np.testing.assert_allclose(minutes.X[:, 0], 60 * expected.X[:, 0], rtol=1e-15)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"DATE": "30/2/2024", "TIME": "08:00"}, "column 'DATE' holds '30/2/2024' in row 0.*no date .month 30"),
        (
            {"DATE": "2/3/2024", "TIME": "25:00"},
            "task 1: column 'TIME' holds '25:00' in row 0, which is no time of day",
        ),
        ({"DATE": "2/3/2024", "TIME": "noon"}, "column 'TIME' holds 'noon' in row 0, which is no time of day such as"),
        ({"DATE": 20240330, "TIME": 8.0}, "column 'DATE' holds 20240330 in row 0.*format='%Y%m%d'"),
        (
            {"DATE": pd.Timestamp("2024-03-30 08:00"), "TIME": 8.0},
            "column 'DATE' holds a time of day in row 0; pass it",
        ),
        ({"DATE": ["1", "2", "3", ""] * 2, "TIME": 8.0}, "task 1: column 'DATE' is missing in row 3"),
        ({"DATE": 1, "DAT1": 1}, "columns 'DATE' and 'DAT1' mean the same"),
    ],
)
def test_days_that_cannot_be_are_refused(columns, message):
    with pytest.raises(TaskError, match=message):
        read_patients(export(**columns), **COVARIATES)


def test_written_out_doses_equal_addl_with_infusions_and_steady_states():
    short = export(SS=[1, 0, 0, 0, 0, 0, 0, 0], II=[12.0, 0, 0, 0, 0, 0, 0, 0], ADDL=[3, 0, 0, 0, 0, 0, 0, 0])
    more = short.iloc[[0, 0, 0]].assign(TIME=[12.0, 24.0, 36.0], SS=0, II=0, ADDL=0, CRCL=np.nan)
    long = pd.concat([short.assign(ADDL=0), more]).sort_values(["ID", "TIME"], kind="stable", ignore_index=True)
    assert_same(read_patients(short, **COVARIATES), read_patients(long, **COVARIATES))


def occasions(restart):
    """A patient of two occasions, with a reset between them, and the same as two patients."""
    times = [0.0, 1, 4, 0, 1, 5] if restart else [0.0, 1, 4, 100, 101, 105]
    return pd.DataFrame({
        "ID": 1, "TIME": times, "AMT": [100.0, 0, 0, 80, 0, 0], "EVID": [1, 0, 0, 4, 0, 0],
        "DV": [0.0, 5, 3, 0, 4, 2],
    })  # fmt: skip


@pytest.mark.parametrize("restart", [True, False])
def test_a_reset_sets_amounts_to_zero_and_time_goes_on(restart):
    tasks = read_patients(occasions(restart))
    X = pd.DataFrame(tasks.X, columns=tasks.feature_names)
    assert X["dose_reset_1"].tolist() == [0] * 4
    assert X["dose_reset_2"].tolist() == [0, 0, 1, 1]
    assert X["dose_2"].tolist() == [0, 0, 80, 80]
    begin = 4 if restart else 100  # the last time before the reset, where the clock starts anew
    assert X["time"].tolist() == [1, 4, begin + 1, begin + 5]
    assert X["dose_time_2"].tolist() == [begin] * 4
    apart = occasions(restart)
    apart.loc[3, ["AMT", "EVID"]] = [np.nan, 3]
    apart = pd.concat([apart.iloc[:4], apart.iloc[[3]].assign(AMT=80.0, EVID=1), apart.iloc[4:]])
    by_two = read_patients(apart)
    assert by_two.X[-1, 1:4].tolist() == [100, 0, 80]
    with pytest.raises(TaskError, match="row 2 is earlier .4. than the reset above it, in row 3 .100 in column 'TIME'"):
        read_patients(occasions(False).loc[[0, 1, 3, 4, 5, 2]])


def test_times_that_start_anew_without_a_reset_are_named():
    frame = occasions(True).assign(EVID=[1, 0, 0, 1, 0, 0])
    with pytest.warns(UserWarning, match="task 1: times start anew with a dose in row 3, .*write EVID 4 there"):
        assert read_patients(frame).X[-1, 1:3].tolist() == [100, 80]
    # a table of doses above one of observations is in no order of time either
    read_patients(pd.concat([frame[frame["EVID"] == 1].assign(TIME=[0, 3]), frame[frame["EVID"] == 0]]))


def test_doses_are_not_due_after_a_reset():
    frame = occasions(False).assign(ADDL=[9, 0, 0, 0, 0, 0], II=[24.0, 0, 0, 0, 0, 0])
    assert read_patients(frame).X[-1, 1:8].tolist() == [100, 100, 100, 100, 100, 80, 0]


def test_another_event_brings_covariates_alone():
    frame = export(EVID=[1, 0, 2, 0, 1, 0, 1, 0], MDV=[1, 0, 1, 0, 1, 0, 1, 0])
    tasks = read_patients(frame, **COVARIATES)
    assert tasks.y.tolist() == [7.1, 2.2, 5, 3]
    X = pd.DataFrame(tasks.X, columns=tasks.feature_names)
    assert X[["CRCL_3", "CRCL_time_3"]].iloc[0].tolist() == [70, 14.1]


def test_two_values_at_one_time_need_to_be_told_apart():
    frame = export(TIME=[0.0, 2.5, 2.5, 40.3, 0, 3, 20.7, 30])
    with pytest.raises(TaskError, match="task 1: column 'CRCL' is 80 and 70 at one time, in row 1 and the next; say"):
        read_patients(frame, **COVARIATES)
    for method, value in (("nocb", 80), ("locf", 70)):
        tasks = read_patients(frame, covariates=["WT"], time_varying={"CRCL": method})
        assert tasks.X[0, tasks.feature_names.index("CRCL_2")] == value
    with pytest.raises(TaskError, match="time_varying: 'CRCL' must be one of"):
        read_patients(frame, time_varying={"CRCL": "spline"})
    with pytest.raises(TaskError, match="'CRCL' is a property of the patient but changes .80, 70..*time_varying="):
        read_patients(frame, covariates=["CRCL"])


def limited(**columns):
    frame = pd.DataFrame({"ID": 1, "TIME": [0.0, 1, 2, 3, 4], "AMT": [100.0, 0, 0, 0, 0], "EVID": [1, 0, 0, 0, 0],
                          "DV": [0.0, 9.0, 0.5, 3.0, 0.5]})  # fmt: skip
    return frame.assign(**columns)


def named(tasks):
    return pd.DataFrame(tasks.X, columns=tasks.feature_names)


def test_marks_and_limits_of_all_programs_are_the_same():
    monolix = read_patients(limited(CENS=[0, 0, 1, 0, 1]))
    np.testing.assert_array_equal(named(monolix)["lloq"], 0.5)
    np.testing.assert_array_equal(monolix.y, [9, np.nextafter(0.5, 0), 3, np.nextafter(0.5, 0)])
    for columns in ({"BLQ": [0, 0, 1, 0, 1], "LLOQ": 0.5}, {"BLQFL": ["N", "N", "Y", "N", "Y"], "ALLOQ": 0.5},
                    {"CENS": [0, 0, 1, 0, 1], "LLOQ": 0.5}, {"LLOQ": 0.5, "DV": [0, 9, 0.1, 3, 0.1]}):  # fmt: skip
        for code in (0.0, -9999.0, None, "BLQ", "<LLOQ"):
            values = limited(**columns).assign(**({} if "DV" in columns else {"DV": [0, 9, code, 3, code]}))
            assert_same(read_patients(values), monolix)
    for cell in ("<0.5", " < .5", "<=5e-1"):
        assert_same(read_patients(limited(DV=[0.0, 9.0, cell, 3.0, cell])), monolix)
    between = named(read_patients(limited(CENS=[0, 0, 1, 0, 1], LIMIT=[0, 0, 0.2, 0, 0.1])))
    assert between["lloq"].tolist() == [0.5] * 4
    assert between["lloq_from"].tolist()[1::2] == [0.2, 0.1]
    above = read_patients(limited(CENS=[0, -1, 0, 0, 0]))
    np.testing.assert_array_equal(named(above)["uloq"], 9)
    assert above.y[0] == np.nextafter(9, 10)
    assert_same(read_patients(limited(DV=[0.0, ">9", 0.5, 3.0, 0.5])), above)
    enclosed = named(read_patients(limited(CENS=[0, -1, 0, 0, 0], LIMIT=[0, 11, 0, 0, 0])))
    assert enclosed[["lloq", "lloq_from"]].iloc[0].tolist() == [11, 9]
    assert (enclosed["lloq"][1:] < [0.5, 3, 0.5]).all()
    assert "lloq" not in read_patients(limited(CENS=0)).feature_names
    with pytest.warns(UserWarning, match="1 observation below the limit of quantification left out, since MDV is 1"):
        assert len(read_patients(limited(CENS=[0, 0, 1, 0, 1], MDV=[1, 0, 1, 0, 0])).y) == 3


def test_a_model_counts_values_below_their_limits():
    rng, rows = np.random.default_rng(0), []
    for i in range(30):
        cl, v, limit = 4 * np.exp(0.3 * rng.normal()), 40 * np.exp(0.2 * rng.normal()), 0.5 + i % 2
        times = np.array([1.0, 6, 12, 24, 30])
        seen = 400 / v * np.exp(-cl / v * times + 0.15 * rng.normal(size=5))
        values = [
            (0.0, 400.0, 1, 0.0),
            *((t, 0.0, 0, y if y > limit else 0.0) for t, y in zip(times, seen, strict=True)),
        ]
        rows += [(i, *value, limit) for value in values]
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV", "LLOQ"])
    tasks = read_patients(frame)
    with pytest.raises(ValueError, match="X has the column 'lloq' of limits of quantification: pass limit='lloq'"):
        OneCompartmentRegressor(route="iv").fit(tasks)
    settings = {"route": "iv", "noise": "proportional", "random": ["clearance", "volume"]}
    model = OneCompartmentRegressor(limit="lloq", **settings).fit(tasks)
    coded = frame.assign(DV=frame["DV"].where(frame["DV"] > 0, -9.0), BLQ=(frame["DV"] == 0) & (frame["EVID"] == 0))
    again = OneCompartmentRegressor(limit="lloq", **settings).fit(read_patients(coded.astype({"BLQ": int})))
    np.testing.assert_array_equal(model.population_["value"], again.population_["value"])
    assert model.population_.loc["clearance", "value"] == pytest.approx(4, rel=0.15)
    new = frame[frame["ID"] == 1]
    low = clearance(model.adapt(*model.read(new), guard=False))
    measured = new[(new["DV"] > 0) | (new["EVID"] == 1)].drop(columns="LLOQ")
    alone = clearance(model.adapt(*model.read(measured), guard=False))
    assert 0 < low.upper - low.lower < alone.upper - alone.lower  # what lies below a limit tells something as well
    assert np.isfinite(model.predict(model.rows(Regimen.repeated(400.0, 12.0, 3), [30.0]))).all()
    assert dose_for(model, Regimen.repeated(400.0, 12.0, 3), target_trough=2.0).value > 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"BLQ": [0, 0, 1, 0, 0]}, "column 'BLQ' marks row 2 .*nothing gives the limit; add it in a column LLOQ"),
        ({"BLQ": [0, 0, 1, 0, 0], "LLOQ": 0.6}, "DV is 0.5 in row 4, below its limit of 0.6 in column 'LLOQ', but"),
        ({"CENS": [0, 0, 1, 0, 0], "LIMIT": 0.7}, "column 'LIMIT' is 0.7 in row 2: it leaves no interval"),
        ({"BLQFL": ["N", "N", "yes", "N", "N"]}, "column 'BLQFL' is 'yes' in row 2: it must be Y or N"),
        ({"BLQ": [0, 0, -1, 0, 0]}, "column 'BLQ' is -1 in row 2: it must be one of 0, 1"),
        ({"CENS": [0, 0, 1, 0, 0], "DV": [0, 9, None, 3, 1]}, "column 'CENS' marks row 2"),
        ({"LLOQ": 0.1, "ALLOQ": 0.2}, "columns 'LLOQ' and 'ALLOQ' .lower limit. contradict each other in row 1"),
    ],
)
def test_marks_without_a_limit_are_refused(columns, message):
    with pytest.raises(TaskError, match=message):
        read_patients(limited(**columns))


@pytest.mark.filterwarnings("ignore:task .*times start anew")
def test_a_patient_that_comes_again_is_a_new_one_only_where_that_is_said():
    one = limited()
    again = pd.concat([one, one.assign(ID=2), one.assign(DV=one["DV"] / 2)], ignore_index=True)
    with pytest.raises(TaskError, match="task 1: records of this patient come again in row 10.*repeated_id='new'"):
        read_patients(again)
    assert read_patients(again, repeated_id="new").names.tolist() == ["1", "2", "1 (2)"]
    assert read_patients(again, repeated_id="new").y.tolist() == [9, 0.5, 3, 0.5] * 2 + [4.5, 0.25, 1.5, 0.25]
    with pytest.warns(UserWarning, match="two doses of 100 at time 0"):
        assert len(read_patients(again, repeated_id="same")) == 2
    # a table of doses above one of observations, and rows in order of time, are no new patients
    two = pd.concat([one, one.assign(ID=2)], ignore_index=True)
    apart = pd.concat([two[two["EVID"] == 1], two[two["EVID"] == 0]])
    assert_same(read_patients(apart), read_patients(two))
    assert_same(read_patients(two.sort_values("TIME", kind="stable")), read_patients(two))
    with pytest.raises(TaskError, match="repeated_id must be 'new', 'same' or None"):
        read_patients(two, repeated_id=True)


def test_occasions_and_outputs_are_kept_where_they_are_asked_for():
    frame = limited(OCC=[1, 1, 1, 2, 2], VISIT=["a", "a", "a", "b", "b"], DVID=[0, 1, 2, 1, 2], CMT=[1, 2, 3, 2, 3])
    tasks = named(read_patients(frame, occasion="OCC", output="DVID"))
    assert tasks[["occasion", "dvid"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    with pytest.raises(TaskError, match="'VISIT' .* is a and b; pass occasion='VISIT'"):
        read_patients(frame.drop(columns="OCC"), output="DVID")
    with pytest.raises(TaskError, match="'CMT'.* is 3 for observations, and 2.*output='CMT'"):
        read_patients(frame.drop(columns="DVID"), occasion="OCC")
    with pytest.raises(TaskError, match="'CMT'.* is 3 for observations of output 1"):
        read_patients(frame.assign(CMT=[1, 2, 2, 3, 3]), occasion="OCC", output="DVID")
    with pytest.raises(TaskError, match="column 'DVID' is missing in row 2: every observation needs its output"):
        read_patients(frame.assign(DVID=[0, 1, None, 1, 2]), occasion="OCC", output="DVID")
    words = read_patients(frame.drop(columns="OCC"), occasion="VISIT", output="DVID")
    assert named(words)["occasion"].tolist() == [0, 0, 1, 1]
    assert words.level_labels == {"occasion": ("a", "b")}
    for columns, message in (({"occasion": "VISIT"}, "column 'occasion' .*drop the column of occasions"),
                             ({"output": "DVID"}, "column 'dvid' .*it has one output: read")):  # fmt: skip
        kept = frame.drop(columns=[name for name in ("OCC", "VISIT", "DVID", "CMT") if name not in columns.values()])
        tasks = read_patients(kept, **columns)
        with pytest.raises(ValueError, match=message):
            OneCompartmentRegressor().fit(tasks)
    by_compartment = named(read_patients(frame.drop(columns="DVID"), occasion="OCC", output="CMT"))
    assert by_compartment["dvid"].tolist() == [2, 3, 2, 3]


def test_an_infusion_of_a_rate_into_the_gut_lasts_as_its_bioavailability_has_it():
    vein = {"ID": 1, "TIME": [0.0, 5, 9], "AMT": [100.0, 0, 0], "RATE": [50.0, 0, 0], "EVID": [1, 0, 0], "DV": 1.0}
    both = pd.concat([pd.DataFrame(vein).assign(CMT=[1, 2, 2]), pd.DataFrame(vein).assign(CMT=2, ID=2)])
    X = named(read_patients(both))
    assert X[["dose_rate_1", "dose_duration_1"]].to_numpy().tolist() == [[50, 0], [50, 0], [0, 2], [0, 2]]
    assert "dose_rate_1" not in read_patients(pd.DataFrame(vein)).feature_names


def test_an_endless_infusion_at_steady_state():
    frame = limited(AMT=0.0, RATE=[20.0, 0, 0, 0, 0], SS=[1, 0, 0, 0, 0])
    regimen, X, _ = Regimen.read(frame)
    assert (regimen.amount.tolist(), regimen.rate.tolist(), regimen.steady.tolist()) == ([0], [20], [1])
    assert X["dose_rate_1"].tolist() == [20] * 4
    with pytest.raises(TaskError, match="column 'RATE' is 20 in row 0: a rate requires a dose"):
        Regimen.read(frame.assign(SS=0))


def test_the_page_of_records_has_every_name():
    page = (Path(__file__).parents[2] / "docs/domains/records.md").read_text(encoding="utf-8")
    names = {
        name.lower() for row in re.findall(r"^\| ([^|]*) \|", page, re.MULTILINE) for name in re.findall(r"\w+", row)
    }
    usual = {name for role in _USUAL.values() for name in role} | set(_INSTEAD.values())
    plain_names = {name.replace("_", "") for name in names}
    assert not set(PATIENT_COLUMNS.reserved) - names
    assert not usual - plain_names


def test_a_mapping_that_says_nothing_is_refused():
    for columns, message in (
        ({"DOSAGE": "AMT"}, "'DOSAGE' is no standard name of a column of records; they are ADDL, "),
        ({"DV": "conc"}, "no column 'conc'"),
        ({"DV": None}, "must be the name of a column"),
        (["DV"], "columns must be a dict"),
        ({"cens": "DV", "CENS": "DV"}, "'CENS' is there in two spellings"),
        ({"CENS": "DV"}, "column 'DV' is named by two arguments|no column 'concentration'"),
    ):
        with pytest.raises(TaskError, match=message):
            read_patients(limited(), columns=columns)
    with pytest.raises(TaskError, match="columns.'DV'. and target= name the same"):
        read_patients(limited(), target="DV", columns={"DV": "DV"})
