"""Counts and times of a server, in the text form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from converters.version import VERSION

from .records import ServedNet

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32)


class ServerMetrics:
    """The metrics of one application."""

    def __init__(self, net: ServedNet) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        info = Gauge("fcn_port_net", "The net that is served.", ("net", "engine", "version"), registry=registry)
        info.labels(net.name, net.engine, VERSION).set(1)
        self._requests = Counter("fcn_port_requests", "Answers by HTTP status.", ("status",), registry=registry)
        self._seconds = Histogram(
            "fcn_port_request_seconds", "From a request for an answer to the answer.", registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._waited = Histogram(
            "fcn_port_wait_seconds", "Time that an image waited for the net.", registry=registry, buckets=_SECONDS
        )
        self._net = Histogram(
            "fcn_port_net_seconds", "Time that the net took for a batch.", registry=registry, buckets=_SECONDS
        )
        self._batch = Histogram("fcn_port_batch_images", "Images in a batch.", registry=registry, buckets=_BATCHES)
        self._images = Counter("fcn_port_images", "Images that the net has seen.", registry=registry)
        self._active = Gauge("fcn_port_active_requests", "Requests that are read, wait or compute.", registry=registry)

    def batch(self, images: int, waited: float, took: float) -> None:
        """A batch is done; called from the net's threads."""
        self._images.inc(images)
        self._batch.observe(images)
        self._waited.observe(waited)
        self._net.observe(took)

    def answered(self, status: int, seconds: float | None = None) -> None:
        """A request has its answer; `seconds` of one that asked for what the net sees."""
        self._requests.labels(str(status)).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def active(self, count: int) -> None:
        """So many requests are under way."""
        self._active.set(count)

    def text(self) -> bytes:
        """The text that Prometheus fetches."""
        return generate_latest(self._registry)
