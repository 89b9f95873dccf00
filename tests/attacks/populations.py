"""The public entry points about populations, and hostile calls of each of them."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from attacks.arguments import count, one_of, rows_and_targets, seed, sequences, share
from attacks.core import FOLDER, bytes_of
from attacks.hostile import ODD, Given, brief, setting
from attacks.models import CONSTANTS, CURVE_PROBE, decay, decay_tasks, equation, once
from attacks.run import EntryPoint
from metaest import EquationRegressor, Population
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
    read_monolix,
    read_nonmem_ext,
    read_nonmem_phi,
    read_pkpdsim,
)

ENTRIES: list[EntryPoint] = []
PROBE = np.column_stack([CURVE_PROBE, np.full(2, 70.0)])


def entry(name: str, call: Callable[..., Any], arguments: Any, **options: Any) -> None:
    """Add an entry point."""
    ENTRIES.append(EntryPoint(name, call, arguments, **options))


def one_at_a_time(**verdicts: Callable[[Any], bool | None]) -> st.SearchStrategy[dict[str, Given]]:
    """Return a strategy: one of these arguments takes an odd value, and the others stay away."""
    return st.one_of(*(setting(valid, name).map(lambda g, name=name: {name: g}) for name, valid in verdicts.items()))


def either(value: Any) -> bool | None:
    """Say of any value that it may be used or refused."""
    return None


def never(value: Any) -> bool | None:
    """Say of any value that it has to be refused."""
    return False


def unless_empty(value: Any) -> bool | None:
    """Say that only what is empty may be used."""
    return None if value is None or (hasattr(value, "__len__") and not len(value)) else False


def unless_named(value: Any) -> bool | None:
    """Say that only a dict by names of constants may be used."""
    return None if value == {"a": 1} else False


def above_0(value: Any) -> bool | None:
    """Say that a value must be a number above 0."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return bool(np.isfinite(float(value)) and value > 0)


def below_1(value: Any) -> bool | None:
    """Say that a value must be a number between 0 and 1."""
    return None if above_0(value) and value < 1 else False


def text(value: Any) -> bool | None:
    """Say that a value must be text."""
    return None if isinstance(value, str) else False


def published(**parts: Any) -> Population:
    """Return a population of decaying curves, with a covariate."""
    usual = {
        "constants": CONSTANTS,
        "between_tasks": Block(sd={"k": 0.3, "a": 0.2}, correlation={("k", "a"): 0.3}),
        "noise": NoiseModel("combined", sd=0.05, cv=0.1),
        "covariates": {"k": Power("weight", -0.25, reference=70)},
        "columns": {"time": "h", "weight": "kg"},
        "target": "mg/L",
        "provenance": Provenance("A. Author", ranges={"weight": (40, 120)}),
    }
    return Population(**{**usual, **parts})


def _answers(population: Population) -> Any:
    """Return what a population says, also from its JSON, and what a model answers that keeps it."""
    again = Population.from_dict(json.loads(json.dumps(population.to_dict())))
    assert again == population
    assert again.hash == population.hash
    weight = {"weight": 60.0} if "weight" in population.covariate_columns else {}
    numbers = [list(population.typical(weight).values()), population.covariance()]
    if tuple(population.columns) != ("time", "weight") or population.equation_hash or population.settings:
        return numbers
    return [*numbers, EquationRegressor.from_population(decay, population, random_state=0).predict(PROBE)]


entry(
    "Population",
    lambda **parts: _answers(published(**parts)),
    one_at_a_time(
        constants=never,
        between_tasks=unless_empty,
        noise=never,
        covariates=unless_empty,
        columns=lambda v: None if not v else False,
        target=text,
        standard_errors=unless_empty,
        uncertainty=either,
        equation=text,
        settings=lambda v: None if v is None or isinstance(v, Mapping) else unless_empty(v),
        equation_hash=text,
        provenance=lambda v: None if v is None else False,
    ),
)
entry(
    "Population (numbers)",
    lambda error=0.1, matrix=0.1, low=40, value=1.0: (
        _answers(
            published(
                constants={**CONSTANTS, "k": value},
                covariates={},
                standard_errors={"k": error},
                provenance=Provenance(ranges={"weight": (low, 120)}),
            )
        ),
        _answers(published(uncertainty=[[matrix, 0.0], [0.0, 0.01]])),
    ),
    one_at_a_time(error=above_0, matrix=either, low=either, value=either),
)


def _matrix(**parts: Any) -> Any:
    usual = {} if {"variance", "sd", "cv"} & set(parts) else {"sd": {"k": 0.3, "a": 0.2}}
    return _answers(published(between_tasks=Block(**{**usual, **parts})))


entry(
    "Block",
    _matrix,
    one_at_a_time(
        variance=unless_named, sd=unless_named, cv=unless_named, covariance=unless_empty, correlation=unless_empty
    ),
)
entry(
    "Block (numbers)",
    lambda sd=0.3, correlation=0.1, pair=("k", "a"): _matrix(sd={"k": sd, "a": 0.2}, correlation={pair: correlation}),
    one_at_a_time(
        sd=lambda v: above_0(v) and (1e-6 < v < 10 or None),
        correlation=either,
        pair=lambda v: _hashable(v) and False,
    ).filter(lambda given: "pair" not in given or _hashable(given["pair"].value)),
)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


NOISE = {
    "additive": {"sd": 0.1},
    "proportional": {"cv": 0.1, "floor": 0.01},
    "power": {"sd_at_1": 0.1, "power": 0.5, "floor": 0.01},
    "lognormal": {"sd_log": 0.1},
}


@st.composite
def _noise(draw: st.DrawFn) -> dict[str, Given]:
    kind = draw(st.sampled_from(list(NOISE)))
    name = draw(st.sampled_from(["kind", "sd", "cv", "sd_at_1", "power", "sd_log", "floor"]))
    value = draw(st.sampled_from(ODD))
    parts = {"kind": kind, **NOISE[kind], name: value}
    return {"parts": Given(f"{kind}, {name}={brief(value)}", parts, parts)}


entry("NoiseModel", lambda parts: _answers(published(noise=NoiseModel(**parts))), _noise())
entry(
    "Provenance",
    lambda **parts: _answers(published(provenance=Provenance(**parts))),
    one_at_a_time(citation=text, doi=text, tasks=text, n_tasks=either, n_rows=either, ranges=unless_empty, notes=text),
)

EFFECTS: dict[str, tuple[type, dict[str, Any]]] = {
    "Power": (Power, {"column": "weight", "exponent": 0.75, "reference": 70, "least": 30, "most": 200}),
    "Linear": (Linear, {"column": "weight", "slope": 0.01, "reference": 70, "least": 30, "most": 200}),
    "Exponential": (Exponential, {"column": "weight", "slope": 0.01, "reference": 70, "least": 30, "most": 200}),
    "Shift": (Shift, {"column": "weight", "slope": 0.01, "reference": 70}),
    "Maturation": (Maturation, {"column": "weight", "half": 30.0, "hill": 2.0}),
    "Category": (Category, {"column": "weight", "factors": {60.0: 0.8, 70.0: 1.0}}),
    "Formula": (Formula, {"function": lambda w: w / 70, "reads": "weight", "name": "relative"}),
}


def _effect(kind: str) -> Callable[..., Any]:
    cls, usual = EFFECTS[kind]

    def call(**parts: Any) -> Any:
        effect = cls(**{**usual, **parts})
        if kind == "Formula":
            return published(covariates={"k": effect}).typical({"weight": 60.0})
        return _answers(published(covariates={"k": effect}))

    return call


for _kind, (_, _usual) in EFFECTS.items():
    entry(_kind, _effect(_kind), one_at_a_time(**dict.fromkeys(_usual, either)))
entry(
    "Effect (values)",
    lambda kind, value: published(covariates={"k": EFFECTS[kind][0](**EFFECTS[kind][1])}).typical({"weight": value}),
    st.tuples(st.sampled_from(list(EFFECTS)), setting(lambda v: False if above_0(v) is False else None, "value"))
    .map(lambda both: {"kind": Given(both[0], both[0], both[0], sure=True), "value": both[1]})
    .filter(lambda given: _is_number_below(given["value"].value) is False),
)


def _is_number_below(value: Any) -> bool:
    """Whether a value is a finite number that some of the formulas read, though it is not above 0."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and not value > 0


entry(
    "Population.typical",
    lambda **arguments: published().typical(**arguments),
    one_at_a_time(covariates=never),
)

# ---- files ------------------------------------------------------------------------------------------------------

CONTENT = published(
    covariates={"k": (Power("weight", 0.75, reference=70), Category("weight", {60.0: 1.0, 70.0: 1.1}))},
    standard_errors={"k": 0.1},
    settings={},
).to_dict()


def _places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, value in pairs for place in _places(value, (*path, key)))]


PLACES = [place for place in _places(json.loads(json.dumps(CONTENT))) if place]
JSON = [value for value in ODD if value is None or type(value) in (bool, int, float, str, list, dict)]


@st.composite
def _edited(draw: st.DrawFn) -> dict[str, Given]:
    place = draw(st.sampled_from(PLACES))
    what = draw(st.sampled_from(["odd", "gone", "another key"]))
    value = draw(st.sampled_from(JSON))
    content = json.loads(json.dumps(CONTENT))
    part = content
    for key in place[:-1]:
        part = part[key]
    if what == "odd":
        part[place[-1]] = value
    elif what == "gone":
        del part[place[-1]]
    elif isinstance(part, dict):
        part["another"] = value
    return {"content": Given(f"{what} at {place}: {brief(value)}", content, content)}


def _of_dict(content: Any, **options: Any) -> Any:
    return _answers(Population.from_dict(copy.deepcopy(content), **options))


def _of_file(content: Any) -> Any:
    path = Path(FOLDER.name) / "population.json"
    path.write_text(json.dumps(content))
    return _answers(Population.from_json(path))


entry("Population.from_dict", _of_dict, _edited())
entry("Population.from_dict (anything)", _of_dict, one_at_a_time(content=never))
entry(
    "Population.from_dict (functions)",
    lambda functions: _of_dict(CONTENT, functions=functions),
    one_at_a_time(functions=unless_empty),
)
entry("Population.from_json", _of_file, _edited().filter(lambda given: "10000000" not in given["content"].kind))
entry(
    "Population.from_json (path)",
    lambda path: _answers(Population.from_json(path)),
    one_at_a_time(path=never),
    kinds=(OSError,),
)
entry(
    "Population.from_json (bytes)",
    lambda content: _bytes(content),
    st.binary(max_size=30).map(lambda b: {"content": Given("bytes", b, b, refuse=True)}),
)


def _bytes(content: bytes) -> Any:
    path = Path(FOLDER.name) / "bytes.json"
    path.write_bytes(content)
    return _answers(Population.from_json(path))


def _to_file(path: Any) -> Any:
    published().to_json(path)
    return _answers(Population.from_json(path))


entry(
    "Population.to_json",
    _to_file,
    one_at_a_time(path=lambda v: None if isinstance(v, (str, bytes)) else False).filter(
        lambda given: not isinstance(given["path"].value, (str, bytes, int, np.integer))
    ),
    kinds=(OSError,),
)

# ---- files of other programs ---------------------------------------------------------------------------------

FILES = {
    read_nonmem_ext: "TABLE NO. 1: First Order: Problem=1\n"
    " ITERATION THETA1 SIGMA(1,1) OMEGA(1,1) OBJ\n -1000000000 2 .1 .3 9\n",
    read_nonmem_phi: "TABLE NO. 1: First Order: Problem=1\n SUBJECT_NO ID ETA(1) ETC(1,1) OBJ\n 1 5 .1 .3 9\n",
    read_monolix: "parameter,value,se_sa\nk_pop,2,.1\nomega_k,.3,.1\na,.1,\n",
    read_pkpdsim: "{parameters: {k: 2}, omega_matrix: [.09], ruv: {add: .1}}",
}


def _read(reader: Callable[..., Any], content: Any, **settings: Any) -> Any:
    path = Path(FOLDER.name) / "numbers.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = reader(path, **settings)
    return read if isinstance(read, pd.DataFrame) else list(read.values.values())


def _cut(text: str) -> st.SearchStrategy[dict[str, Given]]:
    """Return a strategy: a file of which something is missing, doubled or changed."""
    damaged = st.one_of(
        st.integers(0, len(text) - 1).map(lambda i: text[:i]),
        st.tuples(st.integers(0, len(text) - 1), st.characters()).map(lambda c: text[: c[0]] + c[1] + text[c[0] + 1 :]),
        st.just(text + text),
    )
    return damaged.map(lambda content: {"content": Given(f"damaged {content[:20]!r}", content, content, sure=False)})


for _reader, _text in FILES.items():
    entry(
        f"{_reader.__name__} (path)",
        lambda path, _reader=_reader: _reader(path),
        one_at_a_time(path=never),
        kinds=(OSError,),
    )
    entry(
        f"{_reader.__name__} (damaged)",
        lambda content, _reader=_reader: _read(_reader, content),
        _cut(_text),
        compare=False,
    )
for _reader in (read_nonmem_ext, read_nonmem_phi):
    entry(f"{_reader.__name__} (table)", lambda table, _reader=_reader: _read(_reader, FILES[_reader], table=table), one_at_a_time(table=lambda v: None if v is None or (isinstance(v, int) and v == 1) else False))  # fmt: skip
entry("read_nonmem_ext (unconverged)", lambda unconverged: _read(read_nonmem_ext, FILES[read_nonmem_ext], unconverged=unconverged), one_at_a_time(unconverged=lambda v: None if isinstance(v, (bool, np.bool_)) else False))  # fmt: skip
entry("read_monolix (errors)", lambda errors: _read(read_monolix, FILES[read_monolix], errors=errors), one_at_a_time(errors=lambda v: None if v is None or v == "stochastic" else False))  # fmt: skip


def _of_estimates(**parts: Any) -> Any:
    path = Path(FOLDER.name) / "model.json5"
    path.write_text(FILES[read_pkpdsim])
    usual = {"typical": {"k": "k"}, "parameters": {"k": CONSTANTS["k"]}, "deviations": {"k": "k"}}
    return _answers(read_pkpdsim(path).to_population(**{**usual, **parts}))


entry(
    "Estimates.to_population",
    _of_estimates,
    one_at_a_time(
        typical=never,
        parameters=never,
        deviations=never,
        logarithms=unless_empty,
        without=unless_empty,
        noise=lambda v: None if v is None else False,
        covariates=unless_empty,
        provenance=lambda v: None if v is None else False,
        columns=lambda v: None if not v else False,
    ),
)

# ---- models -----------------------------------------------------------------------------------------------------

kept = once(lambda: EquationRegressor.from_population(decay, published(), random_state=0))
KEPT_STATE = bytes_of(kept, PROBE)


def _kept_model(**arguments: Any) -> Any:
    return EquationRegressor.from_population(
        **{"equation": decay, "population": published(), "random_state": 0, **arguments}
    ).predict(PROBE)


entry(
    "EquationRegressor.from_population",
    lambda **arguments: _kept_model(**arguments),
    one_at_a_time(
        equation=never, population=never, random=lambda v: None if v is None else False, covariance=never, noise=never, covariates=unless_empty,
        measurement_sd=lambda v: None if v is None else False, noise_correlation=lambda v: None if v is None else False,
        prior=never, prior_weight=either, limit=either, random_state=either,
    ),
)  # fmt: skip
entry(
    "EquationRegressor.to_population",
    lambda **arguments: list(equation().to_population(**arguments).typical().values()),
    one_at_a_time(
        columns=lambda v: None if v is None or v == {"a": 1} else False,
        target=text,
        provenance=lambda v: None if v is None else False,
    ),
    state=bytes_of(equation, CURVE_PROBE),
)


def _simulated(X: Any, **settings: Any) -> Any:
    tasks = equation().simulate_tasks(X, **{"n": 3, "random_state": 0, **settings})
    return [tasks.X, tasks.y]


entry(
    "EquationRegressor.simulate_tasks",
    _simulated,
    rows_and_targets(
        columns=1, positive=True, names=("X",), settings={"n": count(1, 20, name="n"), "random_state": seed()}
    ),
    state=bytes_of(equation, CURVE_PROBE),
)
entry(
    "EquationRegressor.simulate_tasks (designs)",
    lambda designs: _simulated(designs),
    one_at_a_time(designs=either),
    state=bytes_of(equation, CURVE_PROBE),
)
entry(
    "EquationRegressor.simulate_tasks (population)",
    lambda X: kept().simulate_tasks(X, 3, 0).y,
    rows_and_targets(columns=2, positive=True, names=("X",)),
    state=KEPT_STATE,
)
LIKELIHOOD = {
    "method": one_of("method", "laplace", "importance", "quadrature"),
    "n_samples": count(20, name="n_samples"),
    "n_nodes": count(1, 101, name="n_nodes"),
    "random_state": seed(),
}
entry(
    "EquationRegressor.log_likelihood",
    lambda tasks, **settings: equation().log_likelihood(tasks, **{"random_state": 0, **settings}).value,
    sequences(decay_tasks(3, seed=5), spells=False, settings=LIKELIHOOD),
    state=bytes_of(equation, CURVE_PROBE),
)
# what a fitted equation is asked, of one that keeps a population
WEIGHTS = {"further": {"sample_weight": lambda n, rng: rng.uniform(0.5, 2, n)}}
ALONE = published(covariates={}, columns={"time": "h"})
WITHOUT_WEIGHT = ALONE.as_settings()
kept_alone = once(lambda: EquationRegressor.from_population(decay, ALONE, random_state=0))


entry(
    "EquationRegressor.adapt (population)",
    lambda X, y, **settings: kept_alone().adapt(X, y, **settings).predict(CURVE_PROBE),
    rows_and_targets(columns=1, positive=True, **WEIGHTS),
    state=bytes_of(kept_alone, CURVE_PROBE),
)
entry(
    "EquationRegressor.adapt (covariates)",
    lambda covariates: kept().adapt([], [], covariates=covariates).params_["value"].to_numpy(),
    one_at_a_time(covariates=never),
    state=KEPT_STATE,
)
entry(
    "EquationRegressor.fit (population)",
    lambda tasks: EquationRegressor(decay, CONSTANTS, random_state=0, **WITHOUT_WEIGHT).fit(tasks).predict(CURVE_PROBE),
    sequences(decay_tasks(4, seed=7), spells=False, fixed=False),
    fits=True,
)
entry(
    "EquationRegressor.recalibrate",
    lambda tasks, **settings: kept_alone().recalibrate(tasks, **settings).bias["local"].to_numpy(),
    sequences(
        decay_tasks(2, seed=8),
        spells=False,
        fixed=False,
        settings={"support_size": setting(either, "support_size"), "level": share()},
    ),
    fits=True,
    state=bytes_of(kept_alone, CURVE_PROBE),
)


def _profile(**settings: Any) -> Any:
    usual = {"name": "k_omega", "n_points": 2}
    return equation().profile_likelihood(decay_tasks(), **{**usual, **settings}).table.to_numpy()


entry(
    "EquationRegressor.profile_likelihood",
    _profile,
    one_at_a_time(name=never, level=below_1, n_points=either),
    fits=True,
    state=bytes_of(equation, CURVE_PROBE),
)
entry(
    "EquationRegressor.profile_likelihood (tasks)",
    lambda tasks: equation().profile_likelihood(tasks, "k", n_points=2).table.to_numpy(),
    sequences(decay_tasks(), spells=False, fixed=False).filter(lambda given: given["tasks"].refuse),
    fits=True,
)
