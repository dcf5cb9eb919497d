"""Trial as a problem: what conf/ says must stay worth learning, hard to cheat, and near what was published.

On the reference population under the closed-form severity index, so that nothing is trained and everything is repeatable.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from core.protocols import NullTracker
from core.treatments import CONTROL, TREATMENTS
from envs.simulation import Simulation
from intervention.baselines import Constant, Policy, SteppedCare, standard_policies
from intervention.cheats import Late, StopAndGo
from intervention.evaluation import courses, run_policies
from intervention.trial_effects import Arms, best_arm, compare, simulate_arms
from pipeline.config import Config, load_config
from pipeline.environments import reference_world
from pipeline.learning_table import CONSTANT_SHARE
from pipeline.parts import World
from pipeline.published_table import measure
from pipeline.trial_table import DOSES, REFERENCE_DOSE, STOP, WEEKS, recovered

UNITS = 900
EVERY = TREATMENTS[CONTROL + 1 :]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config()


@pytest.fixture(scope="module")
def world() -> World:
    return reference_world()


@pytest.fixture(scope="module")
def rows(world: World) -> torch.Tensor:
    return simulation(world, 1, 0).pool[:UNITS]


def simulation(world: World, envs: int, seed: int) -> Simulation:
    return Simulation(world.patients, world.dynamics, world.risk_model, world.settings, envs, seed)


def earned(world: World, rows: torch.Tensor, policies: dict[str, Policy]) -> pd.DataFrame:
    """Courses of the same patients with the same luck: columns as ``courses`` gives them."""
    return courses(run_policies(policies, lambda seed: simulation(world, len(rows), seed), rows, [0], NullTracker()))


@pytest.fixture(scope="module")
def arms(config: Config, world: World, rows: torch.Tensor) -> Arms:
    patients = world.patients.select(rows.numpy())
    dynamics = type(world.dynamics)(patients, config.trial, 0)
    there = Simulation(patients, dynamics, world.risk_model, world.settings, len(rows), seed=0)
    return simulate_arms(there, len(rows), [0], DOSES, WEEKS, (REFERENCE_DOSE, STOP), NullTracker())


@pytest.fixture(scope="module")
def guided(config: Config, world: World, rows: torch.Tensor) -> pd.Series:
    policies = standard_policies((), config.evaluate.stepped_care)
    return earned(world, rows, policies)["return"].groupby(level="policy").mean()


def test_no_constant_treatment_comes_near_stepped_care(arms: Arms, guided: pd.Series) -> None:
    best = float(arms.treated[best_arm(arms)].returns.mean())
    assert best <= CONSTANT_SHARE * guided["stepped_care"]
    assert guided["none"] < guided["random"] < guided["stepped_care"]
    assert guided["none"] < best


def test_no_treatment_is_best_for_all(arms: Arms) -> None:
    """Each is the best one, at its own best dose, for a good part of the patients; and the doses differ."""
    doses = {t: max(DOSES, key=lambda u, t=t: arms.treated[t, u].returns.mean()) for t in range(1, len(TREATMENTS))}
    by_treatment = torch.stack([arms.treated[t, dose].returns for t, dose in doses.items()])
    share = torch.bincount(by_treatment.argmax(dim=0), minlength=len(doses)) / by_treatment.shape[1]
    assert share.min() > 0.1 and share.max() < 0.5
    assert len(set(doses.values())) >= 2 and max(doses.values()) < 0.9  # more is not better


@pytest.mark.parametrize("treatment", EVERY)
def test_no_planted_cheat_pays(arms: Arms, world: World, rows: torch.Tensor, treatment: str) -> None:
    """Neither pausing when nearly well, nor putting off the second well week, at the dose that suits best."""
    choice = TREATMENTS.index(treatment)
    dose = max(DOSES, key=lambda u: float(arms.treated[choice, u].returns.mean()))
    found = earned(world, rows, {
        "kept": Constant(choice, dose), "paused": StopAndGo(choice, dose, 0.1), "put_off": StopAndGo(choice, dose, 0.0),
    })  # fmt: skip
    means = found["return"].groupby(level="policy").mean()
    assert means["kept"] > means["paused"] and means["kept"] > means["put_off"]
    kept, paused = found.loc["kept"], found.loc["paused"]
    hovers = (kept["remission"] > 0).to_numpy() & (paused["remission"] == 0).to_numpy()
    assert hovers.sum() >= 5
    assert (kept["return"].to_numpy() > paused["return"].to_numpy())[hovers].all()


def test_waiting_does_not_pay(arms: Arms, config: Config, world: World, rows: torch.Tensor) -> None:
    """Stepped care loses by every week that it begins late; no constant gains more than a trifle by it."""
    best, stepped = best_arm(arms), config.evaluate.stepped_care
    found = earned(world, rows, {
        "stepped": SteppedCare(stepped), "soon": Late(SteppedCare(stepped), 2), "late": Late(SteppedCare(stepped), 4),
        "kept": Constant(*best), "put_off": Late(Constant(*best), 4),
    })  # fmt: skip
    means = found["return"].groupby(level="policy").mean()
    assert means["stepped"] > means["soon"] > means["late"]
    assert means["put_off"] < means["kept"]


def test_untreated_patients_follow_their_natural_history(arms: Arms) -> None:
    """Some are cases no longer (how many, by which judge, ``stage=trial`` compares); few remit; on average none gets worse."""
    assert 0.1 < recovered(arms) < 0.5
    assert 0.01 < float(arms.control.remitted[-1].float().mean()) < 0.25
    risk = arms.control.risk.mean(dim=1)
    assert arms.control.before.mean() > risk[0] > risk[-1]


def test_published_values_are_met(arms: Arms, config: Config) -> None:
    """Of every value, as ``stage=trial`` prints it; depression beside the severity index is orientation and left to the run."""
    for each in config.published:
        if each.measure == "risk" or each.treatment == "control":
            continue
        value, _ = measure(arms, arms.treated[TREATMENTS.index(each.treatment), REFERENCE_DOSE], each)
        assert compare(each, value)[0] != "outside", f"{each.treatment}, {each.outcome}: {value:.2f}"


def test_what_a_person_responds_to_shows_within_weeks(arms: Arms, world: World, rows: torch.Tensor) -> None:
    """The true gain after three weeks tells who responds: it correlates with the latent response."""
    response = world.dynamics.response[rows]  # type: ignore[attr-defined]
    for choice in range(1, len(TREATMENTS)):
        course = arms.treated[choice, REFERENCE_DOSE]
        fall = (course.before - course.risk[1:4].mean(dim=0)).numpy()
        assert np.corrcoef(fall, response[:, choice - 1].log())[0, 1] > 0.15
