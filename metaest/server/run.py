"""Running a server: one process that answers until it is told to stop, and then finishes what it began."""

import logging
import signal
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metaest.server.limits import Limits

__all__ = ["run"]

# bytes after which a head that has not ended is not read on: each further part copies all before it
MOST_HEAD = 2**19
_logger = logging.getLogger("metaest.server")


def run(app: Any, host: str, port: int, limits: Limits) -> None:
    """Serve an application until SIGTERM or SIGINT; requests that are under way are answered first.

    Parameters
    ----------
    app : ASGI application
    host : str
    port : int
        0 for any free one; the log says which.
    limits : Limits
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        loop="auto",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=int(max(1, limits.read_seconds)),
        timeout_graceful_shutdown=int(limits.answer_seconds) + 1,
    )
    # uvicorn raises the signal again once all is answered; the process then ends as one that did its work
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    uvicorn.Server(config).run()


def _stop(number: int, frame: Any) -> None:
    sys.exit(0)


def _protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with bounds on connections, and on time and bytes of the head of a request."""

    class Protocol(HttpToolsProtocol):
        _head: Any = None
        _head_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.max_connections:
                transport.abort()
                return
            self._head = self.loop.call_later(limits.read_seconds, self._end)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._head is not None:
                self._head_bytes += len(data)
                if self._head_bytes > MOST_HEAD:
                    self._end()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._head is None:
                self._head = self.loop.call_later(limits.read_seconds, self._end)

        def on_headers_complete(self) -> None:
            self._keep()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._keep()
            super().connection_lost(exc)

        def _keep(self) -> None:
            self._head_bytes = 0
            if self._head is not None:
                self._head.cancel()
                self._head = None

        def _end(self) -> None:
            self._keep()
            if self.transport is not None and not self.transport.is_closing():
                self.transport.abort()

    return Protocol
