"""Spans of requests and nodes, as a collector receives them."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from itertools import pairwise
from pathlib import Path

import pytest
from span_collector import Collector

APP = Path(__file__).parent / "app.py"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def collector():
    with Collector() as collector:
        yield collector


def test_a_request_and_its_nodes_are_spans_of_the_clients_trace(serve, collector):
    server = serve("two", "--otlp", collector.url)
    before = time.time_ns()

    assert server.call(1, traceparent=SAMPLED, x_request_id="mine").json == 3

    spans = collector.wait_for(3)
    request, first, second = spans["POST /call"], spans["node Add_0"], spans["node Add_1"]
    assert {span.fields["traceId"] for span in spans.values()} == {TRACE}
    assert (request.parent, first.parent, second.parent) == (PARENT, request.id, request.id)
    assert len({request.id, first.id, second.id, PARENT}) == 4
    assert (request.fields["kind"], first.fields["kind"]) == (2, 1)
    assert first.attributes == {"remotemedia.node.id": "Add_0"}
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/call",
        "http.response.status_code": 200,
        "url.path": "/call",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "remotemedia.request.id": "mine",
    }
    assert request.service == "pipeline"
    assert all("status" not in span.fields for span in spans.values())
    times = [request.times[0], *first.times, *second.times, request.times[1]]
    # Clocks of nodes are read to the microsecond.
    assert all(later - earlier > -100_000 for earlier, later in pairwise(times))
    assert before <= times[0] <= times[-1] <= time.time_ns()
    [(path, kind, _)] = collector.messages
    assert (path, kind) == ("/v1/traces", "application/json")


def test_a_request_without_a_trace_begins_one(serve, collector):
    server = serve("two", "--otlp", collector.url, "--log-format", "json")

    for _ in range(2):
        server.call(1)

    collector.wait_for(6)
    traces = {}
    for span in collector.spans:
        traces.setdefault(span.fields["traceId"], []).append(span)
    assert [len(spans) for spans in traces.values()] == [3, 3]
    assert sum(span.parent is None for span in collector.spans) == 2
    for trace in traces:
        server.wait_for_line(f'"trace_id":"{trace}"')


def test_a_trace_that_is_not_sampled_is_not_sent(serve, collector):
    server = serve("two", "--otlp", collector.url)

    server.call(1, traceparent=NOT_SAMPLED)
    server.call(1, traceparent=SAMPLED.replace(TRACE, "1" * 32))

    collector.wait_for(3)
    assert server.stop() == 0
    assert {span.fields["traceId"] for span in collector.spans} == {"1" * 32}


def test_the_error_of_a_node_is_on_its_span_and_that_of_the_request(serve, collector):
    server = serve("two", "--otlp", collector.url)

    server.call("text")

    spans = collector.wait_for(2)
    assert set(spans) == {"POST /call", "node Add_0"}
    assert spans["node Add_0"].fields["status"] == {"code": 2, "message": "TypeError"}
    assert spans["node Add_0"].attributes["error.type"] == "TypeError"
    assert spans["POST /call"].fields["status"] == {"code": 2, "message": "status 500"}
    assert spans["POST /call"].attributes["http.response.status_code"] == 500


def test_the_fault_of_a_client_is_no_error_of_the_service(serve, collector):
    server = serve("same", "--otlp", collector.url)

    server.request("POST", "/call", "{")
    server.request("GET", "/nothing/secret?token=1")

    spans = collector.wait_for(2)
    assert spans["POST /call"].attributes["http.response.status_code"] == 400
    assert "status" not in spans["POST /call"].fields
    assert "http.route" not in spans["GET"].attributes
    assert spans["GET"].attributes["url.path"] == "/nothing/secret"


@pytest.mark.parametrize("name", ["in_worker", "sleep", "block", "repeat"])
def test_nodes_of_all_kinds_have_spans(serve, collector, name):
    server = serve(name, "--otlp", collector.url)

    assert server.call(0).status == 200

    collector.wait_for({"in_worker": 3}.get(name, 2))
    assert server.stop() == 0
    request, *nodes = sorted(collector.spans, key=lambda span: span.name.startswith("node "))
    assert {node.parent for node in nodes} == {request.id}
    assert len(nodes) == {"in_worker": 2}.get(name, 1)


def test_steps_belong_to_their_own_requests(serve, collector):
    server = serve("sleep", "--otlp", collector.url)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(server.call, [0.2, 0.01] * 4))

    collector.wait_for(16)
    requests = {span.id: span for span in collector.spans if span.name == "POST /call"}
    nodes = [span for span in collector.spans if span.name != "POST /call"]
    assert {node.parent for node in nodes} == set(requests)
    for node in nodes:
        (begin, end), (node_begin, node_end) = requests[node.parent].times, node.times
        assert begin - 1_000_000 <= node_begin <= node_end <= end + 1_000_000


def test_a_call_that_takes_too_long_has_a_span(serve, collector):
    server = serve("sleep", "--otlp", collector.url, "--request-timeout", "0.2")

    server.call(60)

    span = collector.wait_for(1)["POST /call"]
    assert span.fields["status"] == {"code": 2, "message": "status 504"}
    assert span.times[1] - span.times[0] > 190_000_000


def test_spans_that_wait_are_sent_at_the_end(serve, collector):
    server = serve("two", "--otlp", collector.url)
    for _ in range(700):
        server.request("GET", "/healthz")

    assert server.stop() == 0

    assert len(collector.spans) == 700
    assert len(collector.messages) >= 2


def test_a_collector_that_is_busy_is_asked_again(serve, collector):
    collector.statuses += [503, 429]
    server = serve("same", "--otlp", collector.url)

    server.call(1)

    collector.wait_for(2)
    assert len(collector.messages) == 3
    warnings = [line for line in server.lines if "does not take spans" in line]
    assert len(warnings) == 1
    assert "status 503" in warnings[0]
    server.wait_for_line("takes spans again; 0 were dropped")


def test_a_collector_that_refuses_is_not_asked_again(serve, collector):
    collector.statuses += [400]
    server = serve("same", "--otlp", collector.url)

    server.request("GET", "/healthz")
    server.wait_for_line("does not take spans: status 400")
    server.request("GET", "/readyz")

    assert set(collector.wait_for(1)) == {"GET /readyz"}


def test_a_collector_that_is_away_costs_one_line_and_no_time(serve):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server = serve("two", "--otlp", f"http://127.0.0.1:{port}")

    for item in range(20):
        assert server.call(item).json == item + 2
    server.wait_for_line("does not take spans")

    assert server.stop() == 0
    assert sum("does not take spans" in line for line in server.lines) == 1


def test_a_collector_that_hangs_does_not_hold_the_end_up(serve):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = serve("same", "--otlp", f"http://127.0.0.1:{silent.getsockname()[1]}", "--grace", "1")
        server.call(1)

        assert server.stop() == 0


@pytest.mark.parametrize("url", ["https://localhost:4318", "localhost:4318", "http://", "http://a/?b"])
def test_what_is_no_collector_is_refused_before_a_node_starts(refused, url):
    code, stderr = refused(f"{APP}:refuses", "--otlp", url)

    assert code == 2
    assert "such as http://localhost:4318" in stderr
    assert "no model" not in stderr
