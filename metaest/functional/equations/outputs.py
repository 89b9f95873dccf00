"""Several outputs, such as a concentration and an effect: each row belongs to one, by the number in a column of X.

Each output has a noise of its own, and may have an equation of its own; constants are shared. The noise constants of
the outputs follow one another. Where a search does not yet know the noise, residuals of each output count in units of
the spread of its observations.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaest.functional.equations.censoring import Column
from metaest.functional.equations.equation import Observations
from metaest.functional.equations.noise import ALIKE, Accuracy, Noise

__all__ = ["OutputEquations", "OutputNoise", "chosen"]

FIRST = Column(0)


def chosen(codes: tuple[float, ...], output: Tensor, values: list[Tensor]) -> Tensor:
    """Return in each row the value of its output; of an output that is none of them, NaN."""
    result = torch.full_like(values[0], torch.nan)
    for code, value in zip(codes, values, strict=True):
        result = torch.where(output == code, value, result)
    return result


@dataclass(frozen=True)
class OutputNoise(Noise):
    """A noise for each output.

    Parameters
    ----------
    parts : tuple of Noise
        Without limits and errors of measurement, which are those of all rows.
    codes : tuple of float
        The number of each output in its column.
    labels : tuple
        What the user calls the outputs.
    by : Column
        The column of X with the output of each row.
    spreads : tuple of float
        The spread of the observations of each output, on the scale of the noise.

    The other attributes are those of Noise. `kind` is "lognormal" where all outputs have that, and "additive"
    otherwise, which nothing reads.
    """

    parts: tuple[Noise, ...] = ()
    codes: tuple[float, ...] = ()
    labels: tuple[Any, ...] = ()
    by: Column = FIRST
    spreads: tuple[float, ...] = ()

    @property
    def homoscedastic(self) -> bool:
        """Whether the variance of each output is the same along the curve."""
        return all(part.homoscedastic for part in self.parts)

    @property
    def n_scales(self) -> int:
        """Number of standard deviations among the noise constants."""
        return sum(part.n_scales for part in self.parts)

    @property
    def n_constants(self) -> int:
        """Number of noise constants of all outputs."""
        return sum(part.n_constants for part in self.parts)

    @property
    def scale_places(self) -> list[int]:
        """Which of the noise constants are standard deviations."""
        starts = [sum(part.n_constants for part in self.parts[:k]) for k in range(len(self.parts))]
        return [first + j for first, part in zip(starts, self.parts, strict=True) for j in part.scale_places]

    @property
    def largest(self) -> list[float]:
        """Upper bounds of the noise constants."""
        return [bound for part in self.parts for bound in part.largest]

    def each(self, log_sigma: Tensor) -> Iterator[tuple[Any, Noise, Tensor]]:
        """Return label, noise and noise constants of each output."""
        sizes = [part.n_constants for part in self.parts]
        return zip(self.labels, self.parts, torch.split(log_sigma, sizes), strict=True)

    def scaled(self, log_sigma: Tensor, by: Any) -> Tensor:
        """Return noise constants whose standard deviations are greater by a factor, one of all outputs or of each."""
        steps = torch.as_tensor(by, dtype=log_sigma.dtype).expand(len(self.parts))
        moved = [part.scaled(own, step) for (_, part, own), step in zip(self.each(log_sigma), steps, strict=True)]
        return torch.cat(moved)

    def accuracy(self, observations: Observations) -> Accuracy:
        """Return the accuracy of the rows, their limits, and their outputs."""
        output = observations.X[:, self.by.number].reshape(observations.y.shape)
        return super().accuracy(observations)._replace(output=output)

    def units(self, accuracy: Accuracy) -> Tensor:
        """Return of each row the spread of the first output over that of its own."""
        assert accuracy.output is not None
        first = self.spreads[0]
        return chosen(self.codes, accuracy.output, [accuracy.output.new_tensor(first / s) for s in self.spreads])

    def variance(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the variance of residuals around a curve, of each row that of its output."""
        return accuracy.scatter(self._of_outputs("variance", f, log_sigma, accuracy))

    def growth(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the derivative of the variance in the curve."""
        growth = self._of_outputs("growth", f, log_sigma, accuracy)
        return growth if accuracy.weight is None else growth / accuracy.weight

    def _of_outputs(self, what: str, f: Tensor, log_sigma: Tensor, accuracy: Accuracy) -> Tensor:
        output = accuracy.output
        assert output is not None
        # of the rows of other outputs no part may be infinite, for its gradient is multiplied by zero
        values = [
            getattr(part, what)(torch.where(output == code, f, 1.0), own)
            for code, (_, part, own) in zip(self.codes, self.each(log_sigma), strict=True)
        ]
        return chosen(self.codes, output, [value.expand_as(f) for value in values])


@dataclass(frozen=True)
class OutputEquations:
    """An equation for each output, with constants that they share; each gives the rows of its output.

    Every equation is evaluated at all rows of a task, and has to be finite there.

    Parameters
    ----------
    equations : tuple of callable
        ``equation(X, **constants)``, with those of the constants that it names.
    codes : tuple of float
        The number of each output in its column.
    column : int
        The column of X with the output of each row.
    """

    equations: tuple[Callable[..., Tensor], ...]
    codes: tuple[float, ...]
    column: int

    @property
    def __name__(self) -> str:
        return ", ".join(str(getattr(equation, "__name__", "equation")) for equation in self.equations)

    @property
    def memory(self) -> str | None:
        """Why a row depends on those before it, where one of the equations says so."""
        return next(filter(None, (getattr(equation, "memory", None) for equation in self.equations)), None)

    @property
    def __signature__(self) -> inspect.Signature:
        X = inspect.Parameter("X", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = dict.fromkeys(name for taken in self._taken for name in taken)
        constants = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        return inspect.Signature([X, *constants])

    @property
    def _taken(self) -> list[list[str]]:
        """The constants that each equation names."""
        named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        signatures = (inspect.signature(equation).parameters.values() for equation in self.equations)
        return [[each.name for each in list(signature)[1:] if each.kind in named] for signature in signatures]

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return in each row the curve of its output."""
        values = []
        for equation, names in zip(self.equations, self._taken, strict=True):
            value = equation(X, **{name: constants[name] for name in names})
            values.append(value[:, 0] if value.ndim == 2 else value)
        return chosen(self.codes, X[:, self.column], values)
