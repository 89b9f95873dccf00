"""Doses reach their targets with the probability they are returned with, against curves and draws put back."""

from dataclasses import replace

import numpy as np
import pytest

from metaest import TaskError
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    Regimen,
    attainment,
    auc,
    dose_for,
    load_published,
    required_factors,
    time_above,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::metaest.IdentifiabilityWarning",
    "ignore::metaest.UnlikelyTaskWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
AT = {"crcl": 80.0, "weight": 70.0}
GIVEN = Regimen([0.0], 1000.0, 1.0, AT)
PLANNED = Regimen([24.0, 36.0], 100.0, 1.0, AT)
FAINT = Regimen([23.0], 1.0, 0.0, AT)
DAY = {"given": GIVEN, "start": 24.0}


@pytest.fixture(scope="module")
def model():
    return OneCompartmentRegressor.from_population(load_published("vancomycin", "buelga-2005"))


@pytest.fixture(scope="module")
def patient(model):
    return model.adapt(model.rows(GIVEN, [2.0, 10.0]), [22.0, 12.0], guard=False)


def test_the_most_probable_dose_of_a_range_is_that_of_a_scan(patient):
    answer = dose_for(patient, PLANNED, target_auc=(200.0, 300.0), **DAY)
    doses = np.geomspace(0.3, 3.0, 60) * answer.dose
    table = attainment(patient, PLANNED, doses, target_auc=(200.0, 300.0), **DAY)
    assert answer.attainment == pytest.approx(
        attainment(patient, PLANNED, answer.dose, target_auc=(200.0, 300.0), **DAY)["attainment"].iloc[0], abs=1e-9
    )
    # ends of the scan are never in range, and no dose of it is more probable but by the noise of draws
    assert table["attainment"].max() <= answer.attainment + 0.01
    assert table["attainment"].iloc[[0, -1]].max() < 0.5 * answer.attainment
    middle = dose_for(patient, PLANNED, target_auc=250.0, **DAY)
    assert (answer.lower, answer.upper) == (middle.lower, middle.upper)
    assert middle.lower < middle.dose < middle.upper
    assert middle.dose == middle.value


def test_the_least_dose_of_a_probability(patient, model):
    for who in (patient, model):
        answer = dose_for(who, PLANNED, target_auc=300.0, probability=0.89, **DAY)
        assert 0.89 <= answer.attainment < 0.892
        around = attainment(who, PLANNED, [answer.dose * 0.999, answer.dose * 1.001], target_auc=300.0, **DAY)
        assert around["attainment"].iloc[0] < 0.89 <= around["attainment"].iloc[1]
        # the share whose area is above is that of the whole distribution of areas
        area = auc(who, PLANNED.scaled(answer.dose / 100.0), given=GIVEN, start=24.0, end=48.0, level=0.78)
        assert area.lower == pytest.approx(300.0, rel=2e-3)
    ranged = dose_for(patient, PLANNED, target_auc=(300.0, np.inf), probability=0.89, **DAY)
    assert ranged == dose_for(patient, PLANNED, target_auc=300.0, probability=0.89, **DAY)
    low = dose_for(patient, PLANNED, target_auc=(200.0, 300.0), probability=0.3, **DAY)
    best = dose_for(patient, PLANNED, target_auc=(200.0, 300.0), **DAY)
    assert low.dose < best.dose
    assert 0.3 <= low.attainment < 0.32
    with pytest.raises(
        ValueError, match="no dose attains 200 to 300 with a probability of 0.999; the most probable one"
    ):
        dose_for(patient, PLANNED, target_auc=(200.0, 300.0), probability=0.999, **DAY)


def test_a_dose_of_two_lognormal_constants_has_the_probability_of_the_normal_distribution(model):
    # all of one dose to infinity: dose over clearance, lognormal with the sd of the population
    omega = np.sqrt(0.0763)
    typical = 1.08 * AT["crcl"] * 0.06
    answer = dose_for(model, Regimen([0.0], 1.0, 0.0, AT), target_auc=(80.0, 160.0), start=0.0, time=1e6)
    assert answer.dose == pytest.approx(np.sqrt(80 * 160) * typical, rel=0.05)
    assert answer.attainment == pytest.approx(0.790, abs=0.01)  # 2 Phi(ln(2) / 2 / omega) - 1
    p = dose_for(model, Regimen([0.0], 1.0, 0.0, AT), target_auc=100.0, start=0.0, time=1e6, probability=0.9)
    assert p.dose == pytest.approx(100 * typical * np.exp(1.2816 * omega), rel=0.02)


def test_doses_that_can_be_given(patient):
    exact = dose_for(patient, PLANNED, target_auc=250.0, **DAY)
    near = dose_for(patient, PLANNED, target_auc=250.0, step=150.0, **DAY)
    assert near.dose % 150 == 0
    assert abs(near.dose - exact.dose) <= 75
    assert (near.lower, near.upper) == (exact.lower, exact.upper)
    assert dose_for(patient, PLANNED, target_auc=250.0, step=1e5, **DAY).dose == 1e5
    ranged = dose_for(patient, PLANNED, target_auc=(200.0, 300.0), step=100.0, **DAY)
    table = attainment(patient, PLANNED, np.arange(100.0, 2000.0, 100.0), target_auc=(200.0, 300.0), **DAY)
    assert ranged.dose == table["attainment"].idxmax()
    least = dose_for(patient, PLANNED, target_auc=200.0, probability=0.9, step=100.0, **DAY)
    table = attainment(patient, PLANNED, np.arange(100.0, 2000.0, 100.0), target_auc=200.0, **DAY)
    assert least.dose == table.index[table["attainment"] >= 0.9][0]
    assert dose_for(patient, PLANNED, target_auc=200.0, probability=0.9, step=least.dose, **DAY).dose == least.dose


@pytest.mark.parametrize("name", ["buelga-2005", "warfarin"])
def test_a_dose_for_a_time_above_a_level_gives_that_time(name, patient):
    if name == "warfarin":
        mouth = OneCompartmentRegressor.from_population(load_published("warfarin", "monolix"))
        who, planned, given = mouth, Regimen.repeated(50.0, interval=24, n=3), None
        level, start, end, shares = 4.0, 0.0, 72.0, [0.6]
    else:
        who, planned, given, level, start, end, shares = patient, PLANNED, GIVEN, 12.0, 20.0, 48.0, [0.3]
    for share in shares:
        options = {"target_time_above": share, "concentration": level, "start": start, "time": end, "given": given}
        answer = dose_for(who, planned, **options)
        scaled = planned.scaled(answer.dose / planned.amount[0])
        time = time_above(who, scaled, level, start=start, until=end, given=given)
        assert time.value == pytest.approx(share * (end - start), rel=2e-6)
        assert answer.lower < answer.dose < answer.upper
        probable = dose_for(who, planned, probability=0.8, **options)
        assert probable.dose > answer.dose
    table = attainment(who, planned, [0.99 * probable.dose, 1.01 * probable.dose], **options)
    assert table["attainment"].iloc[0] < 0.8 <= table["attainment"].iloc[1]


def test_all_of_the_time_above_a_level_is_that_of_its_trough(patient):
    always = dose_for(patient, PLANNED, target_time_above=1.0, concentration=2.0, **DAY)
    troughs = [dose_for(patient, PLANNED, target_trough=2.0, given=GIVEN, time=time).dose for time in (36.0, 48.0)]
    assert always.dose == pytest.approx(max(troughs), rel=1e-5)
    with pytest.raises(
        ValueError, match="no dose of this regimen reaches 1: it is not in the blood for that share"
    ):  # nothing in the blood at first
        dose_for(
            patient,
            Regimen([24.0, 36.0], 100.0, 1.0, AT),
            target_time_above=1.0,
            concentration=3.0,
            start=0.0,
            given=FAINT,
        )
    with pytest.warns(UserWarning, match="previous doses keep the patient at or above 0.5 by 48"):
        none = dose_for(patient, PLANNED, target_time_above=0.5, concentration=0.01, **DAY)
    assert none.dose == 0
    assert none.attainment > 0.99


def test_no_further_dose(patient):
    with pytest.warns(UserWarning, match="previous doses attain 2 to 6 with a probability of 0"):
        none = dose_for(patient, PLANNED, target_auc=(2.0, 6.0), given=GIVEN, start=40.0)
    assert none.dose == 0
    with pytest.warns(UserWarning, match="previous doses attain 2 with a probability of"):
        assert dose_for(patient, PLANNED, target_auc=2.0, probability=0.5, given=GIVEN, start=40.0).dose == 0


def test_a_patient_whose_constants_do_not_vary():
    same = replace(load_published("vancomycin", "buelga-2005"), between_tasks=[])
    model = OneCompartmentRegressor.from_population(same)
    one = Regimen([0.0], 1.0, 0.0, AT)
    answer = dose_for(model, one, target_auc=(100.0, 200.0), start=0.0, time=1e6)
    clearance = 1.08 * AT["crcl"] * 0.06
    assert answer.dose == pytest.approx(150 * clearance, rel=0.02)
    assert answer.attainment == 1.0
    assert dose_for(model, one, target_auc=100.0, probability=0.9, start=0.0, time=1e6).dose == pytest.approx(
        100 * clearance
    )


def test_a_range_too_narrow_for_any_draw_has_a_best_dose(patient):
    narrow = dose_for(patient, PLANNED, target_auc=(250.0, 250.0 + 1e-9), **DAY)
    assert narrow.attainment < 0.01
    assert narrow.dose == pytest.approx(dose_for(patient, PLANNED, target_auc=250.0, **DAY).dose, rel=0.1)


def test_nothing_is_above_before_a_lag_ends_and_draws_in_parts_are_all_of_them(patient, monkeypatch):
    mouth = OneCompartmentRegressor.from_population(load_published("warfarin", "monolix"))
    at_once = {"target_time_above": 0.5, "concentration": 1.0, "start": 0.0, "time": 0.02}
    with pytest.raises(ValueError, match="no dose of this regimen reaches 0.5"):
        dose_for(mouth, Regimen([0.0], 100.0), **at_once)
    aim = {"target_time_above": 0.5, "concentration": 12.0, **DAY}
    whole = dose_for(patient, PLANNED, **aim)
    monkeypatch.setattr(required_factors, "BLOCK", 200_000)
    np.testing.assert_allclose(dose_for(patient, PLANNED, **aim), whole, rtol=1e-5)


def test_what_is_no_target_is_refused(patient):
    day = {"regimen": PLANNED, "given": GIVEN}
    refused = [
        ({}, "requires one of target_trough, target_peak, target_auc and target_time_above"),
        ({"target_auc": 1.0, "target_peak": 1.0, "start": 24.0}, "requires one of"),
        ({"target_auc": (1.0, 2.0)}, "start= is where the interval of target_auc or target_time_above begins"),
        ({"target_trough": (5.0, 4.0)}, "the range goes from 5 to 4"),
        ({"target_trough": (5.0, 5.0)}, "the range goes from 5 to 5"),
        ({"target_trough": (5.0, 6.0, 7.0)}, r"a range is \(low, high\)"),
        ({"target_trough": "many"}, "a concentration above 0"),
        ({"target_trough": (0.0, 5.0)}, "must begin above 0"),
        ({"target_trough": (5.0, np.inf)}, "pass the number alone, or probability="),
        ({"target_time_above": 60.0, "start": 24.0, "concentration": 5.0}, "a share of the time up to 1"),
        ({"target_time_above": (0.5, 60.0), "start": 24.0, "concentration": 5.0}, "a share of the time up to 1"),
        ({"target_time_above": 0.6, "start": 24.0}, "concentration= is what target_time_above is to exceed"),
        ({"target_auc": 60.0, "start": 24.0, "concentration": 5.0}, "belongs to it alone; got target_auc"),
        ({"target_time_above": 0.6, "start": 24.0, "concentration": 0.0}, "a concentration above 0"),
        ({"target_time_above": 0.6, "start": 50.0, "concentration": 1.0}, "has to end after its start; got 50 to 48"),
        ({"target_trough": 5.0, "probability": 1.0}, "probability: a number between 0 and 1"),
        ({"target_trough": 5.0, "step": 0.0}, "step: a dose above 0"),
        ({"target_trough": 5.0, "level": 1.0}, "level"),
    ]
    for arguments, message in refused:
        with pytest.raises((ValueError, TaskError), match=message):
            dose_for(patient, **day, **arguments)
    for doses in ([], [0.0, 1.0], [-1.0], None, [np.nan]):
        with pytest.raises((ValueError, TaskError), match="attainment: doses"):
            attainment(patient, PLANNED, doses, target_trough=5.0, given=GIVEN)
    below = attainment(patient, PLANNED, [100.0, 900.0], target_trough=(0.0, 9.0), given=GIVEN)["attainment"]
    assert below.iloc[0] > below.iloc[1]
