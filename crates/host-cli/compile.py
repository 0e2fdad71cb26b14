"""Compiles the modules of the package for `remotemedia-host`, and prints the version of their code.

Usage: `python compile.py PACKAGE CODE MODULE…`; the code of each module is written below CODE.
"""

import marshal
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

ROOT = "<remotemedia-host>/remotemedia"
"""What tracebacks show as the directory of the package, as in `finder.py`."""

package, target = map(Path, sys.argv[1:3])
for module in map(Path, sys.argv[3:]):
    name = module.relative_to(package)
    code = compile(module.read_bytes(), f"{ROOT}/{name}", "exec", dont_inherit=True, optimize=0)
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_bytes(marshal.dumps(code))
sys.stdout.buffer.write(MAGIC_NUMBER)
