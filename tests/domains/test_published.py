"""Published models of drugs: every file holds what its paper says, and adapts; covariates computed from others.

The prospective check compares with NONMEM's predictions of mipdeval's first patient (github InsightRX/mipdeval, commit
2c6e082; MIT), whose covariates are constant; the file is not part of this repository: METAEST_DATA_HOME names a folder
that holds it.
"""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaest import PopulationAverage, TaskError
from metaest.exceptions import quiet
from metaest_domains import physiology
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    Regimen,
    TwoCompartmentRegressor,
    body_mass_index,
    body_surface_area,
    creatinine_clearance,
    fat_free_mass,
    list_published,
    load_published,
    patient_covariates,
    published_model,
    volume,
)

HOME = Path(os.environ.get("METAEST_DATA_HOME", "nowhere")) / "prospective"
EVERY = [(row.drug, row.name_) for row in list_published().rename(columns={"name": "name_"}).itertuples()]
BSA = 0.007184 * 150**0.425 * 170**0.725
FFM = 9270 * 120 / (8780 + 244 * 120 / 1.7**2)
CRCL = {"crcl": 80.0}
# by model a patient, and typical constants by the formulas of the paper
PATIENTS = {
    "vancomycin thomson-2009": (
        {**CRCL, "weight": 75.0},
        {"clearance": 2.99 * (1 + 0.0154 * 14), "volume": 0.675 * 75, "exchange": 2.28, "peripheral": 0.732 * 75},
    ),
    "vancomycin goti-2018": (
        {"crcl": 170.0, "weight": 84.0, "dialysis": 1.0},
        {
            "clearance": 4.5 * (150 / 120) ** 0.8 * 0.7,
            "volume": 58.4 * 84 / 70 * 0.5,
            "exchange": 6.5,
            "peripheral": 38.4,
        },
    ),
    "vancomycin buelga-2005": (
        {**CRCL, "weight": 65.0},
        {"clearance": 1.08 * 80 * 60 / 1000, "volume": 0.98 * 65},
    ),
    "vancomycin adane-2015": (
        {**CRCL, "weight": 150.0, "bsa": body_surface_area(150.0, 170.0)},
        {"clearance": 6.54 * (80 * 60 / 1000) / 7.5 * 1.73 / BSA, "volume": 0.51 * 150},
    ),
    "vancomycin hughes-2024": (
        {"crcl_ffm": CRCL["crcl"], "ffm": fat_free_mass(120.0, 170.0, "female")},
        {"clearance": 5.063 * 0.8**0.851, "volume": 64.34 * FFM / 70, "exchange": 6.24, "peripheral": 59.02 * FFM / 70},
    ),
    "gentamicin xuan-2003": (
        {**CRCL, "weight": 75.0},
        {
            "clearance": 0.047 * 80,
            "volume": 0.28 * 75,
            "exchange": 0.092 * 0.28 * 75,
            "peripheral": 0.092 * 0.28 * 75 / 0.071,
        },
    ),
    "amikacin burdet-2015": (
        {"crcl_4h": 60.0, "weight": 90.0, "pao2_fio2": 200.0},
        {
            "clearance": 4.3 * (60 / 82) ** 0.7,
            "volume": 15.9 * (90 / 78) ** 0.9 * (200 / 169) ** 0.4,
            "exchange": 12.1,
            "peripheral": 21.4,
        },
    ),
    "phenobarbital voller-2017": (
        {"postnatal_age": 7.0, "birth_weight": 2.0, "weight": 2.2},
        {
            "clearance": 0.00909 * (1 + 0.0533 * 2.5) * (1 - 0.369 * 0.59),
            "volume": 2.38 * (1 - 0.309 * 0.5),
        },
    ),
    "phenobarbital monolix": (
        {"apgar": 9.0},
        {"clearance": 1.2469 * math.exp(0.26058) * 0.0047985, "volume": 1.2469 * math.exp(0.26058)},
    ),
    "ganciclovir caldes-2009": (
        {"crcl": 114.0},
        {"clearance": 7.49 * 2, "volume": 31.9, "exchange": 10.2, "peripheral": 32.0},
    ),
    "theophylline monolix": ({}, {"clearance": 0.040172, "volume": 0.45550, "absorption_rate": 1.53264}),
    "warfarin monolix": ({}, {"clearance": 0.132482, "volume": 7.9602, "absorption_rate": 1.45621, "lag": 0.764323}),
    "warfarin monolix-sex": (
        {"sex": 0.0},
        {
            "clearance": 0.134438 * math.exp(-0.0938365),
            "volume": 8.46610 * math.exp(-0.382279),
            "absorption_rate": 1.427759,
            "lag": 0.771439,
        },
    ),
}


def test_every_model_has_a_patient_here_and_a_row_in_the_list():
    assert [f"{drug} {name}" for drug, name in EVERY] == sorted(PATIENTS)
    assert list(list_published().columns) == ["drug", "name", "structure", "population", "doi"]


@pytest.mark.parametrize(("drug", "name"), EVERY)
def test_typical_constants_are_those_of_the_formulas_of_the_paper(drug, name):
    patient, wanted = PATIENTS[f"{drug} {name}"]
    assert load_published(drug, name).typical(patient) == pytest.approx(wanted, rel=2e-5)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
@pytest.mark.parametrize(("drug", "name"), EVERY)
def test_a_patient_is_adapted_to(drug, name):
    population = load_published(drug, name)
    varying = [list(population.constants).index(constant) for constant in population.random]
    omega = population.covariance()[np.ix_(varying, varying)]
    assert np.linalg.eigvalsh(omega)[0] > 1e-6
    covariates = PATIENTS[f"{drug} {name}"][0]
    model = getattr(physiology, population.equation).from_population(population, n_doses=2)
    into_vein = population.settings.get("route") == "iv"
    X = model.rows(Regimen.repeated(100.0, 12.0, 2, duration=float(into_vein), **covariates), [2.0, 11.0, 14.0])
    typical = model.predict(X)
    patient = model.adapt(X, 0.8 * typical, guard=False)
    assert np.all(patient.predict(X) < typical)
    assert np.sum((patient.predict(X) - 0.8 * typical) ** 2) < np.sum((0.2 * typical) ** 2)


def test_rates_of_exchange_become_a_clearance_and_a_volume():
    # ln V, ln k12, ln k21 are independent; ln Q = ln k12 + ln V and ln V2 = ln k12 + ln V - ln k21
    turn = np.array([[1, 0, 0], [1, 1, 0], [1, 1, -1]])
    names = list(load_published("gentamicin", "xuan-2003").constants)
    places = [names.index(name) for name in ("volume", "exchange", "peripheral")]
    omega = load_published("gentamicin", "xuan-2003").covariance()[np.ix_(places, places)]
    np.testing.assert_allclose(omega, turn @ np.diag([0.003, 0.398, 0.342]) @ turn.T, rtol=1e-12)


def test_a_rate_of_elimination_becomes_a_clearance():
    turn = np.array([[1, 1], [0, 1]])  # ln CL = ln k + ln V
    population = load_published("phenobarbital", "monolix")
    wanted = turn @ np.diag(np.square([0.186667, 0.401481])) @ turn.T
    np.testing.assert_allclose(population.covariance(), wanted, rtol=1e-5)
    errors = turn @ np.diag(np.square([2.43812e-4 / 4.79853e-3, 0.0936975 / 1.246897])) @ turn.T
    np.testing.assert_allclose(population.uncertainty, errors, rtol=1e-5)


def test_a_model_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"no drug 'digoxin'; there are amikacin, .*, warfarin"):
        load_published("digoxin", "thomson-2009")
    with pytest.raises(ValueError, match=r"no model 'thomson' of vancomycin; there are .*thomson-2009"):
        load_published("vancomycin", "thomson")
    with pytest.raises(ValueError, match="no drug '../vancomycin'"):
        load_published("../vancomycin", "thomson-2009")
    with pytest.raises(TypeError, match="name must be text, got None"):
        load_published("vancomycin", None)


def test_covariates_computed_from_others():
    assert body_mass_index(81.0, 180.0) == pytest.approx(25.0, rel=1e-12)
    assert fat_free_mass(81.0, 180.0, "male") == pytest.approx(9270 * 81 / (6680 + 216 * 25), rel=1e-12)
    assert body_surface_area(70.0, 170.0) == pytest.approx(0.007184 * 70**0.425 * 170**0.725, rel=1e-12)
    men = creatinine_clearance(50.0, 72.0, 1.5, "male")
    assert men == pytest.approx(60.0, rel=1e-12)
    assert creatinine_clearance(50.0, 72.0, 1.5, "female") == pytest.approx(0.85 * men, rel=1e-12)
    assert creatinine_clearance(50.0, 72.0, 1.5 / 0.011312, "male", unit="umol/L") == pytest.approx(men, rel=1e-12)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda: body_mass_index(80.0, 1.8), "height: cm, 20 to 280, is wanted, got 1.8"),
        (lambda: body_surface_area(3400.0, 50.0), "weight: kg"),
        (lambda: fat_free_mass(80.0, float("nan"), "male"), "height"),
        (lambda: creatinine_clearance(140.0, 70.0, 1.0, "male"), "age: years, 0 to 130"),
        (lambda: creatinine_clearance(60.0, 70.0, 88.0, "male"), "creatinine: mg/dL, 0.05 to 30"),
        (lambda: creatinine_clearance(60.0, 70.0, 1.0, "male", unit="umol/L"), "creatinine: umol/L, 4.42 to"),
    ],
)
def test_numbers_in_another_unit_are_refused(question, message):
    with pytest.raises(TaskError, match=message):
        question()


def test_what_is_measured_of_children_is_taken_for_no_adults():
    newborn = published_model("phenobarbital", "voller-2017")
    with pytest.raises(TaskError, match=r"weight: kg, 0.2 to 700, is wanted, got 3200"):
        patient_covariates(newborn, weight=3200, postnatal_age=3, birth_weight=3.2)
    adult = published_model("ganciclovir", "caldes-2009")
    with pytest.warns(UserWarning, match="the formula is that of adults, from 18 years on, and the age is 4"):
        patient_covariates(adult, age=4, weight=16, creatinine=0.4, sex="male")
    parts = [(name, published_model("vancomycin", name)) for name in ("buelga-2005", "hughes-2024")]
    average = PopulationAverage(parts).fit([])
    with pytest.warns(UserWarning, match="the formula is that of adults") as told:
        patient_covariates(average, age=12, weight=40, height=150, creatinine=0.6, sex="male")
    assert len(told) == 1


def test_sexes_and_units_are_refused_by_name():
    with pytest.raises(ValueError, match="sex must be 'male' or 'female', got 1"):
        fat_free_mass(80.0, 180.0, 1)
    with pytest.raises(ValueError, match="unit must be 'mg/dL' or 'umol/L', got 'mg/L'"):
        creatinine_clearance(60.0, 70.0, 1.0, "male", unit="mg/L")


def test_a_sample_before_the_first_dose_is_refused_where_noise_is_proportional():
    model = OneCompartmentRegressor.from_population(load_published("vancomycin", "adane-2015"), n_doses=1)
    doses = Regimen.repeated(1000.0, duration=1.0, crcl=80.0, weight=150.0, bsa=2.5)
    with pytest.raises(TaskError, match="the equation is 0 in row 0, .* proportional noise has no width"):
        model.adapt(model.rows(doses, [0.0, 5.0]), [0.0, 7.0])


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
@pytest.mark.skipif(not HOME.is_dir(), reason="METAEST_DATA_HOME holds no prospective")
def test_predictions_of_the_next_sample_are_nonmems():
    records = pd.read_csv(HOME / "nm_vanco.csv").query("ID == 1")
    theirs = pd.read_csv(HOME / "proseval_vanco_thomson.csv").query("ID == 1")
    doses, samples = records[records["EVID"] == 1], records[records["EVID"] == 0]
    model = TwoCompartmentRegressor.from_population(load_published("vancomycin", "thomson-2009"), n_doses=len(doses))
    covariates = {"weight": records["WT"].iloc[0], "crcl": records["CRCL"].iloc[0] * 1000 / 60}  # the file's is in L/h
    given = Regimen(doses["TIME"], doses["AMT"], doses["AMT"] / doses["RATE"], covariates)
    X, y = model.rows(given, samples["TIME"].to_numpy()), samples["DV"].to_numpy()
    for n, rows in theirs[theirs["DV"] > 0].groupby("OBS"):
        np.testing.assert_allclose(model.predict(X), rows["PRED"], rtol=5e-5)
        patient = model.adapt(X.iloc[: int(n)], y[: int(n)], guard=False)
        np.testing.assert_allclose(patient.predict(X), rows["IPRED"], rtol=1e-4)  # four digits are printed


MEASURED = {"age": 62, "weight": 118, "height": 171, "creatinine": 1.1, "sex": "female"}


def test_the_models_of_one_drug_are_averaged():
    names = [name for drug, name in list_published()[["drug", "name"]].to_numpy().tolist() if drug == "vancomycin"]
    models = PopulationAverage([(name, published_model("vancomycin", name, n_doses=2)) for name in names]).fit([])
    patient = patient_covariates(models, **MEASURED, dialysis=0)
    with pytest.raises(TaskError, match="dialysis: 0 or 1 is wanted, got True"):
        patient_covariates(models, **MEASURED, dialysis=True)
    ffm = fat_free_mass(118, 171, "female")
    assert patient == {
        "weight": 118.0,
        "bsa": body_surface_area(118, 171),
        "ffm": ffm,
        "crcl": creatinine_clearance(62, 118, 1.1, "female"),
        "crcl_ffm": creatinine_clearance(62, ffm, 1.1, "female"),
        "dialysis": 0.0,
    }
    doses = Regimen.repeated(1500.0, interval=12, n=2, duration=1.5, **patient)
    with quiet(Warning):
        adapted = models.adapt(doses.rows([11.9]), [10.1])
    # one patient may have more doses than the models have columns
    more = Regimen.repeated(1500.0, interval=12, n=4, duration=1.5, **patient)
    later = adapted.predict(more.rows([13.5, 47.9]))
    for name, one in adapted.members_.items():
        model = models.models_[name]
        reads = {column: patient[column] for column in model.prior.covariate_columns}
        rows = Regimen.repeated(1500.0, interval=12, n=4, duration=1.5, **reads)
        later -= adapted.weights_[name] * one.predict(model.rows(rows, [13.5, 47.9]))
    np.testing.assert_allclose(later, 0, atol=1e-9)
    for patient, place in ((models, "models_"), (adapted, "members_")):
        with pytest.raises(TypeError, match=rf"pass one of its parts, {place}\[name\]"):
            volume(patient)


def test_parts_for_other_numbers_of_doses_are_refused():
    for few, many in ((2, 4), (None, 2)):
        parts = [(f"{n} doses", published_model("vancomycin", "buelga-2005", n_doses=n)) for n in (few, many)]
        for pair in (parts, parts[::-1]):
            with pytest.raises(ValueError, match=r"which .* reads as well and was not made for; .* \(n_doses=\)"):
                PopulationAverage(pair).fit([])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"height": None}, r"reads 'crcl_ffm', .* pass height="),
        ({"creatinine": 97.0}, "creatinine"),
        ({"dialysis": 0}, r"does not read 'dialysis'; it reads crcl_ffm, ffm"),
        ({"sex": "f"}, "'male' or 'female'"),
        ({"unit": "mg/L"}, "mg/dL"),
        ({"ffm": "heavy"}, "ffm"),
    ],
)
def test_covariates_that_cannot_be_computed_are_asked_for(given, message):
    model = published_model("vancomycin", "hughes-2024")
    with pytest.raises(ValueError, match=message):
        patient_covariates(model, **{**MEASURED, **given})
    given = patient_covariates(model, **{**MEASURED, "creatinine": 97.0, "unit": "umol/L"}, ffm=60)
    assert given["ffm"] == 60


def test_covariates_are_computed_in_their_unit_alone():
    hughes = load_published("vancomycin", "hughes-2024")
    columns = {**hughes.columns, "crcl_ffm": "L/h"}
    model = TwoCompartmentRegressor.from_population(replace(hughes, columns=columns))
    with pytest.raises(ValueError, match=r"'crcl_ffm' in L/h, and it is computed in mL/min; pass crcl_ffm="):
        patient_covariates(model, **MEASURED)
    newborn = published_model("phenobarbital", "voller-2017")
    with pytest.raises(ValueError, match="which is not computed; pass"):
        patient_covariates(newborn, **MEASURED)
    with pytest.raises(TypeError, match="a fitted model or an average"):
        patient_covariates(hughes, **MEASURED)
