"""Imports `remotemedia` from inside `remotemedia-host`, whatever the environment has installed.

The package's files are data of the program. Their names in tracebacks start with `<remotemedia-host>`,
and their lines are shown there as those of any other module.
"""

from __future__ import annotations

import marshal
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from types import CodeType, ModuleType

PACKAGE = "remotemedia"
EXTENSION = "remotemedia._core"
ROOT = "<remotemedia-host>/remotemedia"


class Finder:
    """Finds and loads the modules of the package: one object is finder and loader of them all."""

    def __init__(self, files: dict[str, bytes], code: dict[str, bytes], core: ModuleType) -> None:
        self._files = files
        self._code = code
        self._core = core

    def find_spec(
        self,
        fullname: str,
        path: object = None,  # noqa: ARG002 - Python calls it so.
        target: object = None,  # noqa: ARG002 - As above.
    ) -> ModuleSpec | None:
        """The spec of a module of the package; `None` leaves it to the other finders."""
        if fullname == EXTENSION:
            return ModuleSpec(fullname, self, origin="built-in")  # type: ignore[arg-type]
        if fullname.partition(".")[0] != PACKAGE:
            return None
        file = self._file(fullname)
        if file is None:
            return None
        spec = ModuleSpec(fullname, self, origin=f"{ROOT}/{file}", is_package=file.endswith("__init__.py"))  # type: ignore[arg-type]
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(f"{ROOT}/{file}".rpartition("/")[0])
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The extension is there already; other modules are created by Python."""
        if spec.name != EXTENSION:
            return None
        self._core.__name__ = EXTENSION
        return self._core

    def exec_module(self, module: ModuleType) -> None:
        """Run the code of a module."""
        if module is not self._core:
            exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102

    def get_filename(self, fullname: str) -> str:
        """The name of the module's file, as it stands in tracebacks."""
        return f"{ROOT}/{self._require(fullname)}"

    def get_source(self, fullname: str) -> str | None:
        """The text of a module: tracebacks and `inspect` ask for it."""
        return None if fullname == EXTENSION else self._files[self._require(fullname)].decode()

    def get_code(self, fullname: str) -> CodeType:
        """The code of a module, as `python -m` asks for it too."""
        file = self._require(fullname)
        if file in self._code:
            code: CodeType = marshal.loads(self._code[file])  # noqa: S302 - It was compiled with this program.
            return code
        return compile(self._files[file], self.get_filename(fullname), "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        """Whether the module has modules of its own."""
        return fullname != EXTENSION and self._require(fullname).endswith("__init__.py")

    def get_data(self, path: str) -> bytes:
        """The content of a file of the package, by its path beside `__file__`."""
        name = path.removeprefix(f"{ROOT}/")
        if name not in self._files:
            raise FileNotFoundError(2, "No such file inside remotemedia-host", path)
        return self._files[name]

    def _file(self, fullname: str) -> str | None:
        stem = "/".join(fullname.split(".")[1:])
        candidates = [f"{stem}/__init__.py", f"{stem}.py"] if stem else ["__init__.py"]
        return next((file for file in candidates if file in self._files), None)

    def _require(self, fullname: str) -> str:
        file = self._file(fullname)
        if file is None:
            raise ImportError(f"remotemedia-host has no module {fullname!r} inside", name=fullname)
        return file


def install(
    files: dict[str, bytes], code: tuple[bytes, dict[str, bytes]], core: ModuleType, origin: str, program: str
) -> None:
    """Make the package importable, before every other finder, and set the program that it runs in.

    Its code is used if it was compiled by this version of Python, and no other optimization is asked for.
    """
    magic_number, compiled = code
    is_usable = magic_number == MAGIC_NUMBER and not sys.flags.optimize
    sys.meta_path.insert(0, Finder(files, compiled if is_usable else {}, core))  # type: ignore[arg-type]
    from remotemedia._cli import doctor

    doctor.set_host(origin, program)
