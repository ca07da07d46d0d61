"""What Prometheus is told."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# Seconds; a CPU takes minutes for many large pictures.
SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
TOGETHER = (1, 2, 4, 8, 16)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counts of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "limner_requests", "Answered requests.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "limner_request_seconds",
            "Time from request to answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.pictures = Counter("limner_pictures", "Painted pictures.", ("model",), registry=self.registry)
        self.together = Histogram(
            "limner_batch_pictures", "Pictures painted at once.", buckets=TOGETHER, registry=self.registry
        )
        self.painting_seconds = Counter(
            "limner_painting_seconds", "Time spent painting.", registry=self.registry
        )

    def watch(self, name: str, told: str, number: Callable[[], float]) -> None:
        """A gauge that is read when somebody asks."""
        Gauge(name, told, registry=self.registry).set_function(number)

    def text(self) -> bytes:
        """All of it, in Prometheus' own format."""
        return generate_latest(self.registry)
