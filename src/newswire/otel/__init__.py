"""OpenTelemetry for a hub: spans, and metrics. The extra `newswire[otel]` brings its API.

    from newswire.otel import instrument

    instrument(hub)

The application, or `opentelemetry-instrument`, sets up where spans and metrics go. See docs/metrics.md.
"""

from newswire.extras import Extra

with Extra("newswire.otel", "otel"):
    from newswire.otel.instrument import instrument

__all__ = ["instrument"]
