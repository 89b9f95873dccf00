"""Requests that arrive within a few milliseconds, answered together by one thread beside the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from metaest.server.errors import Refused
from metaest.server.limits import Limits
from metaest.server.metrics import Metrics
from metaest.server.service import Call, Reply

__all__ = ["RequestBatcher"]

# requests answered in one batch
MOST = 128
# bytes of their bodies together: a large request has a batch of its own
MOST_BYTES = 250_000
# seconds that a batch waits for as many requests as the last one had: clients who were answered together ask together
LINGER = 0.003


class RequestBatcher:
    """Hands requests to a thread, as many at a time as there are.

    A request that finds the thread idle is not held up. Those that arrive while it works make the next batch.

    Parameters
    ----------
    work : callable
        ``work(calls)`` returns the replies; it runs in the thread.
    limits : Limits
    metrics : Metrics
    """

    def __init__(self, work: Callable[[Sequence[Call]], list[Reply]], limits: Limits, metrics: Metrics) -> None:
        self._work, self._limits, self._metrics = work, limits, metrics
        self._thread = ThreadPoolExecutor(1, "metaest-server")
        self._waiting: deque[tuple[Call, asyncio.Future[Reply]]] = deque()
        self._arrived = asyncio.Event()
        self._expected = 0
        self._running: asyncio.Task[None] | None = None

    async def ask(self, call: Call) -> Reply:
        """Return the reply to a request.

        Raises
        ------
        Refused
            When too many wait, or the answer takes too long.
        """
        if len(self._waiting) >= self._limits.max_waiting:
            raise Refused("busy", "too many requests wait; try again in a second.")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        if len(self._waiting) >= self._expected:
            self._arrived.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                return await future
        except TimeoutError:
            raise Refused(
                "timeout", f"the answer took more than {self._limits.answer_seconds:g} seconds; try again later."
            ) from None

    async def run(self, work: Callable[[], None]) -> None:
        """Do something else in the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await self._gather()
                # a client that gave up has a future that is done
                batch = [one for one in self._taken() if not one[1].done()]
                self._metrics.waits(len(self._waiting))
                if not batch:
                    continue
                self._expected = len(batch)
                try:
                    replies = await loop.run_in_executor(self._thread, self._work, [call for call, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), reply in zip(batch, replies, strict=True):
                    if not future.done():
                        future.set_result(reply)
        finally:
            self._running = None

    async def _gather(self) -> None:
        """Wait a moment where the last batch had more requests than wait now."""
        if self._expected < 2 or len(self._waiting) >= self._expected:
            return
        self._arrived.clear()
        try:
            async with asyncio.timeout(LINGER):
                await self._arrived.wait()
        except TimeoutError:
            pass

    def _taken(self) -> list[tuple[Call, asyncio.Future[Reply]]]:
        """Take requests off the queue: one at least, and further ones while they are small together."""
        batch = [self._waiting.popleft()]
        size = len(batch[0][0].content)
        while self._waiting and len(batch) < MOST and size + len(self._waiting[0][0].content) <= MOST_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0].content)
        return batch
