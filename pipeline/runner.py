"""Runs stages: skips what is already there, reruns what has changed, and leaves a manifest of each."""

import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from threadpoolctl import threadpool_limits

from core.artifact import Artifact
from core.errors import ArtifactError, MissingStageError
from pipeline.config import Config, plain
from pipeline.store import METRICS, SCHEMA, RunStore, sha256, write_json, write_manifest
from pipeline.tracker import RunTracker

LIBRARIES = ("mano-twin", "torch", "numpy", "pandas", "gymnasium", "stable-baselines3", "ctgan", "sdmetrics")


@dataclass(frozen=True)
class Context:
    """What a stage may use: the configuration, the earlier stages, its own folder and a tracker.

    ``fingerprint`` names everything the result follows from, for checkpoints that only this very stage may take up.
    """

    config: Config
    store: RunStore
    out: Path
    tracker: RunTracker
    fingerprint: str

    def checkpoint(self, name: str) -> Artifact | None:
        """Where an interrupted training of this very stage stood; a damaged one counts for nothing, or is refused.

        Raises:
            ArtifactError: it is damaged, and the configuration says ``damaged: refuse``.
        """
        stage = json.loads(self.fingerprint)["stage"]
        try:
            return self.store.checkpoint(stage, name, self.fingerprint)
        except ArtifactError as error:
            if self.config.damaged == "refuse":
                raise
            self.tracker.note(f"{error} (damaged=rebuild: it begins anew now)")
            return None

    def keep(self, name: str, standing: Artifact) -> None:
        """Keep where a training of this stage stands, for :meth:`checkpoint`."""
        self.store.save_checkpoint(json.loads(self.fingerprint)["stage"], name, self.fingerprint, standing)


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        needs: the stages whose files it reads.
        reads: the configuration sections it depends on; a change in one of them reruns it.
        run: does the work, writes its files to ``context.out`` and returns its metrics.
        files: the user's own input files it reads, if any.
        wide: its batches are large enough for ``wide_threads``.
        metrics: it reads the metrics of the stages it needs, not only their files.
    """

    name: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    run: Callable[[Context], dict[str, Any]]
    files: Callable[[Config], list[Path]] = lambda config: []
    wide: bool = False
    metrics: bool = False


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def peak_memory_mb() -> float:
    per_mb = 1024**2 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mb


def fingerprint(stage: Stage, config: Config, store: RunStore) -> dict[str, Any]:
    """Everything a stage's result follows from. JSON-able, so that it compares with the stored one."""
    for need in stage.needs:
        if not store.has(need):
            raise MissingStageError(
                f"stage '{stage.name}' needs '{need}', which run '{store.root.name}' does not have; "
                f"make it with `{store.command(need)}`"
            )
    sections = {name: plain(getattr(config, name)) for name in stage.reads}
    inputs = {need: store.digest(need, stage.metrics) for need in stage.needs}
    inputs |= {str(path): sha256(path) for path in stage.files(config) if path.is_file()}
    value = {"stage": stage.name, "schema": SCHEMA, "seed": config.seed, "config": sections, "inputs": inputs}
    return json.loads(json.dumps(value))


def matches(stage: Stage, wanted: dict[str, Any], store: RunStore) -> bool:
    """Whether the stored result is of the wanted settings and inputs."""
    if not store.has(stage.name):
        return False
    manifest = store.manifest(stage.name)
    return all(manifest.get(key) == value for key, value in wanted.items())


def damaged(stage: Stage, config: Config, store: RunStore, console: Console) -> bool:
    """Whether a file of the stored result is not what it was written as; says so.

    Raises:
        ArtifactError: it is, and the configuration says ``damaged: refuse``; or it is of another schema.
    """
    damage = store.damage(stage.name)
    if damage is None:
        return False
    if config.damaged == "refuse":
        raise ArtifactError(f"{damage}; {store.remedy(stage.name)}, or let damaged=rebuild make the stage again")
    console.print(f"  [yellow]note[/] {escape(damage)}; the stage is made again", highlight=False, soft_wrap=True)
    return True


def run_stage(stage: Stage, config: Config, store: RunStore, console: Console, force: bool = False) -> bool:
    """Run one stage unless its result is there; returns whether it ran."""
    wanted = fingerprint(stage, config, store)
    if not force and not damaged(stage, config, store, console) and matches(stage, wanted, store):
        store.clear_checkpoints(stage.name)  # left by a process that was killed right after its last stroke
        return False
    started = time.time()
    threads = config.wide_threads if stage.wide else config.threads
    torch.set_num_threads(threads)
    # numpy's matrix products too: their last bits depend on the number of threads, which would else be the machine's.
    with threadpool_limits(threads, user_api="blas"), store.writing(stage.name) as out:
        tracker = RunTracker(out, console)
        try:
            metrics = stage.run(Context(config, store, out, tracker, json.dumps(wanted, sort_keys=True)))
        finally:
            tracker.close()
        metrics |= {"stage_seconds": round(time.time() - started, 2), "notes": tracker.notes}
        write_json(out / METRICS, metrics)
        files = sorted(p for p in out.rglob("*") if p.is_file() and not p.name.startswith("events.out.tfevents"))
        outputs = {str(path.relative_to(out)): sha256(path) for path in files}
        facts = {"versions": versions(), "threads": threads, "peak_memory_mb": round(peak_memory_mb())}
        write_manifest(out, wanted | {"outputs": outputs} | facts)
    store.clear_checkpoints(stage.name)
    return True


def stale_needs(stage: Stage, stages: tuple[Stage, ...], config: Config, store: RunStore) -> list[str]:
    """The stages that ``stage`` builds on and that this configuration and seed would make otherwise."""
    by_name = {each.name: each for each in stages}
    wanted: list[str] = []
    queue = list(stage.needs)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.append(name)
            queue += by_name[name].needs
    found = [each for each in stages if each.name in wanted and store.has(each.name)]
    return [each.name for each in found if not matches(each, fingerprint(each, config, store), store)]
