"""A population as JSON: a versioned schema in which unknown keys are errors."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from numbers import Real
from typing import Any

import numpy as np

from metaest.population.block import Block
from metaest.population.effects import Category, Effect, Exponential, Formula, Linear, Maturation, Power, Shift
from metaest.population.noise_model import NoiseModel, OutputNoiseModel
from metaest.population.numbers import as_float, as_names
from metaest.population.parameter import Parameter
from metaest.population.provenance import Provenance

__all__ = ["VERSION", "plain_settings", "read", "without_repeats", "written"]

VERSION = 1
EFFECTS: Mapping[str, type[Effect]] = {
    cls.kind: cls for cls in (Power, Linear, Exponential, Shift, Maturation, Category, Formula)
}
KEYS = (
    "constants",
    "between_tasks",
    "noise",
    "covariates",
    "columns",
    "target",
    "uncertainty",
    "equation",
    "settings",
    "equation_hash",
    "provenance",
)


def written(population: Any) -> dict[str, Any]:
    """Return the content of a Population as numbers, texts, lists and mappings; what is empty is left out."""
    content: dict[str, Any] = {
        "constants": {
            name: _without_empty(
                {
                    "value": float(p.initial),
                    "standard_error": population.standard_errors.get(name),
                    "lower": None if p.lower is None else float(p.lower),
                    "upper": None if p.upper is None else float(p.upper),
                    "transform": p.transform,
                    "unit": p.unit,
                    "meaning": p.meaning,
                }
            )
            for name, p in population.constants.items()
        },
        "between_tasks": [_block(block) for block in population.between_tasks],
        "noise": _noise(population.noise),
        "covariates": {
            name: [_effect(effect) for effect in effects] for name, effects in population.covariates.items()
        },
        "columns": dict(population.columns),
        "target": population.target,
        "uncertainty": None if population.uncertainty is None else np.asarray(population.uncertainty).tolist(),
        "equation": population.equation,
        "settings": plain_settings(population.settings),
        "equation_hash": population.equation_hash,
        "provenance": _plain(population.provenance),
    }
    return {"metaest_population": VERSION, **_without_empty(content)}


def read(content: Any, functions: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return the arguments of a Population from JSON's content.

    Raises
    ------
    TypeError, ValueError
        When a key is unknown or missing, or the version is a later one.
    """
    if not isinstance(content, Mapping) or "metaest_population" not in content:
        raise ValueError("this is no population: the key 'metaest_population' (its version) is missing.")
    version = content["metaest_population"]
    if version != VERSION:
        raise ValueError(f"this population has version {version!r}; this metaest reads version {VERSION}.")
    known_keys(content, ("metaest_population", *KEYS), "a population")
    for key in ("constants", "noise"):
        if key not in content:
            raise ValueError(f"{key!r} is missing.")
    constants, errors = {}, {}
    for name, entry in _mapping(content["constants"], "constants").items():
        where = f"constants: {name!r}"
        known_keys(entry, ("value", "standard_error", "lower", "upper", "transform", "unit", "meaning"), where)
        if "value" not in entry:
            raise ValueError(f"{where}: 'value' is missing.")
        rest = {key: value for key, value in entry.items() if key not in ("value", "standard_error")}
        constants[name] = Parameter(entry["value"], **rest)
        if entry.get("standard_error") is not None:
            errors[name] = entry["standard_error"]
    covariates = {
        name: [_effect_of(entry, name, functions) for entry in _sequence(entries, f"covariates of {name!r}")]
        for name, entries in _mapping(content.get("covariates", {}), "covariates").items()
    }
    used = {effect.name for effects in covariates.values() for effect in effects if isinstance(effect, Formula)}
    for name in as_names(functions, "functions"):
        if name not in used:
            raise ValueError(
                f"functions: no formula has the name {name!r}; there are {', '.join(sorted(used)) or 'none'}."
            )
    return {
        "constants": constants,
        "between_tasks": [
            _block_of(entry) for entry in _sequence(content.get("between_tasks", []), "Population: between_tasks")
        ],
        "noise": _noise_of(content["noise"]),
        "covariates": covariates,
        "standard_errors": errors,
        "provenance": _made(Provenance, content.get("provenance", {}), "provenance"),
        **{
            key: content[key]
            for key in ("columns", "target", "uncertainty", "equation", "settings", "equation_hash")
            if key in content
        },
    }


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a JSON file, or raise a ValueError where a key stands in it twice."""
    content = dict(pairs)
    for key in content if len(content) < len(pairs) else ():
        if sum(key == other for other, _ in pairs) > 1:
            raise ValueError(f"the key {key!r} stands twice in one object.")
    return content


def plain_settings(given: Any) -> dict[str, Any]:
    """Return settings as a file has them, or raise a TypeError where it cannot hold one."""
    settings = as_names(given, "Population: settings")
    for name, value in settings.items():
        try:
            settings[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"Population: settings are numbers, texts, lists and dicts of them; {name!r} is {value!r}."
            ) from error
    return settings


def known_keys(entry: Any, keys: Sequence[str], where: str) -> None:
    """Raise a ValueError for the first key of a mapping that is not among `keys`."""
    for key in _mapping(entry, where):
        if key not in keys:
            raise ValueError(f"{where} has no key {key!r}; the keys are {', '.join(keys)}.")


def _noise(noise: Any) -> dict[str, Any]:
    if isinstance(noise, OutputNoiseModel):
        of = [[output, noise.codes[output], _noise(model)] for output, model in noise.models.items()]
        return {"output": noise.column, "of": of}
    return _without_empty({"kind": noise.kind, **noise.numbers(), "floor": noise.floor or None})


def _noise_of(entry: Any) -> Any:
    if "output" not in _mapping(entry, "noise"):
        return _made(NoiseModel, entry, "noise")
    known_keys(entry, ("output", "of"), "noise")
    pairs = _sequence(entry.get("of", []), "noise: of")
    if not all(
        isinstance(pair, (list, tuple)) and len(pair) == 3 and isinstance(pair[0], (str, Real)) for pair in pairs
    ):
        raise TypeError(f"noise: of must be a list of [output, its number, noise], got {pairs!r}.")
    if len({output for output, _, _ in pairs}) < len(pairs):
        raise ValueError("noise: of gives an output twice.")
    models = {output: _made(NoiseModel, noise, "noise") for output, _, noise in pairs}
    return OutputNoiseModel(entry["output"], models, {output: code for output, code, _ in pairs})


def _block(block: Block) -> dict[str, Any]:
    entry: dict[str, Any] = _without_empty({kind: dict(getattr(block, kind)) for kind in ("variance", "sd", "cv")})
    for kind in ("covariance", "correlation"):
        if getattr(block, kind):
            entry[kind] = [[*pair, value] for pair, value in getattr(block, kind).items()]
    return entry


def _block_of(entry: Any) -> Block:
    known_keys(entry, ("variance", "sd", "cv", "covariance", "correlation"), "a Block of between_tasks")
    parts: dict[str, Any] = {kind: entry[kind] for kind in ("variance", "sd", "cv") if kind in entry}
    for kind in ("covariance", "correlation"):
        pairs = _sequence(entry.get(kind, []), f"Block: {kind}")
        for pair in pairs:
            if not _is_pair(pair):
                raise TypeError(f"Block: {kind} must be a list of [name, name, value], got {pair!r}.")
        parts[kind] = {(pair[0], pair[1]): pair[2] for pair in pairs}
        if len(parts[kind]) < len(pairs):
            raise ValueError(f"Block: {kind} gives a pair of constants twice.")
    return Block(**parts)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 3 and all(isinstance(name, str) for name in pair[:2])


def _effect(effect: Effect) -> dict[str, Any]:
    if isinstance(effect, Formula):
        return {"kind": effect.kind, "name": effect.name, "reads": list(effect.reads)}
    entry = _plain(effect)
    if isinstance(effect, Category):
        entry["factors"] = [[level, factor] for level, factor in effect.factors.items()]
    return {"kind": effect.kind, **entry}


def _effect_of(entry: Any, constant: str, functions: Mapping[str, Callable[..., Any]]) -> Effect:
    where = f"covariates of {constant!r}"
    kind: Any = _mapping(entry, where).get("kind")
    if not isinstance(kind, str) or kind not in EFFECTS:
        raise ValueError(f"{where}: kind must be one of {', '.join(EFFECTS)}, got {kind!r}.")
    rest = {key: value for key, value in entry.items() if key != "kind"}
    if kind == "formula":
        known_keys(rest, ("name", "reads"), where)
        name: Any = rest.get("name")
        if not isinstance(name, str) or name not in functions:
            raise ValueError(
                f"{where}: the formula {name!r} is code, which is not in a file; pass functions={{{name!r}: ...}}."
            )
        return Formula(functions[name], rest.get("reads", ()), name)
    if kind == "category" and "factors" in rest:
        pairs = _sequence(rest["factors"], f"{where}: factors")
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            raise TypeError(f"{where}: factors must be a list of [value, factor], got {pairs!r}.")
        levels = [as_float(level, f"{where}: a value of factors") for level, _ in pairs]
        if len(set(levels)) < len(levels):
            raise ValueError(f"{where}: factors gives a value twice.")
        rest["factors"] = dict(zip(levels, (factor for _, factor in pairs), strict=True))
    return _made(EFFECTS[kind], rest, where)  # type: ignore[no-any-return]


def _made(cls: Any, entry: Any, where: str) -> Any:
    """Return an object of a dataclass from a mapping; a key that is missing or unknown is an error."""
    keys = [f.name for f in fields(cls)]
    known_keys(entry, keys, where)
    for f in fields(cls):
        if f.default is MISSING and f.default_factory is MISSING and f.name not in entry:
            raise ValueError(f"{where}: {f.name!r} is missing.")
    return cls(**entry)


def _plain(thing: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not at their defaults."""
    entry = {}
    for f in fields(thing):
        value = getattr(thing, f.name)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if value != default:
            entry[f.name] = value
    return {
        name: {key: list(ends) for key, ends in value.items()} if name == "ranges" else value
        for name, value in entry.items()
    }


def _without_empty(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None and value != "" and value != {}}


def _mapping(entry: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise TypeError(f"{where} must be a mapping, got {entry!r}.")
    return entry


def _sequence(entry: Any, where: str) -> Sequence[Any]:
    if isinstance(entry, (str, Mapping)) or not isinstance(entry, Sequence):
        raise TypeError(f"{where} must be a list, got {entry!r}.")
    return entry
