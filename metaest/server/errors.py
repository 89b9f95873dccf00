"""Answers to requests that cannot be served: a status, and an object that names the place of the fault."""

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from metaest.exceptions import DivergenceError, TaskError

__all__ = ["STATUS", "Refused", "refusal_of"]

# the code of an error, its status, and what it means
STATUS: dict[str, tuple[int, str]] = {
    "json": (400, "The body is no JSON."),
    "host": (400, "The header Host names another server."),
    "unauthorized": (401, "The token is missing or wrong."),
    "not_found": (404, "There is nothing at this path."),
    "unknown_id": (404, "No predictor is kept under this id: it never was, or it expired, or made room for others."),
    "method_not_allowed": (405, "The path takes other methods; the header Allow names them."),
    "slow": (408, "The body did not arrive in time."),
    "too_large": (413, "The body has more bytes than the server takes."),
    "content_type": (415, "The body must be sent as application/json."),
    "invalid": (422, "The request has other fields or values than it should have."),
    "too_many": (422, "There are more rows or tasks than the server takes."),
    "rows": (422, "The rows cannot be used with this model."),
    "diverged": (422, "The adaptation to these rows became infinite."),
    "internal": (500, "The server failed; its log has the id."),
    "busy": (503, "Too many requests wait; try again after the seconds of Retry-After."),
    "timeout": (503, "The answer took too long; try again after the seconds of Retry-After."),
}


class Refused(Exception):  # noqa: N818 - an answer rather than a fault of the program
    """A request that is not served, with the answer to it.

    Parameters
    ----------
    code : str
        A key of STATUS.
    message : str
    field : str, optional
        Of the request's body.
    task, row : int, optional
        Numbers from 0.
    column : str or int, optional
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        task: int | None = None,
        row: int | None = None,
        column: str | int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.field, self.task, self.row, self.column = field, task, row, column

    @property
    def status(self) -> int:
        """HTTP status."""
        return STATUS[self.code][0]

    def of_task(self, task: int) -> "Refused":
        """Return the same for one of many tasks."""
        return Refused(self.code, self.message, field=self.field, task=task, row=self.row, column=self.column)

    def payload(self) -> dict[str, Any]:
        """Return the object that is sent."""
        place = {name: getattr(self, name) for name in ("field", "task", "row", "column")}
        return {"error": {"code": self.code, "message": self.message, **place}}


# how the library calls the caller, and a task of a batch
_BATCH = re.compile(r"^(task \d+|adapt|predict|predict_interval): ")
# scikit-learn's word for a column that the fit did not have
_UNSEEN = re.compile(r"unseen at fit time:\n- ([^\n]*)\n")
# where a message of the library names the row and the column: row 3, column 'weight'
_ROW = re.compile(r"\brow (\d+)")
_COLUMN = re.compile(r"\bcolumn (?:'([^']+)'|(\d+))")


def refusal_of(error: Exception, field: str, names: Sequence[str]) -> Refused | None:
    """Return the answer to an error that the model raised about a request, and None where it is the server's fault.

    Parameters
    ----------
    error : Exception
    field : str
        Of the request's body that it is about.
    names : sequence of str
        Columns of X.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, DivergenceError):
        return Refused("diverged", str(error), field=field)
    if isinstance(error, TaskError):
        # tasks of a batch are numbered by the server, which means nothing to a client
        message = _BATCH.sub("", str(error))
        if unseen := _UNSEEN.search(message):
            return Refused("rows", f"{unseen[1]!r} is no column of the model.", field=field, column=unseen[1])
        row, column = _ROW.search(message), _COLUMN.search(message)
        key: str | int | None = None
        if column is not None:
            key = column[1] if column[1] is not None else int(column[2])
        else:
            key = next((name for name in names if message.startswith(f"{name} ")), None)
        return Refused("rows", message, field=field, row=int(row[1]) if row else None, column=key)
    if isinstance(error, ValueError) and _is_ours(error.__traceback__):
        # settings that the model does not have, such as an interval without a calibration
        return Refused("invalid", str(error), field=field)
    return None


def _is_ours(trace: TracebackType | None) -> bool:
    """Tell whether an error was raised by metaest itself, in words for its users."""
    name = ""
    while trace is not None:
        name, trace = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_next
    return name.split(".")[0] in ("metaest", "metaest_domains")
