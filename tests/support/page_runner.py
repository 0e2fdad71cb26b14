"""Runs the code of one page: reads blocks as JSON on stdin, writes what each printed as JSON on stdout.

The Python blocks of a page share one namespace, as in a notebook, and may `await`. A block with a file name
is written to that file instead of being run. Commands run in bash.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import linecache
import subprocess
import sys
import traceback
import types
from pathlib import Path


def run_python(code: str, label: str, namespace: dict[str, object]) -> str:
    linecache.cache[label] = (len(code), None, code.splitlines(keepends=True), label)
    compiled = compile(code, label, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = eval(compiled, namespace)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    return printed.getvalue()


def run_commands(session: str) -> str:
    """Run each `$ command` of a console session, and return the session with the new outputs."""
    lines: list[str] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(
                ["bash", "-c", line.removeprefix("$ ")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            lines += [line, done.stdout.rstrip("\n")] if done.stdout else [line]
    return "\n".join(lines)


def main() -> None:
    page = types.ModuleType("__main__")
    sys.modules["__main__"] = page
    # Modules are imported from the directory of the page, not from that of the tests.
    sys.path[0] = ""
    results = []
    for block in json.load(sys.stdin):
        try:
            if block["file"]:
                Path(block["file"]).write_text(block["text"], encoding="utf-8")
                result = ""
            elif block["language"] == "console":
                result = run_commands(block["text"])
            else:
                result = run_python(block["text"], block["label"], page.__dict__)
        except BaseException:  # noqa: BLE001 - What a block raises is its result, and the test shows it.
            result = traceback.format_exc()
        results.append(result)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
