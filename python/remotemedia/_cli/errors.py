"""Why a command ends: the errors that `error_report` explains."""

from __future__ import annotations


class TargetError(Exception):
    """The command line names something that does not exist or is not a pipeline."""


class LoadError(Exception):
    """The user's code failed while its pipeline was loaded; `__cause__` is the exception."""


class Terminated(SystemExit):
    """SIGTERM arrived."""


class OutputError(TypeError):
    """An output of a pipeline cannot be written; the text names its place and type."""


class StreamBrokenError(Exception):
    """The command's own input or output failed; the command reports the reason itself."""
