"""A small OpenTelemetry collector: it receives spans by OTLP over HTTP, and keeps them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT_SECS = 30


@dataclass
class Span:
    """A span, with its attributes as a dict."""

    fields: dict
    attributes: dict
    service: str

    @property
    def id(self):
        return self.fields["spanId"]

    @property
    def parent(self):
        return self.fields.get("parentSpanId")

    @property
    def name(self):
        return self.fields["name"]

    @property
    def times(self):
        return int(self.fields["startTimeUnixNano"]), int(self.fields["endTimeUnixNano"])


@dataclass
class Collector:
    """Responds with the statuses it is given, one after the other, and then with 200."""

    statuses: list = field(default_factory=list)
    spans: list = field(default_factory=list)
    messages: list = field(default_factory=list)

    def __enter__(self):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805
                self.receive(handler)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def receive(self, handler):
        body = handler.rfile.read(int(handler.headers["content-length"]))
        self.messages.append((handler.path, handler.headers["content-type"], body))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.spans.extend(spans_of(json.loads(body)))
        handler.send_response(status)
        handler.send_header("content-length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    def wait_for(self, count):
        """Wait for so many spans, and return them by name."""
        until = time.monotonic() + TIMEOUT_SECS
        while len(self.spans) < count:
            assert time.monotonic() < until, self.spans
            time.sleep(0.01)
        return {span.name: span for span in self.spans}


def spans_of(message):
    for resource in message["resourceSpans"]:
        service = attributes_of(resource["resource"])["service.name"]
        for scope in resource["scopeSpans"]:
            assert scope["scope"]["name"] == "remotemedia"
            for fields in scope["spans"]:
                yield Span(fields, attributes_of(fields), service)


def attributes_of(fields):
    values = {"stringValue": str, "intValue": int}
    return {
        attribute["key"]: values[kind](value)
        for attribute in fields["attributes"]
        for kind, value in attribute["value"].items()
    }
