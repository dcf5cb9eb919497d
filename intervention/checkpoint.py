"""A training interrupted and taken up again, bit for bit.

Training goes in legs of some rollouts. A leg begins with generators and environments seeded from (seed, leg) and every
course at its first week, so that all a leg needs from those before it is the weights, the optimizer and the counters.
"""

import torch
from stable_baselines3 import PPO

from core.artifact import Artifact
from core.errors import ArtifactError
from core.random import numpy_generator

SEED_BITS = 31  # stable-baselines3 seeds numpy's legacy generator, which takes no more


def begin_leg(model: PPO, seed: int, leg: int) -> None:
    """Seed everything that the leg draws from and start its courses; the global generators are overwritten."""
    assert model.env is not None
    model.set_random_seed(int(numpy_generator(seed, "policy", str(leg)).integers(2**SEED_BITS)))
    model._last_obs = model.env.reset()  # type: ignore[assignment]
    model._last_episode_starts = torch.ones(model.n_envs, dtype=torch.bool).numpy()
    assert model.ep_info_buffer is not None
    model.ep_info_buffer.clear()


def capture(model: PPO, returns: list[float]) -> Artifact:
    """Where a training stands at the end of a leg."""
    tensors = {f"policy.{name}": tensor.detach().clone() for name, tensor in model.policy.state_dict().items()}
    for index, slots in model.policy.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.detach().clone() for name, tensor in slots.items()}
    return Artifact(tensors, {"steps": model.num_timesteps, "updates": model._n_updates, "returns": list(returns)})


def restore(model: PPO, artifact: Artifact) -> list[float]:
    """Put a new model where ``capture`` found the other; returns the returns so far.

    Raises:
        ArtifactError: the checkpoint is of another network.
    """
    weights, slots = {}, {}  # type: ignore[var-annotated]
    for name, tensor in artifact.tensors.items():
        part, _, rest = name.partition(".")
        if part == "policy":
            weights[rest] = tensor
        else:
            index, _, slot = rest.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor.clone()
    here = {name: tensor.shape for name, tensor in model.policy.state_dict().items()}
    if here != {name: tensor.shape for name, tensor in weights.items()}:
        raise ArtifactError("policy: the checkpoint is of another network; delete it and train from the start")
    model.policy.load_state_dict(weights)
    groups = model.policy.optimizer.state_dict()["param_groups"]
    model.policy.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    model.num_timesteps, model._n_updates = artifact.meta["steps"], artifact.meta["updates"]
    return list(artifact.meta["returns"])
