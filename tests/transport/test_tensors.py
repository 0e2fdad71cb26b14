"""Transport of tensors of torch to a worker and back."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec

import pytest
from worker_nodes import Echo, in_worker

from remotemedia import Node

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch, which is optional")


@pytest.fixture(scope="module", autouse=True)
def tidy():
    """Torch starts threads that do not end, and the session of the module outlives its tests."""


@pytest.fixture(scope="module")
def echo():
    with in_worker(Echo()).open() as session:
        yield lambda item: session.call(item)[0]


class HalfOf:
    """Creates a tensor while it is pickled."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return HalfOf, (self.tensor.half(),)


class Weighty(Node):
    """Adds to its weights."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def process(self, item):
        self.weights += item
        return self.weights


@needs_torch
@pytest.mark.parametrize(
    "make",
    [
        "torch.arange(100_000, dtype=torch.float32).reshape(100, 1000).T",
        "torch.arange(100_000).to(torch.bfloat16)[::3]",
        "torch.arange(6).reshape(2, 3)",
        "torch.zeros(0)",
        "torch.tensor(3)",
        "torch.tensor([1 + 2j] * 10_000)",
        "torch.ones(10_000, requires_grad=True)",
        "torch.nn.Parameter(torch.ones(2))",
        "torch.eye(300).to_sparse()",
    ],
)
def test_tensors_arrive_equal(echo, make):
    import torch

    tensor = eval(make, {"torch": torch})
    arrived = echo([tensor])[0]

    assert (type(arrived), arrived.dtype, arrived.shape) == (type(tensor), tensor.dtype, tensor.shape)
    assert arrived.requires_grad == tensor.requires_grad
    assert torch.equal(arrived.to_dense(), tensor.to_dense())


@needs_torch
def test_a_tensor_that_arrived_can_be_written_to(echo):
    import torch

    sent = torch.ones(100_000)
    first = echo(sent)
    first += 1

    assert (sent.sum(), first.sum(), echo(sent).sum()) == (100_000, 200_000, 100_000)


@needs_torch
def test_tensors_that_share_memory_do_so_where_they_arrive(echo):
    import torch

    whole = torch.zeros(50_000)
    arrived, part = echo((whole, whole[10:20]))
    part += 1

    assert arrived.sum() == 10


@needs_torch
def test_a_tensor_without_other_references_arrives(echo):
    import torch

    arrived = [echo(HalfOf(torch.full((200_000,), float(n)))) for n in range(5)]

    assert [half.tensor.sum(dtype=torch.float64) for half in arrived] == [n * 200_000 for n in range(5)]


@needs_torch
@pytest.mark.parametrize("size", [10, 100_000])
def test_weights_of_a_node_are_its_own(size):
    import torch

    weights = torch.ones(size)
    with in_worker(Weighty(weights)).open() as session:
        session.call(1)
        result = session.call(1)

    assert (result.sum(), weights.sum()) == (3 * size, size)


def test_another_module_of_that_name_does_no_harm(echo, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))

    assert echo({"a": [1, 2.5, bytes(100_000)]}) == {"a": [1, 2.5, bytes(100_000)]}
