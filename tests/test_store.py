"""A run's folder: whole results or the old ones, checked before they are read."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_core import people

from core.artifact import Artifact
from core.errors import ArtifactError, ManoError, MissingStageError, NumericalError
from pipeline.store import MANIFEST, SCHEMA, RunStore, save_artifact, save_cohort, sha256, write_json


def finish(store: RunStore, stage: str, text: str = "x") -> Path:
    """A finished stage with one file."""
    with store.writing(stage) as out:
        (out / "data.txt").write_text(text)
        outputs = {"data.txt": sha256(out / "data.txt")}
        write_json(out / MANIFEST, {"schema": SCHEMA, "stage": stage, "outputs": outputs})
    return store.folder(stage)


def test_a_stage_that_fails_leaves_the_old_result(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    finish(store, "source", "old")
    with pytest.raises(RuntimeError), store.writing("source") as out:
        (out / "data.txt").write_text("half")
        raise RuntimeError
    assert store.read("source", "data.txt") == b"old"
    assert not list(store.root.glob("*.partial"))
    finish(store, "source", "new")
    assert store.read("source", "data.txt") == b"new"


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "delete"])
def test_a_harmed_file_is_refused_with_the_remedy(tmp_path: Path, harm: str) -> None:
    store = RunStore(tmp_path / "run")
    path = finish(store, "source", "some bytes") / "data.txt"
    data = path.read_bytes()
    if harm == "delete":
        path.unlink()
    else:
        path.write_bytes({"flip": b"X" + data[1:], "truncate": data[:-1], "empty": b""}[harm])
    assert store.damage("source") is not None
    with pytest.raises(ArtifactError, match=r"stage=source force=true"):
        store.read("source", "data.txt")


def test_a_missing_stage_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match=r"python run_pipeline.py run=run stage=twin"):
        RunStore(tmp_path / "run").read("twin", "twin.json")


def test_a_file_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    (finish(store, "source") / "extra.npz").write_bytes(b"payload")
    with pytest.raises(ArtifactError, match="does not list"):
        store.read("source", "extra.npz")
    with pytest.raises(ArtifactError, match="does not list"):
        store.read("source", "../../secret")


def test_another_schema_says_so(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    path = finish(store, "source") / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": SCHEMA + 1}))
    with pytest.raises(ArtifactError, match=rf"schema {SCHEMA + 1}, this version reads {SCHEMA}"):
        store.manifest("source")


def test_cohorts_and_artifacts_come_back_exactly(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    cohort = people().with_risk(np.arange(30) % 3)
    artifact = Artifact(
        {"w": torch.randn(3, 2, generator=torch.Generator().manual_seed(0))}, {"names": ["a"], "x": 0.1}
    )
    with store.writing("cohort") as out:
        save_cohort(out, cohort, "train_")
        save_artifact(out, "model", artifact)
        outputs = {path.name: sha256(path) for path in out.iterdir()}
        write_json(out / MANIFEST, {"schema": SCHEMA, "outputs": outputs})
    back, model = store.cohort("cohort", "train_"), store.artifact("cohort", "model")
    assert back.profiles.equals(cohort.profiles) and back.signals == cohort.signals
    assert np.array_equal(back.rhythms, cohort.rhythms) and np.array_equal(back.risk, cohort.risk)
    assert torch.equal(model.tensors["w"], artifact.tensors["w"]) and model.meta == artifact.meta


def test_a_pickle_inside_an_array_file_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(marker),)

    store = RunStore(tmp_path / "run")
    with store.writing("trials") as out:
        np.savez(out / "trials.npz", weeks=np.array([Payload()], dtype=object))
        write_json(out / MANIFEST, {"schema": SCHEMA, "outputs": {"trials.npz": sha256(out / "trials.npz")}})
    with pytest.raises(ArtifactError, match="allow_pickle"):
        store.arrays("trials", "trials.npz")
    assert not marker.exists()


def test_one_process_at_a_time_and_a_dead_one_is_forgotten(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    said = rf"in use by process {os.getpid()}, started \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    with store.lock(), pytest.raises(ManoError, match=said), store.lock():
        pass
    # Left by a process that was killed; its id is another's by now, that of the one which started us.
    for left in ("999999999, started 2001-01-01 00:00:00", f"{os.getppid()}, started 2001-01-01 00:00:00", ""):
        (store.root / ".lock").write_text(left)
        with store.lock():
            assert (store.root / ".lock").read_text().startswith(f"{os.getpid()}, started 20")


def test_a_checkpoint_is_taken_up_only_by_its_own_training(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    standing = Artifact({"w": torch.arange(3.0)}, {"steps": 7, "returns": [1.0]})
    mine, others = ("policy", "ppo_0", "these settings"), ("twin", "member_0", "these settings")
    assert store.checkpoint(*mine) is None
    store.save_checkpoint(*mine, standing)
    store.save_checkpoint(*others, standing)
    back = store.checkpoint(*mine)
    assert back is not None and back.meta == standing.meta and torch.equal(back.tensors["w"], standing.tensors["w"])
    assert store.checkpoint("policy", "ppo_0", "other settings") is None
    store.clear_checkpoints("policy")  # and no other stage's
    assert store.checkpoint(*mine) is None and store.checkpoint(*others) is not None
    store.clear_checkpoints("twin")
    assert not (store.root / "checkpoints").exists()


def test_what_an_interruption_left_is_put_right(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    finish(store, "source", "good").rename(store.root / "source.previous")
    (store.root / "rhythms.partial").mkdir()
    (store.root / "rhythms.partial" / "rhythms.json.partial").write_text("{")  # killed within a save within a stage
    (store.root / "summary.json.partial").write_text("{")
    store.sweep()
    assert store.read("source", "data.txt") == b"good"
    assert sorted(path.name for path in store.root.iterdir()) == ["source"]


def test_json_is_strict_and_names_what_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"auc": None, "each": [np.float32(0.5), np.arange(2)]})
    assert json.loads(path.read_text()) == {"auc": None, "each": [0.5, [0, 1]]}
    for wrong in (np.array([1.0, np.nan]), [1, float("inf")], (1.0, np.float32(np.nan))):
        with pytest.raises(NumericalError, match=r"metrics\.json: 'risk\.auc\.1' is not a finite number"):
            write_json(path, {"fine": 1.0, "risk": {"auc": wrong}})
    assert json.loads(path.read_text())["auc"] is None  # the file that was there stays whole
