"""Forwards the output and log records of a worker to its parent."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

from remotemedia._errors import describe_loss
from remotemedia._threads import forget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["log_loss", "log_restart", "noted", "send_records", "write_line"]

_logger = logging.getLogger("remotemedia")

_PLAIN = frozenset({str, int, float, bool, type(None)})
_MADE_PLAIN = frozenset({"msg", "args", "exc_info", "exc_text"})

_PACKED = "remotemedia_packed"
"""The key of the pickled fields of a record, which are not plain data."""


class _Sender(logging.Handler):
    """Sends records instead of writing them."""

    def __init__(self, notes: Callable[[bytes], None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        self._notes = notes
        self._process = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if os.getpid() == self._process:
                self._notes(pickle.dumps(_plain(record), protocol=5))
            else:
                # A fork also has the socket of the worker, but must not write to it.
                print(self.format(record), file=sys.stderr)  # noqa: T201 - Stderr is forwarded, too.
        except Exception:  # noqa: BLE001 - As in every handler: logging must not raise.
            self.handleError(record)


def send_records(levels: dict[str, int], notes: Callable[[bytes], None]) -> None:
    """In a worker: send its log records to the parent, with the log levels of the parent.

    Args:
        levels: The levels by logger name; the root logger has an empty name.
        notes: Sends a record.
    """
    logging.root.addHandler(_Sender(notes))
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)


def write_line(node_ids: Sequence[str], stream: str, line: str) -> None:
    """In the parent: write a line that a worker wrote to `stdout` or `stderr`."""
    file = getattr(sys, stream)
    if file is not None:
        # In one call, because other workers write, too.
        file.write(f"[{', '.join(node_ids)}] {line}\n")
        file.flush()


def noted(node_ids: Sequence[str], note: bytes) -> None:
    """In the parent: handle a log record of a worker."""
    fields: dict[str, Any] = pickle.loads(note)  # noqa: S301 - From our own worker.
    fields |= {name: _unpack(*packed) for name, packed in fields.pop(_PACKED).items()}
    node_id = ", ".join(node_ids)
    logger = logging.getLogger(fields["name"])
    if logger.isEnabledFor(fields["levelno"]):
        fields["msg"] = f"[{node_id}] {fields['msg']}"
        logger.handle(logging.makeLogRecord({**fields, "node_id": node_id}))
    forget(threading.get_ident())


def log_loss(node_id: str, process_id: int | None, item_index: int | None, loss: dict[str, Any]) -> None:
    """In the parent: log that a worker ended during its session.

    Args:
        node_id: The node that was running, else the first node of the worker.
        process_id: The process id, if the process had started.
        item_index: The item that was in progress.
        loss: As in `lost_error`.
    """
    process = "" if process_id is None else f" (process {process_id})"
    on_item = "" if item_index is None else f" on item {item_index}"
    then = "it will not be restarted" if loss["is_final"] else "it will be restarted"
    _logger.warning(
        "Node '%s': its worker%s %s%s; %s",
        node_id,
        process,
        describe_loss(loss),
        on_item,
        then,
        extra={"node_id": node_id, "process_id": process_id, "item_index": item_index},
    )
    forget(threading.get_ident())


def log_restart(node_ids: Sequence[str], process_id: int, former_id: int) -> None:
    """In the parent: log the restart of a worker."""
    node_id = ", ".join(node_ids)
    _logger.warning(
        "Node '%s': its worker was restarted as process %d, which replaces process %d",
        node_id,
        process_id,
        former_id,
        extra={"node_id": node_id, "process_id": process_id},
    )
    forget(threading.get_ident())


def _plain(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record, with formatted text and traceback; other data is pickled."""
    fields = {name: value for name, value in vars(record).items() if type(value) in _PLAIN}
    others = {name: value for name, value in vars(record).items() if name not in fields.keys() | _MADE_PLAIN}
    trace = record.exc_text
    if record.exc_info and not trace:
        trace = logging.Formatter().formatException(record.exc_info)
    return {
        **fields,
        "msg": record.getMessage(),
        "args": None,
        "exc_info": None,
        "exc_text": trace,
        _PACKED: {name: _pack(value) for name, value in others.items()},
    }


def _pack(value: object) -> tuple[bytes | None, str]:
    """Return a value pickled, if possible, and its description."""
    from remotemedia._workers.pickling import dumps

    try:
        return dumps(value, is_for_parent=True), f"<a {type(value).__qualname__}>"
    except Exception:  # noqa: BLE001 - The description is enough.
        return None, repr(value)


def _unpack(pickled: bytes | None, text: str) -> Any:
    if pickled is None:
        return text
    try:
        return pickle.loads(pickled)  # noqa: S301 - From our own worker.
    except Exception:  # noqa: BLE001 - Its class may do anything.
        return text
