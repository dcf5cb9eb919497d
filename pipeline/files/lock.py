"""One process at a time in a folder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ManoError

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, whose id and start it keeps in ``LOCK`` for whoever comes second.

    The lock is the system's, not the file's: it goes when the process ends, however it ends. What a dead process wrote
    there counts for nothing, even where its id has been given to another process since.

    Raises:
        ManoError: another process holds it; says which and since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another, which has just begun"
            raise ManoError(
                f"{folder}: in use by process {holder}, expected nobody; wait for it, or choose another run= name"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield
