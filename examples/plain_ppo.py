"""PPO in one file of plain torch, on the native Dict action: which treatment (Categorical), how much of it (Beta).

    python examples/plain_ppo.py [--steps 100000] [--seed 0]

Needs ``gym.make_vec`` and nothing of this project but its ids. Prints it beside no treatment and chance.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from scoring import command_line, compare
from torch import Tensor, nn
from torch.distributions import Beta, Categorical

import envs  # noqa: F401 - registers the Mano/ ids

ENV = "Mano/Trial-v0"
ENVS, WEEKS, EPOCHS, MINIBATCHES = 64, 24, 5, 6  # a rollout is ENVS x WEEKS
GAMMA, LAMBDA, CLIP, ENTROPY, VALUE, RATE = 0.99, 0.95, 0.2, 0.005, 0.5, 7e-4


class Agent(nn.Module):
    """Scores for 5 treatments, and for each of them the two parameters of a Beta over its share of the dose range."""

    def __init__(self, size: int, treatments: int) -> None:
        super().__init__()
        self.treatments = treatments
        self.actor = nn.Sequential(
            nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3 * treatments)
        )
        self.critic = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        with torch.no_grad():
            self.actor[-1].weight.mul_(0.01)  # begins undecided

    def value(self, observation: Tensor) -> Tensor:
        return self.critic(observation)[:, 0]

    def heads(self, observation: Tensor) -> tuple[Categorical, Tensor, Tensor]:
        scores, a, b = self.actor(observation).split(self.treatments, dim=1)
        return Categorical(logits=scores), 1 + nn.functional.softplus(a), 1 + nn.functional.softplus(b)

    def judge(self, observation: Tensor, treatment: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy; where Control is chosen no dose is."""
        which, a, b = self.heads(observation)
        dose = Beta(*(x.gather(1, treatment[:, None])[:, 0] for x in (a, b)))
        given = (treatment > 0).float()
        return which.log_prob(treatment) + given * dose.log_prob(share), which.entropy() + given * dose.entropy()

    @torch.no_grad()
    def act(self, observation: Tensor, best: bool = False) -> tuple[Tensor, Tensor]:
        which, a, b = self.heads(observation)
        treatment = which.probs.argmax(dim=1) if best else which.sample()
        a, b = (x.gather(1, treatment[:, None])[:, 0] for x in (a, b))
        share = a / (a + b) if best else Beta(a, b).sample()
        return treatment, share.clamp(1e-5, 1 - 1e-5)


def as_action(treatment: Tensor, share: Tensor) -> dict[str, Any]:
    return {"treatment": treatment.numpy(), "intensity": (0.1 + 0.9 * share)[:, None].numpy()}


def advantages(reward: Tensor, value: Tensor, following: Tensor, done: Tensor) -> Tensor:
    """Generalised advantage estimation over ``[WEEKS, ENVS]``; ``following`` is the value of what a week led to."""
    result, running = torch.zeros_like(reward), torch.zeros(reward.shape[1])
    for week in reversed(range(len(reward))):
        surprise = reward[week] + GAMMA * following[week] - value[week]
        running = surprise + GAMMA * LAMBDA * (1 - done[week]) * running
        result[week] = running
    return result


def rollout(env: gym.vector.VectorEnv, agent: Agent, observation: np.ndarray) -> tuple[dict[str, Tensor], np.ndarray]:
    kept: dict[str, list[Tensor]] = {}
    for _ in range(WEEKS):
        seen = torch.from_numpy(observation)
        treatment, share = agent.act(seen)
        observation, reward, terminated, truncated, infos = env.step(as_action(treatment, share))
        done = terminated | truncated
        # A course cut short by the horizon is worth what its last state promises; one that ended well, nothing more.
        led_to = observation.copy()
        for place in np.flatnonzero(done):
            led_to[place] = infos["final_obs"][place]
        with torch.no_grad():
            value = agent.value(seen)
            following = agent.value(torch.from_numpy(led_to)) * torch.from_numpy(~terminated)
            logp = agent.judge(seen, treatment, share)[0]
        week = {
            "observation": seen,
            "treatment": treatment,
            "share": share,
            "logp": logp,
            "value": value,
            "following": following,
            "reward": torch.from_numpy(reward).float(),
            "done": torch.from_numpy(done).float(),
        }
        for name, tensor in week.items():
            kept.setdefault(name, []).append(tensor)
    return {name: torch.stack(tensors) for name, tensors in kept.items()}, observation


def update(agent: Agent, optimizer: torch.optim.Optimizer, data: dict[str, Tensor]) -> None:
    gained = advantages(data["reward"], data["value"], data["following"], data["done"])
    flat = {name: tensor.flatten(0, 1) for name, tensor in data.items()}
    flat |= {"advantage": gained.flatten(), "target": (gained + data["value"]).flatten()}
    for _ in range(EPOCHS):
        for rows in torch.randperm(ENVS * WEEKS).chunk(MINIBATCHES):
            part = {name: tensor[rows] for name, tensor in flat.items()}
            logp, entropy = agent.judge(part["observation"], part["treatment"], part["share"])
            ratio = (logp - part["logp"]).exp()
            advantage = (part["advantage"] - part["advantage"].mean()) / (part["advantage"].std() + 1e-8)
            gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()
            error = (agent.value(part["observation"]) - part["target"]).square().mean()
            loss = -gain + VALUE * error - ENTROPY * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def main(steps: int, seed: int) -> dict[str, dict[str, float]]:
    torch.manual_seed(seed)
    env = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(ENV, num_envs=ENVS))
    space = env.unwrapped.single_action_space
    agent = Agent(env.unwrapped.single_observation_space.shape[0], int(space["treatment"].n))
    optimizer = torch.optim.Adam(agent.parameters(), RATE)
    observation, _ = env.reset(seed=seed)
    rollouts = -(-steps // (ENVS * WEEKS))
    for index in range(rollouts):
        data, observation = rollout(env, agent, observation)
        update(agent, optimizer, data)
        if env.return_queue and (index + 1) % max(rollouts // 10, 1) == 0:
            print(
                f"week {(index + 1) * ENVS * WEEKS:>7,}  mean return of the last courses {np.mean(env.return_queue):5.2f}"
            )
    return compare(ENV, "plain PPO", lambda seen, begins: as_action(*agent.act(torch.from_numpy(seen), best=True)))


if __name__ == "__main__":
    command_line(main, __doc__, steps=100_000)
