"""Items as instances of the class that the first node takes, and outputs of such classes as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from remotemedia._cli.items.reader import reader_of
from remotemedia._cli.items.shapes import ItemError
from remotemedia._cli.loading import load

APP = Path(__file__).parent / "typed_app.py"


@pytest.fixture
def serve_typed(serve):
    return lambda name, *options: serve(f"typed_app.py:{name}", *options)


@pytest.fixture(scope="module")
def read_order():
    return reader_of(load(f"{APP}:orders"))


def test_json_becomes_a_dataclass_with_all_that_is_in_it(serve_typed):
    order = {
        "user": {"name": "Ada", "age": 36, "friends": [{"name": "Bob", "age": 4.0}]},
        "color": "blue",
        "kind": "old",
        "size": [3],
        "tags": ["a", "b"],
        "weights": {"-1": 2},
        "picture": "AAE=",
    }

    response = serve_typed("orders").call(order)

    assert response.status == 200
    assert response.json == {
        "user": {"name": "Ada", "age": 36, "friends": [{"name": "Bob", "age": 4, "friends": []}]},
        "color": "blue",
        "kind": "old",
        "size": [3, 1.0],
        "tags": ["a", "b"],
        "weights": {"-1": 2.0},
        "picture": "AAE=",
        "number": 7,
    }


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (7, "the item must be an object, not an integer"),
        ({}, "'user' is missing"),
        ({"user": {"name": "Ada", "age": "3"}}, "'user.age' must be an integer, not a string"),
        ({"user": {"name": "Ada", "age": 1.5}}, "'user.age' must be an integer, not 1.5"),
        ({"user": {"name": "Ada", "age": True}}, "'user.age' must be an integer, not a boolean"),
        ({"user": {"name": "Ada", "agee": 3}}, "'user.agee' is not a field of User; did you mean 'age'?"),
        ({"user": {"name": "Ada", "age": -1}}, "'user' is not accepted: nobody is younger than 0"),
        (
            {"user": {"name": "Ada", "age": 3, "friends": [{"name": "Bob"}]}},
            "'user.friends[0].age' is missing",
        ),
        ({"user": {"name": "Ada", "age": 3}, "color": "green"}, '\'color\' must be one of "red", "blue"'),
        ({"user": {"name": "Ada", "age": 3}, "tags": [1]}, "'tags[0]' must be a string, not an integer"),
        (
            {"user": {"name": "Ada", "age": 3}, "size": [1, 2, 3]},
            "'size' must be an array of 1 to 2 items, not of 3",
        ),
        (
            {"user": {"name": "Ada", "age": 3}, "weights": {"01": 1}},
            "'weights[\"01\"]' must be a key that is an integer",
        ),
        ({"user": {"name": "Ada", "age": 3}, "picture": "?"}, "'picture' must be base64 text"),
        ({"user": {"name": "Ada", "age": 3}, "number": 8}, "'number' is not a field of Order"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(read_order, item, message):
    with pytest.raises(ItemError) as caught:
        read_order(item)

    assert str(caught.value) == message


def test_what_does_not_fit_is_refused(serve_typed):
    response = serve_typed("orders").call({"user": {"name": "Ada", "age": "3"}})

    assert response.status == 400
    assert response.json["type"] == "ItemError"
    assert response.json["message"] == "'user.age' must be an integer, not a string"
    assert response.json["node_id"] is None


def test_a_typed_dict_stays_a_dict_and_what_is_in_it_is_made(serve_typed):
    server = serve_typed("notes")

    assert server.call({"text": "a"}).json == "NoneType"
    assert server.call({"text": "a", "other key": 1}).json == "NoneType"
    assert server.call({"text": "a", "author": {"name": "Ada", "age": 3}}).json == "User"
    assert server.call({"author": None}).json["message"] == "'author' must be an object, not null"
    assert server.call({}).json["message"] == "'text' is missing"


def test_pydantic_checks_its_models_itself(serve_typed):
    server = serve_typed("points")

    assert server.call({"x": "3", "why": 4}).json == {"x": 3, "why": 4, "label": None, "total": 7}
    refused = server.call({"x": 3, "why": -1})

    assert (refused.status, refused.json["type"]) == (400, "ValidationError")
    assert (
        "1 validation error for Point\nwhy\n  Input should be greater than or equal to 0"
        in refused.json["message"]
    )


def test_models_may_be_inside_of_other_types(serve_typed):
    server = serve_typed("lists")
    point, user = {"x": 1, "why": 2}, {"name": "Ada", "age": 3}

    assert [output.get("total") for output in server.call([point, user]).json] == [3, None]
    assert "'[0]'" in server.call([{"x": "?", "why": 1}]).json["message"]


def test_without_such_a_class_items_come_as_they_are(serve_typed):
    assert serve_typed("encode").call({"a": [1]}).body == b"{'a': [1]}"
    assert serve_typed("unresolved").call(3).json == [3]


def test_streams_and_sessions_read_items_in_the_same_way(serve_typed, session):
    server = serve_typed("notes")
    note = json.dumps({"text": "a", "author": {"name": "Ada", "age": 3}})

    lines = server.request("POST", "/stream", f"{note}\n{{}}\n").body.decode().splitlines()
    with session(server) as client:
        client.send(json.loads(note))
        client.send({})
        outputs = [client.receive() for _ in range(2)]

    assert json.loads(lines[0]) == outputs[0] == "User"
    for error in (json.loads(lines[1]), outputs[1]):
        assert (error["$event"], error["type"], error["message"]) == (
            "error",
            "ItemError",
            "'text' is missing",
        )


def test_run_reads_items_in_the_same_way(tmp_path):
    (tmp_path / "items.jsonl").write_text(
        '{"text": "a", "author": {"name": "Ada", "age": 3}}\n{"author": {}}\n', encoding="utf-8"
    )
    command = [sys.executable, "-m", "remotemedia", "run", f"{APP}:notes", "--input"]

    done = subprocess.run(
        [*command, tmp_path / "items.jsonl"], capture_output=True, text=True, timeout=30, check=False
    )

    assert [json.loads(line) for line in done.stdout.splitlines()] == ["User"]
    assert done.returncode == 1
    assert "input item 1: 'author.name' is missing" in done.stderr
