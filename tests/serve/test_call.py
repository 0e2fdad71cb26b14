"""`POST /call`: one item, and its outputs in the shape of `session.call`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import subprocess
import threading
import wave
from io import BytesIO

import pytest


@pytest.mark.parametrize("item", [None, True, 7, 2**70, -0.5, "text", [1, [2]], {"a": {"b": None}}])
def test_json_comes_back_as_it_was_sent(serve, item):
    response = serve("same").call(item)

    assert (response.status, response.json) == (200, item)
    assert response.headers["content-type"] == "application/json"


def test_the_answer_has_the_shape_of_session_call(serve):
    server = serve("repeat")

    assert [server.call(count).json for count in (0, 1, 3)] == [None, 0, [0, 1, 2]]


def test_nodes_may_be_in_workers(serve):
    assert serve("in_worker").call(1).json == 3


def test_a_recording_is_one_frame_of_audio(serve):
    buffer = BytesIO()
    with wave.open(buffer, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(8000)
        recording.writeframes(b"\x00\x40" * 8000 * 70)

    response = serve("measure").request("POST", "/call", buffer.getvalue(), content_type="audio/wav")

    assert response.json == {"frames": 8000 * 70, "rate": 8000, "peak": 0.5}


def test_bytes_are_sent_as_they_are(serve):
    response = serve("encode").request("POST", "/call", b"\x00\xff", content_type="application/octet-stream")

    assert (response.headers["content-type"], response.body) == ("application/octet-stream", b"\x00\xff")


def test_requests_on_one_connection_and_on_many_get_their_own_outputs(serve):
    server = serve("add")

    def call_all(first):
        with contextlib.closing(server.connect()) as connection:
            results = []
            for item in range(first, first + 50):
                connection.request("POST", "/call", str(item))
                results.append(json.loads(connection.getresponse().read()))
            return results

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        results = list(pool.map(call_all, range(0, 16_000, 1000)))

    assert results == [[item + 1 for item in range(first, first + 50)] for first in range(0, 16_000, 1000)]


def test_curl_and_the_example_of_the_help(serve):
    host, port = serve("add").address
    command = ["curl", "--silent", "--fail", f"http://{host}:{port}/call", "--data", "41"]
    command += ["--header", "Content-Type: application/json"]

    assert subprocess.run(command, capture_output=True, check=True, timeout=30).stdout == b"42"


def test_all_methods_of_a_node_run_on_one_thread(serve):
    server = serve("life")

    assert server.call(1).json == [server.process.pid, True]
    assert server.stop() == 0
    server.wait_for_line("cleaned up on its thread: True")


class TestErrors:
    def test_of_a_node(self, serve):
        response = serve("add").call("text", x_request_id="mine")

        assert response.status == 500
        assert response.json == {
            "type": "TypeError",
            "message": 'can only concatenate str (not "int") to str',
            "node_id": "Add_0",
            "request_id": "mine",
        }
        assert response.headers["x-request-id"] == "mine"

    def test_of_an_output_without_a_form(self, serve):
        response = serve("opaque").call(1)

        assert (response.status, response.json["type"]) == (500, "OutputError")
        assert "object" in response.json["message"]

    @pytest.mark.parametrize(
        ("body", "headers", "status", "text"),
        [
            (b"{", {}, 400, "not JSON"),
            (b"", {}, 400, "not JSON"),
            (b"\xff", {}, 400, "not UTF-8"),
            (b"[1, NaN]", {}, 400, "NaN at column 5"),
            (b"RIFF", {"content_type": "audio/wav"}, 400, "not a WAV file"),
            (b"1", {"content_type": "text/plain"}, 415, "send application/json, audio/wav"),
            (b"[" * 100_000, {}, 400, "recursion limit"),
        ],
    )
    def test_of_a_body(self, serve, body, headers, status, text):
        server = serve("same")

        response = server.request("POST", "/call", body, **headers)

        assert response.status == status
        assert text in response.json["message"]
        assert server.call(1).json == 1

    def test_of_a_path_and_a_method(self, serve):
        server = serve("same")

        path, method = server.request("GET", "/nothing"), server.request("GET", "/call")

        assert (path.status, method.status, method.headers["allow"]) == (404, 405, "POST")
        assert path.json["request_id"] == path.headers["x-request-id"]
        assert "POST /call" in path.json["message"]


def test_a_large_body_is_answered_beside_small_ones(serve):
    server = serve("same")
    large = [[number] * 10 for number in range(100_000)]
    done = []
    thread = threading.Thread(target=lambda: done.append(server.call(large)))
    thread.start()
    quick = [server.call(number).json for number in range(50)]
    thread.join(60)

    assert quick == list(range(50))
    assert done[0].json == large
