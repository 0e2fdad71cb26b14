"""Descriptions of the registered nodes, for the command `nodes`."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

from remotemedia._graph.registry import aliases_of, get_loaded_nodes


class ParameterDoc(NamedTuple):
    """One parameter of a node's constructor, as it is written in code."""

    name: str
    default: str | None
    annotation: str | None
    doc: str


class NodeDoc(NamedTuple):
    """One type of node."""

    name: str
    aliases: list[str]
    doc: str
    parameters: list[ParameterDoc]


def node_docs() -> list[NodeDoc]:
    """Return every registered node, sorted by name."""
    import remotemedia.nodes  # noqa: F401 - Registers the built-in nodes.

    return [_node_doc(name, cls) for name, cls in sorted(get_loaded_nodes().items())]


def _node_doc(name: str, cls: type[Any]) -> NodeDoc:
    doc = inspect.getdoc(cls) or ""
    described = _described_parameters(doc) | _described_parameters(inspect.getdoc(cls.__init__) or "")
    text = re.split(r"^(?:Args|Attributes):$", doc, maxsplit=1, flags=re.MULTILINE)[0].strip()
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):  # The constructor is not written in Python.
        return NodeDoc(name, aliases_of(name), text, [])
    parameters = [
        _parameter_doc(parameter, described.get(parameter.name, ""))
        for parameter in signature.parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return NodeDoc(name, aliases_of(name), text, parameters)


def _parameter_doc(parameter: inspect.Parameter, doc: str) -> ParameterDoc:
    default = None if parameter.default is parameter.empty else repr(parameter.default)
    annotation = None if parameter.annotation is parameter.empty else parameter.annotation
    if annotation is not None and not isinstance(annotation, str):
        annotation = inspect.formatannotation(annotation)
    return ParameterDoc(parameter.name, default, annotation, doc)


def _described_parameters(doc: str) -> dict[str, str]:
    """Return the texts under `Args:` of a docstring, by parameter."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", doc, flags=re.MULTILINE)
    if section is None:
        return {}
    lines = inspect.cleandoc(section.group(1)).splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        started = re.match(r"(\*{0,2}\w+)(?: \(.*?\))?:\s*(.*)", line)
        if started:
            name, found[started.group(1)] = started.groups()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}"
    return found
