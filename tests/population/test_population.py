"""A population as an object: what it says, what it refuses, and that files keep it."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch

from metaest import Parameter, Population
from metaest.population import (
    Block,
    Category,
    Exponential,
    Formula,
    Linear,
    Maturation,
    NoiseModel,
    Power,
    Provenance,
    Shift,
)

CLEARANCE = Parameter(4.0, lower=0, unit="L/h", meaning="clearance")
VOLUME = Parameter(70.0, lower=0, unit="L")
SHARE = Parameter(0.7, lower=0, upper=1)
COLUMNS = {"time": "h", "dose": "mg", "weight": "kg", "sex": "", "crcl": "mL/min", "age": "y"}
EFFECTS = {
    "clearance": (Power("weight", 0.75, reference=70), Linear("crcl", 0.0154, reference=66, most=150)),
    "volume": (Category("sex", {0: 1.0, 1: 0.8}), Exponential("age", -0.01, reference=40), Maturation("age", 1.7, 2.0)),
    "share": (Shift("age", 0.02, 40),),
}


def population(**changes):
    parts = {
        "constants": {"clearance": CLEARANCE, "volume": VOLUME, "share": SHARE},
        "between_tasks": (
            Block(variance={"clearance": 0.09, "volume": 0.04}, covariance={("clearance", "volume"): 0.03}),
            Block(sd={"share": 0.3}),
        ),
        "noise": NoiseModel("combined", sd=1.6, cv=0.15),
        "covariates": EFFECTS,
        "columns": COLUMNS,
        "target": "mg/L",
        "standard_errors": {"clearance": 0.2},
        "equation": "elimination",
        "settings": {"route": "iv"},
        "provenance": Provenance("A. Author 2020", doi="10.1000/x", n_tasks=40, ranges={"age": (18, 90)}),
    }
    return Population(**{**parts, **changes})


def test_a_file_keeps_everything(tmp_path):
    given = population()
    given.to_json(tmp_path / "population.json")
    again = Population.from_json(tmp_path / "population.json")
    assert again == given
    assert (again.hash, again.covariates) == (given.hash, given.covariates)
    assert len((tmp_path / "population.json").read_bytes()) < 2048


def test_every_number_counts_in_the_hash():
    hashes = {
        population(**change).hash
        for change in (
            {},
            {"noise": NoiseModel("combined", sd=1.6, cv=0.16)},
            {"standard_errors": {"clearance": 0.21}},
            {"between_tasks": (Block(sd={"share": 0.3}),)},
            {"settings": {}},
            {"target": "ug/L"},
        )
    }
    assert len(hashes) == 6


def test_typical_values_follow_the_formulas():
    values = {"weight": 35.0, "crcl": 200.0, "sex": 1, "age": 30.0}
    typical = population().typical(values)
    assert typical["clearance"] == pytest.approx(4 * 0.5**0.75 * (1 + 0.0154 * (150 - 66)), rel=1e-12)
    mature = 30.0**2 / (1.7**2 + 30.0**2)
    assert typical["volume"] == pytest.approx(70 * 0.8 * np.exp(0.1) * mature, rel=1e-12)
    logit = np.log(0.7 / 0.3) + 0.02 * (30 - 40)
    assert typical["share"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-12)


def test_blocks_say_the_same_in_three_forms():
    kinds = {"a": "log", "b": "log"}
    sd = {"a": 0.3, "b": 0.5}
    pair = ("a", "b")
    forms = [
        Block(variance={k: v**2 for k, v in sd.items()}, covariance={pair: 0.4 * 0.15}),
        Block(sd=sd, correlation={("b", "a"): 0.4}),
        Block(cv={k: np.sqrt(np.expm1(v**2)) for k, v in sd.items()}, correlation={pair: 0.4}),
    ]
    for block in forms:
        np.testing.assert_allclose(block.matrix(kinds), [[0.09, 0.06], [0.06, 0.25]], rtol=1e-12)


def test_a_formula_of_yours_is_named_in_the_file_and_passed_to_read_it():
    def renal(creatinine, age):
        return (creatinine / (20 + age)) ** -0.13

    effects = {"clearance": Formula(renal, ("crcl", "age"))}
    given = population(covariates=effects)
    content = json.loads(json.dumps(given.to_dict()))
    with pytest.raises(ValueError, match=r"'renal' is code.*functions="):
        Population.from_dict(content)
    again = Population.from_dict(content, {"renal": renal})
    factor = renal(torch.tensor(60.0), torch.tensor(40.0)).item()
    assert again.typical({"crcl": 60.0, "age": 40.0})["clearance"] == pytest.approx(4.0 * factor)
    assert again == given
    assert Population.from_dict(content, {"renal": lambda creatinine, age: 1.0}) != given
    with pytest.raises(ValueError, match="no formula has the name 'other'; there are renal"):
        Population.from_dict(content, {"renal": renal, "other": renal})


REFUSED = {
    "overlap": (
        {"between_tasks": (Block(sd={"clearance": 0.3}), Block(sd={"clearance": 0.3, "volume": 0.2}))},
        "'clearance' is in two blocks",
    ),
    "unknown constant of a block": ({"between_tasks": Block(sd={"clearence": 0.3})}, "'clearence'.*no constant"),
    "unknown constant of an effect": ({"covariates": {"ka": Power("weight", 1)}}, "'ka'.*no constant"),
    "column": ({"columns": {"time": "h"}}, "columns lacks 'weight'"),
    "scale of an effect": ({"covariates": {"share": Power("weight", 1)}}, "'share' is no constant with.*Shift"),
    "scale of a cv": ({"between_tasks": Block(cv={"share": 0.3})}, "'share' is normal on the logit scale"),
    "two uncertainties": ({"uncertainty": np.eye(3)}, "not both"),
    "shape of uncertainty": ({"standard_errors": None, "uncertainty": np.eye(2)}, "3 constants"),
    "negative uncertainty": ({"standard_errors": None, "uncertainty": np.diag([1, 1, -1])}, "no covariance"),
    "standard error": ({"standard_errors": {"volume": 0.0}}, "'volume' must be finite and above 0"),
    "standard error of nothing": ({"standard_errors": {"v": 1.0}}, "'v', which is no constant"),
    "outside its bounds": ({"constants": {"share": Parameter(1.2, lower=0, upper=1)}}, "'share'.*not inside"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_is_refused(case):
    change, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        population(**change)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "exactly one of variance, sd and cv"),
        ({"sd": {"a": 1.0}, "cv": {"a": 1.0}}, "exactly one"),
        ({"variance": {"a": 0.0}}, "above 0"),
        ({"variance": {"a": np.nan}}, "finite"),
        ({"cv": {"a": 39.8}}, "looks like percent; write 0.398"),
        ({"sd": {"a": 1.0, "b": 1.0}, "correlation": {("a", "b"): 1.0}}, "between -1 and 1"),
        ({"sd": {"a": 1.0, "b": 1.0}, "covariance": {("a", "b"): 1.5}}, "not positive definite"),
        ({"sd": {"a": 1.0, "b": 1.0}, "covariance": {("a", "c"): 0.5}}, "'c', which has no variance"),
        ({"sd": {"a": 1.0, "b": 1.0}, "covariance": {("a", "b"): 0.5, ("b", "a"): 0.5}}, "twice"),
        ({"sd": {"a": 1.0, "b": 1.0}, "covariance": {("a", "b"): 0.1}, "correlation": {("a", "b"): 0.1}}, "not both"),
    ],
)
def test_blocks_refuse(parts, message):
    with pytest.raises(ValueError, match=message):
        Block(**parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"kind": "additive"}, "'additive' needs sd"),
        ({"kind": "additive", "sd": 1.0, "cv": 0.1}, "'additive' has no cv"),
        ({"kind": "proportional", "cv": 0.0}, "above 0"),
        ({"kind": "additive", "sd": 1.0, "floor": 1.0}, "floor"),
        ({"kind": "student", "sd": 1.0}, "kind must be one of"),
    ],
)
def test_noise_refuses(parts, message):
    with pytest.raises(ValueError, match=message):
        NoiseModel(**parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(omega=1), "no key 'omega'"),
        (lambda c: c.update(metaest_population=2), "version 2"),
        (lambda c: c.pop("metaest_population"), "no population"),
        (lambda c: c.pop("noise"), "'noise' is missing"),
        (lambda c: c["constants"]["volume"].update(units="L"), "'volume' has no key 'units'"),
        (lambda c: c["constants"]["volume"].pop("value"), "'volume': 'value' is missing"),
        (lambda c: c["noise"].update(prop=1), "noise has no key 'prop'"),
        (lambda c: c["between_tasks"][0].update(omega=1), "no key 'omega'"),
        (lambda c: c["covariates"]["clearance"][0].update(kind="spline"), "kind must be one of"),
        (lambda c: c["covariates"]["clearance"][0].update(ref=1), "no key 'ref'"),
        (lambda c: c["covariates"]["clearance"][0].pop("exponent"), "'exponent' is missing"),
        (lambda c: c["provenance"].update(author="me"), "provenance has no key 'author'"),
    ],
)
def test_files_with_unknown_or_missing_keys_are_refused(tmp_path, change, message):
    content = json.loads(json.dumps(population().to_dict()))
    change(content)
    path = tmp_path / "population.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        Population.from_json(path)
    assert str(path) in str(error.value)


def test_text_that_is_not_json_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "population.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="population.json"):
        Population.from_json(path)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "population.json"
    path.write_text(json.dumps(population().to_dict()).replace('"target": "mg/L"', '"target": "mg/L", "target": "g/L"'))
    with pytest.raises(ValueError, match=r"population.json: the key 'target' stands twice"):
        Population.from_json(path)
    content = json.loads(json.dumps(population().to_dict()))
    content["covariates"]["volume"][0]["factors"].append([1, 0.5])
    with pytest.raises(ValueError, match="factors gives a value twice"):
        Population.from_dict(content)


def test_a_value_that_is_no_number_is_refused():
    content = json.loads(json.dumps(population().to_dict()))
    content["constants"]["volume"]["value"] = True
    with pytest.raises(ValueError, match="'volume': initial must be a number, got True"):
        Population.from_dict(content)
    with pytest.raises(TypeError, match="'route' is <"):
        population(settings={"route": object()})
    with pytest.raises(ValueError, match="'age' is 1e\\+06: the formula .* not finite"):
        population(covariates={"volume": Exponential("age", 1e305)}).typical({"age": 1e6})


@pytest.mark.parametrize(
    ("effect", "value", "message"),
    [
        (Power("weight", 1.0), -1.0, "'weight' is -1"),
        (Linear("crcl", 0.1, reference=66), 50.0, "'crcl' is 50"),
        (Category("sex", {0: 1.0, 1: 0.7}), 2.0, "'sex' is 2: its values are 0, 1"),
        (Maturation("age", 1.0), 0.0, "'age' is 0"),
        (Formula(lambda x: x, "x", "same"), -2.0, "'same' is -2 at x -2"),
    ],
)
def test_formulas_refuse_values_without_a_factor(effect, value, message):
    with pytest.raises(ValueError, match=message):
        effect.shift(np.array([value]))


def test_nobody_changes_the_mappings_of_a_population(tmp_path):
    published = population(settings={"route": "iv", "fixed": {"lag": [1, 2]}})
    held = {
        "constants": published.constants,
        "covariates": published.covariates,
        "columns": published.columns,
        "settings": published.settings,
        "nested": published.settings["fixed"],
        "block": published.between_tasks[0].variance or published.between_tasks[0].sd or published.between_tasks[0].cv,
        "ranges": published.provenance.ranges,
        "factors": Category("sex", {0: 1.0, 1: 0.7}).factors,
    }
    for copied in (published, pickle.loads(pickle.dumps(published)), copy.deepcopy(published)):
        assert copied == published
        assert copied.hash == published.hash
        assert isinstance(copied.settings["fixed"]["lag"], tuple)
        with pytest.raises(TypeError, match="read-only; dataclasses.replace"):
            copied.columns["time"] = "min"
    for name, mapping in held.items():
        before = dict(mapping)
        for change in (
            lambda m: m.update(a=1), lambda m: m.pop("a", None), lambda m: m.clear(), lambda m: m.popitem(),
            lambda m: m.setdefault("a", 1), lambda m: m.__setitem__("a", 1), lambda m: m.__delitem__("a"),
            lambda m: m.__ior__({"a": 1}),
        ):  # fmt: skip
            with pytest.raises(TypeError, match="read-only"):
                change(mapping)
        assert mapping == before, name
