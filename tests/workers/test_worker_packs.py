"""Items that go to a worker together: each is an item of its own in everything but the way there and back."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worker_nodes import in_workers, metrics_of

from remotemedia.exceptions import NodeError, WorkerError

TIRELESS = {"max_restarts": 1000, "restart_window": 0.001}
MANY = 300
"""So many items before those that matter, so that these go in packs."""


@pytest.fixture(params=["all cores", "one core"], autouse=True)
def cores(request):
    """The cores of the program and its workers."""
    every = os.sched_getaffinity(0)
    if request.param == "one core":
        os.sched_setaffinity(0, {min(every)})
    yield
    os.sched_setaffinity(0, every)


def die_once(path):
    """Kill this process, the first time that it is asked to with this path."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class DiesAt:
    """Kills its worker at one item, once or always."""

    def __init__(self, item, path=None):
        self.item = item
        self.path = None if path is None else str(path)

    def process(self, item):
        if item == self.item and self.path is None:
            os.kill(os.getpid(), signal.SIGKILL)
        elif item == self.item:
            die_once(self.path)
        return item


class Counts:
    """Returns each item with the number of those so far, and kills its worker at one of them."""

    def __init__(self, item, path):
        self.item = item
        self.path = str(path)
        self.count = 0

    def snapshot(self):
        return self.count

    def restore(self, count):
        self.count = count

    def process(self, item):
        self.count += 1
        if item == self.item:
            die_once(self.path)
        return item, self.count


class Varied:
    """Does what each item says."""

    def __init__(self, directory):
        self.directory = str(directory)

    def process(self, item):
        index, what = item
        if what == "dies":
            die_once(Path(self.directory, str(index)))
        return outputs_of(item)


class AtOnce:
    """Returns each item with the number of those in progress, and suspends at every `rest`th."""

    def __init__(self, rest):
        self.rest = rest
        self.count = 0

    async def process(self, item):
        self.count += 1
        count = self.count
        if item % self.rest == 0:
            await asyncio.sleep(0.001)
        self.count -= 1
        return item, count


class Remembers:
    """Returns each item with a variable of the items before it, and sets it at every seventh."""

    def initialize(self):
        # It cannot be sent.
        self.variable = contextvars.ContextVar("variable")

    async def process(self, item):
        before = self.variable.get(None)
        if item % 7 == 0:
            self.variable.set(item)
        await asyncio.sleep(0)
        return item, before


class Loses:
    """Kills its worker at one item, while others are in progress."""

    def __init__(self, item):
        self.item = item

    async def process(self, item):
        await asyncio.sleep(0.001)
        if item == self.item:
            os.kill(os.getpid(), signal.SIGKILL)
        return item


class WaitsForEver:
    """Waits at one item until it is cancelled."""

    def __init__(self, item):
        self.item = item
        self.cancelled = 0

    async def process(self, item):
        if item == self.item:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        return item, self.cancelled


def outputs_of(item):
    index, what = item
    if what == "nothing":
        return None
    if what == "many":
        return ((index, place) for place in range(3))
    if what == "large":
        return np.full(20_000, index)
    return index


@pytest.mark.parametrize("at", [MANY, MANY + 1, MANY + 23, MANY + 62, MANY + 63, MANY + 64])
def test_a_death_in_the_middle_costs_no_item_and_repeats_none(at, tmp_path, caplog):
    with in_workers(DiesAt(at, tmp_path / "died")).open() as session:
        assert list(session.map(range(2 * MANY))) == [*range(2 * MANY)]
    [killed, _restarted] = caplog.messages
    assert f"was killed by SIGKILL on item {at};" in killed


def test_metrics_count_each_item_once(tmp_path):
    with in_workers(DiesAt(MANY + 23, tmp_path / "died")).open(enable_metrics=True) as session:
        assert list(session.map(range(2 * MANY))) == [*range(2 * MANY)]
        node = metrics_of(session)
    counts = (node["items_in"], node["items_out"], node["restarts"])
    assert counts == (2 * MANY, 2 * MANY, 1)


@pytest.mark.parametrize("at", [MANY, MANY + 23, MANY + 63])
def test_only_the_item_that_kills_two_workers_fails_and_the_error_names_it(at):
    outputs = []

    with in_workers(DiesAt(at)).open() as session:
        with pytest.raises(WorkerError, match=rf"'DiesAt_0' .*item {at}\b"):
            outputs.extend(session.map(range(2 * MANY)))
        assert outputs == [*range(at)]
        assert list(session.map(range(at))) == [*range(at)]


@pytest.mark.parametrize("snapshot_every", [1, 7, 100])
def test_the_state_of_a_node_is_that_of_the_item_before_its_death(snapshot_every, tmp_path):
    at = MANY + 23
    counts = in_workers(Counts(at, tmp_path / "died"), snapshot_every=snapshot_every)

    with counts.open() as session:
        outputs = list(session.map(range(2 * MANY)))

    assert outputs == [(item, item + 1) for item in range(2 * MANY)]
    assert (tmp_path / "died").exists()


def test_an_item_that_cannot_be_sent_fails_alone():
    outputs = []
    items = [*range(MANY), threading.Lock(), *range(MANY)]

    with in_workers(DiesAt(-1)).open() as session:
        with pytest.raises(NodeError, match=rf"item {MANY}\b.*lock"):
            outputs.extend(session.map(items))
        assert outputs == [*range(MANY)]
        assert session.call(1) == 1


@pytest.mark.parametrize("replicas", [1, 2])
@given(
    whats=st.lists(
        st.sampled_from(["plain"] * 6 + ["nothing", "many", "large", "dies"]), min_size=1, max_size=200
    )
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_packs_of_all_kinds_of_items_give_what_each_item_gives(replicas, whats, tmp_path_factory):
    # More than a few deaths take long.
    deaths = [index for index, what in enumerate(whats) if what == "dies"]
    whats = ["plain" if index in deaths[3:] else what for index, what in enumerate(whats)]
    items = [
        *((index, "plain") for index in range(MANY)),
        *((MANY + index, what) for index, what in enumerate(whats)),
    ]
    directory = tmp_path_factory.mktemp("died")

    with in_workers(Varied(directory), replicas=replicas, **TIRELESS).open() as session:
        outputs = list(session.map(items))

    expected = []
    for item in items:
        output = outputs_of(item)
        if item[1] == "many":
            expected.extend(output)
        elif output is not None:
            expected.append(output)
    assert len(outputs) == len(expected)
    assert all(np.array_equal(output, other) for output, other in zip(outputs, expected, strict=True))
    assert len(list(directory.iterdir())) == len(deaths[:3])


@pytest.mark.parametrize("concurrency", [1, 2, 16])
@pytest.mark.parametrize("rest", [1, 5, 1000])
def test_a_coroutine_is_at_as_many_items_as_its_concurrency_says(concurrency, rest):
    with in_workers(AtOnce(rest), concurrency=concurrency).open() as session:
        outputs = list(session.map(range(1, 2 * MANY)))

    assert [item for item, _ in outputs] == [*range(1, 2 * MANY)]
    most = max(count for _, count in outputs)
    assert most <= concurrency
    assert most == concurrency or rest > 1


class ManyAtOnce(AtOnce):
    """The same as an async generator."""

    async def process(self, item):
        yield await super().process(item)


@pytest.mark.parametrize(("node", "options"), [(AtOnce(1), {"retries": 1}), (ManyAtOnce(1), {})])
def test_so_it_is_where_each_item_has_a_task_of_its_own(node, options):
    with in_workers(node, concurrency=4, **options).open() as session:
        outputs = list(session.map(range(MANY)))

    assert [item for item, _ in outputs] == [*range(MANY)]
    assert max(count for _, count in outputs) == 4


@pytest.mark.parametrize("concurrency", [1, 16])
def test_no_item_sees_the_variables_of_another(concurrency):
    with in_workers(Remembers(), concurrency=concurrency).open() as session:
        assert list(session.map(range(MANY))) == [(item, None) for item in range(MANY)]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_items_beside_one_that_kills_its_workers_are_not_lost(concurrency):
    at = MANY + 23
    options = {"concurrency": concurrency, "on_error": "skip", **TIRELESS}

    with in_workers(Loses(at), **options).open() as session:
        assert list(session.map(range(2 * MANY))) == [item for item in range(2 * MANY) if item != at]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_coroutine_is_cancelled_with_its_pack(concurrency):
    outputs = []

    with in_workers(WaitsForEver(MANY), concurrency=concurrency).open() as session:
        for item, _ in session.map(range(2 * MANY)):
            outputs.append(item)
            if item == MANY - 1:
                break
        assert outputs == [*range(MANY)]
        assert session.call(0) == (0, 1)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_interruption_ends_a_coroutine_and_those_behind_it(concurrency):
    outputs, dropped = [], 0

    with in_workers(WaitsForEver(MANY), concurrency=concurrency).open() as session:
        for item, _ in session.map(range(2 * MANY)):
            outputs.append(item)
            if item == MANY - 1:
                dropped = session.interrupt()
        assert session.call(0) == (0, 1)

    assert outputs[:MANY] == [*range(MANY)]
    assert dropped > 0
    assert len(outputs) + dropped == 2 * MANY
