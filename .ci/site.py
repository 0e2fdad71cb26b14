"""Adds to the site of `make site` the pages that are not in `docs/`.

- `project/`: the Markdown files of the root.
- `source/`: each other file of the repository that a page links to, as a listing.
- `api/`: the reference of the public Python modules, from their docstrings.

Links that lead out of `docs/` are changed to lead to these pages. MkDocs loads this file as a hook.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PROJECT = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#]+)(?P<anchor>#[^)]*)?\)")
LANGUAGES = {".py": "python", ".rs": "rust", ".json": "json"}
FENCE = re.compile(r"^```(?P<language>\w*)(?P<info>[^\n`]*)$", re.MULTILINE)

# How mkdocstrings shows objects of which a part is internal or inherited.
SESSION = "{inherited_members: true, members: [call, map, put, end, drain, interrupt, metrics, close]}"
OPTIONS = {
    "Session": SESSION,
    "AsyncSession": SESSION,
    "Pipeline": '{filters: ["!^_", "!^(keep_metrics|to_graph)$"]}',
    "testing.faults": '{filters: ["!^_", "!^(strike|initialize|process|flush|cleanup)$"]}',
}
API = {
    "pipelines": (
        "Pipelines",
        "Describe a pipeline and run it; the guide is [Pipelines](../pipelines.md).",
        ["Pipeline", "execute_pipeline", "execute_pipeline_with_input"],
    ),
    "nodes": (
        "Nodes",
        "The optional base class, the built-in nodes and their registry; the guide is [Nodes](../nodes.md).",
        [
            "Node",
            "nodes.PassThroughNode",
            "nodes.CalculatorNode",
            "nodes.FilterNode",
            "nodes.OutputNode",
            "nodes.DataSourceNode",
            "nodes.DataSinkNode",
            "nodes.register_node",
            "nodes.get_loaded_nodes",
            "register_node_class",
        ],
    ),
    "sessions": (
        "Sessions",
        "Open pipelines, for plain Python and for asyncio; the guide is [Streaming](../streaming.md).",
        ["Session", "AsyncSession"],
    ),
    "serving": (
        "Serving",
        "A pipeline on the network, from a program; the guide is [Serving](../serving.md).",
        ["serve", "serving", "Server", "serve_forever", "ServeOptions"],
    ),
    "options": (
        "Options",
        "How a node runs; the guide is [Options](../options.md).",
        ["with_options", "Batch"],
    ),
    "exceptions": (
        "Exceptions",
        "All errors of RemoteMedia; [Errors](../errors.md) explains each text.",
        [
            "exceptions.RemoteMediaError",
            "exceptions.NodeError",
            "exceptions.NodeTimeoutError",
            "exceptions.WorkerError",
            "exceptions.SessionInterruptedError",
            "exceptions.SessionClosedError",
            "exceptions.PipelineError",
            "exceptions.ManifestError",
            "exceptions.SerializationError",
        ],
    ),
    "audio": ("Audio", "Decoded audio, as the command line provides it.", ["audio.AudioFrame"]),
    "testing": (
        "Testing",
        "Nodes that fail, for your tests; [Processes](../processes.md#every-fault) shows their effects.",
        ["testing.faults"],
    ),
    "runtime": (
        "Runtime and serialization",
        "Whether the Rust runtime is available, and how nodes are converted to bytes.",
        [
            "is_rust_runtime_available",
            "try_load_rust_runtime",
            "get_rust_runtime",
            "core.node_serialization.serialize_node_for_ipc",
            "core.node_serialization.deserialize_node_from_ipc",
            "core.node_serialization.validate_node_serializable",
        ],
    ),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `project/`, `source/` and `api/`."""
    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    for name in PROJECT:
        texts[name] = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page_of(name), content=texts[name]))
    linked = {target_of(path, link["path"]) for path, text in texts.items() for link in LINK.finditer(text)}
    for path in sorted(linked):
        if page_of(path).startswith("source/") and (ROOT / path).is_file():
            files.append(File.generated(config, page_of(path), content=listing(path)))
    for name, (title, purpose, objects) in API.items():
        references = "\n".join(map(reference, objects))
        files.append(
            File.generated(config, f"api/{name}.md", content=f"# {title}\n\n{purpose}\n\n{references}")
        )
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Adapt the fences and the links of a page to the site."""
    here = page.file.src_uri
    if here.startswith(("api/", "source/")):
        return markdown
    origin = here.removeprefix("project/") if here.startswith("project/") else f"docs/{here}"

    def relink(link: re.Match[str]) -> str:
        target = page_of(target_of(origin, link["path"]))
        return f"]({posixpath.relpath(target, posixpath.dirname(here))}{link['anchor'] or ''})"

    return LINK.sub(relink, FENCE.sub(fence_of, markdown))


def reference(name: str) -> str:
    """The directive that renders a public object."""
    options = OPTIONS.get(name)
    return f"::: remotemedia.{name}\n" + (f"    options: {options}\n" if options else "")


def target_of(origin: str, link: str) -> str:
    """The path in the repository that a link leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def page_of(path: str) -> str:
    """The path in the site of a file in the repository."""
    if path == "README.md":
        return "index.md"
    if path in PROJECT:
        return f"project/{path}"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.md"


def fence_of(fence: re.Match[str]) -> str:
    """The first line of a code block, without what only the tests read."""
    file = re.search(r"\bfile=(\S+)", fence["info"])
    language = "text" if fence["language"] == "mermaid" else fence["language"]
    return f"```{language}" + (f' title="{file[1]}"' if file else "")


def listing(path: str) -> str:
    """A page that shows a file."""
    code = (ROOT / path).read_text(encoding="utf-8").rstrip()
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f'# `{path}`\n\n````{language} linenums="1"\n{code}\n````\n'
