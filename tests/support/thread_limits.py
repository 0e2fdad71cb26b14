"""A program that may start only a few more threads, for each use of pipelines.

Prints the outcomes of each use with no further thread, with one, with two, and so on until it works.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import os
import resource
from contextlib import suppress
from pathlib import Path

from leftovers import nothing_remains

from remotemedia import Pipeline, execute_pipeline, execute_pipeline_with_input, with_options

UNPRIVILEGED_ID, PR_SET_DUMPABLE = 54_321, 4
MOST = 8

MANIFEST = """
version: v1
metadata: {name: p}
nodes:
- {id: a, node_type: PassThroughNode}
"""


class Same:
    def process(self, item):
        return item


class AsyncSame:
    async def process(self, item):
        await asyncio.sleep(0)
        return item


class Three:
    def process(self):
        yield from range(3)


def pipeline(*nodes):
    return Pipeline(list(nodes))


def call(*nodes, **options):
    with pipeline(*nodes).open(**options) as session:
        return [session.call(1), *session.map([2])]


def iterate(*nodes, **options):
    with pipeline(*nodes).open(**options) as session:
        return list(session)


async def call_async(*nodes, **options):
    async with pipeline(*nodes).open(**options) as session:
        return [await session.call(1), *[output async for output in session.map([2])]]


def put():
    """An all-inline session that starts its thread late."""
    with pipeline(Same()).open() as session:
        session.put(1)
        session.end()
        return list(session)


USES = {
    "thread": lambda: call(Same(), placement="thread"),
    "two stages": lambda: call(with_options(Same(), placement="thread"), with_options(Same(), batch=1)),
    "replicas": lambda: call(with_options(Same, placement="thread", replicas=3)),
    "put": put,
    "event loop": lambda: call(AsyncSame()),
    "concurrency": lambda: call(with_options(AsyncSame(), concurrency=2)),
    "watch": lambda: call(Same(), placement="thread", stall_warning=5.0),
    "source": lambda: iterate(Three()),
    "async session": lambda: asyncio.run(call_async(Same())),
    "async session on a thread": lambda: asyncio.run(call_async(Same(), placement="thread")),
    "async session with a queue": lambda: asyncio.run(call_async(with_options(AsyncSame(), queue_size=8))),
    "run": lambda: asyncio.run(execute_pipeline_with_input([Same()], [1])),
    "run on threads": lambda: asyncio.run(
        execute_pipeline([Three(), with_options(Same(), placement="thread")])
    ),
    "worker": lambda: call(Same(), placement="process"),
    "manifest": lambda: Pipeline.from_manifest(MANIFEST).name,
}


def count_threads():
    """Return the number of threads of the user of this process."""
    count = 0
    for place in Path("/proc").glob("[0-9]*"):
        # The process may end meanwhile.
        with suppress(OSError):
            if place.stat().st_uid == os.getuid():
                count += len(list((place / "task").iterdir()))
    return count


def outcome(use, more):
    """Return the outcome of a use that may start `more` threads."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (count_threads() + more, hard))
    try:
        USES[use]()
    except Exception as error:  # noqa: BLE001 - A panic is not an `Exception`.
        return f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    return "works"


def main():
    if os.getuid() == 0:
        for use in USES.values():
            # Another user may not be allowed to read modules that are imported later.
            use()
        os.setgroups([])
        os.setresgid(UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
        os.setresuid(UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    outcomes = {}
    for use in USES:
        found = outcomes[use] = []
        with nothing_remains():
            for more in itertools.count():
                found.append(outcome(use, more))
                if found[-1] == "works" or more == MOST:
                    break
    print(json.dumps(outcomes))  # noqa: T201 - What a test reads.


if __name__ == "__main__":
    main()
