"""A flipped byte, a cut, an empty or a missing file, in each file of a run: seen before anything parses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import run_here
from helpers_faults import contents, copy_of, fault, leftovers, same_results, untouched

from core.artifact import Artifact
from core.errors import ArtifactError
from pipeline import store as store_module
from pipeline.environments import open_run
from pipeline.files.parsing import parse_json
from pipeline.files.writing import write_json
from pipeline.stages import STAGES
from pipeline.store import MANIFEST, RunStore, sha256

HARMS = ("flip", "cut", "empty", "delete")


def harm(path: Path, how: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    if how == "delete":
        path.unlink()
    else:
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"flip": flipped, "cut": data[:-1], "empty": b""}[how])


@pytest.fixture
def store(smoke: RunStore, tmp_path: Path) -> RunStore:
    return copy_of(smoke, tmp_path)


def listed(store: RunStore) -> Iterator[tuple[str, str]]:
    for stage in STAGES:
        for name in store.manifest(stage.name)["outputs"]:
            yield stage.name, name


def read(store: RunStore, stage: str, name: str) -> object:
    """The file by the loader that its kind has."""
    kind, stem = Path(name).suffix, Path(name).stem
    if kind == ".safetensors":
        return store.artifact(stage, stem)
    return {".json": store.read_json, ".npz": store.arrays, ".parquet": store.frame}.get(kind, store.read)(stage, name)


def test_every_harm_to_every_file_is_seen_before_it_is_parsed(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    files = list(listed(store))
    assert len(files) > 25 and {Path(name).suffix for _, name in files} >= {".json", ".npz", ".parquet", ".safetensors"}
    parsed: list[str] = []
    for parse in ("parse_arrays", "parse_frame", "parse_tensors"):
        monkeypatch.setattr(store_module, parse, lambda data, parse=parse: parsed.append(parse))
    for stage, name in files:
        path = store.folder(stage) / name
        whole = path.read_bytes()
        for how in HARMS:
            with fault("harmed file"):
                harm(path, how)
                assert (store.damage(stage) or "").startswith(f"{path}: ")
                remedy = f"python run_pipeline.py preset=smoke run=smoke stage={stage} force=true"
                with pytest.raises(ArtifactError, match=remedy) as refused:
                    read(store, stage, name)
                assert str(path) in str(refused.value) and "\n" not in str(refused.value)
            path.write_bytes(whole)
        assert store.damage(stage) is None
    assert not parsed


def test_a_manifest_is_its_own_witness(store: RunStore) -> None:
    for stage in STAGES:
        path = store.folder(stage.name) / MANIFEST
        whole = path.read_bytes()
        for how in HARMS[1:]:
            with fault("harmed manifest"):
                harm(path, how)
                if how == "cut":  # of its last byte, which is a line's end
                    assert store.damage(stage.name) is None
                    path.write_bytes(whole[:-3])
                assert (store.damage(stage.name) or "").startswith(f"{path}: ")
            path.write_bytes(whole)
        for at in range(0, len(whole), 97):
            with fault("harmed manifest"):
                path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
                try:
                    told = store.damage(stage.name)
                except ArtifactError as error:  # of another schema, as it seems now
                    told = str(error)
                said = path.read_bytes().split() == whole.split()
                assert said or (told or "").startswith(f"{path}: ") or '"sha256"' not in path.read_text(), at
        path.write_bytes(whole)


@pytest.mark.parametrize("how", ["flip", *(pytest.param(how, marks=pytest.mark.slow) for how in HARMS[1:])])
def test_a_damaged_stage_is_made_again_or_refused_by_choice(store: RunStore, smoke: RunStore, how: str) -> None:
    before = contents(store, ("source",))
    path = store.folder("source") / "train_rhythms.npz"
    command = ("preset=smoke", f"runs_dir={store.root.parent}", "stage=source")
    harm(path, how)
    with fault("damaged stage"):
        there = path.exists() and sha256(path)
        with pytest.raises(ArtifactError, match=r"train_rhythms\.npz: .*force=true.*damaged=rebuild") as refused:
            run_here(*command, "damaged=refuse")
        assert "\n" not in str(refused.value) and (path.exists() and sha256(path)) == there
        said = run_here(*command)
        assert "train_rhythms.npz" in said and "made again" in said
        assert same_results(store, smoke, "source") and untouched(store, before) and not leftovers(store)


def test_a_stage_whose_manifest_is_damaged_is_made_again(store: RunStore, smoke: RunStore) -> None:
    (store.folder("source") / MANIFEST).write_text('{"stage": ')
    with fault("damaged stage"):
        said = run_here("preset=smoke", f"runs_dir={store.root.parent}", "stage=source")
        assert "manifest.json: cannot be read" in said and same_results(store, smoke, "source")


def test_what_a_damaged_stage_is_needed_for_is_refused_and_says_what_to_make_again(store: RunStore) -> None:
    before = contents(store)
    path = store.folder("source") / "train_profiles.parquet"
    whole = path.read_bytes()
    harm(path, "flip")
    with (
        fault("damaged stage"),
        pytest.raises(ArtifactError, match=r"train_profiles\.parquet.*stage=source force=true"),
    ):
        run_here("preset=smoke", f"runs_dir={store.root.parent}", "stage=cohort", "force=true")
    path.write_bytes(whole)
    assert untouched(store, before) and not leftovers(store)


@pytest.mark.parametrize("how", HARMS)
def test_a_damaged_checkpoint_counts_for_nothing(smoke: RunStore, tmp_path: Path, how: str) -> None:
    store = RunStore(tmp_path / "run")
    mine = ("policy", "ppo_0", "these settings")
    store.save_checkpoint(*mine, Artifact({"w": torch.arange(300.0)}, {"steps": 7}))
    path = next(store.root.rglob("*.checkpoint"))
    with fault("damaged checkpoint"):
        harm(path, how)
        if how == "delete":
            assert store.checkpoint(*mine) is None
        else:
            with pytest.raises(ArtifactError, match=r"altered or truncated.*begins anew"):
                store.checkpoint(*mine)


def test_a_damaged_list_of_options_is_one_line(store: RunStore) -> None:
    path = store.root / "config.json"
    # Whoever ran something in this worker's copy before may have left other options.
    write_json(path, parse_json(path.read_bytes()) | {"options": "preset=smoke"})
    whole = path.read_bytes()
    assert open_run(str(store.root)).options == "preset=smoke"
    for how in ("cut", "empty"):
        with fault("harmed file"), pytest.raises(ArtifactError, match=r"config\.json.*delete it"):
            harm(path, how) if how == "empty" else path.write_bytes(whole[:40])
            open_run(str(store.root))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage.name for stage in STAGES[1:]])
def test_every_stage_is_made_again_as_it_was(store: RunStore, smoke: RunStore, stage: str) -> None:
    before = contents(store, (stage,))
    name = next(name for name in store.manifest(stage)["outputs"] if not name.endswith("metrics.json"))
    harm(store.folder(stage) / name, "flip")
    with fault("damaged stage"):
        said = run_here("preset=smoke", f"runs_dir={store.root.parent}", f"stage={stage}")
        assert name in said and "made again" in said
        assert same_results(store, smoke, stage) and untouched(store, before)
