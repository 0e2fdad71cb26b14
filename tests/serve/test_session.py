"""`GET /session`: live sessions on WebSockets."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

TIMEOUT_SECS = 30


def test_outputs_come_back_as_they_are_made(serve, session):
    with session(serve("add")) as client:
        client.send(1)
        assert client.receive() == 2
        client.send(2)
        assert client.receive() == 3


def test_outputs_are_in_the_order_of_the_items(serve, session):
    with session(serve("repeat")) as client:
        for count in range(50):
            client.send(count)
        outputs = [client.receive() for _ in range(sum(range(50)))]

    assert outputs == [number for count in range(50) for number in range(count)]


def test_more_items_than_have_room_are_taken_as_it_comes(serve, session):
    with session(serve("add")) as client:
        for number in range(3000):
            client.send(number)
        assert [client.receive() for _ in range(3000)] == list(range(1, 3001))


def test_binary_messages_are_audio(serve, session):
    with session(serve("measure"), "?rate=48000&channels=2") as client:
        client.socket.send(np.full(960, 16384, dtype="<i2").tobytes())

        assert client.receive() == {"frames": 480, "rate": 48_000, "peak": 0.5}


def test_audio_that_comes_out_is_announced(serve, session):
    with session(serve("tone")) as client:
        client.send(2)

        assert client.receive() == {"$event": "audio", "rate": 24_000, "channels": 1, "format": "s16le"}
        for _ in range(2):
            samples = np.frombuffer(client.receive(), dtype="<i2")
            assert (len(samples), samples[0]) == (240, 16384)


def test_bytes_that_come_out_are_a_binary_message(serve, session):
    with session(serve("encode")) as client:
        client.send([1, 2, 255])

        assert client.receive() == b"\x01\x02\xff"


def test_an_error_of_an_item_does_not_end_the_session(serve, session):
    with session(serve("add")) as client:
        client.send("a")
        error = client.receive()
        client.send(1)
        assert client.receive() == 2

    assert (error["$event"], error["type"], error["node_id"]) == ("error", "TypeError", "Add_0")


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ("{oops", "JsonError", "the message is"),
        (b"\x01", "AudioError", "whole frames of 1 channel, s16le"),
        (b"", "AudioError", "whole frames"),
        ('{"$control": "stop"}', "ControlError", "'stop' is not known; send interrupt or end"),
    ],
)
def test_a_message_that_makes_no_sense_is_answered(serve, session, message, kind, words):
    with session(serve("add")) as client:
        client.socket.send(message)
        error = client.receive()
        client.send(1)
        assert client.receive() == 2

    assert (error["$event"], error["type"]) == ("error", kind)
    assert words in error["message"]


def test_an_object_with_other_keys_is_an_item(serve, session):
    items = [{"$control": "end", "more": 1}, {"control": "end"}, {"$control": 1}]
    with session(serve("same")) as client:
        for item in items:
            client.send(item)
            assert client.receive() == item


def test_the_end_of_input_flushes_the_nodes(serve, session):
    with session(serve("total")) as client:
        for number in (1, 2, 3):
            client.send(number)
        client.send({"$control": "end"})

        assert client.closed() == ([6, {"$event": "end"}], 1000)


def test_an_interrupt_drops_what_is_queued_and_in_progress(serve, session):
    server = serve("sleep")
    with session(server) as client:
        for _ in range(100):
            client.send(60)
        server.wait_for_line("begins 60")
        client.send({"$control": "interrupt"})

        assert client.receive() == {"$event": "interrupted", "dropped": 100}
        server.wait_for_line("cancelled 60")
        client.send(0)
        assert client.receive() == 0


@pytest.mark.parametrize("name", ["sleep", "own_sleep"])
def test_an_interrupt_after_the_end_of_input_ends_the_session(serve, session, name):
    server = serve(name)
    with session(server) as client:
        client.send(60)
        server.wait_for_line("begins 60")
        client.send({"$control": "end"})
        client.send({"$control": "interrupt"})

        assert client.closed() == ([{"$event": "interrupted", "dropped": 1}, {"$event": "end"}], 1000)


def test_the_close_of_a_client_is_acknowledged(serve, session):
    with session(serve("add")) as client:
        client.send(1)
        assert client.receive() == 2
        client.socket.close()

    assert client.socket.close_code == 1000


def test_an_interrupt_is_heard_among_many_outputs(serve, session):
    with session(serve("own_flood")) as client:
        client.send(1_000_000)
        assert len(client.receive()) == 1_000_000
        client.send({"$control": "interrupt"})

        while isinstance(message := client.receive(), str):
            pass

    assert message == {"$event": "interrupted", "dropped": 1}


def test_an_interrupt_concerns_only_its_own_client(serve, session):
    server = serve("sleep")
    with session(server) as first, session(server) as second:
        first.send(60)
        server.wait_for_line("begins 60")
        second.send(0.5)
        server.wait_for_line("begins 0.5")
        first.send({"$control": "interrupt"})

        assert first.receive()["dropped"] == 1
        assert second.receive() == 0.5


def test_an_interrupt_of_nodes_of_its_own_calls_theirs(serve, session):
    server = serve("count")
    with session(server) as client:
        client.send("a")
        assert client.receive() == 1
        client.send({"$control": "interrupt"})
        assert client.receive()["$event"] == "interrupted"
        server.wait_for_line("interrupted")


def test_a_client_that_goes_away_cancels_its_work(serve, session):
    server = serve("sleep")
    with session(server) as client:
        client.send(100)
        server.wait_for_line("begins 100")

    server.wait_for_line("cancelled 100")


@pytest.mark.parametrize("name", ["flood", "own_flood"])
def test_a_client_that_does_not_read_holds_up_nobody_else(serve, session, name):
    server = serve(name)
    with session(server) as idle, session(server) as other:
        for _ in range(20):
            idle.send(2)
        for _ in range(20):
            other.send(1)
            assert len(other.receive()) == 1_000_000
        assert server.call(0).status == 200

        received = [len(idle.receive()) for _ in range(40)]

    assert received == [1_000_000] * 40


def test_a_client_that_leaves_too_much_unread_is_left(serve, session):
    """Outputs of nodes that others use do not wait for it, and are not kept without a limit."""
    server = serve("flood")
    with session(server) as client:
        client.send(1_000_000)
        # The node goes on with other clients.
        server.wait_until_counted("remotemedia_node_interrupted_total", 0)
        assert server.call(1).status == 200
        messages, code = client.closed()

    assert code == 1008
    assert 0 < len(messages) < 1000
    with session(server) as client:
        client.send(1)
        assert len(client.receive()) == 1_000_000


def test_nodes_of_its_own_wait_for_a_client_that_does_not_read(serve, session):
    server = serve("own_flood")
    with session(server) as client:
        client.send(120)
        time.sleep(0.5)

        assert [len(client.receive()) for _ in range(120)] == [1_000_000] * 120


def test_sessions_have_a_limit(serve, session):
    server = serve("add", "--max-sessions", "1")
    with session(server):
        assert server.request("GET", "/readyz").status == 503
        with pytest.raises(InvalidStatus) as refused:
            session(server)

    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"] == "1"
    until = time.monotonic() + TIMEOUT_SECS
    while server.request("GET", "/readyz").status != 200:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_plain_request_is_told_to_upgrade(serve):
    response = serve("add").request("GET", "/session")

    assert response.status == 426
    assert "WebSocket" in response.json["message"]


def test_a_query_that_makes_no_sense_is_refused(serve):
    response = serve("add").request("GET", "/session?rate=0")

    assert response.status == 400
    assert "'rate' must be from 1" in response.json["message"]


@pytest.mark.parametrize(
    ("given", "is_accepted"), [("a%2Fsecret%3D", True), ("wrong", False), ("secret", False), (None, False)]
)
def test_a_browser_gives_the_token_as_a_subprotocol(serve, session, tmp_path, given, is_accepted):
    (tmp_path / "token").write_text("a/secret=\n")
    server = serve("add", "--token-file", str(tmp_path / "token"))
    protocols = ["remotemedia", *([f"token.{given}"] if given else [])]

    if not is_accepted:
        with pytest.raises(InvalidStatus) as refused:
            session(server, subprotocols=protocols)
        assert refused.value.response.status_code == 401
        return
    with session(server, subprotocols=protocols) as client:
        assert client.socket.subprotocol == "remotemedia"
        client.send(1)
        assert client.receive() == 2


def test_a_page_elsewhere_cannot_open_a_session(serve, session):
    with pytest.raises(InvalidStatus) as refused:
        session(serve("add"), origin="https://evil.example")

    assert refused.value.response.status_code == 403


def test_a_stop_lets_what_was_sent_end_and_says_that_it_goes_away(serve, session):
    server = serve("sleep")
    with session(server) as client:
        client.send(1)
        server.wait_for_line("begins 1")
        server.process.send_signal(signal.SIGTERM)

        messages, code = client.closed()

    assert (messages, code) == ([1, {"$event": "end"}], 1001)
    assert server.process.wait(TIMEOUT_SECS) == 0


def test_a_session_that_is_idle_does_not_hold_up_a_stop(serve, session):
    server = serve("add")
    with session(server) as client:
        closed = []
        thread = threading.Thread(target=lambda: closed.append(client.closed()))
        thread.start()
        assert server.stop() == 0
        thread.join(TIMEOUT_SECS)

    assert closed == [([{"$event": "end"}], 1001)]


def test_the_grace_period_ends_sessions_too(serve, session):
    server = serve("sleep", "--grace", "0.3")
    with session(server) as client:
        client.send(60)
        server.wait_for_line("begins 60")
        assert server.stop() == 0
    server.wait_for_line("cancelled 60")
