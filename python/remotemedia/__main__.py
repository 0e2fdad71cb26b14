"""The command line of the wheel: `python -m remotemedia …` and the console script `remotemedia …`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command that the program's arguments name, and return its exit code."""
    from remotemedia import _core

    return _core.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
