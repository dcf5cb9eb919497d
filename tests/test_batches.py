"""A patient's course is the same to the bit in any batch, and what was handed out is never changed afterwards."""

import pytest
import torch
from helpers_envs import env_settings, people, trial_settings

from core.protocols import RiskModel
from envs.severity import SeverityIndex
from envs.simulation import Simulation, Step
from envs.trial import Trial
from predictor.dual_lstm import build

PEOPLE = people(300)
SHAPE = {"width": 8, "hidden": 12, "layers": 1, "dropout": 0.2, "steps": 4, "link": 8, "concepts": 3, "flags": False}
MANY, WEEKS = 100, 26


def risk_models() -> dict[str, RiskModel]:
    network = build(PEOPLE.encoder, PEOPLE.scaler, PEOPLE.signals, 0, **SHAPE).eval()
    return {"severity index": SeverityIndex(PEOPLE.signals, PEOPLE.scaler), "dual LSTM": network}


def course(risk: RiskModel, num_envs: int, first: int) -> tuple[Simulation, list[torch.Tensor], list[Step]]:
    """Observations (first ones and those after every step) and steps of environments ``first`` and on, all in their
    own actions, with a new episode where one ended."""
    settings = env_settings()
    simulation = Simulation(PEOPLE, Trial(PEOPLE, trial_settings(), 0), risk, settings, num_envs, 3, first)
    draws = torch.Generator().manual_seed(0)
    treatment = torch.randint(5, (WEEKS, MANY), generator=draws)[:, first : first + num_envs]
    intensity = (0.1 + 0.9 * torch.rand(WEEKS, MANY, generator=draws))[:, first : first + num_envs]
    seen, steps = [simulation.reset()], []
    for week in range(WEEKS):
        steps.append(simulation.step(treatment[week], intensity[week]))
        seen.append(simulation.reset(which=steps[-1].terminated | steps[-1].truncated))
    return simulation, seen, steps


@pytest.mark.parametrize("name", ["severity index", "dual LSTM"])
def test_a_course_is_the_same_to_the_bit_in_any_batch(name: str) -> None:
    with torch.no_grad():
        risk = risk_models()[name]
        _, whole, steps = course(risk, MANY, 0)
        assert sum(int((step.terminated | step.truncated).sum()) for step in steps) >= MANY * (WEEKS // 12)
        for num_envs, first in ((1, 0), (1, 77), (3, 5), (40, 17), (64, 36)):
            _, part, some = course(risk, num_envs, first)
            here = slice(first, first + num_envs)
            for week in range(WEEKS):
                assert torch.equal(whole[week][here], part[week])
                assert torch.equal(steps[week].reward[here], some[week].reward)
                for key, value in some[week].info.items():
                    assert torch.equal(steps[week].info[key][here], value), key


def test_what_was_handed_out_stays_as_it_was() -> None:
    simulation, seen, steps = course(risk_models()["severity index"], 20, 0)
    held = [*seen, *(step.observation for step in steps), *(v for step in steps for v in step.info.values())]
    held += [simulation.days, simulation.risk, simulation.rows, simulation.week]
    before = [tensor.clone() for tensor in held]
    simulation.reset(which=torch.arange(20) % 2 == 0)
    simulation.step(torch.full((20,), 2), torch.full((20,), 0.7))
    simulation.reset()
    assert all(torch.equal(now, then) for now, then in zip(held, before, strict=True))


@pytest.mark.parametrize("flags", [True, False])
@torch.no_grad()
def test_fast_scores_are_those_of_the_network_and_follow_its_weights(flags: bool) -> None:
    model = build(PEOPLE.encoder, PEOPLE.scaler, PEOPLE.signals, 0, **{**SHAPE, "flags": flags}).eval()
    everything = torch.ones_like(PEOPLE.week, dtype=torch.bool)  # a mask takes the general path
    for seed in range(3):
        draws = torch.Generator().manual_seed(seed)
        for name, value in model.state_dict().items():
            noise = torch.randn(value.shape, generator=draws)
            value.copy_(noise.abs() + 0.5 if name.endswith(("scale", "temperature")) else 0.5 * noise)
        exact = model.probabilities(PEOPLE.features, PEOPLE.week, everything)
        fast = model.probabilities(PEOPLE.features, PEOPLE.week)
        assert exact.std(dim=0).min() > 0.002  # it does tell persons apart
        torch.testing.assert_close(fast, exact, atol=5e-6, rtol=0)
