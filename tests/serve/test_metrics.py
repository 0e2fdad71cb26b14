"""`GET /metrics`, as a parser of Prometheus reads it."""

from __future__ import annotations

import concurrent.futures

from prometheus_client.parser import text_string_to_metric_families


def samples(server):
    """Return the value of each sample, by its name and labels."""
    response = server.request("GET", "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(response.body.decode())
    found = [sample for family in families for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in found}


def test_requests_are_counted_by_path_and_status(serve):
    server = serve("add")
    for item in (1, 2, "text"):
        server.call(item)
    for path in ("/nothing", "/else"):
        server.request("GET", path)

    found = samples(server)

    counted = {key[1:]: value for key, value in found.items() if key[0] == "remotemedia_requests_total"}
    assert counted == {
        (("path", "/call"), ("status", "200")): 2,
        (("path", "/call"), ("status", "500")): 1,
        (("path", "other"), ("status", "404")): 2,
    }
    durations = "remotemedia_request_duration_seconds"
    assert found[f"{durations}_count", ("path", "/call")] == 3
    assert found[f"{durations}_bucket", ("le", "+Inf"), ("path", "/call")] == 3
    assert 0 < found[f"{durations}_sum", ("path", "/call")] < 30


def test_nodes_are_measured(serve):
    server = serve("in_worker")
    for item in (1, 2, "text"):
        server.call(item)

    found = samples(server)

    def of_node(name, node, **labels):
        return found[f"remotemedia_node_{name}", *sorted({"node": node, **labels}.items())]

    assert [of_node("items_in_total", node) for node in ("Add_0", "Add_1")] == [3, 2]
    assert [of_node("errors_total", node) for node in ("Add_0", "Add_1")] == [1, 0]
    assert of_node("restarts_total", "Add_0") == 0
    assert 0 < of_node("duration_seconds", "Add_0", quantile="0.5") < 1
    assert of_node("duration_seconds", "Add_0", quantile="0.5") <= of_node(
        "duration_seconds", "Add_0", quantile="0.99"
    )
    assert found["process_resident_memory_bytes",] > 1e6


def test_calls_in_progress_are_seen(serve):
    server = serve("sleep")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(server.call, 1) for _ in range(2)]
        server.wait_for_line("begins 1")

        during = samples(server)["remotemedia_calls_in_progress",]
        assert [call.result().status for call in calls] == [200, 200]

    assert 1 <= during <= 2
    assert samples(server)["remotemedia_calls_in_progress",] == 0


def test_the_fill_of_queues_and_sessions_is_seen(serve, session):
    server = serve("sleep")
    with session(server) as client:
        for _ in range(20):
            client.send(60)
        server.wait_for_line("begins 60")
        during = samples(server)

    assert during["remotemedia_sessions_open",] == 1
    assert 0 <= during["remotemedia_node_queue_items", ("node", "Sleep_0")] <= 20
    assert during["remotemedia_node_queue_capacity_items", ("node", "Sleep_0")] >= 20


def test_the_workers_of_a_node_are_measured(serve):
    server = serve("in_worker")
    server.call(1)

    found = samples(server)

    assert found["remotemedia_worker_resident_memory_bytes", ("node", "Add_0")] > 1e6
    assert found["remotemedia_worker_cpu_seconds_total", ("node", "Add_0")] > 0
