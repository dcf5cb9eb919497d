"""What a planner shows, and what the agent makes of it."""

from dataclasses import replace

import pytest
import torch
from helpers_envs import people, simulation
from test_policy import BEST_DOSE, NAMES, SMALL, Bandit

from core.artifact import Artifact
from core.errors import NumericalError
from core.protocols import NullTracker
from core.random import torch_generator
from core.treatments import CONTROL
from envs.simulation import Simulation, Step
from intervention.baselines import Action, Constant
from intervention.demonstrations import demonstrate
from intervention.imitation import Demonstrations, imitate
from intervention.policy import DualHeadPolicy, intensity_of, raw_intensity
from intervention.training import isolated_random_state, make_ppo, train_policy

COURSES, GAMMA = 60, 0.9


class Watched(Constant):
    """A constant that keeps the rewards, and what was lived."""

    def reset(self, simulation: Simulation, rows: torch.Tensor) -> None:
        self.lived: list[Action] = []
        self.steps: list[Step] = []

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        self.lived.append(action)
        self.steps.append(step)


def shown(explored: float) -> tuple[Watched, Demonstrations]:
    planner = Watched(2, 0.55)
    found = demonstrate(planner, simulation(people(40), COURSES), torch.arange(COURSES) % 40, explored, GAMMA, 3)
    return planner, found


def test_a_demonstration_holds_the_planners_answers_and_the_discounted_return_of_each_course() -> None:
    planner, found = shown(0.0)
    assert (found.action[:, 0] == 2).all() and torch.allclose(intensity_of(found.action[:, 1]), torch.tensor(0.55))
    rewards = torch.stack([step.reward for step in planner.steps])  # (W, B)
    ended = torch.stack([step.terminated for step in planner.steps])
    assert 0 < int(ended.any(dim=0).sum()) < COURSES  # some recover, some do not
    last = torch.where(ended.any(dim=0), ended.int().argmax(dim=0), len(rewards) - 1)
    assert len(found.value) == len(found.observation) == int((last + 1).sum())  # nothing after recovery
    first = [sum(GAMMA**w * float(rewards[w, b]) for w in range(int(last[b]) + 1)) for b in range(COURSES)]
    assert found.value[:COURSES].tolist() == pytest.approx(first, abs=1e-4)


def test_weeks_lived_at_random_are_still_answered_by_the_planner() -> None:
    planner, found = shown(0.5)
    assert (found.action[:, 0] == 2).all()
    treatment = torch.stack([action[0] for action in planner.lived])
    intensity = torch.stack([action[1] for action in planner.lived])
    assert (treatment != 2).float().mean().item() == pytest.approx(0.5 * 4 / 5, abs=0.06)
    assert (intensity[treatment == CONTROL] == 0).all() and intensity[treatment != CONTROL].min() >= 0.1
    assert torch.equal(shown(0.5)[1].value, found.value)


def test_raw_intensities_are_the_inverse_of_doses() -> None:
    dose = torch.tensor([0.2, 0.55, 0.9])
    assert torch.allclose(intensity_of(raw_intensity(dose)), dose)
    assert 0 < raw_intensity(torch.tensor(0.0)) < raw_intensity(torch.tensor(1.0)) < 1


def bandit_answers(n: int = 2000) -> Demonstrations:
    """What suits each context, and a value that is linear in it."""
    observation = torch.randn(n, 2, generator=torch_generator(0, "contexts"))
    treatment = torch.where(observation[:, 0] > 0, 3.0, 1.0)
    dose = torch.where(observation[:, 0] > 0, BEST_DOSE[3], BEST_DOSE[1])
    return Demonstrations(observation, torch.stack([treatment, dose], dim=1), 2 * observation[:, 0])


def test_the_agent_answers_as_it_was_shown_and_values_what_followed() -> None:
    with isolated_random_state():
        policy = make_ppo(Bandit(256), SMALL, 0, NAMES).policy
    assert isinstance(policy, DualHeadPolicy)
    answers = bandit_answers()
    imitate(policy, answers, replace(SMALL.imitation, steps=400, batch=256), torch_generator(1, "imitation"))
    with torch.no_grad():
        action, value, _ = policy.forward(answers.observation, deterministic=True)
    assert (action[:, 0] == answers.action[:, 0]).float().mean() > 0.97
    assert (action[:, 1] - answers.action[:, 1]).abs().mean() < 0.1
    assert (value[:, 0] - answers.value).square().mean() < 0.1 * answers.value.var()


def test_a_demonstration_that_is_no_number_stops_at_the_step() -> None:
    with isolated_random_state():
        policy = make_ppo(Bandit(256), SMALL, 0, NAMES).policy
    assert isinstance(policy, DualHeadPolicy)
    spoilt = replace(bandit_answers(), value=torch.full((2000,), torch.nan))
    with pytest.raises(NumericalError, match=r"policy, imitation step 0: .*lower policy\.imitation\.learning_rate"):
        imitate(policy, spoilt, SMALL.imitation, torch_generator(1, "imitation"))


def test_a_training_that_imitates_starts_ahead_repeats_and_resumes_to_the_bit() -> None:
    settings = replace(SMALL, steps=3072, leg_rollouts=1, imitation=replace(SMALL.imitation, steps=100, batch=256))
    checkpoints: list[Artifact] = []
    whole, again = (
        train_policy(
            Bandit(256), settings, 0, NullTracker(), NAMES,
            demonstrations=bandit_answers(), on_checkpoint=checkpoints.append,
        )
        for _ in range(2)
    )  # fmt: skip
    rest = train_policy(Bandit(256, seed=9), settings, 0, NullTracker(), NAMES, resume=checkpoints[0])
    for other in (again, rest):
        for a, b in zip(whole.agent.actor.parameters(), other.agent.actor.parameters(), strict=True):
            assert torch.equal(a, b)
    alone = train_policy(Bandit(256), settings, 0, NullTracker(), NAMES)
    assert whole.returns[0] > alone.returns[0] + 0.2
