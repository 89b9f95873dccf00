"""The numbers that another program estimated or keeps, by its labels, and the population they make."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metaest.population.block import Block
from metaest.population.effects import Effect
from metaest.population.frozen import FrozenDict
from metaest.population.noise_model import NoiseModel
from metaest.population.numbers import as_names
from metaest.population.parameter import Parameter
from metaest.population.population import Population
from metaest.population.provenance import Provenance

__all__ = ["Estimates"]


@dataclass(frozen=True, eq=False)
class Estimates:
    """The numbers of another program's file by its labels; made by a reader such as `read_nonmem_ext`.

    ``estimates["THETA1"]`` is a number. :meth:`to_population` makes a population of them, given what a file does not
    say. Nothing is taken for what a label sounds like.

    Attributes
    ----------
    values : dict of str to float
        Every number of the file by its label.
    standard_errors : dict of str to float
        Of those that have one.
    deviations : tuple of str
        Labels of the variation between tasks, of what varies.
    covariance : tuple of tuple of float
        Its covariance, in the order of `deviations`.
    occasions : tuple of str
        Labels of variation between occasions of one task, which a population does not hold.
    covariates : tuple of str
        Names of covariates, or labels of their coefficients, of which the file speaks.
    noise : NoiseModel or None
        Where the file says what its numbers mean.
    units : dict of str to str
        Units by the label of a value, where the file has some.
    source : str
        Program, method and name of the file.
    """

    values: Mapping[str, float]
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    covariance: tuple[tuple[float, ...], ...] = ()
    occasions: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    noise: NoiseModel | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("values", "standard_errors", "units"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))

    def __getitem__(self, label: str) -> float:
        if not isinstance(label, str) or label not in self.values:
            raise KeyError(f"there is no number {label!r}; there are {', '.join(self.values)}")
        return self.values[label]

    def __repr__(self) -> str:
        return f"Estimates({self.source}: {', '.join(f'{name} {value:.4g}' for name, value in self.values.items())})"

    def to_population(
        self,
        typical: Mapping[str, str],
        parameters: Mapping[str, Parameter],
        *,
        deviations: Mapping[str, str] | None = None,
        logarithms: Iterable[str] = (),
        without: Iterable[str] = (),
        noise: NoiseModel | None = None,
        covariates: Mapping[str, Effect | list[Effect] | tuple[Effect, ...]] | None = None,
        provenance: Provenance | None = None,
        **parts: Any,
    ) -> Population:
        """Return the population that these numbers make, with what the file does not say.

        Parameters
        ----------
        typical : dict of str to str
            The label of the typical value of each constant, by the name of the constant.
        parameters : dict of str to Parameter
            Bounds, unit and meaning of each constant. The bounds say on which scale it is normal between tasks: a lower
            bound of 0 alone is lognormal, as ``THETA(1) * EXP(ETA(1))`` of NONMEM is. ``initial`` counts for nothing;
            the file's number takes its place.
        deviations : dict of str to str, optional
            The label of the variation of each constant that varies, by the name of the constant. Every label of
            `deviations` of the file has to be named here or in `without`.
        logarithms : iterable of str, optional
            Constants whose label holds their logarithm, as in ``EXP(THETA(1) + ETA(1))``.
        without : iterable of str, optional
            Labels of variation, between tasks or occasions, that the population is to lack.
        noise : NoiseModel, optional
            Required where the file does not say what its numbers mean. A ``SIGMA(1,1)`` of NONMEM is a variance:
            ``NoiseModel("proportional", cv=estimates["SIGMA(1,1)"] ** 0.5)``.
        covariates : dict of str to Effect or sequence of Effect, optional
            Formulas, with numbers such as ``estimates["beta_V_wt"]``; required where the file speaks of covariates, {}
            for none.
        provenance : Provenance, optional
            By default the program and the name of the file, as its citation.
        **parts
            Further arguments of :class:`metaest.Population`: ``columns``, ``target``, ``equation``, ``settings``,
            ``equation_hash``. Standard errors are those of the file.

        Returns
        -------
        Population

        Raises
        ------
        ValueError
            When a label is unknown, twice named or left out, a constant has no Parameter or another unit than the file
            says, or what the file does not say is missing; the message names it.
        TypeError
            When an argument is of another kind.
        """
        labels = _texts_by_name(typical, "to_population: typical")
        table = as_names(parameters, "to_population: parameters")
        logs = _names(logarithms, "logarithms")
        _check_same(labels, table)
        for name in logs:
            if name not in labels:
                raise ValueError(f"to_population: logarithms names {name!r}, which is no constant of typical.")
        constants, errors = {}, {}
        for name, label in labels.items():
            value, error = self._number(label, f"typical of {name!r}"), self.standard_errors.get(label)
            if name in logs:
                value = math.exp(value) if value < 700 else math.inf
                error = None if error is None else value * error
            constants[name] = replace(self._with_unit(table[name], name, label), initial=value)
            if error is not None:
                errors[name] = error
        if noise is None and self.noise is None:
            raise ValueError(f"to_population: the file ({self.source}) does not say what the noise is; pass noise=.")
        if covariates is None and self.covariates:
            raise ValueError(
                f"to_population: the file ({self.source}) speaks of the covariates {', '.join(self.covariates)} and "
                "not of their formulas; pass covariates=, {} for none."
            )
        return Population(
            constants,
            self._blocks(_texts_by_name(deviations, "to_population: deviations"), labels, _names(without, "without")),
            self.noise if noise is None else noise,
            covariates=covariates,
            standard_errors=errors,
            provenance=Provenance(self.source) if provenance is None else provenance,
            **parts,
        )

    def _number(self, label: str, where: str) -> float:
        if label not in self.values:
            raise ValueError(
                f"to_population: {where} is {label!r}, which is no label of the file; there are "
                f"{', '.join(self.values)}."
            )
        return self.values[label]

    def _with_unit(self, parameter: Any, name: str, label: str) -> Parameter:
        """Return a Parameter with the unit of the file, where it has one."""
        if not isinstance(parameter, Parameter):
            raise TypeError(f"to_population: parameters of {name!r} must be a Parameter, got {parameter!r}.")
        unit = self.units.get(label, "")
        if unit and parameter.unit and unit != parameter.unit:
            raise ValueError(
                f"to_population: {name!r} is in {parameter.unit}, and {label} of the file in {unit}; numbers are not "
                "converted."
            )
        return replace(parameter, unit=parameter.unit or unit)

    def _blocks(self, deviations: Mapping[str, str], constants: Mapping[str, str], without: list[str]) -> list[Block]:
        """Return the covariance between tasks as blocks of constants that vary together."""
        for label in without:
            if label not in (*self.deviations, *self.occasions):
                raise ValueError(
                    f"to_population: without names {label!r}, which is no label of variation; there are "
                    f"{', '.join((*self.deviations, *self.occasions)) or 'none'}."
                )
        for label in self.occasions:
            if label not in without:
                raise ValueError(
                    f"to_population: {label} is variation between occasions of one task, which a population does not "
                    f"hold; leave it out by without=[{label!r}], knowing that the population then varies too little."
                )
        for name, label in deviations.items():
            if name not in constants:
                raise ValueError(f"to_population: deviations names {name!r}, which is no constant of typical.")
            if label not in self.deviations:
                raise ValueError(
                    f"to_population: the deviation of {name!r} is {label!r}, which does not vary in the file; "
                    f"{', '.join(self.deviations) or 'nothing'} does."
                )
            if label in without:
                raise ValueError(f"to_population: {label} is named both in deviations and in without.")
        named = list(deviations.values())
        for label in self.deviations:
            if named.count(label) > 1:
                raise ValueError(
                    f"to_population: {label} is the deviation of two constants, which would vary as one; a population "
                    "does not hold that."
                )
            if label not in named and label not in without:
                raise ValueError(
                    f"to_population: {label} varies in the file, and no constant has it as its deviation; name it in "
                    "deviations, or in without."
                )
        return _connected(list(deviations), np.array(self._chosen(named)))

    def _chosen(self, labels: list[str]) -> list[list[float]]:
        places = [self.deviations.index(label) for label in labels]
        return [[float(self.covariance[i][j]) for j in places] for i in places]


def _connected(names: list[str], covariance: Any) -> list[Block]:
    """Return one block for each set of constants that covariances connect."""
    blocks, left = [], list(range(len(names)))
    while left:
        group, waiting = [], [left.pop(0)]
        while waiting:
            i = waiting.pop()
            group.append(i)
            near = [j for j in left if covariance[i, j] != 0]
            left = [j for j in left if j not in near]
            waiting += near
        group.sort()
        pairs = {
            (names[i], names[j]): covariance[i, j] for i in group for j in group if i < j and covariance[i, j] != 0
        }
        blocks.append(Block(variance={names[i]: covariance[i, i] for i in group}, covariance=pairs))
    return blocks


def _texts_by_name(given: Any, where: str) -> dict[str, str]:
    names = as_names(given, where)
    for name, label in names.items():
        if not isinstance(label, str):
            raise TypeError(f"{where}: the label of {name!r} must be text, got {label!r}.")
    return names


def _names(given: Any, where: str) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise TypeError(f"to_population: {where} must be a list of names, got {given!r}.")
    names = list(given)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"to_population: {where} must be a list of names, got {given!r}.")
    return names


def _check_same(labels: Mapping[str, str], table: Mapping[str, Any]) -> None:
    """Raise unless typical values and parameters are of the same constants."""
    for name in labels:
        if name not in table:
            raise ValueError(f"to_population: parameters has no {name!r}, of which typical has the label.")
    for name in table:
        if name not in labels:
            raise ValueError(f"to_population: typical has no label of {name!r}, which parameters has.")
