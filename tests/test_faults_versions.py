"""Results of another version or of other signals say so, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import run_here
from helpers_faults import contents, copy_of, fault, seal_again, untouched

from core.artifact import Artifact
from core.errors import ArtifactError
from generators.calibration import CalibratedProfiles
from generators.rhythms import rhythms_from_artifact
from pipeline.environments import trial_of
from pipeline.parts import load_agent, load_risk, load_twin
from pipeline.store import MANIFEST, SCHEMA, RunStore, save_artifact, sha256, write_manifest


@pytest.fixture
def store(smoke: RunStore, tmp_path: Path) -> RunStore:
    return copy_of(smoke, tmp_path)


@pytest.mark.parametrize("asked", ["all", pytest.param("source", marks=pytest.mark.slow), pytest.param("cohort", marks=pytest.mark.slow)])  # fmt: skip
def test_another_schema_is_refused_and_not_overwritten(store: RunStore, asked: str) -> None:
    path = store.folder("source") / MANIFEST
    whole = json.loads(path.read_text())
    for schema in (SCHEMA - 1, SCHEMA + 1, None):
        path.write_text(json.dumps(whole | {"schema": schema}))
        before = contents(store)
        with fault("another version"):
            with pytest.raises(ArtifactError) as refused:
                run_here("preset=smoke", f"runs_dir={store.root.parent}", f"stage={asked}")
            said = str(refused.value)
            assert f"written by schema {schema}, this version reads {SCHEMA}" in said and "\n" not in said
            assert f"{path}" in said and "stage=source force=true" in said
            assert untouched(store, before)


@pytest.mark.parametrize(
    "stage",
    ["cohort", "policy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("trials", "twin", "evaluate"))],
)
def test_stages_of_other_signals_are_refused(store: RunStore, stage: str) -> None:
    """A cohort of other signals than the models beside it know."""
    listed = store.read_json("cohort", "signals.json")[::-1]  # as many, so that every array still fits
    for part in ("cohort", "source"):
        folder = store.folder(part)
        (folder / "signals.json").write_text(json.dumps(listed))
        manifest = store.manifest(part)
        write_manifest(folder, manifest | {"outputs": manifest["outputs"] | {"signals.json": sha256(folder / "signals.json")}})  # fmt: skip
    before = contents(store)
    with fault("other signals"):
        with pytest.raises(ArtifactError) as refused:
            run_here("preset=smoke", f"runs_dir={store.root.parent}", f"stage={stage}", "force=true")
        said = str(refused.value)
        assert (
            "reads the signals sleep_duration" in said
            and "has stress" in said
            and "force=true" in said
            and "\n" not in said
        ), said
        assert untouched(store, before)
    with fault("other signals"), pytest.raises(ArtifactError, match="reads the signals"):
        trial_of(str(store.root))


@pytest.mark.parametrize("model", ["profiles", "rhythms", "risk", "twin", "agent_0"])
def test_a_model_of_another_version_says_so(store: RunStore, model: str) -> None:
    """Its manifest fits, but an entry this version needs is not there."""
    load: dict[str, Callable[[RunStore], object]] = {
        "profiles": lambda store: CalibratedProfiles.from_artifact(store.artifact("profiles", "profiles")),
        "rhythms": lambda store: rhythms_from_artifact(store.artifact("rhythms", "rhythms")),
        "risk": load_risk,
        "twin": load_twin,
        "agent_0": load_agent,
    }
    read, stage = load[model], "policy" if model == "agent_0" else model
    path = store.folder(stage) / f"{model}.json"
    meta = store.read_json(stage, path.name)
    for key in set(meta) - {"days"}:  # agents of before the summary do not name it, and are read as those they are
        path.write_text(json.dumps({name: value for name, value in meta.items() if name != key}))
        seal_again(store, stage)
        with fault("another version"), pytest.raises(ArtifactError, match=rf"stage={stage}") as refused:
            read(store)
        assert "\n" not in str(refused.value)


def test_an_agent_that_saw_other_observations_says_so(store: RunStore) -> None:
    """As one of a version whose observation was shorter."""
    agent = load_agent(store)
    assert agent.act(torch.zeros(2, len(agent.names)))[0].shape == (2,)
    with fault("other observations"), pytest.raises(ArtifactError, match="stage=policy force=true") as refused:
        agent.act(torch.zeros(2, len(agent.names) - 1))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))])  # fmt: skip
def test_what_any_device_saved_is_read_on_the_cpu(tmp_path: Path, device: str) -> None:
    weights = torch.arange(6.0, device=device).reshape(2, 3)
    store, other = RunStore(tmp_path / "run"), RunStore(tmp_path / "other")
    for each, tensor in ((store, weights.T), (other, weights.cpu().T)):
        with each.writing("twin") as out:
            save_artifact(out, "twin", Artifact({"w": tensor}, {"kind": "twin"}))
            outputs = {path.name: sha256(path) for path in out.iterdir()}
            write_manifest(out, {"schema": SCHEMA, "stage": "twin", "outputs": outputs})
        each.save_checkpoint("twin", "member_0", "me", Artifact({"w": tensor}, {}))
    assert contents(store) == contents(other)  # the device leaves no trace in the files
    for back in (store.artifact("twin", "twin"), store.checkpoint("twin", "member_0", "me")):
        assert back is not None and back.tensors["w"].device.type == "cpu"
        assert torch.equal(back.tensors["w"], weights.cpu().T)
