"""Metrics for Prometheus: ``GPT2_METRICS=on``.

The model server's :class:`Observer`, and what counts requests that have ended. Imported only if
metrics are on, because ``prometheus_client`` decides on import whether several processes share a
folder of counts (``metric_files``).

Invariants: labels have few, known values; series of reasons exist from the start, at 0; names
follow Prometheus' rules and are vLLM's where the figure is the same. docs/monitoring.md lists them.
"""

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gpt2core.engine.events import EndReason, RefusalReason, Request, Scoring
from gpt2core.engine.observer import ModelState, Observer
from webapp.metric_files import VARIABLE
from webapp.request_log import Record
from webapp.version import version

# Seconds, of the upper bounds of buckets.
FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
NEXT_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
QUEUE = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WHOLE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# What a request asks for: a text, one token (candidates, the pace "step"), scores of a text.
KINDS = ("text", "next_token", "score")
END_REASONS = tuple(reason for part in get_args(EndReason) for reason in get_args(part) or [part])


def kind_of(request: Request[Any]) -> str:
    """One of KINDS."""
    if isinstance(request, Scoring):
        return "score"
    return "next_token" if getattr(request, "n_tokens", 0) == 1 else "text"


class Metrics(Observer):
    """All metrics of this process."""

    def __init__(self, model: str, weights: str, max_batch: int):
        """``model`` and ``weights`` are labels of what is served in ``max_batch`` slots."""
        self._is_shared = VARIABLE in os.environ
        # Shared counts are read from the files; a registry would have this process's twice.
        self._registry = None if self._is_shared else CollectorRegistry()
        self._make_histograms()
        self._make_counters()
        self._make_gauges()
        self._slots.set(max_batch)
        self._model_info.labels(model, weights).set(1)
        self._build_info.labels(version(), platform.python_version(), np.__version__).set(1)
        self.load(0, 0)

    def _make_histograms(self) -> None:
        first = self._histogram(
            "time_to_first_token_seconds",
            "From the submission of a prompt to its first token.",
            FIRST_TOKEN,
            "kind",
        )
        whole = self._histogram(
            "e2e_request_latency_seconds",
            "From the submission of a text to its end, whatever that is.",
            WHOLE,
            "kind",
        )
        self._first_token = {kind: first.labels(kind) for kind in KINDS if kind != "score"}
        self._whole = {kind: whole.labels(kind) for kind in KINDS}
        self._next_token = self._histogram(
            "inter_token_latency_seconds", "Between two tokens of a text.", NEXT_TOKEN
        )
        self._queue_time = self._histogram(
            "request_queue_time_seconds", "From a submission to a free slot.", QUEUE
        )

    def _make_counters(self) -> None:
        read = self._counter("prompt_tokens", "Tokens of given texts that were read.", "kind")
        ended = self._counter(
            "requests_finished", "Texts that have ended.", "kind", "finished_reason"
        )
        refused = self._counter("requests_refused", "Requests answered 429 or 503.", "reason")
        self._read = {kind: read.labels(kind) for kind in KINDS}
        self._ended = {
            (kind, reason): ended.labels(kind, reason) for kind in KINDS for reason in END_REASONS
        }
        self._refused = {reason: refused.labels(reason) for reason in get_args(RefusalReason)}
        self._generated = self._counter("generation_tokens", "Tokens that were generated.")
        self._inside = self._counter("inside_views", "Pages and files of /inside.", "view")
        self._http = self._counter(
            "http_requests", "Requests that were answered.", "method", "route", "status"
        )

    def _make_gauges(self) -> None:
        self._running = self._gauge("num_requests_running", "Texts that have a slot.")
        self._waiting = self._gauge("num_requests_waiting", "Texts that wait for a slot.")
        self._slots = self._gauge("num_slots", "Texts that can run at once (GPT2_MAX_BATCH).")
        workers = self._gauge("workers", "Processes, by the state of their model.", "state")
        self._workers = {state: workers.labels(state) for state in get_args(ModelState)}
        self._model_info = self._gauge(
            "model_info", "Processes that serve this model.", "model", "weights"
        )
        self._build_info = self._gauge(
            "build_info", "Processes of this version.", "version", "python", "numpy"
        )

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        name = f"glyph_{name}"
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"glyph_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge that is summed over the live processes."""
        name = f"glyph_{name}"
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode="livesum")

    # What the model server reports

    def model(self, state: ModelState) -> None:
        for name, gauge in self._workers.items():
            gauge.set(name == state)

    def load(self, n_running: int, n_waiting: int) -> None:
        self._running.set(n_running)
        self._waiting.set(n_waiting)

    def admitted(self, request: Request[Any]) -> None:
        self._queue_time.observe(request.age)

    def read(self, request: Request[Any], n_tokens: int) -> None:
        self._read[kind_of(request)].inc(n_tokens)

    def generated(self, request: Request[Any], seconds: float) -> None:
        self._generated.inc()
        if request.n_generated == 1:
            self._first_token[kind_of(request)].observe(seconds)
        else:
            self._next_token.observe(seconds)

    def ended(self, request: Request[Any]) -> None:
        kind = kind_of(request)
        self._whole[kind].observe(request.age)
        self._ended[kind, request.end_reason or "failed"].inc()

    # What the page reports

    def answered(self, record: Record) -> None:
        """A response has ended."""
        self._http.labels(record.method, record.route or "none", record.status).inc()
        if record.refusal:
            self._refused[record.refusal].inc()
        if (record.route or "").startswith("/inside") and record.status == 200:
            self._inside.labels(record.endpoint).inc()

    def text(self) -> bytes:
        """All metrics of all processes, as Prometheus reads them."""
        registry = self._registry
        if registry is None:
            registry = CollectorRegistry()
            registry.register(AllProcesses())
        return generate_latest(registry)


class AllProcesses(Collector):
    """The counts of all processes.

    A process that starts makes its files empty, and gives them their size a moment later.
    ``prometheus_client`` cannot read an empty one.
    """

    def collect(self) -> Iterable[Metric]:
        files = []
        for path in Path(os.environ[VARIABLE]).glob("*.db"):
            with suppress(FileNotFoundError):  # of a process that has ended
                if path.stat().st_size:
                    files.append(str(path))
        return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call, no-any-return]
