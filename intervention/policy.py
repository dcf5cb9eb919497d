"""The dual head: which treatment, and how much of it.

    pi(t, u | o) = Categorical(t; logits(o)) * Beta(u; alpha_t(o), beta_t(o))   for an active treatment t
                 = Categorical(t; logits(o))                                    for Control, which has no dose

The raw intensity u in (0, 1) is what is sampled, stored and scored; the environment reads it as the dose 0.1 + 0.9 u.
That map is affine, so it cancels in every likelihood ratio, and a Beta needs no clipping at the ends of the range
(Chou, Maturana & Scherer 2017, "Improving stochastic policy gradients in continuous control using the Beta
distribution"). Rollout, update, callbacks and tags are stable-baselines3's.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from core.artifact import Artifact
from core.errors import ArtifactError, ConfigError
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from intervention.week_summary import WeekSummary

ACTIVE = len(TREATMENTS) - 1  # treatments with a dose
OUTPUTS = len(TREATMENTS) + 2 * ACTIVE  # logits, then every alpha, then every beta
EDGE = 1e-6  # u stays this far inside (0, 1), where both logarithms are finite in float32
INSIDE = 1e-3  # how far a dose that was shown, not sampled, is kept inside
NEVER = -1e8  # the logit of a forbidden treatment: its probability is exactly 0, its entropy term 0 and not NaN
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


def intensity_of(u: Tensor) -> Tensor:
    """The dose that a raw intensity in [0, 1] stands for."""
    return MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * u


def raw_intensity(intensity: Tensor) -> Tensor:
    """The raw intensity inside (0, 1) that stands for a dose; Control's 0 is that of the smallest."""
    return ((intensity - MIN_INTENSITY) / (MAX_INTENSITY - MIN_INTENSITY)).clamp(INSIDE, 1 - INSIDE)


@dataclass(frozen=True)
class Contraindication:
    """A treatment that must not be given: to nobody, or to whom one observed quantity speaks against it."""

    treatment: str  # its name, one of core.treatments.TREATMENTS
    when: str | None  # name of an observation; None forbids the treatment to everybody
    above: float  # forbidden where that observation (as the policy sees it) is greater than this


@dataclass(frozen=True)
class Rule:
    """A contraindication with its names resolved: ``column`` is -1 where it holds for everybody."""

    treatment: int
    column: int
    above: float


def resolve(contraindications: tuple[Contraindication, ...], names: tuple[str, ...]) -> tuple[Rule, ...]:
    """Rules on columns of an observation with these names.

    Raises:
        ConfigError: an unknown treatment or observation, or Control, which must always remain possible.
    """
    rules = []
    for item in contraindications:
        if item.treatment not in TREATMENTS[1:]:
            raise ConfigError(
                f"policy.contraindications: treatment '{item.treatment}' cannot be forbidden; expected one of {', '.join(TREATMENTS[1:])}"
            )
        if item.when is not None and item.when not in names:
            raise ConfigError(
                f"policy.contraindications: '{item.when}' is no observation; expected one of {', '.join(names)}"
            )
        column = -1 if item.when is None else names.index(item.when)
        rules.append(Rule(TREATMENTS.index(item.treatment), column, item.above))
    return tuple(rules)


def forbidden_treatments(observation: Tensor, rules: tuple[Rule, ...]) -> Tensor | None:
    """bool ``[B, 5]`` from observations ``[B, D]``; None where there is no rule."""
    if not rules:
        return None
    forbidden = torch.zeros(len(observation), len(TREATMENTS), dtype=torch.bool, device=observation.device)
    for rule in rules:
        forbidden[:, rule.treatment] |= True if rule.column < 0 else observation[:, rule.column] > rule.above
    return forbidden


def beta_log_prob(u: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """log Beta(u; alpha, beta), elementwise."""
    normaliser = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta)
    return (alpha - 1) * torch.log(u) + (beta - 1) * torch.log1p(-u) - normaliser


def beta_entropy(alpha: Tensor, beta: Tensor) -> Tensor:
    """Differential entropy of Beta(alpha, beta), elementwise; 0 for the uniform, negative for all others here."""
    normaliser = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta)
    spread = (alpha + beta - 2) * torch.digamma(alpha + beta)
    return normaliser - (alpha - 1) * torch.digamma(alpha) - (beta - 1) * torch.digamma(beta) + spread


class DualHeadDistribution(Distribution):
    """Categorical over treatments times one Beta per active treatment.

    An action is a float row ``(treatment, u)``. ``alpha, beta = 1 + softplus(.)`` keeps every Beta unimodal.
    """

    log_p: Tensor  # (B, 5) log-probabilities of the treatments
    alpha: Tensor  # (B, 4) of the active treatments
    beta: Tensor  # (B, 4)

    def proba_distribution_net(self, latent_dim: int) -> nn.Module:
        return nn.Linear(latent_dim, OUTPUTS)

    def proba_distribution(self, outputs: Tensor, forbidden: Tensor | None = None) -> "DualHeadDistribution":
        """Set the parameters from the network's ``[B, 13]`` and, optionally, bool ``[B, 5]`` of forbidden treatments."""
        logits, alpha, beta = outputs.split([len(TREATMENTS), ACTIVE, ACTIVE], dim=-1)
        if forbidden is not None:
            logits = logits.masked_fill(forbidden, NEVER)
        self.log_p = log_softmax(logits, dim=-1)
        self.alpha, self.beta = 1 + softplus(alpha), 1 + softplus(beta)
        return self

    def _shapes(self, treatment: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and beta ``[B]`` of the given treatments ``[B]``; Control reads those of treatment 1, to be masked."""
        column = (treatment - 1).clamp(min=0).unsqueeze(-1)
        return self.alpha.gather(-1, column).squeeze(-1), self.beta.gather(-1, column).squeeze(-1)

    def sample(self) -> Tensor:
        treatment = torch.multinomial(self.log_p.exp(), 1).squeeze(-1)
        u = torch.distributions.Beta(*self._shapes(treatment), validate_args=False).sample()
        return torch.stack([treatment.to(u.dtype), u.clamp(EDGE, 1 - EDGE)], dim=-1)  # (B, 2)

    def mode(self) -> Tensor:
        """The likeliest treatment at its **mean** dose.

        The mean is defined for every alpha and beta (the mode is not for the uniform Beta, the initial state of an
        undecided head) and is the dose about which the policy was trained.
        """
        treatment = self.log_p.argmax(dim=-1)
        alpha, beta = self._shapes(treatment)
        return torch.stack([treatment.to(alpha.dtype), alpha / (alpha + beta)], dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """``[B]``: log pi(t) + [t is not Control] log Beta_t(u)."""
        treatment = actions[:, 0].long()
        u = actions[:, 1].clamp(EDGE, 1 - EDGE)  # changes nothing that was sampled here
        dose = beta_log_prob(u, *self._shapes(treatment))
        chosen = self.log_p.gather(-1, treatment.unsqueeze(-1)).squeeze(-1)
        return chosen + torch.where(treatment == CONTROL, torch.zeros_like(dose), dose)

    def treatment_entropy(self) -> Tensor:
        """``[B]``: the exact entropy of the treatment."""
        return -(self.log_p.exp() * self.log_p).sum(dim=-1)

    def dose_entropy(self) -> Tensor:
        """``[B]``: the exact entropy of the dose given the treatment, sum_t pi_t H(Beta_t), Control 0."""
        return (self.log_p[:, 1:].exp() * beta_entropy(self.alpha, self.beta)).sum(dim=-1)

    def entropy(self) -> Tensor:
        """``[B]``: the exact joint entropy."""
        return self.treatment_entropy() + self.dose_entropy()

    def actions_from_params(
        self, outputs: Tensor, forbidden: Tensor | None = None, deterministic: bool = False
    ) -> Tensor:
        return self.proba_distribution(outputs, forbidden).get_actions(deterministic)

    def log_prob_from_params(self, outputs: Tensor, forbidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        actions = self.actions_from_params(outputs, forbidden)
        return actions, self.log_prob(actions)


class DualHeadPolicy(ActorCriticPolicy):
    """stable-baselines3's actor-critic with the dual head; for a Box action space ``[0, 0]`` to ``[4, 1]``.

    ``entropy_coefficients`` weigh the entropy of the treatment and of the dose. The weighted sum is what
    ``evaluate_actions`` returns, so PPO runs with ``ent_coef=1``.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        entropy_coefficients: tuple[float, float] = (0.0, 0.0),
        rules: tuple[Rule, ...] = (),
        **kwargs: Any,
    ) -> None:
        self.entropy_coefficients = entropy_coefficients
        self.rules = rules
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_mlp_extractor()
        self.action_dist: DualHeadDistribution = DualHeadDistribution()
        self.action_net = self.action_dist.proba_distribution_net(self.mlp_extractor.latent_dim_pi)
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        # Small last layer: every treatment starts equally likely, every dose in the middle of its range.
        for module, gain in ((self.mlp_extractor, np.sqrt(2)), (self.action_net, 0.01), (self.value_net, 1.0)):
            module.apply(partial(self.init_weights, gain=gain))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _distribution(self, obs: PyTorchObs, latent: Tensor) -> DualHeadDistribution:
        assert isinstance(obs, Tensor)
        return self.action_dist.proba_distribution(self.action_net(latent), forbidden_treatments(obs, self.rules))

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions ``[B, 2]``, values ``[B, 1]`` and log-probabilities ``[B]``."""
        features = self._features(obs)
        latent, latent_value = self.mlp_extractor(features)
        distribution = self._distribution(obs, latent)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.value_net(latent_value), distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``[B, 1]``, log-probabilities ``[B]`` and the weighted entropy ``[B]``."""
        features = self._features(obs)
        latent, latent_value = self.mlp_extractor(features)
        distribution = self._distribution(obs, latent)
        of_treatment, of_dose = self.entropy_coefficients
        entropy = of_treatment * distribution.treatment_entropy()
        if of_dose:  # its digammas and their gradients are half of what the distribution costs
            entropy = entropy + of_dose * distribution.dose_entropy()
        return self.value_net(latent_value), distribution.log_prob(actions), entropy

    def get_distribution(self, obs: PyTorchObs) -> DualHeadDistribution:
        features = self._features(obs)
        return self._distribution(obs, self.mlp_extractor.forward_actor(features))

    def _features(self, obs: PyTorchObs) -> Tensor:
        features = self.extract_features(obs)  # type: ignore[arg-type]
        assert isinstance(features, Tensor), "the dual head reads one flat observation"
        return features


class DualHeadAgent:
    """A trained policy for inference: the actor alone, free of stable-baselines3's algorithm.

    Attributes:
        actor: observations ``[B, D]`` to the distribution's ``[B, 13]``; its first layer may be a ``WeekSummary``.
        names: what the D observations are, in order.
        rules: the contraindications it was trained under and never violates.
    """

    def __init__(
        self,
        actor: nn.Sequential,
        hidden: tuple[int, ...],
        activation: str,
        names: tuple[str, ...],
        rules: tuple[Rule, ...],
    ) -> None:
        self.actor = actor.eval().requires_grad_(False)
        self.hidden, self.activation, self.names, self.rules = hidden, activation, names, rules

    @classmethod
    def from_policy(
        cls, policy: DualHeadPolicy, hidden: tuple[int, ...], activation: str, names: tuple[str, ...]
    ) -> "DualHeadAgent":
        """Copy the actor out of a trained policy."""
        summary = isinstance(policy.features_extractor, WeekSummary)
        actor = _actor(names, hidden, activation, summary)
        layers = [*policy.mlp_extractor.policy_net, policy.action_net]
        if summary:
            layers.insert(0, policy.features_extractor)
        for target, source in zip(actor, layers, strict=True):
            target.load_state_dict(source.state_dict())
        return cls(actor, hidden, activation, names, policy.rules)

    def distribution(self, observation: Tensor) -> DualHeadDistribution:
        """The distribution over actions for observations ``[B, D]``.

        Raises:
            ArtifactError: the environment shows other observations than the agent was trained on.
        """
        if observation.shape[1] != len(self.names):
            raise ArtifactError(
                f"policy: trained on {len(self.names)} observations, the environment shows {observation.shape[1]}; train it again (stage=policy force=true)"
            )
        with torch.no_grad():
            outputs = self.actor(observation)
        return DualHeadDistribution().proba_distribution(outputs, forbidden_treatments(observation, self.rules))

    def act(self, observation: Tensor, deterministic: bool = True) -> tuple[Tensor, Tensor]:
        """Treatment int64 ``[B]`` and intensity float32 ``[B]`` (0.1..1) for observations ``[B, D]``.

        With ``deterministic=False`` the draw comes from torch's global generator.
        """
        actions = self.distribution(observation).get_actions(deterministic=deterministic)
        return actions[:, 0].long(), intensity_of(actions[:, 1])

    def to_artifact(self) -> Artifact:
        tensors = {name: tensor.detach().clone() for name, tensor in self.actor.state_dict().items()}
        meta = {
            "hidden": list(self.hidden),
            "activation": self.activation,
            "days": "summary" if isinstance(self.actor[0], WeekSummary) else "raw",
            "observation": list(self.names),
            "treatments": list(TREATMENTS),
            "rules": [[rule.treatment, rule.column, rule.above] for rule in self.rules],
        }
        return Artifact(tensors, meta)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "DualHeadAgent":
        """The agent an artifact holds, exactly.

        Raises:
            ArtifactError: its tensors are not those its description asks for, or it knows other treatments.
        """
        meta = artifact.meta
        names, hidden = tuple(meta["observation"]), tuple(meta["hidden"])
        summary = meta.get("days", "raw") == "summary"  # agents of before the summary do not name it
        actor = _actor(names, hidden, meta["activation"], summary)
        expected = {name: tensor.shape for name, tensor in actor.state_dict().items()}
        if expected != {name: tensor.shape for name, tensor in artifact.tensors.items()}:
            raise ArtifactError(
                "policy: the stored network is not the one its description names; train the policy again"
            )
        if tuple(meta["treatments"]) != TREATMENTS:
            raise ArtifactError(
                f"policy: trained on treatments {', '.join(meta['treatments'])}, expected {', '.join(TREATMENTS)}; train the policy again"
            )
        actor.load_state_dict(artifact.tensors)
        rules = tuple(Rule(int(treatment), int(column), float(above)) for treatment, column, above in meta["rules"])
        return cls(actor, hidden, meta["activation"], names, rules)


def _actor(names: tuple[str, ...], hidden: tuple[int, ...], activation: str, summary: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    size = len(names)
    if summary:
        first = WeekSummary(spaces.Box(-np.inf, np.inf, (size,), np.float32), names)
        layers, size = [first], first.features_dim
    with torch.random.fork_rng(devices=[]):  # the weights are overwritten: construction must not move the generator
        for width in hidden:
            layers += [nn.Linear(size, width), ACTIVATIONS[activation]()]
            size = width
        return nn.Sequential(*layers, nn.Linear(size, OUTPUTS))
