"""Published kinetic constants are those of their sources, and predict the published curves and half-times.

PMMA: constants as in github MaCFP/matl-db, PMMA/Material_Properties/2021 (MIT), and temperatures at half conversion of the
curves that the groups predict there (Computational_Results/TGA_Predictions). Poly(butylene adipate): Table 2 of PMC7033981.
"""

import numpy as np
import pytest

from metaest_domains import kinetics
from metaest_domains.kinetics import (
    half_transformation_time,
    list_published,
    load_published,
    published_model,
)

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
GAS = 8.314462618e-3
# A in 1/s, E in kJ/mol, order
CALIBRATED = {
    "DBI": [(6.31e8, 133.2, 1.03), (2.0503e9, 138.691, 1.3), (2.7925e8, 129.69, 0.866), (6.662e8, 134.0, 0.96)],
    "GIDAZE+": [(2e8, 130.0, 1.0)],
    "NIST": [(2.85e13, 191.0, 1.0)],
    "Sandia": [(1.24e19, 252.496, 2.07)],
    "UCLAN": [(6.73e10, 160.0, 1.0)],
}
# from 26 C (without itaconate) or 18 C (with 10 %) in steps of 2 C, minutes
HALF_TIMES = {
    (26, 0.0): ([0.15, 0.17, 0.24, 0.43, 0.63, 1.11, 2.00, 3.17, 7.42], [0.12, 0.16, 0.23, 0.38, 0.63, 1.05, 1.44, 2.37, 5.04]),
    (18, 0.1): ([0.22, 0.27, 0.30, 0.42, 0.84, 1.87, 3.01, 5.07, 8.28], [0.12, 0.14, 0.18, 0.27, 0.57, 1.00, 1.71, 2.66, 3.80]),
}  # fmt: skip


def half_temperature(model, rate, constants=None):
    """Return the temperature at half conversion along a ramp from 300 K, in K/min."""
    time = np.linspace(200.0, 500.0, 3001) / (rate / 60)
    X = np.column_stack([time, np.full_like(time, 300.0), np.full_like(time, rate / 60)])
    predictor = model if constants is None else constants
    return float(np.interp(0.5, predictor.predict(X), 300 + rate / 60 * time))


def test_constants_of_pmma_are_means_over_laboratories():
    population = load_published("pmma", "macfp-2021")
    logs = np.array([
        np.mean([(np.log(a) - e / (GAS * 620), np.log(e), np.log(n)) for a, e, n in sets], axis=0)
        for sets in CALIBRATED.values()
    ])  # fmt: skip
    np.testing.assert_allclose([*population.typical().values()], np.exp(logs.mean(axis=0)), rtol=1e-3)
    np.testing.assert_allclose(population.covariance(), np.cov(logs.T), rtol=1e-3)
    np.testing.assert_allclose(population.uncertainty, np.cov(logs.T) / 5, rtol=1e-3)
    assert population.provenance.n_tasks == len(CALIBRATED)


def test_pmma_decomposes_where_the_laboratories_predict():
    model = published_model("pmma", "macfp-2021")
    # of all groups 627 to 641 K and 654 to 700 K; the mean measured at 10 K/min is 636 K
    assert 627 < half_temperature(model, 10.0) < 641
    assert abs(half_temperature(model, 10.0) - 636.0) < 3
    assert 654 < half_temperature(model, 100.0) < 700
    # a laboratory's constants are among those that the population thinks probable, and its curve is found by two rows
    rate, time = 10 / 60, np.array([1900.0, 2000.0])
    X = np.column_stack([time, np.full(2, 300.0), np.full(2, rate)])
    ramp = np.linspace(300, 300 + rate * 2000, 20001)
    theta = np.cumsum(2.85e13 * np.exp(-191 / (GAS * ramp))) * (2000 / 20000)
    y = 1 - np.exp(-theta[[19000, 20000]])
    nist = model.adapt(X, y, guard=False)
    assert abs(half_temperature(model, 10.0, nist) - 638.8) < 1.5


def test_half_times_of_the_polyester_are_those_of_the_table():
    model = published_model("poly-butylene-adipate", "pbabi-edta")
    ratios = []
    for (coldest, share), columns in HALF_TIMES.items():
        material = model.adapt([], [], covariates={"itaconate": share})
        for k in range(9):
            predicted = half_transformation_time(material, temperature=coldest + 2 * k + 273.15).value / 60
            ratios += [predicted / minutes[k] for minutes in columns]
    assert len(ratios) == 36
    assert np.median(ratios) == pytest.approx(1.0, abs=0.15)
    assert min(ratios) > 0.4
    assert max(ratios) < 2.5
    # one level of a new material tells its rate
    X = [[10.0, 303.15, 0.0]]
    faster = model.adapt(X, [0.7], guard=False)
    assert (
        half_transformation_time(faster, temperature=303.15).value
        < 0.7 * half_transformation_time(model.adapt([], [], covariates={"itaconate": 0.0}), temperature=303.15).value
    )


def test_the_list_and_what_is_not_in_it():
    table = list_published()
    assert list(table.columns) == ["material", "name", "structure", "population", "doi"]
    for row in table.itertuples(index=False):
        population = load_published(row.material, row.name)
        assert population.provenance.notes
        model = published_model(row.material, row.name)
        assert type(model) is getattr(kinetics, population.equation)
        assert type(model).from_population(model.to_population()).population_.equals(model.population_)
    with pytest.raises(ValueError, match="there is no material 'gold'; there are pmma, poly-butylene-adipate"):
        load_published("gold", "a")
    with pytest.raises(ValueError, match="there is no model 'a' of pmma; there are macfp-2021"):
        published_model("pmma", "a")
    with pytest.raises(TypeError, match="material must be text"):
        load_published(3, "a")
