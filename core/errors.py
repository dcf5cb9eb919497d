"""Errors a user can act on.

Every message is one line: what is wrong and where (file, column, key or row), what was got, what was expected,
what to do. Anything that is not a ``ManoError`` is a bug of ours and keeps its traceback.
"""


class ManoError(Exception):
    """Base of every error that is the user's to act on."""


class ConfigError(ManoError):
    """A configuration key, type or range is wrong."""


class DataError(ManoError):
    """An input table does not hold what it must."""


class ArtifactError(ManoError):
    """A file of a run is missing, altered, or made by another schema."""


class MissingStageError(ArtifactError):
    """A stage needs the result of another that has not been run."""


class NumericalError(ManoError):
    """A loss, state or observation became non-finite."""
