"""Attack one entry point with generated inputs, and count what came of it."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from attacks.hostile import Given
from attacks.oracle import judge


@dataclass
class EntryPoint:
    """One public function or method, and how to make hostile calls of it.

    Parameters
    ----------
    name : str
        As a user writes it: ``"MAMLRegressor.adapt"``.
    call : callable
        Takes the drawn arguments by name and returns numbers.
    arguments : strategy of dict of str to Given
        The arguments of one call, one or two of them hostile.
    kinds : tuple of type
        Types of errors this call documents, besides ValueError, TypeError and DivergenceError.
    state : callable, optional
        Returns what a failed call must leave as it is.
    compare : bool
        Whether answers are compared with those of plain arrays.
    fits : bool
        Whether a call is a fit, which takes long: the large set is then smaller.
    """

    name: str
    call: Callable[..., Any]
    arguments: st.SearchStrategy[dict[str, Given]]
    kinds: tuple[type, ...] = ()
    state: Callable[[], Any] | None = None
    compare: bool = True
    fits: bool = False


# generated inputs an entry point: in every test run, and in the slow set
SMALL, SMALL_FITS = 12, 2
LARGE, LARGE_FITS = 10_000, 300


def large(entry: EntryPoint) -> int:
    """Return how many inputs the slow set has for an entry point."""
    return LARGE_FITS if entry.fits else LARGE


@dataclass
class Counts:
    """How many calls were answered right, refused in clear words, and neither."""

    name: str
    right: int = 0
    refused: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Number of failures."""
        return self.failures.total()

    def __str__(self) -> str:
        return f"{self.name:44} {self.right:7} right {self.refused:7} refused {self.failed:5} failures"

    def report(self, most: int = 12) -> str:
        """Return the failures, the most frequent first."""
        lines = [f"  {n:5} x {kind}: {text}" for (kind, text), n in self.failures.most_common(most)]
        return "\n".join([str(self), *lines]).encode("ascii", "backslashreplace").decode()


def attack(entry: EntryPoint, n: int) -> Counts:
    """Make `n` hostile calls of an entry point, the same ones each time.

    Parameters
    ----------
    entry : EntryPoint
    n : int

    Returns
    -------
    Counts
    """
    counts = Counts(entry.name)

    @hypothesis.seed(0)
    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(entry.arguments)
    def calls(given: dict[str, Given]) -> None:
        if any(name == "random_state" and one.value is None for name, one in given.items()):
            return  # numpy's global generator, as in scikit-learn
        verdict, text = judge(entry.call, given, kinds=entry.kinds, state=entry.state, compare=entry.compare)
        if verdict == "failure":
            kind = ", ".join(f"{name}: {one.kind}" for name, one in given.items() if one.kind != "plain")
            counts.failures[kind or "plain", text] += 1
        elif verdict == "right":
            counts.right += 1
        else:
            counts.refused += 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what numpy and polars say while the inputs are made
        calls()
    return counts
