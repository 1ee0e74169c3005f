"""One trace per task, from coordinator and worker without a message between them (OpenTelemetry, the extra ``otel``).

A task's trace and the span that is the root of it have ids that are digests of the campaign's and the task's ids. Both
sides know these, so nothing has to travel with a task, and a campaign without traces pays nothing for them:

======= =========== ================================================================================================
span    made by     from, to
======= =========== ================================================================================================
task    coordinator issued, ended: the root, with the outcome
publish coordinator issued, its doorbell written to the queue; one per attempt
pull    worker      taken from the queue, the newest version at hand
train   worker      local training
encode  worker      training ended, payload ready
deliver worker      payload ready, in the update log
admit   coordinator in the update log, read, decoded and checked; with the reason where it was refused
merge   coordinator in the buffer, folded into a version
======= =========== ================================================================================================

Where spans go and how many, the standard ``OTEL_*`` variables say. A sampler that goes by the trace's id (such as
``parentbased_traceidratio``) decides the same for all spans of a task, on every machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fl_core.errors import SpecError
from fl_core.program.extras import need

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

FLUSH_MILLISECONDS = 3000


def trace_ids(campaign: str, task_id: str) -> tuple[int, int]:
    """The trace's id (128 bits) and its root span's (64 bits) of one task; neither is zero.

    >>> trace_ids("digits-1", "17-a3") == trace_ids("digits-1", "17-a3")
    True
    """
    digest = hashlib.blake2b(f"{campaign}/{task_id}".encode(), digest_size=24).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:]) or 1


class Tracer:
    """Records spans after the fact. For one thread of one process: make it after a fork, in the process that uses it.

    Args:
        service: ``service.name``, unless ``OTEL_SERVICE_NAME`` or ``OTEL_RESOURCE_ATTRIBUTES`` names another.
        processor: where spans go; None sends them, in the background, where ``OTEL_TRACES_EXPORTER`` and
            ``OTEL_EXPORTER_OTLP_*`` say.

    Raises:
        SpecError: the extra ``otel`` is not installed, or ``OTEL_TRACES_EXPORTER`` names none that is known here.
    """

    def __init__(self, service: str, processor: SpanProcessor | None = None) -> None:
        need_opentelemetry()
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import Decision
        from opentelemetry.trace import TraceFlags

        resource = Resource.create()
        if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": service}))
        self._ids = _make_ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        if (chosen := processor or _processor()) is not None:
            self._provider.add_span_processor(chosen)
        self._tracer = self._provider.get_tracer("fedtide")
        self._sampled, self._flags = Decision.RECORD_AND_SAMPLE, TraceFlags(TraceFlags.SAMPLED)

    def record(
        self, campaign: str, task_id: str, name: str, start_ns: int, end_ns: int, *, error: str = "", **attributes: Any
    ) -> None:
        """Tell one span of a task's trace, if the task is sampled.

        Args:
            name: ``task`` is the root, any other its child.
            start_ns, end_ns: by this machine's clock (``time.time_ns``).
            error: why it failed; empty if it did not.
            attributes: get the prefix ``fedtide.``; None is left out.
        """
        from opentelemetry import trace

        trace_id, root_id = trace_ids(campaign, task_id)
        if self._provider.sampler.should_sample(None, trace_id, "task").decision != self._sampled:
            return
        parent = trace.SpanContext(trace_id, root_id, is_remote=True, trace_flags=self._flags)
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
        told = {"campaign": campaign, "task": task_id, **attributes}
        with self._ids.root(trace_id, root_id) if name == "task" else contextlib.nullcontext():
            span = self._tracer.start_span(
                name,
                context=None if name == "task" else context,
                kind=_kind(name),
                attributes={f"fedtide.{key}": value for key, value in told.items() if value is not None},
                start_time=min(start_ns, end_ns),
            )
        if error:
            span.set_status(trace.StatusCode.ERROR, error)
        span.end(end_ns)

    def close(self) -> None:
        """Send what waits, for some seconds at most."""
        self._provider.force_flush(FLUSH_MILLISECONDS)


def need_opentelemetry() -> None:
    """Raises:
    SpecError: the extra ``otel`` is not installed, or only a part of it.
    """
    exporter = "opentelemetry.exporter.otlp.proto.http" if _wanted_exporter() == "otlp" else "opentelemetry.sdk.trace"
    need("--traces", "opentelemetry.sdk.trace", exporter)


def _wanted_exporter() -> str:
    return os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"


def _kind(name: str) -> Any:
    """A task goes through a queue: who publishes it produces a message, who pulls it consumes one."""
    from opentelemetry.trace import SpanKind

    return {"publish": SpanKind.PRODUCER, "pull": SpanKind.CONSUMER}.get(name, SpanKind.INTERNAL)


def _processor() -> SpanProcessor | None:
    """What ``OTEL_TRACES_EXPORTER`` asks for; OTLP over HTTP by default.

    Raises:
        SpecError: it asks for another.
    """
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    match wanted := _wanted_exporter():
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return BatchSpanProcessor(OTLPSpanExporter())
        case "console":
            return BatchSpanProcessor(ConsoleSpanExporter())
        case "none":
            return None
        case _:
            raise SpecError(f"OTEL_TRACES_EXPORTER = {wanted!r} is not known here; use otlp, console or none.")


def _make_ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ids, but for a root whose ids are known."""

        def __init__(self) -> None:
            self._known: tuple[int, int] | None = None

        @contextlib.contextmanager
        def root(self, trace_id: int, span_id: int) -> Iterator[None]:
            """The next span has these ids."""
            self._known = (trace_id, span_id)
            try:
                yield
            finally:
                self._known = None

        def generate_trace_id(self) -> int:
            return self._known[0] if self._known else super().generate_trace_id()

        def generate_span_id(self) -> int:
            return self._known[1] if self._known else super().generate_span_id()

    return Ids()
