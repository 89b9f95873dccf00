"""The parts that a model shares with the predictors adapted from it; a predictor's file holds only their hash."""

from typing import Any

from metaest.exceptions import ModelFileError
from metaest.saving.encode import digest_of, is_ours

__all__ = ["is_adapted", "population_hash", "shared_parts"]


def is_adapted(thing: Any) -> bool:
    """Tell whether something was made by ``adapt``, and so belongs to a model."""
    return bool(getattr(thing, "is_adapted", False))


def shared_parts(thing: Any) -> dict[str, Any]:
    """Return the parts that a model shares with all predictors adapted from it, by name.

    Raises
    ------
    ModelFileError
        When it is neither a fitted model nor made by one.
    """
    if hasattr(thing, "shared_parts"):
        further: dict[str, Any] = thing.shared_parts()
        inner = further.pop("inner")
        return {**shared_parts(inner), **further}
    calibration = getattr(thing, "_conformal", None)
    if hasattr(thing, "_populations"):
        equations = {
            f"part {i}, structure {j}": equation
            for i, structures in enumerate(thing._populations, 1)
            for j, equation in enumerate(structures, 1)
        }
        return {**equations, "weighting": thing._weighting, "columns": thing._part_columns, "calibration": calibration}
    if hasattr(thing, "_fitted"):
        structures = {f"structure {i}": part for i, part in enumerate(getattr(thing, "_further", None) or (), 1)}
        return {"population": thing._fitted, **structures, "calibration": calibration}
    if hasattr(thing, "_prior"):
        return {"prior": thing._prior, "calibration": calibration}
    if hasattr(thing, "_ensemble"):
        return {"ensemble": thing._ensemble, "calibration": calibration}
    if hasattr(thing, "_network"):
        weights = thing._meta if hasattr(thing, "_meta") else thing._params
        return {"network": thing._network, "weights": weights, "calibration": calibration}
    raise ModelFileError(f"a {type(thing).__name__} has nothing learned; fit it first.")


def population_hash(thing: Any) -> str:
    """Return the SHA-256 of the learned parts, without a calibration of intervals."""
    parts = shared_parts(thing)
    parts = {name: part for name, part in parts.items() if name not in ("calibration", "model")}
    if "ensemble" in parts:  # what its members learned, without their settings and the time that their fits took
        members = parts["ensemble"].members
        parts["ensemble"] = [(one.name, one.weight, _hash_of_member(one.model)) for one in members]
    return digest_of(parts)


def _hash_of_member(model: Any) -> str:
    """Return the hash of a member of an ensemble; one of another library is refused by its class."""
    return population_hash(model) if is_ours(model) else digest_of({"model": model})
