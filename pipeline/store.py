"""A run's folder: the only place that reads and writes it.

A stage is written to ``STAGE.partial`` and takes its name by a rename, so a reader sees the whole of the old result or
the whole of the new one. Every stage carries a ``manifest.json`` with the SHA-256 of what it read and wrote; every file
is checked against it before it is parsed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from safetensors.torch import save as save_tensors

from core.artifact import Artifact
from core.cohort import Cohort
from core.errors import ArtifactError, MissingStageError
from core.signals import Signal
from pipeline.files.checkpoints import pack, unpack
from pipeline.files.lock import locked
from pipeline.files.parsing import parse_arrays, parse_frame, parse_json, parse_tensors, parsing
from pipeline.files.writing import PARTIAL, as_plain, sha256, write_bytes, write_json

SCHEMA = 2
MANIFEST, METRICS, SEAL = "manifest.json", "metrics.json", "sha256"
PREVIOUS, CHECKPOINTS = ".previous", "checkpoints"


T = TypeVar("T")


class SchemaError(ArtifactError):
    """A stage of another version of the files' layout: nothing is wrong with it, but this version cannot read it."""


def write_manifest(folder: Path, value: dict[str, Any]) -> None:
    """The stage's ``MANIFEST``, sealed: it carries the SHA-256 of the rest of itself."""
    plain = json.loads(json.dumps(value, default=as_plain))
    write_json(folder / MANIFEST, plain | {SEAL: seal(plain)})


def seal(manifest: dict[str, Any]) -> str:
    """One SHA-256 for all that a manifest says, its own seal left out."""
    said = {key: value for key, value in manifest.items() if key != SEAL}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def save_artifact(folder: Path, name: str, artifact: Artifact) -> None:
    """``name.safetensors`` and ``name.json``."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in artifact.tensors.items()}
    write_bytes(folder / f"{name}.safetensors", save_tensors(tensors))
    write_json(folder / f"{name}.json", artifact.meta)


def save_cohort(folder: Path, cohort: Cohort, prefix: str = "") -> None:
    """``profiles.parquet`` and ``rhythms.npz`` (rhythms, mask, risk, person), with ``signals.json`` beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    cohort.profiles.to_parquet(folder / f"{prefix}profiles.parquet", index=False)
    risk = np.full(len(cohort), -1, np.int8) if cohort.risk is None else cohort.risk
    with (folder / f"{prefix}rhythms.npz").open("wb") as file:
        np.savez(file, rhythms=cohort.rhythms, mask=cohort.mask, risk=risk, person=cohort.person)
    write_json(folder / "signals.json", [vars(signal) for signal in cohort.signals])


def _fault(found: str | None, expected: str) -> str | None:
    """What is wrong with a file of this SHA-256 (None: it is not there)."""
    if found is None:
        return "missing"
    return None if found == expected else f"its SHA-256 is not the one in {MANIFEST} (altered or truncated)"


@dataclass(frozen=True)
class RunStore:
    """The folder ``runs/<run>`` of one run; ``options`` are the command-line choices it was made with, for messages."""

    root: Path
    options: str = ""

    def command(self, stage: str, *more: str) -> str:
        """The command line that makes a stage of this run."""
        return " ".join(
            ["python run_pipeline.py", *self.options.split(), f"run={self.root.name}", f"stage={stage}", *more]
        )

    def remedy(self, stage: str) -> str:
        return f"rerun with `{self.command(stage, 'force=true')}`"

    def folder(self, stage: str) -> Path:
        return self.root / stage

    def has(self, stage: str) -> bool:
        return (self.folder(stage) / MANIFEST).is_file()

    def manifest(self, stage: str) -> dict[str, Any]:
        """The manifest of a finished stage.

        Raises:
            MissingStageError: the stage has not been run.
            ArtifactError: the manifest does not parse or is of another schema.
        """
        path = self._inside(self.folder(stage) / MANIFEST, stage)
        if not path.is_file():
            raise MissingStageError(
                f"{self.root}: stage '{stage}' has not been run; make it with `{self.command(stage)}`"
            )
        remedy = self.remedy(stage)
        with parsing(path, remedy):
            manifest = parse_json(path.read_bytes())
        if not isinstance(manifest, dict) or not isinstance(manifest.get("outputs"), dict):
            raise ArtifactError(f"{path}: not a manifest, expected a list of a stage's files; {remedy}")
        if manifest.get("schema") != SCHEMA:
            raise SchemaError(
                f"{path}: written by schema {manifest.get('schema')}, this version reads {SCHEMA}; {remedy}"
            )
        if manifest.get(SEAL, seal(manifest)) != seal(manifest):
            raise ArtifactError(f"{path}: altered, its SHA-256 is not the one it was written with; {remedy}")
        with parsing(path, remedy):
            for name in manifest["outputs"]:
                self._inside(self.folder(stage) / name, stage)
        return manifest

    def _inside(self, path: Path, stage: str) -> Path:
        """The path, which a name in a manifest or a link may not lead out of the run's folder.

        Raises:
            ArtifactError: it does.
        """
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ArtifactError(
                f"{path}: leads to {path.resolve()}, expected a file within {self.root}; {self.remedy(stage)}"
            )
        return path

    def read(self, stage: str, name: str) -> bytes:
        """A file of a finished stage, checked against its manifest.

        Raises:
            ArtifactError: the file is missing or is not what the stage wrote.
        """
        expected = self.manifest(stage)["outputs"].get(name)
        path = self.folder(stage) / name
        if expected is None:
            raise ArtifactError(f"{path}: the manifest of stage '{stage}' does not list it; {self.remedy(stage)}")
        data = path.read_bytes() if path.is_file() else None
        fault = _fault(None if data is None else hashlib.sha256(data).hexdigest(), expected)
        if data is None or fault:
            raise ArtifactError(f"{path}: {fault}; {self.remedy(stage)}")
        return data

    def read_json(self, stage: str, name: str) -> Any:
        return self._parsed(parse_json, stage, name)

    def metrics(self, stage: str) -> dict[str, Any]:
        return self.read_json(stage, METRICS)

    def artifact(self, stage: str, name: str) -> Artifact:
        tensors = self._parsed(parse_tensors, stage, f"{name}.safetensors")
        return Artifact(tensors, self.read_json(stage, f"{name}.json"))

    def arrays(self, stage: str, name: str) -> dict[str, np.ndarray]:
        """The arrays of an npz file (never a pickle)."""
        return self._parsed(parse_arrays, stage, name)

    def frame(self, stage: str, name: str) -> pd.DataFrame:
        return self._parsed(parse_frame, stage, name)

    def _parsed(self, parse: Callable[[bytes], T], stage: str, name: str) -> T:
        """A file of a finished stage: checked first, parsed then."""
        data = self.read(stage, name)
        with parsing(self.folder(stage) / name, self.remedy(stage)):
            return parse(data)

    def cohort(self, stage: str, prefix: str = "") -> Cohort:
        arrays, profiles = self.arrays(stage, f"{prefix}rhythms.npz"), self.frame(stage, f"{prefix}profiles.parquet")
        listed = self.read_json(stage, "signals.json")
        with parsing(self.folder(stage) / "signals.json", self.remedy(stage)):
            signals = tuple(Signal(**signal) for signal in listed)
        with parsing(self.folder(stage) / f"{prefix}rhythms.npz", self.remedy(stage)):
            risk = None if (arrays["risk"] < 0).any() else arrays["risk"]
            return Cohort(profiles, arrays["rhythms"], arrays["mask"], arrays["person"], signals, risk)

    def digest(self, stage: str, metrics: bool = False) -> str:
        """One SHA-256 for everything a finished stage made; its metrics, which hold times, only on request."""
        listed = self.manifest(stage)["outputs"].items()
        outputs = {name: digest for name, digest in listed if metrics or name != METRICS}
        return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()

    def damage(self, stage: str) -> str | None:
        """The first file of a stage that is not what it was written as, and what is wrong with it; None: all are.

        Raises:
            ArtifactError: the stage is whole, but of another schema.
        """
        folder = self.folder(stage)
        if not folder.is_dir():
            return None
        if not (folder / MANIFEST).is_file():
            return f"{folder / MANIFEST}: missing"
        try:
            outputs = self.manifest(stage)["outputs"]
        except SchemaError:
            raise
        except ArtifactError as error:
            return str(error).removesuffix(f"; {self.remedy(stage)}")
        for name, expected in outputs.items():
            path = folder / name
            fault = _fault(sha256(path) if path.is_file() else None, expected)
            if fault:
                return f"{path}: {fault}"
        return None

    @contextmanager
    def writing(self, stage: str) -> Iterator[Path]:
        """A fresh folder that takes the stage's place when the block ends well, and is removed when it does not."""
        final = self.folder(stage)
        partial, previous = final.with_name(stage + PARTIAL), final.with_name(stage + PREVIOUS)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(previous, ignore_errors=True)
        if final.exists():
            final.rename(previous)
        partial.rename(final)
        shutil.rmtree(previous, ignore_errors=True)

    def sweep(self) -> None:
        """Put right what an interrupted process left: restore a result caught mid-rename, remove partial ones."""
        if not self.root.is_dir():
            return
        for previous in self.root.glob("*" + PREVIOUS):
            final = previous.with_name(previous.name.removesuffix(PREVIOUS))
            if final.exists():
                shutil.rmtree(previous)
            else:
                previous.rename(final)
        for partial in list(self.root.rglob("*" + PARTIAL)):
            if partial.is_dir() and not partial.is_symlink():
                shutil.rmtree(partial)
            else:  # one that stood within another has gone with it
                partial.unlink(missing_ok=True)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run for this process (:func:`pipeline.files.lock.locked`)."""
        return locked(self.root)

    # A long training leaves checkpoints in the run's folder, so that an interrupted one goes on where it stood.

    def _checkpoint(self, stage: str, name: str) -> Path:
        return self.root / CHECKPOINTS / stage / f"{name}.checkpoint"

    def save_checkpoint(self, stage: str, name: str, belongs_to: str, artifact: Artifact) -> None:
        """Keep where a training stands; ``belongs_to`` says of what, and only that can take it up again."""
        write_bytes(self._checkpoint(stage, name), pack(belongs_to, artifact))

    def checkpoint(self, stage: str, name: str, belongs_to: str) -> Artifact | None:
        """The checkpoint of this very training, if an interrupted one left it.

        Raises:
            ArtifactError: it is damaged.
        """
        path = self._checkpoint(stage, name)
        if not path.is_file():
            return None
        remedy = "delete it, and the training begins anew"
        with parsing(self._inside(path, stage), remedy):
            return unpack(path.read_bytes(), belongs_to)

    def clear_checkpoints(self, stage: str) -> None:
        shutil.rmtree(self.root / CHECKPOINTS / stage, ignore_errors=True)
        with suppress(OSError):  # others may have theirs there
            (self.root / CHECKPOINTS).rmdir()
