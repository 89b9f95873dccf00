"""Outcomes by the words of a setting."""

from collections.abc import Mapping
from typing import Any

from metaest.functional.equations.counts import Bernoulli, NegativeBinomial, PoissonCounts
from metaest.functional.equations.ordinal import Ordinal
from metaest.functional.equations.outcome import Outcome
from metaest.functional.equations.student import StudentT

__all__ = ["OUTCOME_WORDS", "as_outcome"]

# outcomes without settings that have to be given
_BY_WORD: Mapping[str, Outcome] = {
    outcome.kind: outcome for outcome in (Bernoulli(), PoissonCounts(), NegativeBinomial(), Ordinal(), StudentT())
}
# words of outcomes that need a column, and how they are written
_WITH_COLUMNS = {
    "binomial": "Binomial(trials=...) names the column with the number of trials",
    "time-to-event": "TimeToEvent(time=...) names the column of times",
}
OUTCOME_WORDS = (*_BY_WORD, *_WITH_COLUMNS)


def as_outcome(noise: Any) -> Outcome | None:
    """Return the outcome that a setting means, a word or an outcome; None where it means something else.

    Raises
    ------
    ValueError
        When it is the word of an outcome that needs a column.
    """
    if isinstance(noise, Outcome):
        return noise
    if isinstance(noise, str) and noise in _WITH_COLUMNS:
        raise ValueError(f"noise={noise!r} needs a column of X: noise={_WITH_COLUMNS[noise]}.")
    return _BY_WORD.get(noise) if isinstance(noise, str) else None
