"""Classes and functions of the user's: they are passed, compared, and named where they are missing."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metaest import (
    EquationRegressor,
    FewShotRegressor,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    Population,
    PopulationAverage,
    Quantity,
    Task,
    load,
    model_hash,
    save,
)
from metaest.exceptions import ModelFileError
from metaest.population import Block, NoiseModel
from metaest_domains.kinetics import KineticRegressor
from metaest_domains.trading import PriceFeatures, TradingPolicy
from savable import WAVES, wave

X = WAVES[11].X


class Gentle(MAMLRegressor):
    """A subclass with another default."""


class Stretched(KineticRegressor):
    """A formula of the user's in the catalogue's manner."""

    constants = {"k": Parameter(0.2, lower=0), "n": Parameter(2.0, lower=0)}

    @staticmethod
    def formula(time, k, n):
        return 1 - torch.exp(-((k * time) ** n))


class Wave:
    """An equation with a setting and a derived quantity."""

    __name__ = "Wave"

    def __init__(self, speed):
        self.speed = speed

    def __call__(self, X, amplitude, phase):
        return amplitude * torch.sin(self.speed * X[:, 0] + phase)

    def quantities(self):
        return {"double": Quantity(lambda amplitude, phase: 2 * amplitude)}


class Shorter(PriceFeatures):
    """Features of prices with other horizons."""


def curves():
    rng, time = np.random.default_rng(0), np.linspace(0.5, 10, 8)[:, None]
    return [Task(i, time, 1 - np.exp(-((0.2 * time[:, 0]) ** 2)) ** np.exp(0.1 * rng.normal())) for i in range(5)]


def prices():
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2020-01-01", periods=250)
    return pd.DataFrame(100 * np.exp(np.cumsum(0.01 * rng.standard_normal((250, 3)), axis=0)), days, list("abc"))


SMALL = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
MODELS = {
    "subclass": (lambda: Gentle(**SMALL).fit(WAVES[:6]), {"objects": [Gentle]}, lambda m: m.predict(X)),
    "formula": (
        lambda: Stretched(max_iter=2, random_state=0).fit(curves()),
        {"objects": [Stretched]},
        lambda m: m.predict(curves()[0].X),
    ),
    "instance": (
        lambda: EquationRegressor(Wave(1.0), {"amplitude": 2.0, "phase": 1.5}, random_state=0).fit(WAVES[:8]),
        {"equation": Wave(1.0)},
        lambda m: np.append(m.predict(X), m.derived_["value"]),
    ),
    "transformer": (
        lambda: TradingPolicy(MAMLPolicy(**SMALL, support_size=40, query_size=40), Shorter()).fit(prices()[["a", "b"]]),
        {"objects": [Shorter]},
        lambda m: m.positions(prices()[["c"]]).to_numpy(),
    ),
    "inside another": (
        lambda: FewShotRegressor(
            EquationRegressor(wave, {"amplitude": 2.0, "phase": 1.5}, random_state=0).fit(WAVES[:8])
        ).fit(X, WAVES[11].y),
        {"equation": wave},
        lambda m: m.predict(X),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_own_code_is_passed(name, tmp_path):
    make, passed, ask = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
        save(model, tmp_path / "model")
        again = load(tmp_path / "model", **passed)
        np.testing.assert_array_equal(ask(again), ask(model))
    assert model_hash(again) == model_hash(model)
    assert type(again) is type(model)
    with pytest.raises(ModelFileError, match="whose code is in no file; pass it: load"):
        load(tmp_path / "model")


def test_a_setting_of_an_equation_counts(tmp_path):
    save(MODELS["instance"][0](), tmp_path / "model")
    with pytest.raises(ModelFileError, match="its source or what it holds has changed since"):
        load(tmp_path / "model", equation=Wave(2.0))
    for settings in ({}, {"check_source": False}):
        with pytest.raises(ModelFileError, match=r"'Wave' itself was passed.*load\(path, equation=Wave\(\.\.\.\)\)"):
            load(tmp_path / "model", equation=Wave, **settings)


def line(X, height):
    return height * X[:, 0]


def root(X, height):
    return height * X[:, 0].sqrt()


def test_several_equations_of_an_average_are_passed_as_objects(tmp_path):
    population = Population(
        {"height": 2.0}, Block(sd={"height": 0.5}), NoiseModel("additive", sd=0.2), columns={"x": ""}
    )
    parts = [(one.__name__, EquationRegressor.from_population(one, population)) for one in (line, root)]
    model = PopulationAverage(parts).fit([])
    save(model, tmp_path / "model")
    rows, y = np.array([[1.0], [4.0]]), [2.1, 5.0]
    for passed in ({"objects": [root, line]}, {"equation": line, "objects": [root]}):
        again = load(tmp_path / "model", **passed)
        np.testing.assert_array_equal(again.adapt(rows, y).predict(rows), model.adapt(rows, y).predict(rows))
    with pytest.raises(ModelFileError, match=r"'root', but 'line' was passed.* pass them as objects=\[root, ...\]"):
        load(tmp_path / "model", equation=line)
    with pytest.raises(ModelFileError, match="it names 'line' and 'root', and one equation was passed for both"):
        load(tmp_path / "model", equation=line, check_source=False)
    with pytest.raises(ModelFileError, match="made with no equation of yours"):
        load(tmp_path / "model", equation=wave, objects=[line, root])


class Weighted:
    """A loss with a weight."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, prediction, target):
        return self.weight * (prediction - target).square().mean(dim=-1)


def test_an_object_is_asked_for_where_an_object_was_used(tmp_path):
    model = MAMLRegressor(**SMALL, loss=Weighted(2.0)).fit(WAVES[:6])
    save(model, tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"pass it: load\(path, objects=\[Weighted\(\.\.\.\)\]\)"):
        load(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"'Weighted' itself was passed. Pass an object like that of the fit"):
        load(tmp_path / "model", objects=[Weighted])
    with pytest.raises(ModelFileError, match="its source or what it holds has changed since"):
        load(tmp_path / "model", objects=[Weighted(3.0)])
    again = load(tmp_path / "model", objects=[Weighted(2.0)])
    np.testing.assert_array_equal(again.predict(WAVES[0].X), model.predict(WAVES[0].X))


def test_what_is_passed_in_vain_is_refused(tmp_path):
    model = MAMLRegressor(**SMALL).fit(WAVES[:6])
    save(model, tmp_path / "model")
    with pytest.raises(ModelFileError, match="made with no equation of yours"):
        load(tmp_path / "model", equation=wave)
    with pytest.raises(ModelFileError, match="a model of its own; model= is for predictors"):
        load(tmp_path / "model", model=model)


def test_a_model_calibrated_anew_is_not_the_one_of_a_patient(tmp_path):
    model = MAMLRegressor(**SMALL, support_size=4).fit(WAVES[:6]).calibrate(WAVES[6:9], support_size=4)
    save(model.adapt(X[:4], WAVES[11].y[:4]), tmp_path / "patient")
    model.calibrate(WAVES[6:11], support_size=4)
    with pytest.raises(ModelFileError, match="another calibration"):
        load(tmp_path / "patient", model=model)


def test_pipelines_and_unfitted_models_are_refused(tmp_path):
    pipeline = make_pipeline(StandardScaler(), MAMLRegressor(**SMALL))
    with pytest.raises(ModelFileError, match="Pipeline is scikit-learn's"):
        save(pipeline, tmp_path / "model")
    with pytest.raises(ValueError, match="not fitted"):
        save(MAMLRegressor(), tmp_path / "model")
    with pytest.raises(ModelFileError, match="got a dict"):
        save({}, tmp_path / "model")


def test_callbacks_are_left_out_with_a_warning(tmp_path):
    model = MAMLRegressor(**SMALL, callbacks=[print_nothing]).fit(WAVES[:6])
    with pytest.warns(UserWarning, match="callbacks are code and are not in the file"):
        save(model, tmp_path / "model")
    assert load(tmp_path / "model").callbacks == ()


def print_nothing(step):
    return None


class Bent(torch.nn.Module):
    """Layers with a bend between them."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(1, 4), torch.nn.Linear(4, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Waved(Bent):
    """The same layers, which compute something else."""

    def forward(self, x):
        return self.last(torch.sin(self.first(x)))


def test_the_hash_of_a_model_has_the_source_of_its_module(tmp_path):
    bent = MAMLRegressor(module=Bent(), max_iter=1, random_state=0).fit(WAVES[:8])
    save(bent, tmp_path / "model")
    again = load(tmp_path / "model", module=Bent())
    patient = bent.adapt(X[:4], WAVES[11].y[:4])
    assert model_hash(again) == model_hash(bent) == model_hash(patient)
    save(patient, tmp_path / "patient")
    np.testing.assert_array_equal(load(tmp_path / "patient", model=again).predict(X), patient.predict(X))
    with pytest.raises(ModelFileError, match="'Waved' was passed"):
        load(tmp_path / "model", module=Waved())
    waved = load(tmp_path / "model", module=Waved(), check_source=False)
    with pytest.raises(ModelFileError, match="adapted from a model with the hash"):
        load(tmp_path / "patient", model=waved)


def test_a_name_as_long_as_can_be_is_a_name(tmp_path):
    model = EquationRegressor(wave, {"amplitude": 2.0, "phase": 1.5}, random_state=0).fit(WAVES[:4])
    save(model, tmp_path / ("m" * 255))
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]
