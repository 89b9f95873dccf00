"""The bounds of a server: sizes of requests, numbers of rows and tasks, predictors in memory."""

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of one server; what goes beyond them is refused with an error that names the bound.

    Parameters
    ----------
    max_bytes : int, default=4,000,000
        Bytes of one request's body; counted while they arrive.
    max_rows : int, default=1,000
        Rows of one task to adapt to, and rows to be predicted in one request for one task.
    max_tasks : int, default=1,000
        Tasks of one request to ``/adapt_many``.
    max_waiting : int, default=512
        Requests that wait for an answer; further ones are told to come again (503).
    max_waiting_bytes : int, default=64,000,000
        Bytes of the bodies of all requests at once.
    max_connections : int, default=1,024
        Open connections; further ones are closed at once.
    read_seconds : float, default=10.0
        Time that a client has to send the head of a request, and its body.
    answer_seconds : float, default=30.0
        Time that a request may wait for its answer.
    keep : int, default=10,000
        Adapted predictors that are kept; the one that was not used for longest goes first. 0 keeps none.
    keep_bytes : int, default=256,000,000
        Bytes of all kept predictors together.
    expiry_seconds : float, default=3600.0
        Time that a predictor is kept, from its adaptation on.

    Examples
    --------
    >>> from metaest.server import Limits
    >>> Limits(max_rows=50).max_rows
    50
    """

    max_bytes: int = 4_000_000
    max_rows: int = 1_000
    max_tasks: int = 1_000
    max_waiting: int = 512
    max_waiting_bytes: int = 64_000_000
    max_connections: int = 1_024
    read_seconds: float = 10.0
    answer_seconds: float = 30.0
    keep: int = 10_000
    keep_bytes: int = 256_000_000
    expiry_seconds: float = 3600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, whole = getattr(self, field.name), field.type is int
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise TypeError(f"{field.name} must be a {'whole ' * whole}number, got {value!r}.")
            if not 0 <= value < float("inf") or (value == 0 and field.name != "keep"):
                raise ValueError(f"{field.name} must be above 0, got {value!r}.")
