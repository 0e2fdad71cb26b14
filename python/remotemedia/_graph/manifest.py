"""Converts manifests to graphs of node objects, and back.

Rust parses the text and checks every field, with line numbers; this module creates the nodes. A node type is
a registered name or `module:Class`: manifests come from the program itself, never from items.
"""

from __future__ import annotations

from remotemedia._graph.collector import without_collector
from remotemedia._graph.constructor_args import NotJson, find_not_json, recorded_params
from remotemedia._graph.graph import (
    MANIFEST_SUFFIXES,
    Entry,
    Graph,
    chain,
    entries_of,
    graph_of,
    graph_of_manifest,
    is_manifest_entry,
    name_of,
)
from remotemedia._graph.node_types import find_type, type_name
from remotemedia._graph.options import Batch
from remotemedia._graph.registry import get_loaded_nodes
from remotemedia._suggest import did_you_mean
from remotemedia.exceptions import ManifestError, PipelineError, SerializationError

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from remotemedia._core import ParsedManifest

__all__ = ["describe", "dump", "load", "load_list"]

_VERSION = "v1"


def load(manifest: str | dict[str, Any]) -> Graph:
    """Return the graph of a manifest, and create its nodes.

    Args:
        manifest: JSON or YAML text, or the equivalent dict.

    Raises:
        ManifestError: If it is invalid, names an unknown type, or a constructor raises.
        PipelineError: If the nodes cannot be combined.
    """
    parsed = _parse(manifest)
    maker = _Maker(parsed, has_lines=isinstance(manifest, str))
    with without_collector():
        entries = [maker.make(index) for index in range(len(parsed))]
        for index, entry in enumerate(entries):
            entry.after = [entries[position].id for position in parsed.upstreams(index)]
        return graph_of_manifest(parsed, entries)


def load_list(items: Sequence[object]) -> Graph:
    """Return the graph of a list that mixes nodes and manifest entries.

    Raises:
        TypeError: If an entry is neither.
        ManifestError: If a manifest entry is invalid.
    """
    live = iter(entries_of(items))
    entries = [None if is_manifest_entry(item) else next(live) for item in items]
    # Placeholders for the existing nodes, so that indices in errors are those of the list.
    nodes = [
        item if entry is None else {"id": entry.id, "node_type": "PassThroughNode"}
        for item, entry in zip(items, entries, strict=True)
    ]
    parsed = _parse({"version": _VERSION, "nodes": nodes})
    maker = _Maker(parsed, has_lines=False)
    made: list[Entry] = []
    for index, (item, entry) in enumerate(zip(items, entries, strict=True)):
        if entry is None:
            entry = maker.make(index)  # noqa: PLW2901 - Created now.
            if "id" not in item:  # type: ignore[operator] # What is not a node is a dict.
                entry.id = f"{name_of(entry.node)}_{index}"
        made.append(entry)
    chain(made)
    return graph_of("pipeline", made)


def dump(name: str, entries: Iterable[Entry]) -> str:
    """Return the JSON text of a pipeline.

    Raises:
        SerializationError: If an argument of a constructor is not a JSON value, or was not recorded.
    """
    nodes: list[dict[str, Any]] = []
    connections: list[dict[str, str]] = []
    for entry in entries:
        node = {"id": entry.id, **describe(entry.node)}
        if entry.options:
            node["options"] = _written(entry)
        if entry.join:
            node["join"] = True
        nodes.append(node)
        connections += [{"from": upstream, "to": entry.id} for upstream in entry.after]
    import json

    manifest = {"version": _VERSION, "metadata": {"name": name}, "nodes": nodes, "connections": connections}
    return json.dumps(manifest, indent=2, ensure_ascii=False)


def _written(entry: Entry) -> dict[str, Any]:
    """Return the options of a node as a manifest contains them."""
    written = dict(entry.options)
    for name, value in written.items():
        if isinstance(value, Batch):
            written[name] = {"size": value.size, "max_wait": value.max_wait}
        elif callable(value):
            raise _refused(entry.node, name, f"the option {name} is a function")
    return written


def describe(node: object) -> dict[str, Any]:
    """Return type and constructor arguments of a node: `{"node_type", "params"}`.

    Raises:
        SerializationError: If an argument is not a JSON value, or was not recorded.
    """
    try:
        params = recorded_params(node)
    except TypeError as error:
        raise _refused(node, "", f"the class {type(node).__name__} cannot be described: {error}") from error
    if params is None:
        if type(node).__init__ is not object.__init__:
            reason = "the arguments of its constructor were not recorded"
            raise _refused(node, "", f"{reason}; derive its class from Node, which records them")
        params = {}
    found = find_not_json(params)
    if found is not None:
        path, _ = found
        raise _refused(node, path, f"argument '{path}' {_what(found)}, which JSON cannot represent")
    return {"node_type": type_name(node), "params": params}


def _parse(manifest: str | dict[str, Any]) -> ParsedManifest:
    from remotemedia._core import parse_manifest

    if isinstance(manifest, str):
        text = manifest
    else:
        found = find_not_json(manifest)
        if found is not None:
            import re

            path = re.sub(r"\['(\w+)'\]", r".\1", found[0])
            raise ManifestError(f"{path}: the value {_what(found)}, which JSON cannot represent", path=path)
        import json

        text = json.dumps(manifest)
    try:
        return parse_manifest(text)
    except ManifestError as error:
        if text.lower().endswith(MANIFEST_SUFFIXES) and "\n" not in text:
            message = f"{text!r} is the name of a file, not a manifest; read it with Pipeline.from_manifest()"
            raise ManifestError(message) from None
        raise _located(error, has_lines=isinstance(manifest, str)) from None


# Shared by all nodes; never changed.
_NO_OPTIONS: dict[str, Any] = {}
_NONE_BEFORE: list[str] = []


class _Maker:
    """Creates the nodes of a manifest; looks up each type once."""

    def __init__(self, parsed: ParsedManifest, *, has_lines: bool) -> None:
        self._parsed = parsed
        self._has_lines = has_lines
        self._classes: dict[str, type[Any]] = {}

    def make(self, index: int) -> Entry:
        """Return the entry at an index, not connected yet."""
        node_id, node_type, params, options, join = self._parsed.node(index)
        cls = self._classes.get(node_type)
        if cls is None:
            cls = self._classes[node_type] = self._class_of(node_type, index)
        try:
            node = cls(**params)
        except PipelineError as error:
            raise self._refused(index, "params", str(error)) from error
        except Exception as error:
            text = f"{cls.__name__} cannot be created from its params: {type(error).__name__}: {error}"
            raise self._refused(index, "params", text) from error
        return Entry(node_id, node, cls.__name__, _NONE_BEFORE, join, options or _NO_OPTIONS)

    def _class_of(self, node_type: str, index: int) -> type[Any]:
        try:
            cls = find_type(node_type)
        except Exception as error:
            text = f"cannot import '{node_type}': {type(error).__name__}: {error}"
            raise self._refused(index, "node_type", text) from error
        if cls is None:
            text = f"unknown node type '{node_type}'{_hint(node_type)}"
            raise self._refused(index, "node_type", text)
        if not callable(getattr(cls, "process", None)):
            text = f"'{node_type}' is not a node type: it has no process() method"
            raise self._refused(index, "node_type", text)
        return cls

    def _refused(self, index: int, field: str, text: str) -> ManifestError:
        path = f"nodes[{index}].{field}"
        line = self._parsed.line_of(index, field) if self._has_lines else None
        place = path if line is None else f"Line {line}, {path}"
        return ManifestError(f"{place}: {text}", path=path, line=line)


def _hint(node_type: str) -> str:
    if ":" in node_type:
        module = node_type.partition(":")[0]
        return f"; the module '{module}' has no such class"
    names = get_loaded_nodes()
    return (
        did_you_mean(node_type, names)
        or f"; the registered types are: {', '.join(names)}; for other classes, write module:Class"
    )


def _located(error: ManifestError, *, has_lines: bool) -> ManifestError:
    """Add `line` and `path` to an error of the parser, from its text: `Line 3, nodes[1].node_type: …`."""
    place, _, text = str(error).partition(": ")
    line, _, path = place.partition(", ")
    number = line.removeprefix("Line ")
    if not number.isdigit():
        return error
    if not has_lines:
        return ManifestError(f"{path}: {text}" if path else text, path=path or None)
    return ManifestError(str(error), path=path or None, line=int(number))


def _refused(node: object, attribute: str, reason: str) -> SerializationError:
    suggestion = "Run the node objects directly, or pass only JSON values to the constructor."
    return SerializationError(
        f"Cannot serialize Node '{name_of(node)}': {reason}.\nSuggestion: {suggestion}",
        node_name=name_of(node),
        attribute=attribute,
        reason=reason,
        suggestion=suggestion,
    )


def _what(found: tuple[str, Any]) -> str:
    value = found[1]
    kind = value.kind if isinstance(value, NotJson) else type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"is {value}" if isinstance(value, float) else f"has the type '{name}'"
