"""What hosting counts, in Prometheus' form. A registry of its own: two pools of one process do not meet."""

from __future__ import annotations

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""Of what `Metrics.render` returns."""

ANSWER_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Bounds of the histograms: from a cached prompt on a GPU to a long answer on a CPU."""

LOAD_SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""From a small file in the page cache to a large one from a slow disk."""


class Metrics:
    """The counters of one pool. `model` is the id of the catalog, the name of a custom model, or a folder."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "limbeck_requests",
            "Answers asked for, by how they ended: the reason of the end, the error's name, or canceled",
            ["model", "outcome"],
            registry=own,
        )
        self.tokens_in = Counter("limbeck_prompt_tokens", "Tokens of prompts answered", ["model"], registry=own)
        self.tokens_out = Counter("limbeck_response_tokens", "Tokens of answers", ["model"], registry=own)
        self.first_piece = Histogram(
            "limbeck_first_piece_seconds",
            "From a request to the first piece of its answer",
            ["model"],
            buckets=ANSWER_SECONDS,
            registry=own,
        )
        self.latency = Histogram(
            "limbeck_request_seconds",
            "From a request to the end of its answer",
            ["model"],
            buckets=ANSWER_SECONDS,
            registry=own,
        )
        self.under_way = Gauge("limbeck_requests_under_way", "Requests not yet answered", ["model"], registry=own)
        self.queued = Gauge("limbeck_requests_queued", "Requests that wait for a slot", ["model"], registry=own)
        self.replicas = Gauge("limbeck_replicas", "Replicas that are loaded", registry=own)
        self.memory = Gauge("limbeck_replica_memory_bytes", "Memory that replicas are reckoned to take", registry=own)
        self.loads = Histogram(
            "limbeck_load_seconds", "Loads, and how long they took", ["model"], buckets=LOAD_SECONDS, registry=own
        )
        self.evictions = Counter(
            "limbeck_evictions", "Replicas ended to make room, or because nobody asked", ["model", "why"], registry=own
        )
        self.restarts = Counter(
            "limbeck_restarts", "Replicas begun again after they had ended by themselves", ["model"], registry=own
        )

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
