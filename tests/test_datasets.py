"""Offline datasets: what is written is what happened, Minari reads it, and nothing is lost on the way."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch
from conftest import ROOT, run_here
from hydra import initialize_config_dir
from minari import EpisodeData, MinariDataset
from minari.dataset.minari_dataset import parse_dataset_id
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from core.errors import ConfigError, DataError, ManoError, MissingStageError
from core.random import numpy_generator
from core.treatments import CONTROL
from envs.spaces import FORMS, LEVELS, action_space, decode
from intervention.trials import assign_arms
from pipeline import recording
from pipeline.config import CONF, Config, DatasetSettings, load_config, plain
from pipeline.dataset import export_dataset
from pipeline.minari_files import MinariWriter
from pipeline.recording import encode
from pipeline.store import RunStore

EPISODES = 60
SHIPPED = ["dataset.patients=reference", "wide_threads=1", "dataset.reference_episodes=20"]
Export = Callable[..., MinariDataset]


def load(folder: Path, name: str) -> MinariDataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        return minari.load_dataset(name)


@cache
def shipped() -> Config:
    return load_config(SHIPPED)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Write and read back a dataset of the reference population's patients; options are fields of its settings."""

    def made(name: str, episodes: int = EPISODES, seed: int = 0, force: bool = False, **options: Any) -> MinariDataset:
        place = {"name": name, "folder": str(tmp_path / "sets"), "episodes": episodes}
        settings = replace(shipped().dataset, **place, **options)
        config = replace(shipped(), dataset=settings, seed=seed, force=force)
        export_dataset(config, RunStore(tmp_path / "demo"), Console(file=io.StringIO()))
        return load(tmp_path / "sets", name)

    return made


def test_a_relative_folder_is_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = replace(shipped().dataset, name="mano/near-v0", folder="sets", episodes=5)
    export_dataset(replace(shipped(), dataset=settings), RunStore(Path("demo")), Console(file=io.StringIO()))
    assert load(tmp_path / "sets", "mano/near-v0").total_episodes == 5


def seeds(dataset: MinariDataset) -> list[int]:
    return [facts["seed"] for facts in dataset.storage.get_episode_metadata(dataset.episode_indices)]


def actions_of(episode: EpisodeData) -> list[object]:
    """One action a week, as the environment takes it."""
    if isinstance(episode.actions, dict):
        weeks = zip(episode.actions["treatment"], episode.actions["intensity"], strict=True)
        return [{"treatment": t, "intensity": u} for t, u in weeks]
    return list(episode.actions)


def assert_replays(dataset: MinariDataset, count: int) -> None:
    """The recorded actions, from the recorded seed, in the recovered environment: the recorded episode."""
    env = dataset.recover_environment()
    for seed, episode in zip(seeds(dataset)[:count], dataset, strict=False):
        observation, info = env.reset(seed=seed)
        np.testing.assert_allclose(observation, episode.observations[0], atol=1e-5)
        assert info["patient_id"] == episode.infos["patient_id"][0]
        for week, action in enumerate(actions_of(episode)):
            observation, reward, terminated, truncated, info = env.step(action)
            np.testing.assert_allclose(observation, episode.observations[week + 1], atol=1e-5)
            assert float(reward) == pytest.approx(episode.rewards[week], abs=1e-4)
            assert (terminated, truncated) == (episode.terminations[week], episode.truncations[week])
            assert set(info) == set(episode.infos)
            for name, value in info.items():
                np.testing.assert_allclose(episode.infos[name][week + 1], value, atol=1e-4, err_msg=name)
        assert terminated or truncated


def assert_well_formed(dataset: MinariDataset) -> None:
    """Everything lies in its space; an episode ends once, at its end."""
    for episode in dataset:
        assert len(episode.observations) == len(episode) + 1 == len(episode.infos["risk"])
        assert all(dataset.observation_space.contains(each) for each in episode.observations)
        assert all(dataset.action_space.contains(each) for each in actions_of(episode))
        done = episode.terminations | episode.truncations
        assert done[-1] and not done[:-1].any() and 1 <= len(episode) <= 12
        assert episode.terminations[-1] == episode.infos["remission"][-1]


def numbers(dataset: MinariDataset) -> np.ndarray:
    """Every week of every episode: observation, action, reward."""
    return np.concatenate(
        [np.c_[e.observations[:-1], e.actions["treatment"], e.actions["intensity"], e.rewards] for e in dataset]
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_recovered_environment_replays_every_form(export: Export, form: str) -> None:
    dataset = export("mano/any-v0", form=form, policy="trials", episodes=20)
    assert (dataset.total_episodes, dataset.action_space) == (20, action_space(form))
    assert dataset.total_steps == sum(len(episode) for episode in dataset)
    assert_well_formed(dataset)
    assert_replays(dataset, 5)


@pytest.mark.parametrize("form", FORMS)
def test_actions_survive_being_written(form: str) -> None:
    rng = np.random.default_rng(0)
    treatment = torch.from_numpy(rng.integers(0, 5, 200))
    dose = torch.from_numpy(rng.choice(LEVELS, 200) if "Discrete" in form else rng.uniform(0.1, 1, 200)).float()
    given = np.where(treatment == CONTROL, 0, dose)
    found_treatment, found = decode(form, encode(form, treatment, torch.from_numpy(given)), 200)
    assert (found_treatment == treatment.numpy()).all()
    active = treatment.numpy() != CONTROL
    np.testing.assert_allclose(found[active], dose.numpy()[active], atol=1e-6)


def test_the_arms_are_those_of_the_virtual_trials(export: Export) -> None:
    dataset, design = export("mano/arms-v0", policy="trials"), replace(shipped().trials, courses=EPISODES, weeks=12)
    treatment, intensity = assign_arms(design, numpy_generator(0, "dataset", "arms"))
    for course, episode in enumerate(dataset):
        weeks = len(episode)
        assert (episode.actions["treatment"] == treatment[course, :weeks]).all()
        np.testing.assert_allclose(episode.infos["intensity"][1:], intensity[course, :weeks], atol=1e-6)
        terms = sum(episode.infos[term][1:] for term in dataset.storage.metadata["reward_terms"])
        np.testing.assert_allclose(terms, episode.rewards, atol=1e-5)


def test_the_same_arguments_give_the_same_dataset(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"policy": "stepped_care", "explore": 0.3}
    first, again = export("mano/one-v0", **options), export("mano/two-v0", **options)
    assert np.array_equal(numbers(first), numbers(again)) and seeds(first) == seeds(again)
    facts, others = first.storage.metadata, again.storage.metadata
    assert {key for key in facts if facts[key] != others[key]} == {"dataset_id"}
    assert not set(seeds(first)) & set(seeds(export("mano/three-v0", seed=1, **options)))
    monkeypatch.setattr(recording, "BATCH", 7)
    np.testing.assert_allclose(numbers(export("mano/four-v0", **options)), numbers(first), atol=1e-5)


def test_chance_chooses_in_the_share_of_weeks_asked_for(export: Export) -> None:
    def treated(explore: float) -> float:
        dataset = export(f"mano/explore{int(10 * explore)}-v0", policy="none", explore=explore)
        return float(np.mean(np.concatenate([e.actions["treatment"] for e in dataset]) != CONTROL))

    assert treated(0.0) == 0
    assert treated(0.5) == pytest.approx(0.5 * 4 / 5, abs=0.08)  # about 600 weeks; chance takes Control in one of five


def test_no_treatment_scores_nothing_and_the_best_scores_one(export: Export) -> None:
    def score(policy: str) -> float:
        dataset = export(f"mano/{policy}-v0", policy=policy, reference_episodes=EPISODES)
        returns = np.array([episode.rewards.sum() for episode in dataset])
        return float(minari.get_normalized_score(dataset, returns).mean())

    assert score("none") == pytest.approx(0, abs=1e-4)
    assert score("stepped_care") == pytest.approx(1, abs=1e-4)  # the best that needs no run
    assert 0 < score("random") < 1


def test_the_dataset_says_what_it_is(export: Export) -> None:
    dataset = export("mano/facts-v0", policy="random")
    facts = dataset.storage.metadata
    assert "not medical advice" in facts["description"] and facts["licence"] == "MIT" and facts["seed"] == 0
    assert facts["author"] == {"Manō"} and facts["minari_version"] == minari.__version__
    assert len(facts["observation_names"]) == dataset.observation_space.shape[0]
    at = facts["observation_names"].index("risk")
    for episode in dataset:
        np.testing.assert_allclose(episode.observations[:, at], episode.infos["risk"], atol=1e-6)
        assert np.isnan(episode.infos["level"][0]).all() and np.isfinite(episode.infos["level"][1:]).all()
    assert not any(path.suffix in (".pkl", ".pickle") for path in Path(dataset.spec.data_path).rglob("*"))


def test_a_dataset_is_not_replaced_unasked_nor_left_half(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = numbers(export("mano/kept-v0", policy="none"))
    with pytest.raises(DataError, match=r"kept-v0: a dataset is there already; .*force=true"):
        export("mano/kept-v0")

    def stop(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(MinariWriter, "finish", stop)
        for name in ("mano/kept-v0", "mano/new-v0"):
            with pytest.raises(KeyboardInterrupt):
                export(name, policy="random", force=True)
    assert np.array_equal(before, numbers(load(tmp_path / "sets", "mano/kept-v0")))
    found = {path.name for path in (tmp_path / "sets" / "mano").iterdir()}
    assert found == {"kept-v0", "namespace_metadata.json", ".lock"}
    assert not np.array_equal(before, numbers(export("mano/kept-v0", policy="random", force=True)))
    (tmp_path / "sets/mano/letters-v0").mkdir()
    (tmp_path / "sets/mano/letters-v0/dear.txt").write_text("to keep")
    with pytest.raises(DataError, match="is no Minari dataset"):
        export("mano/letters-v0", force=True)
    with RunStore(tmp_path / "sets" / "mano").lock(), pytest.raises(ManoError, match="in use by process"):
        export("mano/other-v0")


def test_what_cannot_be_written_says_so(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.world=twin belongs to a run"):
        export("mano/x-v0", world="twin")
    with pytest.raises(ConfigError, match=r"dataset\.policy=policy belongs to a run"):
        export("mano/x-v0", policy="policy")
    with pytest.raises(MissingStageError, match=r"'cohort' has not been run; .*dataset.patients=reference"):
        export("mano/x-v0", patients="run")
    with pytest.raises(ConfigError, match=r"dataset\.name"):
        load_config(["dataset.name=../x-v0"])
    for name in ("mano/x", "a/x-v0", "/x-v0"):
        with pytest.raises(ValidationError, match="name"):
            TypeAdapter(DatasetSettings).validate_python({**plain(shipped().dataset), "name": name})
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ConfigError, match=r"needs Minari.*`pip install -e \"\.\[minari\]\"`"):
        export("mano/x-v0")
    assert not list(tmp_path.iterdir())


def test_the_configuration_can_be_read_inside_the_command() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):  # as Hydra stands while a command runs
        inside = load_config(SHIPPED)
    assert inside == shipped()


@pytest.mark.parametrize("name", ["mano/trial-random-v0", "x-v12", "aa/bb/c_d-v0"])
def test_names_are_minaris(name: str) -> None:
    settings = TypeAdapter(DatasetSettings).validate_python({**plain(shipped().dataset), "name": name})
    namespace, short, version = parse_dataset_id(settings.name)
    assert f"{namespace + '/' if namespace else ''}{short}-v{version}" == name


def test_a_run_exports_its_own_policy_in_its_twin(smoke: RunStore, runs_dir: Path, tmp_path: Path) -> None:
    options = ("preset=smoke", f"runs_dir={runs_dir}", "stage=dataset", "dataset.world=twin", "dataset.policy=policy",
               "dataset.explore=0.2", "dataset.episodes=30", "force=true")  # fmt: skip
    printed = run_here(*options, "env.horizon=3")
    assert "settings of 'env' differ" in printed and "synthetic patients of run smoke" in printed
    dataset = load(smoke.root / "dataset", "mano/twin-policy-v0")
    assert_well_formed(dataset)
    assert_replays(dataset, 5)
    for eval_env, world in ((False, "Twin"), (True, "Trial")):
        spec = dataset.recover_environment(eval_env=eval_env).spec
        assert spec is not None and spec.id == f"Mano/{world}-v0" and spec.kwargs["run"] == str(smoke.root)
    cohort = smoke.cohort("cohort")
    assert all(0 <= episode.infos["patient_id"][0] < len(cohort) for episode in dataset)
    facts = json.loads((smoke.root / "dataset/mano/twin-policy-v0/data/metadata.json").read_text())
    assert facts["stages_sha256"] == {name: smoke.digest(name) for name in facts["stages_sha256"]}
    assert "twin" in facts["stages_sha256"] and "policy" in facts["stages_sha256"]
    # The environment of a run found elsewhere.
    shutil.copytree(smoke.root, tmp_path / "moved", ignore=shutil.ignore_patterns("dataset"))
    moved = dataset.recover_environment(run=str(tmp_path / "moved"))
    np.testing.assert_allclose(moved.reset(seed=seeds(dataset)[0])[0], dataset[0].observations[0], atol=1e-6)


def test_a_clone_learns_from_it(export: Export) -> None:
    spec = util.spec_from_file_location("offline_dataset", ROOT / "examples" / "offline_dataset.py")
    assert spec is not None and spec.loader is not None
    example = util.module_from_spec(spec)
    spec.loader.exec_module(example)
    dataset = export("mano/teach-v0", policy="stepped_care", episodes=120)
    found = example.compare(dataset, steps=200, patients=60, seed=0)
    treatments = np.concatenate([episode.actions["treatment"] for episode in dataset])
    commonest = np.bincount(treatments).max() / len(treatments)
    assert found["agreement"] > commonest + 0.1
    assert found["clone"] > found["no treatment"]
    assert isinstance(dataset.recover_environment(eval_env=True), gym.Env)
