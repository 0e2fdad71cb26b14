"""Programs that end while their threads run: right exit code, nothing on stderr, nodes cleaned up."""

from __future__ import annotations

import pytest
from exit_programs import PLACEMENTS, WAYS, leave, run


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "placement"), [("plain", "thread"), ("async streams", "inline")])
def test_the_program_ends_in_order(way, kind, placement):
    assert leave(way, kind, placement) == ""


CLEANUPS = {
    "async": "async def cleanup(self): await asyncio.sleep(0); print('cleanup', file=sys.stderr)",
    "plain": "def cleanup(self): print('cleanup', file=sys.stderr)",
}


@pytest.mark.parametrize("cleanup", CLEANUPS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_nodes_are_cleaned_up_if_their_loop_has_stopped(cleanup, placement):
    """The threads waited 10 s for the loop, and then ended with the interpreter."""
    node = f"class Cleans(AsyncStreams):\n    {CLEANUPS[cleanup]}\nnode = Cleans\n"

    stderr = run(node + WAYS["a loop that stopped"], placement=placement).splitlines()

    # An object that is sent to a worker is also cleaned up here, before it is sent.
    assert stderr[-1:] == ["[Cleans_0] cleanup" if placement == "process" else "cleanup"]


def test_a_run_whose_loop_has_stopped_is_cleaned_up():
    code = """
class Cleans(Async):
    def initialize(self):
        started.set()

    def cleanup(self):
        print("cleanup", file=sys.stderr)

async def begin():
    global task
    task = asyncio.ensure_future(execute_pipeline_with_input([Cleans()], itertools.count()))
    await asyncio.to_thread(started.wait)

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
"""

    assert "cleanup" in run(code)


BUSY = """
from remotemedia import sessions
sessions.CLOSE_TIMEOUT_SECS = 0.1

class Busy:
    def process(self, item):
        started.set()
        while True:
            sum(range(10))

session = Pipeline([Busy()]).open(placement=placement).__enter__()
if placement == "thread":
    session.put(1)
else:
    threading.Thread(target=session.call, args=(1,), daemon=True).start()
"""


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_an_abandoned_node_that_still_runs_does_not_abort_the_exit(placement):
    """Python ended its thread by unwinding the stack, which contains Rust frames."""
    assert "was abandoned" in run(BUSY, placement=placement)


AT_EXIT = {
    "open": "Pipeline([Plain()]).open(placement=placement).__enter__()",
    "async open": "asyncio.run(async_work())",
    "run": "asyncio.run(execute_pipeline([Plain()]))",
}


@pytest.mark.parametrize("what", AT_EXIT)
def test_nothing_begins_after_the_end(what):
    """A handler that was registered before the first session runs after all have been closed."""
    program = f"""
def late():
    try:
        {AT_EXIT[what]}
    except RemoteMediaError as error:
        print(type(error).__name__, "exiting" in str(error), file=sys.stderr)

started.set()
atexit.register(late)
work_once = Pipeline([Plain()]).open().__enter__()
asyncio.run(execute_pipeline([Plain()]))
"""
    WAYS["late"] = program

    try:
        assert leave("late", "plain", "thread", ending="end") == "PipelineError True\n"
    finally:
        del WAYS["late"]
