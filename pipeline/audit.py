"""The audit trail of a run: ``audit.jsonl``, to which every command that writes adds a line, and which ``stage=audit`` checks.

An entry says who did what when, from which inputs, to which outputs, and holds the SHA-256 of the line before it: a line
changed, removed or moved breaks the chain there. Lines cut off at the end are told by ``audit.head.json``, which counts
them. Both files can be written anew by whoever may write the folder: keep the last hash elsewhere where that matters.
"""

import fcntl
import getpass
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.errors import ArtifactError, MissingStageError
from pipeline.config import Config, plain
from pipeline.store import MANIFEST, RunStore, sha256, write_json

AUDIT, HEAD = "audit.jsonl", "audit.head.json"
START = "0" * 64  # what the first entry holds for the line before it
OK, FOUND, FAILED, INTERRUPTED = "ok", "found", "error", "interrupted"
KEYS = {"entry", "when", "who", "command", "stage", "config", "inputs", "outputs", "result", "error", "previous"}
SHOWN = 12  # characters of a hash on the screen


@dataclass
class Record:
    """What the command knows once it is done."""

    ran: bool = True  # False: the stage's result was there already
    outputs: list[Path] = field(default_factory=list)  # of a command that is no stage


@contextmanager
def recorded(
    store: RunStore, config: Config, stage: str, words: Sequence[str], files: Sequence[Path]
) -> Iterator[Record]:
    """Add an entry when the block ends, however it ends; none where a stage had nothing to do and that is known already.

    An entry of a failure holds the kind of error alone: its message may repeat a cell of the user's table.
    """
    record = Record()
    facts = {"command": shlex.join(["python", "run_pipeline.py", *words]), "stage": stage, "config": _digest(config)}
    try:
        yield record
    except BaseException as error:
        result = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
        with suppress(OSError):  # what went wrong first is what the user must hear of
            append(store, facts | _io(store, files, []) | {"result": result, "error": type(error).__name__})
        raise
    is_stage = store.has(stage)
    if is_stage and not record.ran and _known(store, stage):
        return
    told = _stage_io(store, stage) if is_stage else _io(store, files, record.outputs)
    append(store, facts | told | {"result": OK if record.ran else FOUND, "error": None})


def append(store: RunStore, facts: dict[str, Any]) -> None:
    """Add one entry, on the disk when this returns; nothing where there is no run's folder."""
    if not store.root.is_dir():
        return
    handle = os.open(store.root / AUDIT, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    with os.fdopen(handle, "rb+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # commands that only read a run hold no lock on it
        before = file.read()
        torn = bool(before) and not before.endswith(b"\n")  # by a process that ended while it wrote
        lines = before.splitlines()
        entry = {
            "entry": len(lines) + 1,
            "when": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "who": f"{_user()}@{platform.node()}",
            **facts,
            "previous": _sha(lines[-1]) if lines else START,
        }
        line = json.dumps(entry, sort_keys=True).encode()
        file.write((b"\n" if torn else b"") + line + b"\n")
        os.fsync(file.fileno())
        write_json(store.root / HEAD, {"entries": len(lines) + 1, "last": _sha(line)})


def audit(config: Config, store: RunStore, console: Console) -> None:
    """Check the trail and what it says of the files, and print it.

    Raises:
        MissingStageError: the run has none. ArtifactError: the first line, or else the first file, that is not as written.
    """
    path = store.root / AUDIT
    if not path.is_file():
        raise MissingStageError(f"{path}: no such file; every command that writes to a run adds to it")
    lines = path.read_bytes().splitlines()
    entries, fault = read_chain(lines)
    console.print(_table(entries))
    fault = fault or _cut_off(store, lines)
    if fault:
        raise ArtifactError(
            f"{path}: {fault}; the lines from there on prove nothing, compare them with a copy of the file"
        )
    _check_outputs(store, entries)
    console.print(
        f"  {len(entries)} entries in one chain, every recorded file is as it was written; last hash {_sha(lines[-1])}",
        soft_wrap=True,
    )


def read_chain(lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], str | None]:
    """The entries up to the first line that does not follow from the one before it, and what is wrong with that one."""
    entries: list[dict[str, Any]] = []
    previous = START
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or set(entry) != KEYS:
            # Cut off while it was written: then the next entry was chained to what there was of it.
            follows = number == len(lines) or _sha(line).encode() in lines[number]
            if follows and line.startswith(b'{"command"') and not line.endswith(b"}"):
                previous = _sha(line)
                continue
            return entries, f"line {number} is no entry (altered?)"
        if entry["previous"] != previous:
            return (
                entries,
                f"line {number} does not follow from line {number - 1}: that one was changed, or a line removed or moved",
            )
        if entry["entry"] != number:
            return entries, f"line {number} says that it is entry {entry['entry']}"
        entries.append(entry)
        previous = _sha(line)
    return entries, None


def _cut_off(store: RunStore, lines: Sequence[bytes]) -> str | None:
    """What the head says that the chain cannot: whether its end is there, and its last line as it was."""
    path = store.root / HEAD
    try:
        head = json.loads(path.read_bytes())
        count, last = int(head["entries"]), str(head["last"])
    except (OSError, ValueError, TypeError, KeyError):
        return None if len(lines) == 1 else f"{HEAD} beside it is missing or no such file, so its end may be"
    if not count <= len(lines) <= count + 1:  # a process may have ended between the two writes
        return (
            f"it has {len(lines)} lines, {HEAD} says {count}: lines were removed at its end, or added by another hand"
        )
    return None if count and _sha(lines[count - 1]) == last else f"line {count} is not as it was written (altered?)"


def _check_outputs(store: RunStore, entries: Sequence[dict[str, Any]]) -> None:
    """Refuse a file of the run that is not what the newest entry about it says."""
    newest: dict[str, tuple[int, str]] = {}
    for entry in entries:
        if f"{entry['stage']}/{MANIFEST}" in entry["outputs"]:  # a stage replaces all that it had written
            newest = {name: told for name, told in newest.items() if not name.startswith(f"{entry['stage']}/")}
        newest |= {name: (entry["entry"], digest) for name, digest in entry["outputs"].items()}
    for name, (line, digest) in newest.items():
        path = store.root / name
        if Path(name).is_absolute():
            continue  # outside of the run: it is the user's to move
        if not path.is_file() or sha256(path) != digest:
            what = "is not as it was written" if path.is_file() else "is missing"
            raise ArtifactError(
                f"{path}: {what} (recorded in line {line} of {AUDIT}); make its stage again with force=true"
            )


def _known(store: RunStore, stage: str) -> bool:
    """Whether the newest entry of a stage tells of the result that is there."""
    path = store.root / AUDIT
    entries = read_chain(path.read_bytes().splitlines())[0] if path.is_file() else []
    told = [entry["outputs"] for entry in entries if entry["stage"] == stage and entry["outputs"]]
    return bool(told) and told[-1].get(f"{stage}/{MANIFEST}") == sha256(store.folder(stage) / MANIFEST)


def _stage_io(store: RunStore, stage: str) -> dict[str, Any]:
    manifest = store.manifest(stage)
    outputs = {f"{stage}/{name}": digest for name, digest in manifest["outputs"].items()}
    outputs[f"{stage}/{MANIFEST}"] = sha256(store.folder(stage) / MANIFEST)
    return {"inputs": manifest["inputs"], "outputs": outputs}


def _io(store: RunStore, files: Sequence[Path], outputs: Sequence[Path]) -> dict[str, Any]:
    root = store.root.resolve()
    made = {path.resolve(): path for path in outputs}
    names = {
        str(whole.relative_to(root) if whole.is_relative_to(root) else whole): path for whole, path in made.items()
    }
    return {
        "inputs": {str(path): sha256(path) for path in files if path.is_file()},
        "outputs": {name: sha256(path) for name, path in names.items() if path.is_file()},
    }


def _digest(config: Config) -> str:
    return _sha(json.dumps(plain(config), sort_keys=True).encode())


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name, as in a container
        return str(os.getuid())


def _table(entries: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), show_edge=False)
    for column in ("  entry", "when (UTC)", "who", "stage", "result", "files", "config", "hash before"):
        table.add_column(column, no_wrap=True)
    for entry in entries:
        result = entry["result"] + (f": {entry['error']}" if entry["error"] else "")
        cells = (entry["when"][:19].replace("T", " "), entry["who"], entry["stage"], result, str(len(entry["outputs"])))
        table.add_row(f"  {entry['entry']}", *map(escape, cells), entry["config"][:SHOWN], entry["previous"][:SHOWN])
    return table
