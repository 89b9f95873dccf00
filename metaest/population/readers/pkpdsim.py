"""The constants in a model definition of PKPDsim."""

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any

from metaest.population.estimates import Estimates
from metaest.population.noise_model import NoiseModel
from metaest.population.numbers import as_path
from metaest.population.readers.json5 import parse_json5
from metaest.population.readers.text_file import text_of

__all__ = ["read_pkpdsim"]


def read_pkpdsim(path: str | PathLike[str]) -> Estimates:
    """Read the constants in a model definition of PKPDsim, in JSON5.

    Read are ``parameters``; ``omega_matrix`` (or ``omega``), the lower triangle of the covariance of those parameters
    that ``fixed`` does not name, in their order; ``ruv``, standard deviations, ``prop`` and ``add``, of a noise whose
    variances add; ``units``; and names of covariates. The code of the model is not read. How covariates enter, and what
    a parameter is in the equation, are in it: name them to :meth:`Estimates.to_population`.

    Parameters
    ----------
    path : str or path
        Such as ``"pk_vanco_thomson.json5"``.

    Returns
    -------
    Estimates
        Labels are the names of the parameters, also as labels of their variation between tasks, and "ruv_prop" and
        "ruv_add" for one observed variable. ``occasions`` has a label "iov_CL" for each variation between occasions.

    Raises
    ------
    ValueError
        When the file is no such definition, the triangle has another size, or a number is none; the message names file
        and key.
    OSError
        When the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from metaest import Parameter
    >>> from metaest.population import Power, read_pkpdsim
    >>> text = '''{ // a definition
    ...   parameters: { CL: 3.0, V: 0.7, TH: 0.75 },
    ...   fixed: ["TH"],
    ...   omega_matrix: [0.09, 0.01, 0.04],
    ...   ruv: { prop: 0.15, add: 1.6 },
    ...   covariates: ["WT"],
    ... }'''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "model.json5"
    ...     _ = file.write_text(text)
    ...     read = read_pkpdsim(file)
    >>> drug = read.to_population(
    ...     {"clearance": "CL", "volume": "V"},
    ...     {"clearance": Parameter(1.0, lower=0, unit="L/h"), "volume": Parameter(1.0, lower=0, unit="L")},
    ...     deviations={"clearance": "CL", "volume": "V"},
    ...     covariates={"clearance": Power("weight", read["TH"], reference=70), "volume": Power("weight", 1)},
    ... )
    >>> drug.noise, drug.covariance().round(4).tolist()
    (NoiseModel('combined', sd=1.6, cv=0.15), [[0.09, 0.01], [0.01, 0.04]])
    """
    try:
        content = parse_json5(text_of(path))
    except ValueError as error:
        raise ValueError(f"the file {path}: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict) or not content["parameters"]:
        raise ValueError(f"the file {path} is no model definition of PKPDsim: it has no parameters by name.")
    values = {name: _number(value, path, f"parameters.{name}") for name, value in content["parameters"].items()}
    fixed = _texts(content, "fixed", path)
    free = [name for name in values if name not in fixed]
    covariance = _covariance(content, free, path)
    varying = [i for i in range(len(covariance)) if any(covariance[i])]  # a variance of 0 is no variation
    noise = _noise(content, values, path)
    references = content.get("references")
    first = references[0] if isinstance(references, list) and references else None
    units = content.get("units") or {}
    if not isinstance(units, dict) or not all(isinstance(unit, str) for unit in units.values()):
        raise ValueError(f"the file {path}: units must be texts by name, got {units!r:.60}.")
    said = first.get("ref") if isinstance(first, dict) else None
    return Estimates(
        values=values,
        deviations=tuple(free[i] for i in varying),
        covariance=tuple(tuple(covariance[i][j] for j in varying) for i in varying),
        occasions=tuple(f"iov_{name}" for name in _between_occasions(content, path)),
        covariates=_texts(content, "covariates", path),
        noise=noise,
        units=units,
        source=f"{said}, in PKPDsim, {as_path(path).name}"
        if isinstance(said, str)
        else f"PKPDsim, {as_path(path).name}",
    )


def _number(value: Any, path: Any, key: str) -> float:
    """Return a finite number, which may be the only member of a list."""
    alone = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(alone, bool) or not isinstance(alone, (int, float)) or not math.isfinite(alone):
        raise ValueError(f"the file {path}: {key} must be a finite number, got {value!r:.60}.")
    return float(alone)


def _texts(content: Mapping[str, Any], key: str, path: Any) -> tuple[str, ...]:
    """Return a list of texts, an empty one where there is none."""
    given = content.get(key) or []
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise ValueError(f"the file {path}: {key} must be a list of names, got {given!r:.60}.")
    return tuple(given)


def _covariance(content: Mapping[str, Any], free: list[str], path: Any) -> list[list[float]]:
    """Return the covariance of the parameters that vary, from its lower triangle."""
    keys = [key for key in ("omega_matrix", "omega") if content.get(key) is not None]
    if len(keys) > 1:
        raise ValueError(f"the file {path} has both omega_matrix and omega.")
    if not keys:
        if content.get("iiv"):
            raise ValueError(f"the file {path} has iiv and no omega_matrix: it does not say which scale these are on.")
        return []
    given = content[keys[0]]
    if not isinstance(given, list):
        raise ValueError(f"the file {path}: {keys[0]} must be a list of numbers, got {given!r:.60}.")
    triangle = [_number(value, path, f"{keys[0]}[{i}]") for i, value in enumerate(given)]
    n = len(free)
    if len(triangle) != n * (n + 1) // 2:
        raise ValueError(
            f"the file {path}: {keys[0]} has {len(triangle)} numbers, and the lower triangle over {', '.join(free)}, "
            f"the parameters that fixed does not name, has {n * (n + 1) // 2}."
        )
    rows = [triangle[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2] for i in range(n)]
    return [[rows[max(i, j)][min(i, j)] for j in range(n)] for i in range(n)]


def _noise(content: Mapping[str, Any], values: dict[str, float], path: Any) -> NoiseModel | None:
    """Return the noise, and put its numbers among the values; None where several variables are observed."""
    ruv = content.get("ruv")
    if ruv is None:
        return None
    if not isinstance(ruv, dict):
        raise ValueError(f"the file {path}: ruv must have numbers by name, got {ruv!r:.60}.")
    for name in ruv:
        if name not in ("prop", "add"):
            raise ValueError(f"the file {path}: ruv.{name} is no standard deviation of this reader; prop and add are.")
    if any(isinstance(value, list) and len(value) != 1 for value in ruv.values()):
        return None
    parts = {name: _number(value, path, f"ruv.{name}") for name, value in ruv.items()}
    values.update({f"ruv_{name}": value for name, value in parts.items()})
    if content.get("ltbs"):  # noise of logarithms, whose additive part is that of the logarithm
        return None
    relative, absolute = parts.get("prop", 0.0), parts.get("add", 0.0)
    if relative and absolute:
        return NoiseModel("combined", sd=absolute, cv=relative)
    if relative:
        return NoiseModel("proportional", cv=relative)
    return NoiseModel("additive", sd=absolute) if absolute else None


def _between_occasions(content: Mapping[str, Any], path: Any) -> list[str]:
    """Return the names of the parameters that vary between occasions."""
    iov = content.get("iov")
    if not iov:
        return []
    if not isinstance(iov, dict) or not isinstance(iov.get("cv", {}), dict):
        raise ValueError(f"the file {path}: iov must have cv by name, got {iov!r:.60}.")
    return list(iov.get("cv", {}))
