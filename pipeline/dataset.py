"""Offline datasets: episodes of a run's environment as Minari reads them, to learn from without the environment.

A command like the journey, not a stage: it reads a finished run and adds a dataset beside its stages. Patients are
synthetic or of the reference population; nobody whom a source observed is in it.
"""

import copy
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.markup import escape

import core
import envs  # registers the ids as well
from core.errors import ConfigError, DataError, MissingStageError
from core.signals import names
from core.treatments import CONTROL, TREATMENTS
from envs.observation import ObservationLayout, observation_layout
from envs.registration import FORM_SUFFIXES
from envs.rewards import REWARD_TERMS
from envs.spaces import action_space, observation_space
from intervention.baselines import Constant, Learned, Policy, Random, SteppedCare
from pipeline.config import Config, load_config, plain
from pipeline.environments import trial_of, twin_of
from pipeline.minari_files import MinariWriter, require_minari
from pipeline.parts import World, load_agent
from pipeline.recording import Arms, DatasetSettings, Exploring, best_of, parts_of, record
from pipeline.runner import versions
from pipeline.stages.evaluate import read_agents
from pipeline.store import RunStore, write_json
from pipeline.tracker import RunTracker

NEEDS = {"trial": ("cohort", "risk", "trials"), "twin": ("cohort", "risk", "trials", "twin")}
LOWEST = "none"  # the policy whose return scores 0
NOTE = "Synthetic patients; a research simulator, not medical advice."
DESCRIPTION = (
    "{episodes} episodes of {env}: weekly treatment of mental-health patients, type and intensity, chosen by '{policy}'. "
    + NOTE
)


@dataclass(frozen=True)
class Tally:
    """What was written."""

    episodes: int
    steps: int
    mean_return: float
    remission: float  # share of episodes
    megabytes: float


def export_dataset(config: Config, store: RunStore, console: Console) -> list[Path]:
    """Simulate the episodes, write them as a Minari dataset, and say how to read it; returns its head.

    Raises:
        ConfigError: Minari is not installed, or the options exclude each other.
        MissingStageError: the run lacks what the options need. ArtifactError: its files are damaged.
        DataError: the place is taken.
    """
    settings, started = config.dataset, time.perf_counter()
    version = require_minari()
    check(settings, store)
    torch.set_num_threads(config.wide_threads)
    name = settings.name or default_name(settings)
    folder = Path(settings.folder).expanduser() if settings.folder else store.root / "dataset"
    place = RunStore((folder / name).parent)
    run = str(store.root) if settings.patients == "run" else None
    tracker = RunTracker(store.root, console)
    # The run's lock too: another command of this run would clear away the half-written dataset.
    with store.lock() if folder.is_relative_to(store.root) else nullcontext(), place.lock():
        place.sweep()
        refuse_to_replace(folder / name, config.force)
        world = trial_of(run) if settings.world == "trial" else twin_of(run)
        for section in made_otherwise(config, store if run else None):
            tracker.note(f"settings of '{section}' differ from those the environment was made with, which are used")
        facts = metadata(config, store, world, run, name) | {"minari_version": version}
        facts |= reference_scores(config, store, run, tracker)
        with place.writing((folder / name).name) as partial:
            # Absolute: pyarrow, which writes below a folder it is given, would read a relative one from there.
            tally = write(config, store, world, run, (partial / "data").resolve(), facts, tracker)
        name_namespaces(folder, name)
    show(console, store, settings, folder, name, tally, facts, time.perf_counter() - started)
    return [folder / name / "data" / "metadata.json"]


def check(settings: DatasetSettings, store: RunStore) -> None:
    """Refuse options that exclude each other, and a run that lacks what they need."""
    if settings.patients == "reference":
        for option, value in (("world", "twin"), ("policy", "policy")):
            if getattr(settings, option) == value:
                raise ConfigError(f"dataset.{option}={value} belongs to a run, expected dataset.patients=run with it")
        return
    for stage in (*NEEDS[settings.world], *(["policy"] if settings.policy == "policy" else [])):
        if not store.has(stage):
            raise MissingStageError(
                f"{store.root}: stage '{stage}' has not been run; make it with `{store.command('all')}`, or take "
                "dataset.patients=reference, which needs no run"
            )


def default_name(settings: DatasetSettings) -> str:
    suffix = FORM_SUFFIXES[settings.form].lower()
    return f"mano/{settings.world}{suffix}-{settings.policy}-v0"


def refuse_to_replace(path: Path, force: bool) -> None:
    """Refuse a place that holds something else than a dataset, and one that holds a dataset unless ``force``.

    Raises:
        DataError: which place, and what to do.
    """
    if not path.exists():
        return
    if not (path / "data" / "metadata.json").is_file():
        raise DataError(f"{path}: exists and is no Minari dataset; choose another dataset.name= or dataset.folder=")
    if not force:
        raise DataError(
            f"{path}: a dataset is there already; choose another dataset.name=, or add force=true to replace it"
        )


@cache
def shipped() -> Config:
    """The configuration as it comes, which the environment without a run is made of."""
    return load_config()


def made_otherwise(config: Config, store: RunStore | None) -> list[str]:
    """The sections of the environment that this command was given otherwise than the environment has them."""
    made = plain(shipped()) if store is None else store.manifest("trials")["config"]
    return [name for name in ("trial", "env") if made.get(name) != plain(getattr(config, name))]


def behaviour(config: Config, store: RunStore, world: World) -> Callable[[slice], Policy]:
    """The policy of each batch of episodes."""
    settings = config.dataset
    policy: Policy
    if settings.policy == "trials":
        weeks = world.settings.horizon
        arms = Arms.of_trials(config.trials, settings.episodes, weeks, config.seed)
        return lambda part: exploring(arms.part(part), settings.explore)
    if settings.policy == "policy":
        policy = Learned(load_agent(store), privileged=False)
    else:
        policy = plain_policies(config)[settings.policy]
    return lambda part: exploring(policy, settings.explore)


def exploring(policy: Policy, share: float) -> Policy:
    return Exploring(policy, share) if share else policy


def plain_policies(config: Config) -> dict[str, Policy]:
    """The policies that were not trained."""
    return {
        "none": Constant(CONTROL, 0.0),
        "random": Random(),
        "stepped_care": SteppedCare(config.evaluate.stepped_care),
    }


def reference_scores(config: Config, store: RunStore, run: str | None, tracker: RunTracker) -> dict[str, Any]:
    """Minari's reference returns, in Trial on the dataset's own first patients: no treatment, and the best policy known.

    The best of the untrained policies, the run's agents and its privileged one; no scores where that is not above none.
    """
    episodes = min(config.dataset.reference_episodes, config.dataset.episodes)
    trained = read_agents(store) if run is not None and store.has("policy") else {}
    returns = best_of(plain_policies(config) | trained, trial_of(run), config.seed, episodes, tracker)
    best = max(returns, key=lambda name: returns[name])
    if best == LOWEST:
        tracker.note("no known policy returns more than no treatment: the dataset has no reference scores")
        return {}
    return {
        "ref_min_score": returns[LOWEST],
        "ref_max_score": returns[best],
        "num_episodes_average_score": episodes,
        "reference_policies": {"min": LOWEST, "max": best, "returns": returns},
    }


def spec_of(world: str, form: str, run: str | None) -> gym.envs.registration.EnvSpec:
    """What ``recover_environment`` makes: the registered environment, of this run."""
    spec = copy.deepcopy(gym.spec(f"Mano/{world.title()}{FORM_SUFFIXES[form]}-v0"))
    spec.kwargs |= {} if run is None else {"run": run}
    return spec


def metadata(config: Config, store: RunStore, world: World, run: str | None, name: str) -> dict[str, Any]:
    """What the dataset says of itself: Minari's keys, and how it came about. The same arguments give the same words."""
    settings, known = config.dataset, versions()
    env = spec_of(settings.world, settings.form, run)
    agent = ["policy"] if settings.policy == "policy" else []
    stages = () if run is None else (*NEEDS[settings.world], *agent)
    trial = plain(shipped().trial) if run is None else store.manifest("trials")["config"]["trial"]
    return {
        "dataset_id": name,
        "algorithm_name": settings.policy,
        "author": {"Manō"},
        "description": DESCRIPTION.format(episodes=f"{settings.episodes:,}", env=env.id, policy=settings.policy),
        "eval_env_spec": spec_of("trial", settings.form, run).to_json(),
        "requirements": [f"mano-twin=={known['mano-twin']}"],
        "licence": settings.licence,
        "note": NOTE,
        "observation_names": list(layout_of(world).names),
        "signals": names(world.patients.signals),
        "treatments": list(TREATMENTS),
        "reward_terms": list(REWARD_TERMS),
        "seed": config.seed,
        "settings": {key: value for key, value in plain(settings).items() if key not in ("name", "folder")},
        "env_settings": plain(world.settings),
        "trial_sha256": hashlib.sha256(json.dumps(trial, sort_keys=True).encode()).hexdigest(),
        "code_sha256": code_digest(),
        "stages_sha256": {stage: store.digest(stage) for stage in stages},
        "versions": known,
    }


def layout_of(world: World) -> ObservationLayout:
    patients, budget = world.patients, world.settings.adverse_budget
    return observation_layout(patients.signals, patients.encoder, budget is not None)


def code_digest() -> str:
    """SHA-256 of the code that an episode follows from: with other code the recorded actions may lead elsewhere."""
    digest = hashlib.sha256()
    for package in (core, envs):
        for path in sorted(Path(next(iter(package.__path__))).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def write(
    config: Config,
    store: RunStore,
    world: World,
    run: str | None,
    folder: Path,
    facts: dict[str, Any],
    tracker: RunTracker,
) -> Tally:
    """All episodes into ``folder``, batch by batch."""
    settings = config.dataset
    layout = layout_of(world)
    spec = spec_of(settings.world, settings.form, run)
    writer = MinariWriter(folder, observation_space(layout), action_space(settings.form), spec)
    policy_of, parts = behaviour(config, store, world), parts_of(settings.episodes)
    returns, remissions = [], 0
    for part in tracker.track(parts, "episodes", len(parts)):
        recording = record(policy_of(part), world, settings.form, config.seed, part)
        writer.add(recording)
        returns.append(recording.returns)
        remissions += int((recording.terminations & recording.running).any(axis=1).sum())
    size = writer.finish(facts)
    mean = float(np.concatenate(returns).mean())
    return Tally(writer.episodes, writer.steps, mean, remissions / writer.episodes, size)


def name_namespaces(folder: Path, name: str) -> None:
    """Tell Minari that the folders above the dataset are namespaces."""
    for above in Path(name).parents[:-1]:
        mark = folder / above / "namespace_metadata.json"
        if not mark.exists():
            write_json(mark, {})


def show(
    console: Console,
    store: RunStore,
    settings: DatasetSettings,
    folder: Path,
    name: str,
    tally: Tally,
    facts: dict[str, Any],
    seconds: float,
) -> None:
    """What was written, what it is worth, and how it is read."""
    whose = f"synthetic patients of run [bold]{escape(store.root.name)}[/]"
    if settings.patients == "reference":
        whose = "patients of the reference population"
    console.print(
        f"[bold]Manō[/] dataset [bold]{escape(name)}[/]: {whose} in {settings.world.title()}. Research simulator, not medical advice.\n"
        f"  {tally.episodes:,} episodes, {tally.steps:,} patient-weeks under '{settings.policy}', {tally.megabytes:g} MB, {seconds:.1f} s\n"
        f"  mean return {tally.mean_return:.2f}, remission {tally.remission:.1%}",
        soft_wrap=True,
    )
    if "ref_max_score" in facts:
        best, low, high = facts["reference_policies"]["max"], facts["ref_min_score"], facts["ref_max_score"]
        console.print(
            f"  reference returns in Trial: no treatment {low:.2f} (score 0), {escape(best)} {high:.2f} (score 1)"
        )
    console.print(
        f"  written to {escape(str(folder / name))}; read it with\n"
        f"  MINARI_DATASETS_PATH={escape(str(folder))} python -c \"import minari; print(minari.load_dataset('{name}').spec)\"",
        soft_wrap=True,
    )
