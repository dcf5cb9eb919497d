"""A run's folder: the only place that reads and writes it.

A stage is written to ``STAGE.partial`` and takes its name by a rename, so a reader sees the whole of the old result or
the whole of the new one. Every stage carries a ``manifest.json`` with the SHA-256 of what it read and wrote; every file
is checked against it before it is parsed.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from core.artifact import Artifact
from core.cohort import Cohort
from core.errors import ArtifactError, ManoError, MissingStageError, NumericalError
from core.signals import Signal

SCHEMA = 2
MANIFEST, METRICS = "manifest.json", "metrics.json"
PARTIAL, PREVIOUS, CHECKPOINTS = ".partial", ".previous", "checkpoints"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that every reader takes, which knows no NaN: what is undefined is None.

    Raises:
        NumericalError: a number is NaN or infinite.
    """
    try:
        text = json.dumps(value, indent=2, default=_plain, allow_nan=False)
    except ValueError as error:
        raise NumericalError(
            f"{path.name}: '{_not_finite(value)}' is not a finite number, expected one, or null where it is undefined; "
            "bring more persons, and report it with the run's configuration"
        ) from error
    write_bytes(path, (text + "\n").encode())


def _not_finite(value: Any, key: str = "") -> str | None:
    """The dotted key of the first number that is NaN or infinite."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float | np.floating):
        return None if np.isfinite(value) else key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next(filter(None, (_not_finite(each, f"{key}.{name}".lstrip(".")) for name, each in items)), None)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as JSON numbers and lists."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


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
        path = self.folder(stage) / MANIFEST
        if not path.is_file():
            raise MissingStageError(
                f"{self.root}: stage '{stage}' has not been run; make it with `{self.command(stage)}`"
            )
        remedy = self.command(stage, "force=true")
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError as error:
            raise ArtifactError(f"{path}: not valid JSON ({error}); rerun with `{remedy}`") from error
        if not isinstance(manifest, dict) or not isinstance(manifest.get("outputs"), dict):
            raise ArtifactError(f"{path}: not a manifest; rerun with `{remedy}`")
        if manifest.get("schema") != SCHEMA:
            raise ArtifactError(
                f"{path}: written by schema {manifest.get('schema')}, this version reads {SCHEMA}; rerun with `{remedy}`"
            )
        return manifest

    def read(self, stage: str, name: str) -> bytes:
        """A file of a finished stage, checked against its manifest.

        Raises:
            ArtifactError: the file is missing or is not what the stage wrote.
        """
        expected = self.manifest(stage)["outputs"].get(name)
        path = self.folder(stage) / name
        remedy = f"rerun with `{self.command(stage, 'force=true')}`"
        if expected is None:
            raise ArtifactError(f"{path}: the manifest of stage '{stage}' does not list it; {remedy}")
        if not path.is_file():
            raise ArtifactError(f"{path}: missing; {remedy}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            raise ArtifactError(f"{path}: its SHA-256 is not the one in {MANIFEST} (altered or truncated); {remedy}")
        return data

    def read_json(self, stage: str, name: str) -> Any:
        return json.loads(self.read(stage, name))

    def metrics(self, stage: str) -> dict[str, Any]:
        return self.read_json(stage, METRICS)

    def artifact(self, stage: str, name: str) -> Artifact:
        try:
            tensors = load_tensors(self.read(stage, f"{name}.safetensors"))
        except SafetensorError as error:
            raise ArtifactError(f"{self.folder(stage) / name}.safetensors: {error}; rerun the stage") from error
        return Artifact(tensors, self.read_json(stage, f"{name}.json"))

    def arrays(self, stage: str, name: str) -> dict[str, np.ndarray]:
        """The arrays of an npz file (never a pickle)."""
        with np.load(io.BytesIO(self.read(stage, name)), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def frame(self, stage: str, name: str) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(self.read(stage, name)))

    def cohort(self, stage: str, prefix: str = "") -> Cohort:
        arrays = self.arrays(stage, f"{prefix}rhythms.npz")
        signals = tuple(Signal(**signal) for signal in self.read_json(stage, "signals.json"))
        risk = None if (arrays["risk"] < 0).any() else arrays["risk"]
        return Cohort(
            self.frame(stage, f"{prefix}profiles.parquet"),
            arrays["rhythms"],
            arrays["mask"],
            arrays["person"],
            signals,
            risk,
        )

    def digest(self, stage: str, metrics: bool = False) -> str:
        """One SHA-256 for everything a finished stage made; its metrics, which hold times, only on request."""
        listed = self.manifest(stage)["outputs"].items()
        outputs = {name: digest for name, digest in listed if metrics or name != METRICS}
        return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()

    def intact(self, stage: str) -> bool:
        """Whether every file of the stage is what its manifest says."""
        folder = self.folder(stage)
        outputs = self.manifest(stage)["outputs"]
        return all((folder / name).is_file() and sha256(folder / name) == digest for name, digest in outputs.items())

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
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the system lets go of it when the process ends, however it ends.

        Raises:
            ManoError: another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise ManoError(
                    f"{self.root}: in use by process {file.read().strip()}; wait for it, or choose another run= name"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    # A long training leaves checkpoints beside its stage, so that an interrupted one goes on where it stood.

    def save_checkpoint(self, name: str, belongs_to: str, artifact: Artifact) -> None:
        """Keep where a training stands; ``belongs_to`` says of what, and only that can take it up again."""
        tensors = {key: value.detach().cpu().contiguous() for key, value in artifact.tensors.items()}
        facts = {"belongs_to": belongs_to, "meta": json.dumps(artifact.meta)}
        write_bytes(self.root / CHECKPOINTS / f"{name}.safetensors", save_tensors(tensors, facts))

    def checkpoint(self, name: str, belongs_to: str) -> Artifact | None:
        """The checkpoint of this very training, if an interrupted one left it."""
        path = self.root / CHECKPOINTS / f"{name}.safetensors"
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if facts.get("belongs_to") != belongs_to:
                return None
            return Artifact({key: file.get_tensor(key) for key in file.keys()}, json.loads(facts["meta"]))  # noqa: SIM118

    def clear_checkpoints(self) -> None:
        shutil.rmtree(self.root / CHECKPOINTS, ignore_errors=True)
