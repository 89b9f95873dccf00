"""A patient under a regimen by one model, or by several that are averaged, as the functions of the clinic ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from metaest import AdaptedPopulationAverage, Derived, Drawn, PopulationAverage
from metaest.selection.answers import naming
from metaest_domains.physiology.regimen import Regimen, covariate_columns
from metaest_domains.physiology.treatment import Treatment, columns_of, parts_of

__all__ = ["AveragedTreatment", "planned_treatment", "treatment_of"]


@dataclass(frozen=True)
class AveragedTreatment:
    """A patient under a regimen by the parts of a `PopulationAverage`, with their weights.

    A quantity is the mean of those of the parts at their most probable constants, as a prediction is; its draws are
    those of all parts, so that intervals and probabilities are of the mixture.

    Attributes
    ----------
    parts : tuple of Treatment
        Of the parts that have a weight.
    weights : tuple of float
    regimen : Regimen or None
        Planned doses, with the covariates of all parts.
    """

    parts: tuple[Treatment, ...]
    weights: tuple[float, ...]
    regimen: Regimen | None

    @classmethod
    def of(
        cls,
        patient: AdaptedPopulationAverage | PopulationAverage,
        regimen: Regimen | None = None,
        given: Regimen | None = None,
        covariates: Mapping[str, float] | None = None,
    ) -> "AveragedTreatment":
        """Put a patient under a regimen, whose covariates each part takes as far as it reads them.

        Raises
        ------
        TypeError, ValueError, TaskError
            As :meth:`Treatment.of`; or when no part reads a covariate.
        """
        parts = parts_of(patient)
        every = dict.fromkeys(name for part in parts.values() for name in covariate_columns(columns_of(part)))
        for doses in (regimen, given):
            if isinstance(doses, Regimen):
                _require_read(doses.covariates, list(every), "the regimen")
        if isinstance(covariates, Mapping):
            _require_read(covariates, list(every), "covariates")
        treatments, weights = [], []
        for name, weight in _weights(patient).items():
            if weight > 0:
                part, columns = parts[name], columns_of(parts[name])
                stated = {k: v for k, v in covariates.items() if k in columns} if covariates else covariates
                with naming(name, "part"):
                    treatments.append(Treatment.of(part, _read(regimen, columns), _read(given, columns), stated))
                weights.append(weight)
        return cls(tuple(treatments), tuple(weights), regimen)

    @property
    def linear(self) -> bool:
        """Whether elimination saturates in none of the models."""
        return all(part.linear for part in self.parts)

    def under(self, regimen: Regimen) -> "AveragedTreatment":
        """Return the same patient under other planned doses."""
        return replace(self, parts=tuple(part.under(regimen) for part in self.parts), regimen=regimen)

    def derive(self, function: Callable[[Treatment, dict[str, Any]], Any], level: float) -> Derived:
        """Return a function of a treatment and its constants, with the interval of the mixture."""
        return self.drawn(function).interval(level)

    def drawn(self, function: Callable[[Treatment, dict[str, Any]], Any]) -> Drawn:
        """Return a function of a treatment and its constants at draws of all parts."""
        drawn = [part.drawn(function) for part in self.parts]
        pairs = list(zip(self.weights, drawn, strict=True))
        value = sum(weight * one.value for weight, one in pairs)
        weights = np.concatenate([weight * one.weight for weight, one in pairs])
        return Drawn(value, np.concatenate([one.draws for one in drawn], axis=-1), weights)


def treatment_of(
    patient: Any,
    regimen: Regimen | None = None,
    given: Regimen | None = None,
    covariates: Mapping[str, float] | None = None,
) -> Treatment | AveragedTreatment:
    """Put a patient, a fitted model or an average of models under a regimen."""
    if isinstance(patient, (PopulationAverage, AdaptedPopulationAverage)):
        return AveragedTreatment.of(patient, regimen, given, covariates)
    return Treatment.of(patient, regimen, given, covariates)


def planned_treatment(
    patient: Any, regimen: Regimen, given: Regimen | None, covariates: Mapping[str, float] | None = None
) -> Treatment | AveragedTreatment:
    """Put a patient under a regimen, which holds the covariates itself."""
    if covariates is not None and not isinstance(covariates, Mapping):
        raise TypeError(f"covariates must be a dict by name, got {covariates!r}.")
    if covariates:
        raise ValueError("write the covariates into the regimen: Regimen(..., covariates=...).")
    if not isinstance(regimen, Regimen):
        raise TypeError(f"regimen must be a Regimen, got {regimen!r}.")
    return treatment_of(patient, regimen, given)


def _weights(patient: AdaptedPopulationAverage | PopulationAverage) -> dict[str, float]:
    """Return the weights of the parts by name; of a model those before any row."""
    weights = {str(name): float(weight) for name, weight in patient.weights_.items()}
    if isinstance(patient, PopulationAverage) and patient.method == "select":
        best = max(weights, key=lambda name: weights[name])
        return {name: float(name == best) for name in weights}
    return weights


def _require_read(covariates: Mapping[str, Any], columns: list[str], where: str) -> None:
    for name in covariates:
        if name not in columns:
            there = f"they read {', '.join(columns)}" if columns else "they read none"
            raise ValueError(f"{where} has the covariate {name!r}, which no part of the average reads; {there}.")


def _read(regimen: Regimen | None, columns: list[str]) -> Regimen | None:
    """Return a regimen with the covariates that a part reads; what is none is refused where it is used."""
    if not isinstance(regimen, Regimen):
        return regimen
    return replace(regimen, covariates={k: v for k, v in regimen.covariates.items() if k in columns})
