"""What a policy gains where the profile tells less of who responds to what: Trial's largest assumption, varied.

    python benchmarks/assumptions.py [--run runs/demo] [--steps 442368] [--seed 0]

The shifts of `trial.modifiers` are multiplied by 1, 1/2 and 0, at the spread of responses that Trial ships and once at a wider
one. In each Trial an agent learns from nothing, as the run's privileged reference does, with and without the response in view, on the
run's synthetic patients; the best constant is chosen on the held-out patients it is judged on. Returns of 2,000 held-out courses,
the same luck for all (standard error about .1); `r` is how the profile's share of a response correlates with the response. About
five minutes on one thread.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose names are no packages

import numpy as np
import torch

from core.protocols import NullTracker
from core.random import numpy_generator
from envs.rewards import EnvSettings
from envs.sb3 import PatientVecEnv
from envs.trial import Trial, TrialSettings
from intervention.baselines import Learned, Policy, SteppedCareSettings, standard_policies
from intervention.evaluation import courses, run_policy
from intervention.training import PolicySettings, PrivilegedVecEnv, of_privileged, train_policy
from intervention.trials import enrol
from pipeline.command import one_line_errors
from pipeline.console import console
from pipeline.environments import open_run
from pipeline.parts import HELD_OUT_SEED, World, holdout_patients, load_risk, section, simulations, synthetic_patients

COURSES = 2000
WIDER = 1.4  # log-sd of the response, beside the one Trial ships
VARIANTS = ((1.0, None), (0.5, None), (0.0, None), (0.5, WIDER))  # shifts' share, response_sigma
CONSTANTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Row:
    """What one Trial is to policies: returns, and how much of the response the profile tells."""

    told: float
    none: float
    constant: float
    stepped: float
    agent: float
    privileged: float

    @property
    def score(self) -> float:
        return (self.agent - self.none) / (self.privileged - self.none)


def varied(trial: TrialSettings, share: float, sigma: float | None) -> TrialSettings:
    """Trial with the modifiers' shifts at ``share`` and another spread of responses; None keeps the spread."""
    modifiers = tuple(replace(each, shift=share * each.shift) for each in trial.modifiers)
    treatments = {
        name: replace(each, response_sigma=each.response_sigma if sigma is None else sigma)
        for name, each in trial.treatments.items()
    }
    return replace(trial, modifiers=modifiers, treatments=treatments)


def told(trial: Trial) -> float:
    """Correlation of the response with the part of it that the profile decides, mean over treatments."""
    still = {name: replace(each, response_sigma=0.0) for name, each in trial.settings.treatments.items()}
    by_profile = Trial(trial.patients, replace(trial.settings, treatments=still), seed=0).response.numpy()
    if not (by_profile.std(axis=0) > 1e-6).all():
        return 0.0
    each = zip(by_profile.T, trial.response.numpy().T, strict=True)
    return float(np.mean([np.corrcoef(mine, whole)[0, 1] for mine, whole in each]))


def learned(world: World, settings: PolicySettings, seed: int, privileged: bool) -> Learned:
    env = PatientVecEnv(world.patients, world.dynamics, world.risk_model, world.settings, settings.environments, seed=0)
    names = env.simulation.layout.names + (PrivilegedVecEnv.names if privileged else ())
    venv = PrivilegedVecEnv(env) if privileged else env
    return Learned(train_policy(venv, settings, seed, NullTracker(), names).agent, privileged)


def rows(run: str, steps: int, seed: int) -> Iterator[tuple[float, float, Row]]:
    """Share of the shifts, spread of responses, and what they come to."""
    store = open_run(run)
    trial, env = section(store, "trials", "trial", TrialSettings), section(store, "trials", "env", EnvSettings)
    stepped = SteppedCareSettings(**store.manifest("evaluate")["config"]["evaluate"]["stepped_care"])
    own = section(store, "policy", "policy", PolicySettings)
    settings = of_privileged(replace(own, privileged_steps=steps))
    risk, young = load_risk(store), synthetic_patients(store, env)
    held_out = holdout_patients(store, env)
    judged = enrol(held_out, numpy_generator(seed, "assumptions").integers(len(held_out), size=COURSES))
    every = torch.arange(COURSES)
    for share, sigma in VARIANTS:
        other = varied(trial, share, sigma)
        practice = World(young, Trial(young, other, seed), risk, env)
        truth = World(judged, Trial(judged, other, seed + HELD_OUT_SEED), risk, env)
        agents = {name: learned(practice, settings, seed, name == "privileged") for name in ("agent", "privileged")}
        policies: dict[str, Policy] = {**standard_policies(CONSTANTS, stepped), **agents}
        returns = {
            name: float(
                courses(run_policy(name, policy, simulations(truth, every)(seed), every, seed))["return"].mean()
            )
            for name, policy in policies.items()
        }
        constant = max(value for name, value in returns.items() if name.startswith("constant_"))
        assert isinstance(truth.dynamics, Trial)
        yield share, other.treatments["cbt"].response_sigma, Row(
            told(truth.dynamics), returns["none"], constant, returns["stepped_care"], returns["agent"], returns["privileged"]
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="a finished run's folder")
    parser.add_argument("--steps", type=int, default=442_368, help="patient-weeks each agent learns from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with one_line_errors(sys.argv[1:]):
        head = f"{'shifts':>6} {'sigma':>5} {'r':>4} | {'none':>5} {'constant':>8} {'stepped':>7} {'agent':>5} {'privileged':>10} | "
        console().print(head + f"{'agent/stepped':>13} {'score':>5}", highlight=False)
        for share, sigma, row in rows(options.run, options.steps, options.seed):
            console().print(
                f"{share:6.2f} {sigma:5.1f} {row.told:4.2f} | {row.none:5.2f} {row.constant:8.2f} {row.stepped:7.2f} "
                f"{row.agent:5.2f} {row.privileged:10.2f} | {row.agent / row.stepped:13.2f} {row.score:5.2f}",
                highlight=False,
            )


if __name__ == "__main__":
    main()
