"""Failures that a user can act on. Each message is one sentence: file or case, cause, remedy."""

from __future__ import annotations


class GLMAEError(Exception):
    """Base class. `exit_status` is what the command line returns."""

    exit_status = 2


class RequestError(GLMAEError):
    """The request is wrong (a missing folder, a label without image, an option out of range). Nothing was created."""


class ScanError(GLMAEError):
    """One scan or label cannot be used. A job on many cases names it and goes on; one that needs it does not begin."""


class TooLargeError(ScanError):
    """A scan does not fit into the memory that is free now."""


class ModelError(GLMAEError):
    """A model folder is missing, damaged, or written by a newer version."""


class StorageError(GLMAEError):
    """A result could not be written (disk full, folder vanished, no permission). What was there before is intact."""

    exit_status = 1


class Stopped(GLMAEError):
    """The user stopped the job. What was done so far is kept and can be resumed."""

    exit_status = 130
