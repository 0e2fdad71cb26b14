"""`GET /openapi.json`, as programs read it."""

from __future__ import annotations

import jsonschema
import pytest
from openapi_spec_validator import validate


@pytest.fixture
def describe(serve):
    def describe(name, *options, **headers):
        response = serve(name, *options).request("GET", "/openapi.json", **headers)
        assert response.headers["content-type"] == "application/json"
        document = response.json
        validate(document)
        return document

    return describe


def typed(name):
    return f"typed_app.py:{name}"


def content_of_call(document):
    """Return the contents of the request and of the response, by their media types."""
    call = document["paths"]["/call"]["post"]
    return call["requestBody"]["content"], call["responses"]["200"]["content"]


def test_a_pipeline_without_annotations_takes_anything(describe):
    document = describe("same")

    taken, given = content_of_call(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "pipeline"
    assert taken == {
        "application/json": {"schema": {}},
        "audio/wav": {},
        "application/octet-stream": {},
    }
    assert given == {"application/octet-stream": {}, "application/json": {"schema": {}}}
    assert "security" not in document


def test_every_path_is_there_and_has_the_method_that_is_described(serve):
    server = serve("same")
    document = server.request("GET", "/openapi.json").json

    for path, methods in document["paths"].items():
        for method in methods:
            wrong = server.request("PUT", path)
            assert (wrong.status, method.upper() in wrong.headers["allow"]) == (405, True), (path, method)
    assert {"/", "/call", "/stream", "/session", "/status", "/metrics"} <= document["paths"].keys()


def test_the_schemas_are_those_of_the_classes(describe):
    document = describe(typed("orders"))

    taken, given = content_of_call(document)
    order = {"$ref": "#/components/schemas/Order"}
    assert taken == {"application/json": {"schema": order}}
    assert given == {"application/json": {"schema": order}}
    schemas = document["components"]["schemas"]
    assert schemas["User"]["description"] == "Somebody who orders."
    assert schemas["User"]["required"] == ["name", "age"]
    assert schemas["User"]["properties"]["friends"]["items"] == {"$ref": "#/components/schemas/User"}
    assert schemas["Order"]["properties"]["number"] == {"type": "integer", "readOnly": True, "default": 7}


def test_models_of_pydantic_have_their_own_schemas_for_inputs_and_outputs(describe):
    document = describe(typed("points"))

    taken, given = content_of_call(document)
    schemas = document["components"]["schemas"]
    [of_input, of_output] = [
        schemas[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
        for content in (taken, given)
    ]
    assert set(of_input["properties"]) == {"x", "why", "label"}
    assert set(of_output["properties"]) == {"x", "why", "label", "total"}


def test_outputs_of_a_generator_are_its_items(describe):
    _, given = content_of_call(describe(typed("lists")))

    forms = given["application/json"]["schema"]["anyOf"]
    assert [form.get("type", "item") for form in forms] == ["item", "null", "array"]


def test_a_type_that_cannot_be_found_has_no_schema(describe):
    taken, given = content_of_call(describe(typed("unresolved")))

    assert taken["application/json"] == {"schema": {}}
    assert given["application/json"] == {"schema": {}}


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("orders", {"user": {"name": "Ada", "age": 3}, "size": [1, 2], "picture": "AAE="}),
        ("points", {"x": 1, "why": 2}),
        ("notes", {"text": "a"}),
        ("lists", [{"x": 1, "why": 2}]),
        ("numbers", 3),
        ("numbers", None),
    ],
)
def test_requests_and_responses_are_as_described(serve, name, item):
    server = serve(typed(name))
    document = server.request("GET", "/openapi.json").json
    taken, given = content_of_call(document)

    def check(value, content):
        schema = {**content["application/json"]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    check(item, taken)
    check(server.call(item).json, given)


def test_errors_are_as_described(serve):
    server = serve("add")
    document = server.request("GET", "/openapi.json").json
    responses = document["paths"]["/call"]["post"]["responses"]

    for response in (server.call("text"), server.request("POST", "/call", b"{")):
        assert str(response.status) in responses
        schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(response.json)


def test_a_token_is_described_and_needed_for_the_description(serve, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    server = serve("same", "--token-file", str(token))

    document = server.request("GET", "/openapi.json", authorization="Bearer secret").json

    validate(document)
    assert server.request("GET", "/openapi.json").status == 401
    assert document["security"] == [{"token": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "401" in document["paths"]["/call"]["post"]["responses"]


def test_the_limits_are_those_of_the_options(describe):
    document = describe("same", "--max-body", "1234")

    assert "At most 1234 bytes" in document["paths"]["/call"]["post"]["requestBody"]["description"]
