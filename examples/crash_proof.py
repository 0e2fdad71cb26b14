"""A stream that continues when its worker is killed: nothing is lost or repeated, and the order is kept.

python crash_proof.py          # prints the process to kill from another terminal
python crash_proof.py KILLS    # kills its worker this many times
"""

from __future__ import annotations

import os
import signal
import sys
import time

from remotemedia import Node, Pipeline

ITEMS = 200


class Square(Node):
    """Squares a number slowly, and returns its process id too."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def process(self, number: int) -> tuple[int, int]:
        time.sleep(self.seconds)
        return number * number, os.getpid()


def main(kills: int) -> None:
    """Square numbers in a worker process that is killed."""
    # Leaves time to type the command.
    square = Square(seconds=0.01 if kills else 0.1)
    pipeline = Pipeline("crash proof").add_node(square, placement="process", max_restarts=100)
    squares: list[int] = []
    workers: list[int] = []
    with pipeline.open() as session:
        for result, worker in session.map(range(ITEMS)):
            squares.append(result)
            if worker not in workers:
                workers.append(worker)
                print(f"{len(squares)} of {ITEMS} are done; now try: kill -9 {worker}", file=sys.stderr)
                if len(workers) <= kills:
                    os.kill(worker, signal.SIGKILL)

    print("all squares, once, in order:", squares == [number * number for number in range(ITEMS)])
    print("workers that were killed:", len(workers) - 1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
