"""Counts and times of a policy server, as Prometheus text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vla.serving_thread import Answer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32)


class ServingMetrics:
    """What a server counts; each server has its own registry.

    Attributes:
        answers: chunks sent so far.
    """

    def __init__(self):
        self._registry = registry = CollectorRegistry()
        self.answers = 0
        self.clients = Gauge("vla_clients", "Connected clients", registry=registry)
        self.refused = Counter("vla_refused", "Connections refused", ["why"], registry=registry)
        self.errors = Counter("vla_errors", "Requests answered with an error", ["kind"], registry=registry)
        self.waiting = Gauge("vla_waiting", "Questions waiting for the policy", registry=registry)
        self._answers = Counter("vla_answers", "Chunks sent", registry=registry)
        self._infer = Histogram(
            "vla_infer_seconds",
            "The policy's time for the batch that a chunk came from",
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = Histogram(
            "vla_queue_seconds", "Time a question waited for the policy", buckets=_SECONDS, registry=registry
        )
        self._batch = Histogram(
            "vla_batch_size", "Questions in the batch that a chunk came from", buckets=_SIZES, registry=registry
        )

    def answered(self, answer: Answer) -> None:
        """Count a chunk."""
        self.answers += 1
        self._answers.inc()
        self._infer.observe(answer.infer_s)
        self._queue.observe(answer.queue_s)
        self._batch.observe(answer.batch)

    def text(self) -> str:
        """All of it in Prometheus' exposition format."""
        return generate_latest(self._registry).decode()
