"""The audit trail: who made what from what; an entry changed, removed or moved, and a file changed since, are found."""

import getpass
import hashlib
import io
import json
import os
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from helpers_faults import fault
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from rich.console import Console

from core.errors import DataError, ManoError
from pipeline.audit import AUDIT, HEAD, append, read_chain
from pipeline.command import execute
from pipeline.config import Config, load_config
from pipeline.store import RunStore, sha256

FACTS = {"command": "x", "stage": "journey", "config": "", "inputs": {}, "outputs": {}, "result": "ok", "error": None}  # fmt: skip
SIZES = ["preset=smoke", "source.persons=60", "source.holdout_persons=60"]


@cache
def config_of(*words: str) -> Config:
    return load_config([*SIZES, *words])


def command(runs: Path, *words: str) -> str:
    """What the command prints with these words."""
    screen = io.StringIO()
    words = (*words, f"runs_dir={runs}")
    chosen = replace(config_of(*words[:-1]), runs_dir=str(runs))
    execute(chosen, Console(file=screen, width=200), [*SIZES, *words])
    return screen.getvalue()


def entries(store: RunStore) -> list[dict[str, object]]:
    return [json.loads(line) for line in (store.root / AUDIT).read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose source stage was made twice, failed once, and had nothing to do once."""
    runs = tmp_path_factory.mktemp("audited")
    for seed in ("0", "1", "1"):
        command(runs, "stage=source", f"seed={seed}")
    with pytest.raises(DataError):
        command(runs, "stage=source", "source.drop=[nobody]")
    command(runs, "stage=source", "seed=2")
    return runs


@pytest.fixture
def store(made: Path, tmp_path: Path) -> RunStore:
    shutil.copytree(made / "smoke", tmp_path / "smoke")
    return RunStore(tmp_path / "smoke")


def audited(store: RunStore) -> str:
    return command(store.root.parent, "stage=audit")


def refusal(store: RunStore) -> str:
    with fault("audit trail or file, altered"):
        with pytest.raises(ManoError) as caught:
            audited(store)
        assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_entry_says_who_did_what_from_what_to_what(store: RunStore) -> None:
    told = entries(store)
    assert [entry["result"] for entry in told] == ["ok", "ok", "error", "ok"]  # nothing to do is no entry
    assert told[2]["error"] == "DataError" and told[2]["outputs"] == {}
    last = told[-1]
    assert str(last["who"]).startswith(getpass.getuser() + "@") and str(last["when"]).endswith("Z")
    assert str(last["command"]).startswith("python run_pipeline.py preset=smoke") and "seed=2" in str(last["command"])
    outputs = last["outputs"]
    assert isinstance(outputs, dict) and "source/manifest.json" in outputs
    assert all(sha256(store.root / name) == digest for name, digest in outputs.items())
    assert len({str(entry["config"]) for entry in told}) == 4
    printed = audited(store)
    assert "4 entries in one chain" in printed and "error: DataError" in printed


def _changed(lines: list[str]) -> list[str]:
    return [lines[0], lines[1].replace("seed=1", "seed=7"), *lines[2:]]


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_changed, "line 3 does not follow from line 2"),
        (lambda lines: lines[1:], "line 1 does not follow from line 0"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 does not follow from line 1"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 does not follow"),
        (lambda lines: [*lines[:2], "{}", *lines[2:]], "line 3 is no entry"),
        (lambda lines: [*lines[:2], lines[2][:40], *lines[3:]], "line 3 is no entry"),
        (lambda lines: lines[:-1], "it has 3 lines, audit.head.json says 4: lines were removed at its end"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"ok"', '"found"')], "line 4 is not as it was written"),
        (lambda lines: [], "it has 0 lines"),
    ],
    ids=["changed", "first removed", "removed", "reordered", "inserted", "shortened", "end removed", "end changed", "emptied"],
)  # fmt: skip
def test_a_changed_trail_is_refused_at_its_first_bad_line(store: RunStore, tamper: object, message: str) -> None:
    path = store.root / AUDIT
    lines = path.read_text().splitlines()
    path.write_text("".join(line + "\n" for line in tamper(lines)))  # type: ignore[operator]
    assert message in refusal(store)


@effort(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_changed_byte_breaks_the_chain_or_its_end(made: Path, place: int, flip: int) -> None:
    data = bytearray((made / "smoke" / AUDIT).read_bytes())
    data[place % (len(data) - 1)] ^= flip  # but the last line end, which ends no entry's text
    _, fault = read_chain(bytes(data).splitlines())
    head = json.loads((made / "smoke" / HEAD).read_text())
    lines = bytes(data).splitlines()
    assert fault or len(lines) != head["entries"] or hashlib.sha256(lines[-1]).hexdigest() != head["last"]


def test_a_file_changed_since_it_was_recorded_is_named(store: RunStore) -> None:
    path = store.folder("source") / "train_profiles.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    assert "train_profiles.parquet: is not as it was written (recorded in line 4 of audit.jsonl)" in refusal(store)
    path.unlink()
    assert "train_profiles.parquet: is missing (recorded in line 4" in refusal(store)


def test_what_is_found_there_is_recorded_as_found(store: RunStore) -> None:
    (store.root / AUDIT).unlink()
    (store.root / HEAD).unlink()
    assert "no such file; every command that writes" in refusal(store)
    for _ in range(2):
        command(store.root.parent, "stage=source", "seed=2")
    assert [entry["result"] for entry in entries(store)] == ["found"]
    assert "1 entries in one chain" in audited(store)


def test_an_entry_cut_off_while_it_was_written_does_not_end_the_trail(store: RunStore) -> None:
    path = store.root / AUDIT
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines()[-1][:50])
    audited(store)
    append(store, FACTS)
    assert "5 entries in one chain" in audited(store)


def test_processes_that_write_at_once_make_one_chain(store: RunStore) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            for _ in range(10):
                append(store, FACTS)
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    found, fault = read_chain((store.root / AUDIT).read_bytes().splitlines())
    assert fault is None and len(found) == 44
    audited(store)
