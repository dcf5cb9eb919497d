"""The dual head and its training: the likelihood is exact, masks hold, PPO learns a problem with a known answer."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
import yaml
from gymnasium import spaces
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import VecEnv
from torch.distributions import Beta, Categorical
from torch.nn.functional import softplus

from core.artifact import Artifact
from core.errors import ArtifactError, ConfigError
from core.protocols import NullTracker
from core.random import torch_generator
from intervention.policy import (
    EDGE,
    OUTPUTS,
    Contraindication,
    DualHeadAgent,
    DualHeadDistribution,
    DualHeadPolicy,
    Rule,
    intensity_of,
    resolve,
)
from intervention.training import PolicySettings, isolated_random_state, make_ppo, of_privileged, train_policy

CONF = Path(__file__).parents[1] / "conf" / "policy.yaml"
NAMES = ("context", "noise")
BEST_DOSE = {1: 0.2, 3: 0.8}  # by treatment: the app suits a negative context, exercise a positive one


def load_settings(**changes: Any) -> PolicySettings:
    values = yaml.safe_load(CONF.read_text())["policy"]
    return pydantic.TypeAdapter(PolicySettings).validate_python({**values, **changes})


SMALL = load_settings(
    steps=20_480, environments=256, rollout_weeks=4, batch_size=256, hidden=(16,), learning_rate=5e-3, epochs=8
)


class Bandit(VecEnv):
    """Episodes of one step. Reward 1 for the treatment that suits the sign of the context, less the squared dose error."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        low, high = np.array([0, 0], np.float32), np.array([4, 1], np.float32)
        self.render_mode = None
        super().__init__(num_envs, spaces.Box(-3, 3, (len(NAMES),), np.float32), spaces.Box(low, high))
        self.rng = np.random.default_rng(seed)
        self.actions: list[np.ndarray] = []

    def seed(self, seed: int | None = None) -> list[int | None]:
        self.rng = np.random.default_rng(seed)
        return [seed] * self.num_envs

    def reset(self) -> np.ndarray:
        self.observation = self.rng.uniform(-1, 1, (self.num_envs, len(NAMES))).astype(np.float32)
        return self.observation

    def step_async(self, actions: np.ndarray) -> None:
        self.actions.append(actions.copy())

    def step_wait(self) -> Any:
        treatment, dose = self.actions[-1][:, 0].astype(int), 0.1 + 0.9 * self.actions[-1][:, 1]
        right = np.where(self.observation[:, 0] < 0, 1, 3)
        target = np.vectorize(BEST_DOSE.get)(right)
        reward = np.where(treatment == right, 1 - 4 * (dose - target) ** 2, 0).astype(np.float32)
        infos = [
            {"terminal_observation": row, "TimeLimit.truncated": True, "episode": {"r": float(r), "l": 1, "t": 0.0}}
            for row, r in zip(self.observation, reward, strict=True)
        ]
        return self.reset(), reward, np.ones(self.num_envs, bool), infos

    def close(self) -> None:
        pass

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [getattr(self, method_name)(*args, **kwargs)] * self.num_envs


def random_outputs(batch: int, seed: int = 0, scale: float = 1.5) -> torch.Tensor:
    return scale * torch.randn(batch, OUTPUTS, generator=torch_generator(seed, "test"))


def seeded_sample(distribution: DualHeadDistribution, seed: int = 0) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return distribution.sample()


def log_prob_by_hand(outputs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """What torch.distributions says, row by row."""
    rows = []
    for output, (treatment, u) in zip(outputs, actions, strict=True):
        t = int(treatment)
        total = Categorical(logits=output[:5]).log_prob(torch.tensor(t))
        if t > 0:
            alpha, beta = 1 + softplus(output[4 + t]), 1 + softplus(output[8 + t])
            total = total + Beta(alpha, beta).log_prob(u)
        rows.append(total)
    return torch.stack(rows)


def test_log_prob_is_that_of_torch_distributions() -> None:
    outputs = random_outputs(200)
    distribution = DualHeadDistribution().proba_distribution(outputs)
    actions = seeded_sample(distribution)
    assert set(actions[:, 0].long().tolist()) == {0, 1, 2, 3, 4}
    torch.testing.assert_close(distribution.log_prob(actions), log_prob_by_hand(outputs, actions), rtol=1e-4, atol=1e-5)


def test_planted_scoring_bugs_are_seen_by_the_hand_check() -> None:
    """Each bug this design is about moves the log-probability far beyond the tolerance of the check above."""
    outputs = random_outputs(200)
    distribution = DualHeadDistribution().proba_distribution(outputs)
    actions, other = seeded_sample(distribution), seeded_sample(distribution, seed=1)
    truth = log_prob_by_hand(outputs, actions)
    active, control = actions[:, 0] > 0, actions[:, 0] == 0

    another_sample = distribution.log_prob(torch.stack([actions[:, 0], other[:, 1]], dim=1))
    clamped_dose = distribution.log_prob(torch.stack([actions[:, 0], intensity_of(actions[:, 1])], dim=1))
    as_if_treated = actions.clone()
    as_if_treated[control, 0] = 1
    dose_of_control = distribution.log_prob(as_if_treated) - distribution.log_p[:, 1] + distribution.log_p[:, 0]

    assert (another_sample - truth)[active].abs().mean() > 0.1
    assert (clamped_dose - truth)[active].abs().mean() > 0.05
    assert (dose_of_control - truth)[control].abs().mean() > 0.1


def test_the_density_integrates_to_one() -> None:
    outputs = random_outputs(4)
    distribution = DualHeadDistribution().proba_distribution(outputs)
    u = (torch.arange(4000) + 0.5) / 4000
    total = distribution.log_p[:, 0].exp()
    for treatment in range(1, 5):
        for row in range(4):
            one = DualHeadDistribution().proba_distribution(outputs[row].expand(len(u), -1))
            actions = torch.stack([torch.full_like(u, treatment), u], dim=1)
            total[row] += one.log_prob(actions).exp().mean()
    torch.testing.assert_close(total, torch.ones(4), rtol=0, atol=2e-3)


def test_entropy_is_the_mean_of_minus_log_prob() -> None:
    outputs = random_outputs(3, seed=4)
    exact = DualHeadDistribution().proba_distribution(outputs).entropy()
    many = DualHeadDistribution().proba_distribution(outputs.repeat_interleave(100_000, dim=0))
    sampled = -many.log_prob(seeded_sample(many)).reshape(3, -1)
    error = sampled.std(dim=1) / sampled.shape[1] ** 0.5
    assert ((sampled.mean(dim=1) - exact).abs() < 4 * error).all()


@pytest.mark.parametrize("coefficients", [(0.5, 0.2), (0.5, 0.0), (0.0, 0.2)])
def test_the_entropy_of_each_head_has_its_own_weight(coefficients: tuple[float, float]) -> None:
    treatment, dose = coefficients
    weighed = replace(SMALL, treatment_entropy=treatment, intensity_entropy=dose)
    with isolated_random_state():
        policy = make_ppo(Bandit(256), weighed, 0, NAMES).policy
    assert isinstance(policy, DualHeadPolicy)
    policy.action_net.weight.data.mul_(100)
    observation = torch.randn(50, 2, generator=torch_generator(0, "x"))
    distribution = policy.get_distribution(observation)
    p = distribution.log_p.exp()
    by_hand = treatment * Categorical(probs=p).entropy()
    by_hand = by_hand + dose * (p[:, 1:] * Beta(distribution.alpha, distribution.beta).entropy()).sum(dim=1)
    entropy = policy.evaluate_actions(observation, distribution.mode())[2]
    torch.testing.assert_close(entropy, by_hand, rtol=1e-4, atol=1e-5)


@given(st.floats(0, 1), st.integers(0, 100))
@hypothesis_settings(max_examples=25, deadline=None)
def test_the_dose_of_control_changes_nothing(u: float, seed: int) -> None:
    distribution = DualHeadDistribution().proba_distribution(random_outputs(1, seed))
    assert torch.equal(distribution.log_prob(torch.tensor([[0.0, u]])), distribution.log_p[:, 0])


def test_the_gradient_of_control_reaches_no_dose() -> None:
    outputs = random_outputs(8).requires_grad_()
    distribution = DualHeadDistribution().proba_distribution(outputs)
    distribution.log_prob(torch.tensor([[0.0, 0.3]]).expand(8, 2)).sum().backward()
    assert outputs.grad is not None
    assert (outputs.grad[:, 5:] == 0).all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 300.0])
def test_extreme_parameters_and_bounds_stay_finite(scale: float) -> None:
    outputs = random_outputs(2000, scale=scale).requires_grad_()
    distribution = DualHeadDistribution().proba_distribution(outputs)
    actions = seeded_sample(distribution)
    assert ((actions[:, 1] >= EDGE) & (actions[:, 1] <= 1 - EDGE)).all()
    edges = torch.tensor([[1.0, 0.0], [4.0, 1.0]]).repeat(1000, 1)
    total = distribution.log_prob(actions) + distribution.log_prob(edges) + distribution.entropy()
    total.sum().backward()
    assert torch.isfinite(total).all()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_mode_is_the_likeliest_treatment_at_the_mean_dose() -> None:
    outputs = random_outputs(50)
    distribution = DualHeadDistribution().proba_distribution(outputs)
    mode = distribution.mode()
    for output, (treatment, u) in zip(outputs, mode, strict=True):
        t = int(output[:5].argmax())
        assert t == int(treatment)
        if t:
            torch.testing.assert_close(u, Beta(1 + softplus(output[4 + t]), 1 + softplus(output[8 + t])).mean)


def test_forbidden_treatments_are_never_chosen_and_stay_finite() -> None:
    outputs = random_outputs(5000).requires_grad_()
    forbidden = torch.rand(5000, 5, generator=torch_generator(1, "mask")) < 0.5
    forbidden[:, 0] = False
    distribution = DualHeadDistribution().proba_distribution(outputs, forbidden)
    for actions in (seeded_sample(distribution), distribution.mode()):
        assert not forbidden.gather(1, actions[:, :1].long()).any()
    distribution.entropy().sum().backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    only_control = DualHeadDistribution().proba_distribution(outputs, torch.tensor([[False, True, True, True, True]]))
    assert (only_control.entropy() == 0).all()


def test_contraindications_hold_through_training_and_after() -> None:
    rules = (Contraindication("exercise", "context", 0.0), Contraindication("medication", None, 0.0))
    env = Bandit(SMALL.environments)
    trained = train_policy(env, replace(SMALL, steps=5120, contraindications=rules), 0, NullTracker(), NAMES)
    actions = np.concatenate(env.actions)[:, 0]
    assert not (actions == 4).any()
    assert {0, 1, 2} <= set(actions.astype(int))
    observation = torch.rand(500, 2, generator=torch_generator(0, "observations")) * 2 - 1
    loaded = DualHeadAgent.from_artifact(trained.agent.to_artifact())
    for agent in (trained.agent, loaded):
        treatment, _ = agent.act(observation)
        assert not (treatment == 4).any()
        assert not ((treatment == 3) & (observation[:, 0] > 0)).any()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Contraindication("control", None, 0), "'control' cannot be forbidden"),
        (Contraindication("yoga", None, 0), "'yoga' cannot be forbidden"),
        (Contraindication("cbt", "bmi", 0), "'bmi' is no observation; expected one of context, noise"),
    ],
)
def test_impossible_contraindications_are_refused(rule: Contraindication, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve((rule,), NAMES)
    assert resolve((Contraindication("cbt", "noise", 0.5),), NAMES) == (Rule(2, 1, 0.5),)


def first_ratios(env: VecEnv) -> torch.Tensor:
    """What the first minibatches of the first update would see, by an actor far from uniform."""
    with isolated_random_state():
        model = make_ppo(env, SMALL, 0, NAMES)
        policy = model.policy
        assert isinstance(policy, DualHeadPolicy)
        policy.action_net.weight.data.mul_(100)
        _, callback = model._setup_learn(1024)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 4)
        batches = list(model.rollout_buffer.get(256))
        scored = [policy.evaluate_actions(batch.observations, batch.actions)[1] for batch in batches]
    return torch.cat([new - batch.old_log_prob for new, batch in zip(scored, batches, strict=True)]).exp()


def test_ratios_are_one_before_the_first_update() -> None:
    torch.testing.assert_close(first_ratios(Bandit(256)), torch.ones(1024), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bug", ["another sample is scored", "the dose is kept in the place of u", "u is clamped"])
def test_planted_rollout_bugs_are_seen_in_the_first_ratios(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: DualHeadPolicy, obs: torch.Tensor, deterministic: bool = False) -> Any:
        distribution = self.get_distribution(obs)
        actions, other = distribution.sample(), distribution.sample()
        kept = {
            "another sample is scored": other,
            "the dose is kept in the place of u": torch.stack([actions[:, 0], intensity_of(actions[:, 1])], dim=1),
            "u is clamped": torch.stack([actions[:, 0], actions[:, 1].clamp(0.3, 0.7)], dim=1),
        }[bug]
        return kept, self.predict_values(obs), distribution.log_prob(actions)

    monkeypatch.setattr(DualHeadPolicy, "forward", forward)
    assert (first_ratios(Bandit(256)) - 1).abs().mean() > 0.02


@pytest.mark.parametrize(
    ("bootstrap", "kind", "added"),
    [
        (True, "horizon", True),  # treated as terminal, the weeks to come would be worth nothing
        (False, "horizon", False),
        (True, "remission", False),
        (False, "remission", False),
        (False, "spread", True),  # what follows a week beyond what the models know is still worth something
    ],
)
def test_only_what_ends_no_course_is_bootstrapped(bootstrap: bool, kind: str, added: bool) -> None:
    class Ends(Bandit):
        def step_wait(self) -> Any:
            observation, reward, done, infos = super().step_wait()
            for info in infos:
                info |= {"TimeLimit.truncated": kind != "remission", "spread_exceeded": kind == "spread"}
            self.paid, self.last = reward.copy(), infos
            return observation, reward, done, infos

    env, settings = Ends(256), replace(SMALL, bootstrap_horizon=bootstrap, rollout_weeks=1, gamma=0.9)
    with isolated_random_state():
        model = make_ppo(env, settings, 0, NAMES)
        _, callback = model._setup_learn(256)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 1)
        ends = torch.from_numpy(np.stack([info["terminal_observation"] for info in env.last]))
        values = model.policy.predict_values(ends)[:, 0].detach().numpy()
    expected = env.paid + (0.9 * values if added else 0.0)
    assert np.abs(values).mean() > 0.05
    np.testing.assert_allclose(model.rollout_buffer.rewards[0], expected, atol=1e-5)


def test_ppo_finds_the_treatment_and_the_dose() -> None:
    trained = train_policy(Bandit(256), SMALL, 0, NullTracker(), NAMES)
    context = torch.linspace(-1, 1, 201)
    context = context[context.abs() > 0.1]
    treatment, dose = trained.agent.act(torch.stack([context, torch.zeros_like(context)], dim=1))
    right = torch.where(context < 0, 1, 3)
    assert (treatment == right).float().mean() > 0.97
    target = torch.where(context < 0, BEST_DOSE[1], BEST_DOSE[3])
    assert (dose - target)[treatment == right].abs().mean() < 0.08
    assert trained.returns[-1] > 0.8 > trained.returns[0]


def test_training_twice_gives_the_same_policy_and_leaves_the_generators_alone() -> None:
    short = replace(SMALL, steps=3072)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
    first, second = (train_policy(Bandit(256), short, 3, NullTracker(), NAMES).agent for _ in range(2))
    other = train_policy(Bandit(256), short, 4, NullTracker(), NAMES).agent
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    pairs = zip(first.actor.parameters(), second.actor.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.actor[1].weight, other.actor[1].weight)  # type: ignore[arg-type]


def test_a_resumed_training_ends_with_the_weights_of_the_uninterrupted_one() -> None:
    settings = replace(SMALL, steps=6144, leg_rollouts=2)  # six rollouts, three legs
    checkpoints: list[Artifact] = []
    whole = train_policy(Bandit(256), settings, 0, NullTracker(), NAMES, on_checkpoint=checkpoints.append)
    assert [checkpoint.meta["steps"] for checkpoint in checkpoints] == [2048, 4096]
    for checkpoint in checkpoints:
        rest = train_policy(Bandit(256, seed=9), settings, 0, NullTracker(), NAMES, resume=checkpoint)
        assert rest.steps == 6144 - checkpoint.meta["steps"]
        assert rest.returns == whole.returns
        for a, b in zip(whole.agent.actor.parameters(), rest.agent.actor.parameters(), strict=True):
            assert torch.equal(a, b)
    without_optimizer = Artifact(
        {name: tensor for name, tensor in checkpoints[0].tensors.items() if name.startswith("policy.")},
        checkpoints[0].meta,
    )
    other = train_policy(Bandit(256), settings, 0, NullTracker(), NAMES, resume=without_optimizer).agent
    assert not torch.equal(whole.agent.actor[1].weight, other.actor[1].weight)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="another network"):
        train_policy(Bandit(256), replace(settings, hidden=(8,)), 0, NullTracker(), NAMES, resume=checkpoints[0])


def test_artifact_round_trip_is_exact_and_matches_the_trained_policy() -> None:
    with isolated_random_state():
        model = make_ppo(Bandit(256), SMALL, 0, NAMES)
    assert isinstance(model.policy, DualHeadPolicy)
    agent = DualHeadAgent.from_policy(model.policy, SMALL.hidden, SMALL.activation, NAMES)
    loaded = DualHeadAgent.from_artifact(agent.to_artifact())
    observation = torch.randn(100, 2, generator=torch_generator(0, "x"))
    expected, _, _ = model.policy.forward(observation, deterministic=True)
    for one in (agent, loaded):
        treatment, dose = one.act(observation)
        assert torch.equal(treatment, expected[:, 0].long())
        assert torch.equal(dose, intensity_of(expected[:, 1]))


def test_an_altered_artifact_is_refused() -> None:
    with isolated_random_state():
        policy = make_ppo(Bandit(256), SMALL, 0, NAMES).policy
    assert isinstance(policy, DualHeadPolicy)
    artifact = DualHeadAgent.from_policy(policy, SMALL.hidden, SMALL.activation, NAMES).to_artifact()
    with pytest.raises(ArtifactError, match="not the one its description names"):
        DualHeadAgent.from_artifact(replace(artifact, meta={**artifact.meta, "hidden": [8]}))
    with pytest.raises(ArtifactError, match="trained on treatments control, yoga"):
        DualHeadAgent.from_artifact(replace(artifact, meta={**artifact.meta, "treatments": ["control", "yoga"]}))


def test_the_privileged_reference_learns_as_long_and_as_often_as_it_is_told() -> None:
    """By settings of its own where it has them: it begins from nothing, and a weak reference would flatter the agent."""
    settings = load_settings(
        steps=10, privileged_steps=30, epochs=1, privileged_epochs=5, privileged_learning_rate=0.02
    )
    found = of_privileged(settings)
    assert (found.steps, found.epochs, found.learning_rate) == (30, 5, 0.02)
    assert replace(found, steps=10, epochs=1, learning_rate=settings.learning_rate) == settings


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy\.environments is 256, but the environment holds 8"):
        train_policy(Bandit(8), SMALL, 0, NullTracker(), NAMES)
    with pytest.raises(ConfigError, match=r"policy\.batch_size is 300, expected a divisor"):
        train_policy(Bandit(256), replace(SMALL, batch_size=300), 0, NullTracker(), NAMES)


def test_tags_are_those_of_stable_baselines3() -> None:
    tags: set[str] = set()

    class Recorder(NullTracker):
        def scalar(self, tag: str, value: float, step: int) -> None:
            tags.add(tag)

    train_policy(Bandit(256), replace(SMALL, steps=4096), 0, Recorder(), NAMES)
    assert {"rollout/ep_rew_mean", "train/approx_kl", "train/policy_gradient_loss", "train/value_loss"} <= tags
