"""Requests answered together: read, adapted to in one batch, written. One thread uses it; it knows nothing of HTTP."""

import base64
import binascii
import json
import logging
import secrets
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from metaest.server.errors import Refused
from metaest.server.json_body import parse
from metaest.server.limits import Limits
from metaest.server.metrics import Metrics
from metaest.server.predictor_cache import PredictorCache
from metaest.server.requests import Adaptation
from metaest.server.served_model import Adapted, ServedModel

__all__ = ["Call", "Reply", "Service"]

_logger = logging.getLogger("metaest.server")


class Call(NamedTuple):
    """A request: what is to be done ("adapt", "adapt_many", "predict", "forget"), and its body or id."""

    kind: str
    content: bytes


class Reply(NamedTuple):
    """The answer to a request."""

    status: int
    body: bytes


@dataclass
class _Pending:
    """A request to adapt, and where its tasks stand among those of the batch."""

    call: int
    first: int
    count: int
    many: bool


class Service:
    """Answers requests.

    Parameters
    ----------
    served : ServedModel
    limits : Limits
    metrics : Metrics
    """

    def __init__(self, served: ServedModel, limits: Limits, metrics: Metrics) -> None:
        self._served, self._metrics = served, metrics
        self._limits = limits
        self.kept = PredictorCache(limits)

    def answer(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer requests; the tasks of all those to adapt make one batch."""
        replies: list[Reply | None] = [None] * len(calls)
        tasks: list[Adaptation] = []
        pending: list[_Pending] = []
        for i, call in enumerate(calls):
            try:
                if call.kind in ("adapt", "adapt_many"):
                    read = self._read(call)
                    pending.append(_Pending(i, len(tasks), len(read), call.kind == "adapt_many"))
                    tasks += read
                else:
                    replies[i] = self._alone(call)
            except Exception as error:
                replies[i] = refusal(error)
        if tasks:
            self._adapt(tasks, pending, replies)
        self._metrics.keeps(len(self.kept), self.kept.size)
        return [refusal(RuntimeError("no answer")) if reply is None else reply for reply in replies]

    def sweep(self) -> None:
        """Drop kept predictors that expired."""
        self.kept.sweep()
        self._metrics.keeps(len(self.kept), self.kept.size)

    def _read(self, call: Call) -> list[Adaptation]:
        body = parse(call.content)
        if call.kind == "adapt":
            return [self._served.reader.adaptation(body)]
        return self._served.reader.adaptations(body)

    def _adapt(self, tasks: list[Adaptation], pending: list[_Pending], replies: list[Reply | None]) -> None:
        try:
            answers = self._served.adapt(tasks)
        except Exception as error:
            for waiting in pending:
                replies[waiting.call] = refusal(error)
            return
        self._metrics.adapted(len(tasks))
        for waiting in pending:
            some = slice(waiting.first, waiting.first + waiting.count)
            try:
                replies[waiting.call] = self._reply(tasks[some], answers[some], waiting.many)
            except Exception as error:
                replies[waiting.call] = refusal(error)

    def _reply(self, tasks: list[Adaptation], answers: list[Adapted | Exception], many: bool) -> Reply:
        finished = []
        for i, answer in enumerate(answers):
            if isinstance(answer, Exception):
                raise answer.of_task(i) if many and isinstance(answer, Refused) else answer
            finished.append((tasks[i], answer))
        # what is kept is kept where all tasks were adapted to
        sent = [self._finished(task, answer) for task, answer in finished]
        return Reply(200, encode({"tasks": sent} if many else sent[0]))

    def _finished(self, task: Adaptation, answer: Adapted) -> dict[str, Any]:
        """Add to an answer the predictor that is kept or sent."""
        if task.keep:
            predictor = answer.predictor()
            answer.answer["id"] = self.kept.put(predictor, self._served.size_of(predictor))
            answer.answer["expires_in"] = self._limits.expiry_seconds
        if task.delta:
            answer.answer["delta"] = base64.b64encode(self._served.delta_of(answer.predictor())).decode("ascii")
        return answer.answer

    def _alone(self, call: Call) -> Reply:
        if call.kind == "forget":
            if not self.kept.forget(call.content.decode("utf-8", "replace")):
                raise _unknown()
            return Reply(204, b"")
        wanted = self._served.reader.prediction(parse(call.content))
        predictor = None
        if wanted.id is not None:
            predictor = self.kept.get(wanted.id)
            if predictor is None:
                raise _unknown()
        if wanted.delta is not None:
            try:
                content = base64.b64decode(wanted.delta, validate=True)
            except (binascii.Error, ValueError):
                raise Refused("invalid", "delta is not in base64.", field="delta") from None
            predictor = self._served.of_delta(content)
        return Reply(200, encode(self._served.predict(wanted, predictor)))


def encode(answer: Any) -> bytes:
    """Return an answer as JSON; a number that JSON does not have is a fault of the server."""
    return json.dumps(answer, allow_nan=False, separators=(",", ":")).encode("utf-8")


def refusal(error: Exception) -> Reply:
    """Return the answer to an error; one that was not expected is logged under an id, without its message.

    A message may hold values of rows, which no log should have.
    """
    if isinstance(error, Refused):
        return Reply(error.status, encode(error.payload()))
    number = secrets.token_hex(8)
    frames = traceback.extract_tb(error.__traceback__)
    places = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames[-6:]))
    _logger.error("error %s: %s at %s", number, type(error).__name__, places or "no place")
    failed = Refused("internal", f"the server failed; its log has the reason under the id {number}.")
    return Reply(failed.status, encode(failed.payload()))


def _unknown() -> Refused:
    return Refused(
        "unknown_id", "no predictor is kept under this id: it never was, it expired, or it made room; adapt again."
    )
