"""The covariance between tasks, in blocks of constants that vary together, as papers print it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.population.frozen import FrozenDict
from metaest.population.numbers import as_float, as_mapping, as_names

__all__ = ["Block"]

# coefficient of variation above which it must be meant in percent
MOST_CV = 10.0
# smallest eigenvalue of a correlation matrix that still counts as positive definite
DEFINITE = 1e-10


@dataclass(frozen=True)
class Block:
    r"""Constants that vary together between tasks: their variances and how they go together.

    All numbers are on the scale on which a constant is normal between tasks: of the logarithm, for a constant with a
    lower bound alone (:class:`metaest.Parameter`). Exactly one of `variance`, `sd` and `cv` is given, and at most one
    of `covariance` and `correlation`; pairs that are not named have none. Constants of different blocks are
    independent.

    Parameters
    ----------
    variance : dict of str to float, optional
        Variances :math:`\omega^2` by the names of constants, above 0.
    sd : dict of str to float, optional
        Standard deviations :math:`\omega`.
    cv : dict of str to float, optional
        Coefficients of variation of lognormal constants, as fractions (0.3 for 30 %):
        :math:`\omega^2 = \ln(1 + \mathrm{CV}^2)`. Papers often print :math:`100\,\omega` under this name; pass such
        numbers as `sd`.
    covariance : dict of (str, str) to float, optional
    correlation : dict of (str, str) to float, optional
        Between -1 and 1.

    Raises
    ------
    TypeError, ValueError
        When numbers are given in two forms, are out of range, or make no positive definite matrix; the message names
        the constant.

    Examples
    --------
    >>> from metaest.population import Block
    >>> block = Block(variance={"clearance": 0.09, "volume": 0.04}, correlation={("clearance", "volume"): 0.5})
    >>> block.names
    ('clearance', 'volume')
    >>> block.matrix({"clearance": "log", "volume": "log"}).round(3).tolist()
    [[0.09, 0.03], [0.03, 0.04]]
    """

    variance: Mapping[str, float] = field(default_factory=dict)
    sd: Mapping[str, float] = field(default_factory=dict)
    cv: Mapping[str, float] = field(default_factory=dict)
    covariance: Mapping[tuple[str, str], float] = field(default_factory=dict)
    correlation: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in ("variance", "sd", "cv"):
            object.__setattr__(self, kind, FrozenDict(as_names(getattr(self, kind), f"Block: {kind}")))
        for kind in ("covariance", "correlation"):
            object.__setattr__(self, kind, FrozenDict(as_mapping(getattr(self, kind), f"Block: {kind}")))
        given = [name for name in ("variance", "sd", "cv") if getattr(self, name)]
        if len(given) != 1:
            what = " and ".join(given) or "none"
            raise ValueError(f"Block: exactly one of variance, sd and cv must name constants, got {what}.")
        if self.covariance and self.correlation:
            raise ValueError("Block: give covariance or correlation, not both.")
        numbers = {
            name: as_float(value, f"Block: {given[0]} of {name!r}", above=0)
            for name, value in getattr(self, given[0]).items()
        }
        object.__setattr__(self, given[0], FrozenDict(numbers))
        for (name, value), variance in zip(numbers.items(), self._variances(), strict=True):
            if not 0 < variance < np.inf:
                raise ValueError(f"Block: {given[0]} of {name!r} is {value:g}, and its square no number above 0.")
            if given[0] == "cv" and value > MOST_CV:
                raise ValueError(
                    f"Block: the cv of {name!r} is {value:g}, which looks like percent; write {value / 100:g}."
                )
        for kind in ("covariance", "correlation"):
            pairs = {}
            for pair, value in getattr(self, kind).items():
                pairs[self._pair(pair, numbers, kind)] = as_float(value, f"Block: {kind} of {pair}")
                if kind == "correlation" and not -1 < value < 1:
                    raise ValueError(f"Block: the correlation of {pair} must be between -1 and 1, got {value:g}.")
            if len(pairs) < len(getattr(self, kind)):
                raise ValueError(f"Block: {kind} gives a pair of constants twice.")
            object.__setattr__(self, kind, FrozenDict(pairs))
        self._correlations()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the constants, in the order given."""
        return tuple(self.variance or self.sd or self.cv)

    def matrix(self, kinds: Mapping[str, str]) -> NDArray[np.float64]:
        """Return the covariance matrix on the scale on which constants are normal.

        Parameters
        ----------
        kinds : dict of str to {"identity", "log", "upper", "logit"}
            The scale of each constant.

        Raises
        ------
        ValueError
            When a constant with a `cv` is not lognormal.
        """
        if self.cv:
            for name in self.names:
                if kinds[name] not in ("log", "upper"):
                    raise ValueError(
                        f"Block: a cv is that of a lognormal constant, with one bound; {name!r} is normal on the "
                        f"{kinds[name]} scale. Give its variance or sd there."
                    )
        sd = np.sqrt(self._variances())
        return self._correlations() * sd * sd[:, None]

    def _variances(self) -> NDArray[np.float64]:
        if self.variance:
            return np.array([*self.variance.values()])
        with np.errstate(over="ignore", under="ignore"):
            if self.sd:
                return np.square([*self.sd.values()])
            return np.log1p(np.square([*self.cv.values()]))

    def _correlations(self) -> NDArray[np.float64]:
        """Return the correlation matrix, or raise a ValueError where it is not positive definite."""
        names, sd = self.names, np.sqrt(self._variances())
        matrix = np.eye(len(names))
        for pair, value in (self.covariance or self.correlation).items():
            i, j = (names.index(name) for name in pair)
            matrix[i, j] = matrix[j, i] = value / (sd[i] * sd[j]) if self.covariance else value
        if np.linalg.eigvalsh(matrix)[0] < DEFINITE:
            worst = max(
                (abs(matrix[i, j]), names[i], names[j]) for i in range(len(names)) for j in range(i)
            )  # one constant alone is always definite
            raise ValueError(
                f"Block: the covariance of {', '.join(names)} is not positive definite (the strongest correlation is "
                f"{worst[0]:.3g}, of {worst[2]!r} and {worst[1]!r}); look at units, and at whether these are variances "
                "or standard deviations."
            )
        return matrix

    @staticmethod
    def _pair(pair: Any, numbers: Mapping[str, float], kind: str) -> tuple[str, str]:
        """Return a pair of constants of the block, in its order."""
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise TypeError(f"Block: {kind} is by pairs of names such as ('clearance', 'volume'), got {pair!r}.")
        for name in pair:
            if name not in numbers:
                raise ValueError(
                    f"Block: {kind} names {name!r}, which has no variance here; the constants are {', '.join(numbers)}."
                )
        if pair[0] == pair[1]:
            raise ValueError(f"Block: {kind} of {pair[0]!r} with itself; its variance says that.")
        order = list(numbers)
        first, second = sorted(pair, key=order.index)
        return first, second
