"""Training the dual-head policy with stable-baselines3's PPO, as one call that leaves no global state behind."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor

from core.artifact import Artifact
from core.errors import ConfigError, NumericalError
from core.protocols import State, Tracker
from core.random import seeded_init, torch_generator
from core.settings import Count, Fraction, NonNegative, Positive
from core.treatments import TREATMENTS
from envs.observation import BOUND as LATENT_BOUND
from envs.sb3 import PatientVecEnv
from intervention.checkpoint import begin_leg, capture, restore
from intervention.imitation import Demonstrations, ImitationSettings, imitate
from intervention.policy import ACTIVATIONS, Contraindication, DualHeadAgent, DualHeadPolicy, resolve
from intervention.week_summary import WeekSummary


@dataclass(frozen=True)
class PolicySettings:
    steps: Count  # environment steps (patient-weeks) in all, rounded up to whole rollouts
    environments: Count  # patients treated side by side
    rollout_weeks: Count  # weeks each of them is treated between two updates
    batch_size: Annotated[int, Ge(2)]  # patient-weeks in a minibatch
    epochs: Count  # passes over a rollout
    learning_rate: Positive  # Adam's, at the start
    final_learning_rate: Fraction  # its share left at the end, approached linearly
    gamma: Fraction  # discount per week
    gae_lambda: Fraction  # generalised advantage estimation
    clip_range: Positive  # PPO's
    target_kl: Positive  # an update stops beyond 1.5 times this
    value_coefficient: NonNegative  # weight of the value loss
    max_gradient_norm: Positive  # gradients are clipped to this norm
    treatment_entropy: NonNegative  # bonus per nat of the treatment head
    intensity_entropy: NonNegative  # bonus per nat of the dose head
    hidden: tuple[Count, ...]  # widths of the actor's and the critic's layers
    activation: Literal["tanh", "relu"]
    days: Literal["summary", "raw"]  # how the networks read a week: its mean, change and spread, or its days
    bootstrap_horizon: bool  # value the weeks after the last one (True), or let the course end there (False)
    contraindications: tuple[Contraindication, ...]  # what must never be given, and to whom
    world: Literal["twin", "trial"]  # where the policy learns
    leg_rollouts: Count  # rollouts between two checkpoints, at each of which courses start afresh
    seeds: Count  # how many policies are trained, each from its own seed
    caution: NonNegative  # adverse events weigh so many times `env.adverse_cost` while the agent learns
    imitation: ImitationSettings  # what the agent learns from before it learns for itself
    privileged: bool  # also train, in Trial, a policy that sees the latent response: the upper reference
    privileged_steps: Count  # of that one, which learns from nothing
    privileged_learning_rate: Positive  # its Adam's, at the start
    privileged_epochs: Count  # its passes over a rollout


def of_privileged(settings: PolicySettings) -> PolicySettings:
    """What the privileged reference is trained with, by the same algorithm: nothing is shown to it."""
    return replace(
        settings,
        steps=settings.privileged_steps,
        learning_rate=settings.privileged_learning_rate,
        epochs=settings.privileged_epochs,
    )


@dataclass(frozen=True)
class TrainedPolicy:
    """What training leaves: the agent, and what it took."""

    agent: DualHeadAgent
    steps: int  # of this call: a resumed training does the rest
    seconds: float
    returns: tuple[float, ...]  # mean episode return of each rollout's latest 100 episodes, stochastic policy

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.seconds


def train_policy(
    vec_env: VecEnv,
    settings: PolicySettings,
    seed: int,
    tracker: Tracker,
    names: tuple[str, ...],
    tensorboard_dir: Path | None = None,
    callbacks: Sequence[BaseCallback] = (),
    resume: Artifact | None = None,
    demonstrations: Demonstrations | None = None,
    on_checkpoint: Callable[[Artifact], None] | None = None,
) -> TrainedPolicy:
    """Learn a policy in ``vec_env`` (action space Box ``[0, 0]`` to ``[4, 1]``); ``names`` name its observations.

    stable-baselines3's own tags go to ``tensorboard_dir``, or to the tracker where there is none. ``on_checkpoint``
    receives where training stands after every leg; a training that is given this as ``resume``, with the same
    settings and seed, ends with the very weights of the uninterrupted one. A training from the start imitates the
    ``demonstrations`` first.

    Raises:
        ConfigError: the sizes do not fit together, or a contraindication names what does not exist.
        ArtifactError: the checkpoint is of another network.
        NumericalError: a loss became non-finite.
    """
    _check_sizes(vec_env, settings, names)
    with isolated_random_state():
        model = make_ppo(vec_env, settings, seed, names)
        writer = _TrackerWriter(tracker) if tensorboard_dir is None else TensorBoardOutputFormat(str(tensorboard_dir))
        model.set_logger(Logger(None, [writer]))
        legs = _Legs(settings, seed, tracker, on_checkpoint)
        if resume is not None:
            legs.returns = restore(model, resume)
        elif demonstrations is not None:
            assert isinstance(model.policy, DualHeadPolicy)
            generator = torch_generator(seed, "policy", "imitation")
            imitate(model.policy, demonstrations, settings.imitation, generator)
        start, before = time.perf_counter(), model.num_timesteps
        model.learn(
            max(settings.steps - before, 0), CallbackList([legs, *callbacks]), reset_num_timesteps=resume is None
        )
        seconds = time.perf_counter() - start
        require_finite(model)
        writer.close()
    assert isinstance(model.policy, DualHeadPolicy)
    agent = DualHeadAgent.from_policy(model.policy, settings.hidden, settings.activation, names)
    return TrainedPolicy(agent, model.num_timesteps - before, seconds, tuple(legs.returns))


def make_ppo(vec_env: VecEnv, settings: PolicySettings, seed: int, names: tuple[str, ...]) -> PPO:
    """The algorithm, ready to learn. It seeds Python's, numpy's and torch's global generators: call it isolated."""
    if not settings.bootstrap_horizon:
        vec_env = FiniteHorizon(vec_env)
    reading: dict[str, Any] = {}
    if settings.days == "summary":
        reading = {"features_extractor_class": WeekSummary, "features_extractor_kwargs": {"names": names}}
    return PPO(
        DualHeadPolicy,
        vec_env,
        n_steps=settings.rollout_weeks,
        batch_size=settings.batch_size,
        n_epochs=settings.epochs,
        learning_rate=_linear(settings.learning_rate, settings.final_learning_rate),
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        target_kl=settings.target_kl,
        vf_coef=settings.value_coefficient,
        max_grad_norm=settings.max_gradient_norm,
        ent_coef=1.0,  # the policy weighs the entropy of each head itself
        policy_kwargs={
            "net_arch": {"pi": list(settings.hidden), "vf": list(settings.hidden)},
            "activation_fn": ACTIVATIONS[settings.activation],
            "entropy_coefficients": (settings.treatment_entropy, settings.intensity_entropy),
            "rules": resolve(settings.contraindications, names),
            **reading,
        },
        seed=seed,
        device="cpu",  # the networks are small: a GPU only adds transfers
    )


class FiniteHorizon(VecEnvWrapper):
    """The last week of a course ends the return instead of being bootstrapped.

    The week is part of the observation and nothing is earned after the horizon, so the value there is 0 by
    definition; bootstrapping would read it from a network that never sees that week among its targets.
    """

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observation, reward, done, infos = self.venv.step_wait()
        for row in np.flatnonzero(done):
            # A week beyond what the models know is no end: what follows it is still worth something.
            infos[row]["TimeLimit.truncated"] &= infos[row].get("spread_exceeded", False)
        return observation, reward, done, infos


class PrivilegedVecEnv(VecEnvWrapper):
    """Trial's patients with their latent response in view: what is attainable by who knows how each would respond.

    ``venv`` must hold a ``simulation`` of Trial; ``names`` are the observations it appends.
    """

    names = tuple(f"response.{name}" for name in TREATMENTS[1:])

    def __init__(self, venv: PatientVecEnv) -> None:
        self.simulation = venv.simulation
        (size,) = venv.observation_space.shape or (0,)
        space = spaces.Box(-LATENT_BOUND, LATENT_BOUND, (size + len(self.names),), np.float32)
        super().__init__(venv, observation_space=space)

    def reset(self) -> np.ndarray:
        return self._with_latents(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        before = latents(self.simulation.state).numpy(force=True)  # of those whose course may end now
        observation, reward, done, infos = self.venv.step_wait()
        for row in np.flatnonzero(done):
            infos[row]["terminal_observation"] = np.append(infos[row]["terminal_observation"], before[row])
        return self._with_latents(observation), reward, done, infos

    def _with_latents(self, observation: Any) -> np.ndarray:
        return np.concatenate([observation, latents(self.simulation.state).numpy(force=True)], axis=1)


def latents(state: State) -> Tensor:
    """The log of Trial's latent response, ``[B, 4]``.

    Raises:
        ConfigError: these dynamics have none (only Trial knows it).
    """
    if "response" not in state:
        raise ConfigError("a privileged policy needs Trial's latent response, which this environment lacks; use Trial")
    return state["response"].log().clamp(-LATENT_BOUND, LATENT_BOUND)


@contextmanager
def isolated_random_state() -> Iterator[None]:
    """Whatever happens inside, Python's, numpy's and torch's global generators are afterwards as before."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - stable-baselines3 draws from it
    try:
        with seeded_init(0):  # any seed: stable-baselines3 sets its own
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


class _Legs(BaseCallback):
    """Begins the legs, hands out checkpoints between them, and ticks the tracker's bar once per rollout."""

    def __init__(
        self, settings: PolicySettings, seed: int, tracker: Tracker, on_checkpoint: Callable[[Artifact], None] | None
    ) -> None:
        super().__init__()
        self.settings, self.seed, self.tracker, self.on_checkpoint = settings, seed, tracker, on_checkpoint
        self.returns: list[float] = []

    def _on_training_start(self) -> None:
        rollouts = -(-self.settings.steps // (self.settings.environments * self.settings.rollout_weeks))
        left = range(len(self.returns), rollouts)
        self.ticks = iter(self.tracker.track(left, "policy", total=len(left)))

    def _on_rollout_start(self) -> None:
        next(self.ticks, None)
        assert isinstance(self.model, PPO)
        require_finite(self.model)
        leg, rest = divmod(len(self.returns), self.settings.leg_rollouts)
        if rest:
            return
        if leg and self.on_checkpoint is not None:
            self.on_checkpoint(capture(self.model, self.returns))
        begin_leg(self.model, self.seed, leg)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        finished = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        self.returns.append(float(np.mean(finished)) if finished else math.nan)

    def _on_training_end(self) -> None:
        next(self.ticks, None)


def require_finite(model: PPO) -> None:
    """Refuse a network that left the finite numbers."""
    if not all(bool(torch.isfinite(weight).all()) for weight in model.policy.parameters()):
        raise NumericalError(
            f"policy: a weight became non-finite by step {model.num_timesteps}; lower policy.learning_rate"
        )


class _TrackerWriter(KVWriter):
    """stable-baselines3's scalars, under their own tags, to a tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        for tag, value in key_values.items():
            if isinstance(value, (int, float, np.number)) and "tensorboard" not in (key_excluded[tag] or ()):
                self.tracker.scalar(tag, float(value), step)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _linear:
    """A schedule for stable-baselines3, which passes the share of training still to come (1 to 0)."""

    start: float
    final_share: float

    def __call__(self, remaining: float) -> float:
        return self.start * (self.final_share + (1 - self.final_share) * remaining)


def _check_sizes(vec_env: VecEnv, settings: PolicySettings, names: tuple[str, ...]) -> None:
    if vec_env.num_envs != settings.environments:
        raise ConfigError(
            f"policy.environments is {settings.environments}, but the environment holds {vec_env.num_envs}"
        )
    rollout = settings.environments * settings.rollout_weeks
    if rollout % settings.batch_size:
        raise ConfigError(
            f"policy.batch_size is {settings.batch_size}, expected a divisor of environments * rollout_weeks = {rollout}"
        )
    assert vec_env.observation_space.shape == (len(names),), "one name per observation"
