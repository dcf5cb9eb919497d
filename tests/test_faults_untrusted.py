"""A run from a stranger: nothing in it is ever run, and no path in it leads out of its folder."""

import ast
import base64
import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from conftest import ROOT, run_here
from helpers_faults import TALLY, copy_of, fault, seal_again
from stable_baselines3.common.save_util import load_from_zip_file
from test_faults_corruption import listed, read

from core.errors import ArtifactError, ManoError
from pipeline.store import MANIFEST, RunStore, write_manifest

PRODUCT = ("core", "generators", "predictor", "envs", "intervention", "pipeline", "examples")
# What can run code that a file brings along, however it is called.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
CALLS = {"torch.load", "joblib.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load", "eval", "exec", "torch.jit.load"}  # fmt: skip
LOADERS = {"PPO", "A2C", "DQN", "SAC", "TD3", "RecurrentPPO", "BaseAlgorithm", "VecNormalize", "CTGAN", "TVAE"}


class Payload:
    """What a pickle of this would do if it were read: leave a marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.makedirs, (str(self.marker), 0o777)


def as_array(payload: Payload) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([payload], dtype=object), allow_pickle=True)
    return file.getvalue()


def as_archive(payload: Payload) -> bytes:
    file = io.BytesIO()
    np.savez(file, rhythms=np.array([payload], dtype=object), risk=np.zeros(3))
    return file.getvalue()


def as_torch(payload: Payload) -> bytes:
    file = io.BytesIO()
    torch.save({"weights": payload}, file)
    return file.getvalue()


def as_joblib(payload: Payload) -> bytes:
    file = io.BytesIO()
    joblib.dump(payload, file)
    return file.getvalue()


def as_weights() -> bytes:
    file = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, file)
    return file.getvalue()


def as_agent(payload: Payload) -> bytes:
    """A zip as stable-baselines3 saves it: its ``data`` holds pickles."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        pickled = base64.b64encode(pickle.dumps(payload)).decode()
        archive.writestr("data", json.dumps({"policy_class": {":type:": "x", ":serialized:": pickled}}))
        archive.writestr("policy.pth", as_weights())
    return file.getvalue()


MAKERS: tuple[Callable[[Payload], bytes], ...] = (pickle.dumps, as_array, as_archive, as_torch, as_joblib, as_agent)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def store(smoke: RunStore, tmp_path: Path) -> RunStore:
    return copy_of(smoke, tmp_path)


def never_ran(marker: Path) -> bool:
    TALLY["payloads run"] += marker.exists()
    return not marker.exists()


def test_the_payload_would_run(marker: Path) -> None:
    for make in MAKERS:
        data = make(Payload(marker))
        if make is as_archive:
            np.load(io.BytesIO(data), allow_pickle=True)["rhythms"]
        elif make is as_torch:
            torch.load(io.BytesIO(data), weights_only=False)
        elif make is as_agent:
            load_from_zip_file(io.BytesIO(data))
        else:
            (joblib.load if make is as_joblib else np.load)(io.BytesIO(data), **({} if make is as_joblib else {"allow_pickle": True}))  # fmt: skip
        assert marker.exists(), make
        marker.rmdir()


def test_no_file_of_a_run_runs_what_it_holds(store: RunStore, marker: Path) -> None:
    """The files are a stranger's, who has made the manifest fit them."""
    for stage, name in list(listed(store)):
        if Path(name).suffix not in (".json", ".npz", ".parquet", ".safetensors"):
            continue  # never parsed
        path = store.folder(stage) / name
        whole = path.read_bytes()
        for make in MAKERS:
            with fault("payload"):
                path.write_bytes(make(Payload(marker)))
                seal_again(store, stage)
                assert store.damage(stage) is None
                with pytest.raises(ArtifactError, match="cannot be read") as refused:
                    read(store, stage, name)
                assert "\n" not in str(refused.value) and str(path) in str(refused.value)
                assert never_ran(marker)
        path.write_bytes(whole)
        seal_again(store, stage)


@pytest.mark.parametrize("make", MAKERS)
def test_no_checkpoint_runs_what_it_holds(store: RunStore, marker: Path, make: Callable[[Payload], bytes]) -> None:
    path = store.root / "checkpoints" / "policy" / "ppo_0.checkpoint"
    path.parent.mkdir(parents=True)
    rest = b'{"belongs_to": "me", "meta": {}}\n' + make(Payload(marker))
    for data in (make(Payload(marker)), hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest):
        with fault("payload"), pytest.raises(ArtifactError, match="cannot be read"):
            path.write_bytes(data)
            store.checkpoint("policy", "ppo_0", "me")
        assert never_ran(marker)


@pytest.mark.parametrize("make", [MAKERS[0], *(pytest.param(make, marks=pytest.mark.slow) for make in MAKERS[1:])])
def test_no_table_runs_what_it_holds(tmp_path: Path, marker: Path, make: Callable[[Payload], bytes]) -> None:
    for name in ("daily.csv", "profiles.csv"):
        (tmp_path / name).write_bytes(make(Payload(marker)))
    tables = (f"data.daily={tmp_path}/daily.csv", f"data.profiles={tmp_path}/profiles.csv")
    with fault("payload"), pytest.raises(ManoError):
        run_here("preset=smoke", "stage=source", "data=csv", *tables, "labels=rules", f"runs_dir={tmp_path / 'runs'}")
    assert never_ran(marker)


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_nothing_that_could_run_a_file_is_called_anywhere() -> None:
    files = [path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not MODULES & {alias.name.split(".")[0] for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in MODULES, path
            elif isinstance(node, ast.Call):
                name = called(node)
                assert name not in CALLS and name.rsplit(".", 1) not in [[each, "load"] for each in LOADERS], path
                allowed = [ast.unparse(each.value) for each in node.keywords if each.arg == "allow_pickle"]
                assert name != "np.load" or allowed == ["False"], path


@pytest.mark.parametrize("name", ["../../outside.npz", "/etc/hostname", "policy/../../../outside.npz"])
def test_no_name_in_a_manifest_leads_out_of_the_run(store: RunStore, name: str) -> None:
    (store.root.parent.parent / "outside.npz").write_bytes(b"a secret")
    manifest = store.manifest("source")
    with fault("path that leads out"):
        write_manifest(store.folder("source"), manifest | {"outputs": {**manifest["outputs"], name: "0" * 64}})
        for ask in (store.manifest, store.digest, lambda stage: store.read(stage, name)):
            with pytest.raises(ArtifactError, match=r"leads to .*expected a file within") as refused:
                ask("source")
            assert "\n" not in str(refused.value)
        assert "leads to" in (store.damage("source") or "")


def test_no_link_leads_out_of_the_run(store: RunStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    store.folder("source").rename(outside)
    with fault("path that leads out"):
        store.folder("source").symlink_to(outside)
        with pytest.raises(ArtifactError, match="leads to"):
            store.cohort("source", "train_")
    store.folder("source").unlink()
    outside.rename(store.folder("source"))
    within = store.folder("source") / "train_rhythms.npz"
    within.rename(tmp_path / "elsewhere.npz")
    with fault("path that leads out"):
        within.symlink_to(tmp_path / "elsewhere.npz")
        with pytest.raises(ArtifactError, match="leads to"):
            store.cohort("source", "train_")
    (tmp_path / "linked").symlink_to(store.root)  # a run behind a link is one's own business
    assert RunStore(tmp_path / "linked").metrics("cohort")["persons"] == 400


def test_sweeping_follows_no_link(store: RunStore, tmp_path: Path) -> None:
    kept = tmp_path / "kept.partial"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    with fault("path that leads out"):
        (store.root / "source.partial").symlink_to(kept)
        (store.root / "more").symlink_to(tmp_path)
        store.sweep()
        assert (kept / "mine.txt").read_text() == "mine" and not (store.root / "source.partial").is_symlink()


def test_a_manifest_of_any_shape_is_one_line(store: RunStore) -> None:
    path = store.folder("source") / MANIFEST
    deep = "[" * 100_000 + "]" * 100_000
    for text in ("[]", "3", '{"outputs": []}', '{"outputs": {"a": 3}, "schema": 2}', deep, '{"schema": 2, "outputs": {"\\u0000": "x"}}'):  # fmt: skip
        with fault("payload"), pytest.raises(ArtifactError) as refused:
            path.write_text(text)
            store.cohort("source", "train_")
        assert "\n" not in str(refused.value)
