"""Which stream passes items through the stages of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remotemedia._loop.sessions.concurrent_stream import ConcurrentStream
from remotemedia._loop.sessions.forwarding import ForwardingStream
from remotemedia._loop.sessions.staged import StagedStream

if TYPE_CHECKING:
    from remotemedia._loop.sessions.chain import Chain

__all__ = ["stream_kind"]


def stream_kind(chain: Chain) -> type[StagedStream]:
    """Return the class of the streams through a chain of several stages, or of a node with concurrency."""
    if chain.is_concurrent:
        return ConcurrentStream
    return ForwardingStream if chain.makes_several else StagedStream
