"""`POST /stream`: bodies that are read as they arrive, and outputs as they come."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import wave

import numpy as np
import pytest


def lines_of(response):
    return [json.loads(line) for line in response.body.splitlines()]


def test_every_line_of_json_is_an_item(serve):
    server = serve("add")

    response = server.request("POST", "/stream", b"1\n2\n\n3", Content_Type="application/x-ndjson")

    assert (response.status, response.headers["content-type"]) == (200, "application/x-ndjson")
    assert lines_of(response) == [2, 3, 4]


def test_outputs_are_sent_as_events_if_the_client_accepts_them(serve):
    response = serve("repeat").request("POST", "/stream", b"2\n1", Accept="text/event-stream")

    assert response.headers["content-type"] == "text/event-stream"
    assert response.body == b"data: 0\n\ndata: 1\n\ndata: 0\n\n"


def test_an_output_is_sent_before_the_body_has_ended(serve):
    server = serve("add")
    with socket.create_connection(server.address, timeout=30) as client:
        reader = client.makefile("rb")
        client.sendall(
            b"POST /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/x-ndjson\r\n\r\n"
        )
        for number in range(3):
            client.sendall(b"2\r\n%d\n\r\n" % number)
            while (line := reader.readline()) != b"%d\n" % (number + 1):
                assert line, "the connection was closed"
        client.sendall(b"0\r\n\r\n")
        assert b"0\r\n" in reader.readline() + reader.readline() + reader.readline()


def wav_of(samples, rate):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def test_a_wav_body_is_cut_into_frames(serve):
    body = wav_of(np.full(1000, 0.5), 16_000)

    response = serve("measure").request("POST", "/stream?chunk_ms=40", body, Content_Type="audio/wav")

    frames = lines_of(response)
    assert [frame["frames"] for frame in frames] == [640, 360]
    assert {frame["rate"] for frame in frames} == {16_000}


def test_raw_audio_needs_a_rate(serve):
    server = serve("measure")
    body = np.zeros(480, dtype="<f4").tobytes()

    refused = server.request("POST", "/stream", body, Content_Type="application/octet-stream")
    accepted = server.request(
        "POST", "/stream?rate=24000&format=f32le", body, Content_Type="application/octet-stream"
    )

    assert refused.status == 400
    assert "?rate=16000" in refused.json["message"]
    assert lines_of(accepted) == [{"frames": 480, "rate": 24_000, "peak": 0.0}]


def test_what_is_held_back_comes_at_the_end_of_the_body(serve):
    assert lines_of(serve("total").request("POST", "/stream", b"1\n2\n3\n")) == [6]


@pytest.mark.parametrize("form", ["lines", "events"])
def test_a_bad_line_ends_the_stream_with_an_error_that_names_it(serve, form):
    accept = "text/event-stream" if form == "events" else "*/*"

    response = serve("add").request("POST", "/stream", b"1\n{oops\n3", Accept=accept)

    if form == "lines":
        output, error = lines_of(response)
        assert output == 2
        assert error.pop("$event") == "error"
    else:
        output, event, *_ = response.body.decode().split("\n\n")
        assert output == "data: 2"
        name, data = event.split("\n")
        assert name == "event: error"
        error = json.loads(data.removeprefix("data: "))
    assert error["type"] == "BodyError"
    assert "the body, line 2" in error["message"]
    assert error["request_id"] == response.headers["x-request-id"]


def test_an_error_of_a_node_ends_the_stream(serve):
    first, error = lines_of(serve("add").request("POST", "/stream", b'1\n"a"\n3'))

    assert first == 2
    assert (error["type"], error["node_id"]) == ("TypeError", "Add_0")


def test_other_bodies_are_refused(serve):
    response = serve("add").request("POST", "/stream", b"1", Content_Type="text/html")

    assert response.status == 415
    assert "application/x-ndjson" in response.json["message"]


def test_streams_count_among_the_calls_in_progress(serve):
    server = serve("sleep", "--max-in-flight", "1")
    with socket.create_connection(server.address, timeout=30) as client:
        client.sendall(b"POST /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"2\r\n0\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")

        refused = server.call(0)

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")


def test_a_client_that_goes_away_cancels_its_work(serve):
    server = serve("sleep")
    with contextlib.closing(socket.create_connection(server.address, timeout=30)) as client:
        client.sendall(b"POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n100")
        server.wait_for_line("begins 100")

    server.wait_for_line("cancelled 100")


def test_a_stop_ends_the_input_and_lets_what_is_in_progress_end(serve):
    server = serve("total")
    with socket.create_connection(server.address, timeout=30) as client:
        client.sendall(b"POST /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(b"4\r\n1\n2\n\r\n")
        client.sendall(b"4\r\n3\n4\n\r\n")
        server.wait_until_counted("remotemedia_node_items_in_total", 4)

        assert server.stop() == 0

        rest = b""
        while data := client.recv(4096):
            rest += data
    assert b"10\n" in rest


def test_a_stream_that_breaks_off_does_not_look_complete(serve):
    server = serve("sleep", "--grace", "0.2")
    with socket.create_connection(server.address, timeout=30) as client:
        client.sendall(b"POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n0\n60\n ")
        server.wait_for_line("begins 60")
        assert server.stop() == 0

        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(4096):
                received += data

    assert b"\r\n2\r\n0\n\r\n" in received
    assert not received.endswith(b"0\r\n\r\n")
