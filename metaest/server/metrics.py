"""Counters of a server, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TASKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "metaest_requests", "Requests, by route and status", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "metaest_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._adaptations = Counter("metaest_adaptations", "Tasks adapted to", registry=self.registry)
        self._batch = Histogram(
            "metaest_batch_tasks", "Tasks adapted to in one batch", buckets=_TASKS, registry=self.registry
        )
        self._rejected = Counter("metaest_rejected", "Requests refused, by code", ["code"], registry=self.registry)
        self._kept = Gauge("metaest_kept_predictors", "Adapted predictors that are kept", registry=self.registry)
        self._kept_bytes = Gauge("metaest_kept_bytes", "Bytes of kept predictors", registry=self.registry)
        self._waiting = Gauge("metaest_waiting_requests", "Requests that wait for an answer", registry=self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def adapted(self, tasks: int) -> None:
        """Count a batch of adaptations."""
        self._adaptations.inc(tasks)
        self._batch.observe(tasks)

    def rejected(self, code: str) -> None:
        """Count a request that was refused before it was read, or for being too much."""
        self._rejected.labels(code).inc()

    def keeps(self, number: int, size: int) -> None:
        """Say how many predictors are kept, and how many bytes they take."""
        self._kept.set(number)
        self._kept_bytes.set(size)

    def waits(self, number: int) -> None:
        """Say how many requests wait."""
        self._waiting.set(number)

    def text(self) -> bytes:
        """Return all of it in Prometheus' format."""
        return generate_latest(self.registry)
