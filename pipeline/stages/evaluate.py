"""Every policy is judged in Trial, on held-out persons."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from core.patients import Patients
from core.protocols import Tracker
from core.random import numpy_generator
from intervention.baselines import Greedy, Learned, Policy, standard_policies
from intervention.dose_finding import Lowered, dose_curve, least_share
from intervention.evaluation import (
    best_constant,
    courses,
    exploitation_gap,
    normalised_score,
    probability_of_improvement,
    run_policies,
    summarise,
)
from intervention.explanation import TreePolicy, fidelity, grow_tree, readable_names, tree_text
from intervention.policy import DualHeadAgent
from intervention.prescriptions import with_risk_before
from intervention.trials import enrol
from intervention.twin import TwinDynamics
from pipeline.cards.policy import CARD, policy_card
from pipeline.config import Config
from pipeline.off_policy import off_policy
from pipeline.parts import (
    HELD_OUT_SEED,
    World,
    holdout_patients,
    load_agent,
    load_twin,
    simulations,
    synthetic_patients,
    worlds,
)
from pipeline.prescriptions import baseline_risk, prescriptions, safety, saved
from pipeline.runner import Context, Stage
from pipeline.store import RunStore, write_bytes

PPO = "ppo"  # the policy's name; of several agents, followed by their seed


def evaluate(context: Context) -> dict[str, Any]:
    """Every policy on the same held-out patients with the same luck, in Trial."""
    config, store, settings = context.config, context.store, context.config.evaluate
    patients = holdout_patients(store, config.env)
    rows = torch.arange(min(len(patients), settings.patients))
    world = worlds(store, patients, config.trial, config.env, config.seed + HELD_OUT_SEED)
    seeds = [config.seed + index for index in range(settings.seeds)]
    agents = read_agents(store)
    learned = {name: agent for name, agent in agents.items() if name.startswith(PPO)}
    first = next(iter(learned.values()))
    policies = standard_policies(settings.constant_intensities, settings.stepped_care, first.agent.rules) | agents
    policies["greedy"] = Greedy(
        TwinDynamics(load_twin(store), patients), settings.greedy_intensities, first.agent.rules
    )
    practice = synthetic_world(config, store)
    tree = policies["tree"] = explaining_tree(config, practice, first)
    least = least_dose(config, practice, first, policies["stepped_care"], context.tracker)
    policies["least_dose"] = Lowered(first, least["share"])
    episodes = run_policies(policies, simulations(world["trial"], rows), rows, seeds, context.tracker)
    episodes.to_parquet(context.out / "episodes.parquet", index=False)
    holdout, baseline = store.cohort("source", "holdout_"), baseline_risk(world["trial"])
    person = pd.Series(holdout.person)
    here = by_person(with_risk_before(episodes, baseline), person)
    metrics = {
        "weeks": config.env.horizon,
        "confidence": settings.confidence,
        **scores(config, here),
        **exploited(context, patients, learned, here),
        **explanation(tree, world["trial"], rows, config.seed),
        **prescriptions(
            config, here, baseline, holdout, PPO, numpy_generator(config.seed, "evaluate", "prescriptions")
        ),
        **off_policy(context),
    }
    rng = numpy_generator(config.seed, "evaluate", "least dose")
    metrics["least_dose"] = {**least, "saved": saved(config, here, "least_dose", rng)}
    metrics["safety"] = safety(metrics["policies"], metrics["constants"])
    card = policy_card(metrics, store.manifest("policy"), config)
    write_bytes(context.out / CARD, card.encode())
    return metrics


def by_person(episodes: pd.DataFrame, person: pd.Series) -> pd.DataFrame:
    """Episodes as the statistics take them: agents of every seed as one policy, and ``patient`` the person.

    A patient is one week of a person, and a person may have several: as patients they would count as independent.
    """
    course = episodes.groupby(["policy", "patient", "seed"], sort=False).ngroup()
    policy = episodes["policy"].str.replace(rf"^{PPO}_\d+$", PPO, regex=True)
    return episodes.assign(policy=policy, patient=episodes["patient"].map(person), seed=course)


def scores(config: Config, episodes: pd.DataFrame) -> dict[str, Any]:
    """The table of policies and what follows from it. Every constant stays in ``constants``; the table shows the best,
    chosen on the very patients it is reported on, which makes it the stricter baseline."""
    settings = config.evaluate
    rng = numpy_generator(config.seed, "evaluate", "bootstrap")
    table = summarise(episodes, rng, settings.resamples, settings.confidence)
    best = best_constant(episodes)
    constants = {name: row for name, row in table.items() if name.startswith("constant_")}
    shown = {"best_constant": constants[best]} | {n: row for n, row in table.items() if n not in constants}
    result: dict[str, Any] = {
        "policies": shown,
        "best_constant": best.removeprefix("constant_"),
        "constants": constants,
    }
    against = {"none": "none", "random": "random", "best_constant": best, "stepped_care": "stepped_care"}
    result["probability_of_improvement"] = {
        label: dict(zip(("value", "ci", "of_mean"), probability_of_improvement(
            episodes, "ppo", name, rng, settings.resamples, settings.confidence), strict=True))
        for label, name in against.items()
    }  # fmt: skip
    if "privileged" in table:
        score, interval = normalised_score(
            episodes, "ppo", "none", "privileged", rng, settings.resamples, settings.confidence
        )
        result |= {"normalised_score": score, "normalised_score_ci": interval}
    return result


def exploited(
    context: Context, patients: Patients, learned: Mapping[str, Policy], episodes: pd.DataFrame
) -> dict[str, float | None]:
    """How far the agents' returns in the Twin and in Trial lie apart; nothing without a privileged reference."""
    config, store = context.config, context.store
    means = courses(episodes).groupby(level="policy")["return"].mean()
    if "privileged" not in means:
        return {}
    n = config.evaluate.gap_courses
    drawn = numpy_generator(config.seed, "evaluate", "gap").integers(len(patients), size=n)
    world = worlds(store, enrol(patients, drawn), config.trial, config.env, config.seed + HELD_OUT_SEED)
    rows, seeds = torch.arange(n), [config.seed]
    in_twin, in_trial = (
        run_policies(learned, simulations(world[name], rows), rows, seeds, context.tracker)
        for name in ("twin", "trial")
    )
    gap, luck = exploitation_gap(in_twin, in_trial, float(means["privileged"] - means["none"]))
    return {"exploitation_gap": gap, "exploitation_gap_luck": luck}


def synthetic_world(config: Config, store: RunStore) -> World:
    """Synthetic patients in Trial: what is fitted to the finished agent is fitted there."""
    return worlds(store, synthetic_patients(store, config.env), config.trial, config.env, config.seed)["trial"]


def explaining_tree(config: Config, practice: World, agent: Learned) -> TreePolicy:
    """A small tree that imitates the agent, grown on synthetic patients."""
    settings, rows = config.evaluate, practice_rows(config, practice)
    return grow_tree(
        agent,
        simulations(practice, rows),
        rows,
        config.seed,
        settings.tree_depth,
        settings.tree_leaf,
    )


def least_dose(config: Config, practice: World, agent: Learned, reference: Policy, tracker: Tracker) -> dict[str, Any]:
    """The least share of the agent's intensities at which certainly no fewer synthetic patients remit than under
    ``reference``, and how it was found."""
    rows, seeds = practice_rows(config, practice), [config.seed + i for i in range(config.evaluate.seeds)]
    shares, make = config.evaluate.dose_shares, simulations(practice, rows)
    curve, found = dose_curve(agent, reference, shares, make, rows, seeds, config.evaluate.confidence, tracker)
    return {"share": least_share(curve), "reference": found, "curve": {f"{each:g}": row for each, row in curve.items()}}


def practice_rows(config: Config, practice: World) -> Tensor:
    return torch.arange(min(len(practice.patients), config.evaluate.tree_patients))


def explanation(tree: TreePolicy, world: World, rows: Tensor, seed: int) -> dict[str, Any]:
    """What the tree says, and how far it can be believed on held-out patients."""
    make_simulation = simulations(world, rows)
    found = asdict(fidelity(tree, make_simulation, rows, seed))
    text = tree_text(tree, readable_names(make_simulation(seed)))
    return {"tree": text, "tree_fidelity": found.pop("fidelity"), "explanation": found}


def read_agents(store: RunStore) -> dict[str, Learned]:
    """``ppo`` (``ppo_<seed>`` where there are several), and ``privileged`` where it was trained."""
    index = store.read_json("policy", "policy.json")
    names = {seed: PPO if len(index["seeds"]) == 1 else f"{PPO}_{seed}" for seed in index["seeds"]}
    agents = {n: Learned(load_agent(store, seed), privileged=False) for seed, n in names.items()}
    if index["privileged"]:
        reference = DualHeadAgent.from_artifact(store.artifact("policy", "privileged"))
        agents["privileged"] = Learned(reference, privileged=True)
    return agents


STAGES = (
    Stage(
        "evaluate",
        ("source", "cohort", "risk", "twin", "policy"),
        ("evaluate", "off_policy", "trial", "env"),
        evaluate,
        wide=True,
    ),
)
