"""Functions of the clinic asked of an average of models: means and mixtures of what its parts answer."""

import numpy as np
import pandas as pd
import pytest

from metaest import Parameter, Population, PopulationAverage
from metaest.exceptions import quiet
from metaest.population import Block, NoiseModel
from metaest_domains.physiology import (
    MichaelisMentenRegressor,
    OneCompartmentRegressor,
    Regimen,
    absorption_rate,
    attainment,
    auc,
    clearance,
    dose_for,
    half_life,
    next_sample,
    peak,
    plot_patient,
    published_model,
    time_above,
    trough,
    volume,
)

NAMES = ("buelga-2005", "adane-2015", "thomson-2009")
PATIENT = {"crcl": 60.0, "weight": 80.0, "bsa": 1.95}
DOSES = Regimen.repeated(1000.0, interval=12, n=2, duration=1, **PATIENT)
BEFORE = Regimen.repeated(1000.0, interval=12, n=2, duration=1)
AHEAD = Regimen([24.0, 36.0], 1000.0, 1.0)
READS = {"buelga-2005": ("crcl", "weight"), "adane-2015": ("crcl", "weight", "bsa"), "thomson-2009": ("crcl", "weight")}
QUESTIONS = {
    "clearance": clearance,
    "half-life": half_life,
    "area of a dose": lambda patient: auc(patient, 1000.0),
    "area": lambda patient: auc(patient, AHEAD, start=24, end=48, given=BEFORE),
    "trough": lambda patient: trough(patient, AHEAD, given=BEFORE),
    "time above": lambda patient: time_above(patient, AHEAD, 15.0, until=48, given=BEFORE),
}


@pytest.fixture(scope="module")
def model():
    return PopulationAverage([(name, published_model("vancomycin", name, n_doses=2)) for name in NAMES]).fit([])


@pytest.fixture(scope="module")
def adapted(model):
    with quiet(Warning):
        return model.adapt(DOSES.rows([11.9, 23.9]), [9.1, 14.2])


def mixed(adapted, of_part):
    """Return the mean of what the parts answer by their weights."""
    return sum(adapted.weights_[name] * of_part(one) for name, one in adapted.members_.items())


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_quantity_is_the_mean_of_the_parts_and_its_interval_spans_them(adapted, question):
    ask = QUESTIONS[question]
    answer, parts = ask(adapted), [ask(one) for one in adapted.members_.values()]
    np.testing.assert_allclose(answer.value, mixed(adapted, lambda one: ask(one).value))
    assert min(part.lower for part in parts) <= answer.lower < answer.value < answer.upper
    assert answer.upper <= max(part.upper for part in parts)


def test_the_quantiles_are_of_the_mixture(adapted):
    answer = clearance(adapted, level=0.8)
    for end, tail in ((answer.lower, 0.1), (answer.upper, 0.9)):
        below = mixed(
            adapted, lambda one, end=end: one.derive_draws(lambda **c: scaled(one, c)).probability(lambda v: v < end)
        )
        assert abs(below - tail) < 0.002


def scaled(one, constants):
    return constants["clearance"] * np.ones_like(constants["volume"])


def test_probabilities_of_doses_are_those_of_the_mixture(adapted):
    target = {"target_auc": (400.0, 600.0), "start": 24.0, "given": BEFORE}
    table = attainment(adapted, AHEAD, [500.0, 1000.0], **target)
    each = mixed(adapted, lambda one: attainment(one, AHEAD, [500.0, 1000.0], **target)["attainment"])
    np.testing.assert_allclose(table["attainment"], each)
    dose = dose_for(adapted, AHEAD, step=250.0, **target)
    assert dose.value % 250 == 0
    np.testing.assert_allclose(dose.attainment, attainment(adapted, AHEAD, dose.value, **target)["attainment"].iloc[0])
    least = dose_for(adapted, AHEAD, target_trough=10.0, given=BEFORE, probability=0.9)
    assert 0.9 <= least.attainment < 0.92
    exact = dose_for(adapted, AHEAD, target_trough=15.0, given=BEFORE)
    np.testing.assert_allclose(
        exact.value, mixed(adapted, lambda o: dose_for(o, AHEAD, target_trough=15.0, given=BEFORE).value)
    )
    np.testing.assert_allclose(
        peak(adapted, AHEAD, given=BEFORE)["value"], mixed(adapted, lambda one: peak(one, AHEAD, given=BEFORE)["value"])
    )


def part_without_covariates(clearance, cv=0.1):
    constants = {"clearance": Parameter(clearance, lower=0), "volume": Parameter(50.0, lower=0)}
    return OneCompartmentRegressor.from_population(
        Population(
            constants,
            Block(cv={"clearance": cv, "volume": 0.05}),
            NoiseModel("proportional", cv=0.1),
            columns={"time": "h", "dose": "mg"},
            settings={"route": "iv"},
        )
    )


def test_parts_made_for_one_dose_read_rows_of_several(model, adapted):
    average = PopulationAverage([(name, published_model("vancomycin", name)) for name in NAMES]).fit([])
    more = Regimen.repeated(1000.0, interval=12, n=4, duration=1, **PATIENT)
    rows = more.rows([40.0, 47.9])
    with quiet(Warning):
        patient = average.adapt(DOSES.rows([11.9, 23.9]), [9.1, 14.2])
        both = [one.partial_adapt(rows, [30.0, 21.0]) for one in (patient, adapted)]
        simple = PopulationAverage([(str(cl), part_without_covariates(cl)) for cl in (2.0, 4.0)]).fit([])
        many = simple.adapt_many([(pd.DataFrame({"time": [11.9], "dose": [1000.0]}), [9.1])])
    np.testing.assert_allclose(patient.weights_, adapted.weights_)
    np.testing.assert_allclose(both[0].weights_, both[1].weights_)
    for one, other in ((average, model), (patient, adapted), both):
        np.testing.assert_allclose(one.predict(rows), other.predict(rows))
        np.testing.assert_allclose(one.predict_interval(rows), other.predict_interval(rows))
        np.testing.assert_allclose(one.simulate(rows, 3, random_state=0), other.simulate(rows, 3, random_state=0))
    rows_alone = Regimen.repeated(1000.0, interval=12, n=3).rows([20.0, 30.0])
    np.testing.assert_allclose(many.predict(rows_alone)[0], many[0].predict(rows_alone))
    with pytest.raises(ValueError, match="lacks the column 'bsa', which the part 'adane-2015' reads"):
        average.adapt(rows.drop(columns="bsa"), [30.0, 21.0])
    with pytest.raises(ValueError, match="no 'dose_time_2'"):
        average.adapt(rows.drop(columns="dose_time_2"), [30.0, 21.0])


def test_the_most_probable_multiple_of_a_step_is_looked_for_at_every_peak():
    average = PopulationAverage(
        [("slow", part_without_covariates(2.0)), ("fast", part_without_covariates(8.0))], weights=[0.55, 0.45]
    ).fit([])
    target = {"target_auc": (450.0, 550.0), "start": 0.0, "time": 2000.0}
    single = Regimen.repeated(1.0, interval=12, n=1)
    assert dose_for(average, single, **target).value == pytest.approx(1000.0, rel=0.02)  # 4,000 by the other part
    coarse = dose_for(average, single, step=700.0, **target)
    table = attainment(average, single, 700.0 * np.arange(1, 8), **target)["attainment"]
    assert coarse.value == table.idxmax() == 4200.0
    assert coarse.attainment == pytest.approx(table.max())


def test_a_narrow_peak_is_not_smoothed_away_by_another_far_off():
    parts = [("slow", part_without_covariates(2.0, 0.05)), ("fast", part_without_covariates(8.0, 0.2))]
    average = PopulationAverage(parts, weights=[0.35, 0.65]).fit([])
    target = {"target_auc": (450.0, 550.0), "start": 0.0, "time": 2000.0}
    single = Regimen.repeated(1.0, interval=12, n=1)
    table = attainment(average, single, np.geomspace(700, 5000, 100), **target)["attainment"]
    best = dose_for(average, single, **target)
    assert best.attainment > table.max() - 0.005
    assert best.value == pytest.approx(1000.0, rel=0.05)


def test_one_part_alone_answers_as_it_does(model):
    with quiet(Warning):
        one = model.models_["thomson-2009"].adapt(DOSES.rows([11.9]).drop(columns="bsa"), [9.1])
        alone = PopulationAverage([("a", model.models_["thomson-2009"])]).fit([]).adapt(
            DOSES.rows([11.9]).drop(columns="bsa"), [9.1]
        )  # fmt: skip
    for ask in QUESTIONS.values():
        np.testing.assert_allclose(ask(alone), ask(one))


def test_without_samples_the_regimen_brings_the_covariates_of_all_parts(model):
    planned = Regimen.repeated(1000.0, interval=12, n=3, **PATIENT)
    first, expected = dose_for(model, planned, target_trough=12.0), 0.0
    for name, part in model.models_.items():
        of_part = Regimen.repeated(1000.0, interval=12, n=3, **{k: PATIENT[k] for k in READS[name]})
        expected += dose_for(part, of_part, target_trough=12.0).value / 3
    np.testing.assert_allclose(first.value, expected)
    np.testing.assert_allclose(
        clearance(model, covariates=PATIENT).value,
        np.mean(
            [clearance(part, covariates={k: PATIENT[k] for k in READS[n]}).value for n, part in model.models_.items()]
        ),
    )
    chosen = PopulationAverage(list(model.models_.items()), method="select", weights=[1, 1, 2]).fit([])
    read = {k: PATIENT[k] for k in READS["thomson-2009"]}
    expected = clearance(model.models_["thomson-2009"], covariates=read)
    np.testing.assert_allclose(clearance(chosen, covariates=PATIENT), expected)


def test_what_the_parts_do_not_share_is_refused(model, adapted):
    for ask in (
        volume,
        absorption_rate,
        lambda patient: next_sample(patient, AHEAD, [30.0], given=BEFORE),
        lambda patient: plot_patient(patient, AHEAD),
    ):
        with pytest.raises(TypeError, match=r"pass one of its parts|must be an adapted patient"):
            ask(adapted)
    with pytest.raises(ValueError, match="'age', which no part of the average reads"):
        trough(model, Regimen.repeated(1000.0, interval=12, n=3, **PATIENT, age=3.0))
    with pytest.raises(ValueError, match="'age', which no part of the average reads"):
        clearance(model, covariates={**PATIENT, "age": 3.0})
    with pytest.raises(ValueError, match="'bsa'") as error:
        clearance(model, covariates={k: PATIENT[k] for k in ("crcl", "weight")})
    assert error.value.__notes__ == ["It was raised by the part 'adane-2015'."]
    with pytest.raises(ValueError, match="pass all previous doses as given="):
        trough(adapted, AHEAD)
    with pytest.raises(TypeError, match="regimen must be a Regimen"):
        trough(adapted, 1000.0)


def test_a_part_whose_elimination_saturates_is_named():
    shared, noise = {"volume": Parameter(30.0, lower=0)}, NoiseModel("proportional", cv=0.1)
    constants = {
        OneCompartmentRegressor: {"clearance": Parameter(3.0, lower=0), **shared},
        MichaelisMentenRegressor: {"capacity": Parameter(40.0, lower=0), "affinity": Parameter(6.0, lower=0), **shared},
    }
    parts = {
        cls.__name__: cls.from_population(
            Population(
                table, Block(sd={"volume": 0.2}), noise, columns={"time": "h", "dose": "mg"}, settings={"route": "iv"}
            )
        )
        for cls, table in constants.items()
    }
    average = PopulationAverage(list(parts.items())).fit([])
    patient = average.adapt(pd.DataFrame({"time": [1.0], "dose": [300.0]}), [8.0])
    with pytest.raises(TypeError, match="the elimination of the part 'MichaelisMentenRegressor' saturates"):
        auc(patient, 300.0)
    planned = Regimen.repeated(300.0, interval=12, n=2)
    with pytest.raises(ValueError, match="until is required"):
        peak(patient, planned)
    assert trough(patient, planned).value > 0
