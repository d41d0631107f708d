"""Every attempt as a span of OpenTelemetry: the pass rates of all evals, and how long each request took.

Needs `opentelemetry-sdk` and `opentelemetry-instrumentation-aiohttp-client`.
"""

import asyncio

from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from evals_async import EvalsClient


def line_of(span: ReadableSpan) -> str:
    took = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    facts = span.attributes or {}
    return f"{took:8.1f} ms  {span.name}  {facts.get('http.status_code', '')}  {facts.get('http.url', '')}\n"


async def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=line_of)))
    tracer = provider.get_tracer("pass-rates")
    traced = create_trace_config(tracer_provider=provider)
    async with EvalsClient(trace_configs=[traced]) as client:
        async for evaluation in client.evals.list():
            with tracer.start_as_current_span(f"pass rates of {evaluation.name}"):
                runs = await client.evals.runs.list(evaluation.id, status="completed").collect()
                print(evaluation.name, [run.pass_rate for run in runs])
    provider.shutdown()


asyncio.run(main())
