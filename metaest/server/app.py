"""The server's paths: what HTTP adds to answers of the service."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from metaest.server.errors import Refused
from metaest.server.limits import Limits
from metaest.server.metrics import Metrics
from metaest.server.openapi import describe_api
from metaest.server.request_batching import RequestBatcher
from metaest.server.served_model import serve
from metaest.server.service import Call, Reply, Service, refusal

__all__ = ["LOOPBACK", "create_app"]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_JSON = "application/json"
_logger = logging.getLogger("metaest.server")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def create_app(
    model: Any,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = LOOPBACK,
    limits: Limits | None = None,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    compile: bool | None = None,
) -> Any:
    """Return an ASGI application that serves a fitted model; ``metaest serve`` runs one.

    The model is not changed, and nothing of one request reaches the answer to another: adapted predictors are
    immutable, and kept under random ids only where that is asked for.

    Parameters
    ----------
    model : estimator
        A fitted MAMLRegressor, MAMLClassifier, EquationRegressor or an equation of metaest_domains,
        RandomCoefficientRegressor, HierarchicalGPRegressor, AutoMetaRegressor or AutoMetaClassifier.
    token : str, optional
        What requests must carry as ``Authorization: Bearer <token>``; all but those to ``/health``.
    hosts : collection of str or None, default=("localhost", "127.0.0.1", "[::1]")
        Names that the header ``Host`` may have, so that no web page can reach a server without a token through the
        browser of somebody on this machine; None for any. Not looked at with a token.
    limits : Limits, optional
        What is accepted and kept.
    columns : mapping of str to mapping, optional
        What the operator states of columns of X, and of ``"y"``: ``unit``, ``description``, ``minimum``, ``maximum``.
        Values out of bounds are refused.
    compile : bool, optional
        Whether adaptations are worked out in machine code, as the model's setting of this name; None does so where
        it is possible (llvmlite is needed): a single adaptation is then several times as fast.

    Returns
    -------
    starlette.applications.Starlette

    Raises
    ------
    TypeError
        When the model is of another kind.
    ValueError
        When a column is stated that the model does not have.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest.server import create_app
    >>> from metaest_datasets import make_sinusoids
    >>> model = MAMLRegressor(max_iter=50, random_state=0).fit(make_sinusoids(20, random_state=0))
    >>> app = create_app(model, compile=False)
    """
    limits, metrics = limits or Limits(), Metrics()
    served = serve(model, limits, columns, compile)
    service = Service(served, limits, metrics)
    answering = _Answering(service, limits, metrics)
    about = json.dumps(served.describe(), allow_nan=False).encode()
    api = json.dumps(describe_api(served, limits, token is not None), allow_nan=False).encode()

    def fixed(content: bytes) -> Callable[[Request], Awaitable[Response]]:
        async def send(request: Request) -> Response:
            return Response(content, media_type=_JSON)

        return send

    async def measured(request: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [
        Route("/adapt", answering.of_body("adapt"), methods=["POST"]),
        Route("/adapt_many", answering.of_body("adapt_many"), methods=["POST"]),
        Route("/predict", answering.of_body("predict"), methods=["POST"]),
        Route("/adapted/{id}", answering.of_id, methods=["DELETE"]),
        Route("/health", fixed(b'{"status":"ok"}')),
        Route("/model", fixed(about)),
        Route("/openapi.json", fixed(api)),
        Route("/metrics", measured),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _not_served},
        lifespan=answering.lifespan,
    )
    app.router.redirect_slashes = False  # answers are objects
    app.add_middleware(_Gate, token=token, hosts=None if token else hosts, metrics=metrics)
    return app


class _Answering:
    """Endpoints whose answers come from the service."""

    def __init__(self, service: Service, limits: Limits, metrics: Metrics) -> None:
        self._service, self._limits, self._metrics = service, limits, metrics
        self._gatherer = RequestBatcher(service.answer, limits, metrics)
        self._bytes = 0

    def of_body(self, kind: str) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint that answers a body."""

        async def answer(request: Request) -> Response:
            if request.headers.get("content-type", "").split(";")[0].strip().lower() != _JSON:
                raise Refused("content_type", f"the body must be sent with Content-Type: {_JSON}.")
            held = _Held(self)
            try:
                body = await self._read(request, held)
                return _response(await self._gatherer.ask(Call(kind, body)))
            finally:
                held.release()

        return answer

    async def of_id(self, request: Request) -> Response:
        """Forget a kept predictor."""
        return _response(await self._gatherer.ask(Call("forget", request.path_params["id"].encode("utf-8", "replace"))))

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Drop kept predictors in time while the server runs, and end its thread with it."""
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            self._gatherer.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(10.0, max(0.05, self._limits.expiry_seconds / 10)))
            await self._gatherer.run(self._service.sweep)

    async def _read(self, request: Request, held: "_Held") -> bytes:
        """Return the body, counted while it arrives."""
        most = self._limits.max_bytes
        length = request.headers.get("content-length", "")
        if length.isdigit() and (len(length) > 18 or int(length) > most):
            raise Refused("too_large", f"the body has {length[:20]} bytes; at most {most} are taken.")
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                async for part in request.stream():
                    held.take(len(part))
                    if held.size > most:
                        raise Refused("too_large", f"the body has more than {most} bytes.")
                    if self._bytes > self._limits.max_waiting_bytes:
                        raise Refused("busy", "the bodies of all requests are too large together; try again.")
                    parts.append(part)
        except TimeoutError:
            raise Refused("slow", f"the body did not arrive in {self._limits.read_seconds:g} seconds.") from None
        return b"".join(parts)


class _Held:
    """Bytes of one body, as long as they are held."""

    def __init__(self, answering: _Answering) -> None:
        self._answering, self.size = answering, 0

    def take(self, size: int) -> None:
        self.size += size
        self._answering._bytes += size

    def release(self) -> None:
        self._answering._bytes -= self.size


class _Gate:
    """Middleware of every request: checks host and token, turns errors into objects, counts, logs without data."""

    def __init__(self, app: Any, token: str | None, hosts: Collection[str] | None, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if token is None else token.encode()
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            if isinstance(error, Refused):
                self._metrics.rejected(error.code)
            if not status:
                await _response(refusal(error))(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - started
            route = _route(scope)
            self._metrics.answered(route, status, seconds)
            if _logger.isEnabledFor(logging.INFO):
                _logger.info("%s %s %d %.1f ms", scope["method"], route, status, 1e3 * seconds)

    def _admit(self, scope: Scope) -> None:
        """Raise where a request has not the right host or token."""
        headers = dict(scope["headers"])
        if self._hosts is not None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host if host.endswith("]") else host.rsplit(":", 1)[0]
            if name not in self._hosts:
                raise Refused("host", "the header Host names another server than this one.")
        if self._token is not None and scope["path"] != "/health":
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                raise Refused("unauthorized", "a token is wanted: Authorization: Bearer <token>.")


_ROUTES = frozenset(("/adapt", "/adapt_many", "/predict", "/health", "/model", "/openapi.json", "/metrics"))


def _route(scope: Scope) -> str:
    """Return the path as logs and metrics have it: without ids, and without what strangers make up."""
    path = scope["path"]
    if path in _ROUTES:
        return str(path)
    return "/adapted/{id}" if path.startswith("/adapted/") else "other"


# answers after which the rest of a body is not waited for
_CLOSING = frozenset((408, 413))


def _response(reply: Reply) -> Response:
    headers = {}
    if reply.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if reply.status == 503:
        headers["Retry-After"] = "1"
    if reply.status in _CLOSING:
        headers["Connection"] = "close"
    return Response(reply.body, reply.status, headers, media_type=_JSON if reply.body else None)


async def _not_served(request: Request, error: Exception) -> Response:
    """Answer where there is no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refused = Refused("method_not_allowed", f"{_route(request.scope)} does not take {request.method[:20]}.")
    else:
        refused = Refused("not_found", "there is nothing at this path; GET /openapi.json lists what there is.")
    response = _response(refusal(refused))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response
