"""Spans for OpenTelemetry, with OTEL_EXPORTER_OTLP_ENDPOINT and the extra `otel`: one for a request, and below it one for a start
that it caused, in whichever worker. Off, nothing of OpenTelemetry is imported and each function returns at once. The
specification's other variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, …) are read by
OpenTelemetry itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from core.errors import ConfigurationError
from core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from core.settings import Settings

SCOPE: Final = "jelmore"
HEADERS: Final = ("traceparent", "tracestate")
"""How a trace is handed on (W3C Trace Context)."""


class Tracing:
    """The process's tracer, once there is one."""

    def __init__(self) -> None:
        self._tracer: Any = None
        self._kinds: Any = None
        self._context: Any = None
        self._propagator: Any = None

    @property
    def on(self) -> bool:
        """Whether spans are wanted."""
        return self._tracer is not None

    def open(self, process: str, settings: Settings) -> None:
        """Begin, if an endpoint is named. Raises ConfigurationError without the extra."""
        if settings.otel_exporter_otlp_endpoint is None:
            return
        try:
            from opentelemetry import context
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import SpanKind
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as missing:
            raise ConfigurationError(
                ["OTEL_EXPORTER_OTLP_ENDPOINT needs OpenTelemetry: install the extra `otel`."]
            ) from missing
        named = {"service.name": f"{SCOPE}-{process}", "service.version": VERSION}
        provider = TracerProvider(resource=Resource.create(named))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer(SCOPE, VERSION)
        self._kinds, self._context, self._propagator = SpanKind, context, TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, *, kind: str, headers: Mapping[str, str], **attributes: str) -> Iterator[Any]:
        """Let what happens within be a span, below the one that these headers tell of. Yields it; None when off."""
        if self._tracer is None:
            yield None
            return
        span = self.begin(name, kind=kind, headers=headers, **attributes)
        try:
            yield span
        except BaseException as fault:
            span.fail(fault)
            raise
        finally:
            span.end()

    def begin(self, name: str, *, kind: str, headers: Mapping[str, str], **attributes: str) -> Span:
        """Begin a span that is ended by its `end`. Only when on."""
        given = {header: headers[header] for header in HEADERS if header in headers}
        above = self._propagator.extract(given)
        span = self._tracer.start_span(name, context=above, kind=self._kinds[kind], attributes=attributes)
        return Span(span, self._context)

    def carried(self) -> dict[str, str]:
        """Return the headers that tell others of the current span; none when off, or outside of any."""
        carrier: dict[str, str] = {}
        if self._tracer is not None:
            self._propagator.inject(carrier)
        return carrier


class Span:
    """One that is the current one until its end."""

    def __init__(self, span: Any, context: Any) -> None:
        from opentelemetry.trace import set_span_in_context

        self._span = span
        self._context = context
        self._token = context.attach(set_span_in_context(span))

    def note(self, **attributes: str | int) -> None:
        """Add attributes; `__` stands for the dot in their names."""
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value)

    def rename(self, name: str) -> None:
        """Give it a better name."""
        self._span.update_name(name)

    def fail(self, fault: BaseException | None = None) -> None:
        """Mark it as failed. What an exception says may hold anything: only its type is told."""
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR, type(fault).__name__ if fault is not None else None)

    def end(self) -> None:
        """End it."""
        self._context.detach(self._token)
        self._span.end()


TRACING: Final = Tracing()
"""This process's."""
