"""Classes and functions of a script, which are sent by value."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import worker_nodes

from remotemedia._workers import pickling

HEAD = """
import collections, contextvars, functools, threading, typing
from remotemedia import Pipeline, with_options
from remotemedia.nodes import PassThroughNode

def run(node, *items):
    nodes = [node, *(PassThroughNode() for _ in range(WORKERS - 1))]
    with Pipeline([with_options(node, placement="process") for node in nodes]).open() as session:
        return [session.call(item) for item in items]

"""


@pytest.fixture(params=[1, 2])
def run_script(tmp_path, request):
    """Run a script, which ends with its own checks, and return what it prints.

    The items pass one worker, or two.
    """

    def run_script(text):
        script = tmp_path / "script.py"
        script.write_text(f"WORKERS = {request.param}\n{HEAD}{text}")
        completed = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=50
        )
        assert completed.stderr == ""
        return completed.stdout.splitlines()

    return run_script


NAMED_TUPLES = """
class Typed(typing.NamedTuple):
    first: int
    second: str = "x"

Number = typing.TypeVar("Number")

class Generic(typing.NamedTuple, typing.Generic[Number]):
    first: Number

class Slotted(Typed):
    __slots__ = ()

    def double(self):
        return self.first * 2

Called = typing.NamedTuple("Called", [("first", int)])
Plain = collections.namedtuple("Plain", ["first"])
KINDS = [Typed, Generic, Slotted, Called, Plain]

class Make:
    def __init__(self, kinds):
        self.kept = [kind(1) for kind in kinds]

    def process(self, item):
        return item, type(item)(2), self.kept[KINDS.index(type(item))]

for kind, got in zip(KINDS, run(Make(KINDS), *[kind(3) for kind in KINDS])):
    print([type(one) is kind for one in got], [one.first for one in got], repr(got[0]))
print(run(Make(KINDS), Slotted(4))[0][1].double())
"""


def test_named_tuples_of_a_script_cross_both_ways(run_script):
    """`typing.NamedTuple` refuses a class that defines `__slots__`."""
    *lines, doubled = run_script(NAMED_TUPLES)

    cross = "[True, True, True] [3, 2, 1]"
    assert lines == [
        f"{cross} Typed(first=3, second='x')",
        f"{cross} Generic(first=3)",
        f"{cross} Slotted(first=3, second='x')",
        f"{cross} Called(first=3)",
        f"{cross} Plain(first=3)",
    ]
    assert doubled == "4"


CACHED = """
@functools.lru_cache(maxsize=7)
def square(number):
    return number * number

@functools.cache
def fibonacci(number):
    "Calls itself."
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

class Compute:
    @functools.cache
    def kept(self):
        return 3

    @functools.cached_property
    def list(self):
        return []

    def process(self, number):
        self.list.append(number)
        return square(number), fibonacci(number), self.kept(), self.list, square.cache_info().currsize

class Read:
    def process(self, function):
        return function(4), function

square(1), square(2)
print(run(Compute(), 3, 30))
[(value, function)] = run(Read(), square)
print(value, function.cache_parameters(), function.__name__)
[(value, function)] = run(Read(), fibonacci)
print(value, function.__name__, function.__doc__, function.__module__)
"""


def test_functions_with_a_cache_are_sent_without_its_contents(run_script):
    """They pickle by the name of a script that a worker does not have."""
    assert run_script(CACHED) == [
        "[(9, 2, 3, [3], 1), (900, 832040, 3, [3, 30], 2)]",
        "16 {'maxsize': 7, 'typed': False} square",
        "3 fibonacci Calls itself. __main__",
    ]


GENERIC = """
@functools.singledispatch
def describe(value):
    return "something"

@describe.register
def describe_list(value: list):
    return [describe(one) for one in value]

@describe.register(int)
def _(value):
    return "a number"

class Describe:
    @functools.singledispatchmethod
    def described(self, value):
        return "some thing"

    @described.register
    def _(self, value: int):
        return "this number"

    def process(self, value):
        return describe(value), self.described(value)

print(*run(Describe(), 1, [2, "x"]))
"""


def test_generic_functions_cross(run_script):
    """Their caches hold weak references, which do not pickle."""
    assert run_script(GENERIC) == ["('a number', 'this number') (['a number', 'something'], 'some thing')"]


def test_a_cached_function_that_can_be_imported_is_sent_by_name():
    assert pickle.loads(pickling.dumps(worker_nodes.doubled)) is worker_nodes.doubled


COPIED = """
from remotemedia.core.node_serialization import deserialize_node_from_ipc, serialize_node_for_ipc

class Copy:
    def process(self, number):
        class Local:
            def __init__(self):
                self.number = number

        return deserialize_node_from_ipc(serialize_node_for_ipc(Local()))

print(run(Copy(), 7)[0].number)
"""


def test_a_class_that_a_worker_has_made_and_copied_crosses(run_script):
    """The worker recognized only classes from its parent."""
    assert run_script(COPIED) == ["7"]


UNSENT = """
from remotemedia.exceptions import SerializationError

LOCK = threading.Lock()
VARIABLE = contextvars.ContextVar("variable")

class UsesGlobal:
    def process(self, items):
        return [LOCK.locked() for _ in items]

class HasClassLevel:
    lock = threading.Lock()

    def process(self, item): ...

class UsesFunction:
    def process(self, item): ...

    @property
    def value(self):
        return help_it()

@functools.cache
def help_it():
    return VARIABLE.get()

class HasAttribute:
    def __init__(self):
        self.lock = LOCK

    def process(self, item): ...

for kind in (UsesGlobal, HasClassLevel, UsesFunction, HasAttribute):
    try:
        run(kind())
    except SerializationError as error:
        print(error.attribute, "|", error.suggestion)
"""


def test_a_used_attribute_has_a_helpful_suggestion(run_script):
    """`cleanup` cannot release a global, nor what belongs to a class."""
    help_code = (
        "Create it in initialize(), or move the code that uses it to a module that the worker can import"
    )
    release = "Call node.cleanup() before serialization and release 'lock' there"
    assert [line.partition(":")[0].partition(";")[0] for line in run_script(UNSENT)] == [
        f"UsesGlobal.process.LOCK | {help_code}",
        f"HasClassLevel.lock | {help_code}",
        f"UsesFunction.value.help_it.VARIABLE | {help_code}",
        f"lock | {release}",
    ]


POOLS = """
import dataclasses
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

OFFSET = 1

@dataclasses.dataclass
class Item:
    value: int

def add(number):
    return number + OFFSET

def main(item):
    return Item(add(item.value))

class Compute:
    @staticmethod
    def double(number):
        return number * 2

    def process(self, numbers):
        context = get_context("fork")
        with context.Pool(2) as pool, ProcessPoolExecutor(2, context) as executor:
            items = pool.map(main, map(Item, numbers))
            return pool.map(add, numbers), items, list(executor.map(self.double, numbers))

[(sums, items, doubles)] = run(Compute(), [1, 2])
print(sums, items, doubles, type(items[0]) is Item)
"""


def test_pools_in_a_worker_find_the_functions_of_the_script(run_script):
    """They are sent by name, and the `__main__` of a worker did not contain them."""
    assert run_script(POOLS) == ["[2, 3] [Item(value=2), Item(value=3)] [2, 4] True"]


DEFINED_AGAIN = """
class Item: ...

class Make:
    def process(self, number):
        return Item()

with Pipeline([Make()]).open(placement="process") as session:
    Before = Item
    class Item: ...
    print(type(session.call(1)) is Before)
"""


def test_a_class_stays_itself_when_its_name_is_given_to_another(run_script):
    assert run_script(DEFINED_AGAIN) == ["True"]
