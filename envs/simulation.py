"""The one batched simulation behind every face: gym.Env, gym.vector.VectorEnv and SB3's VecEnv.

Environment i draws from streams keyed by (its seed, episode, week), its seed being ``seed + first_env + i`` as
Gymnasium seeds sub-environments; so its trajectory does not depend on the batch it runs in. Seeds meant to be independent
must therefore lie further apart than there are environments.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import DataError
from core.patients import Patients
from core.protocols import Dynamics, RiskModel, State, risk_score
from core.random import stream_keys, stream_uniform
from core.treatments import CONTROL, TREATMENTS
from envs.checks import check_action, check_finite
from envs.observation import bounded, observation_layout
from envs.rewards import EnvSettings, baseline_probabilities, cost_table, eligible_rows, reward_terms


class Step(NamedTuple):
    """One week of a batch: observation ``[B, D]``, reward, terminated, truncated ``[B]``, info (see Simulation.info)."""

    observation: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    info: dict[str, Tensor]


class Simulation:
    """``num_envs`` episodes side by side. It never resets by itself: its faces do.

    ``patients`` must be those that ``dynamics`` was built with. Episodes draw their patient from ``pool``, the rows
    whose baseline risk score is at least ``settings.min_risk``; ``reset(rows=...)`` can choose anybody.

    Attributes:
        layout: what the observation holds; ``layout.slices["risk"]`` and so on.
        pool: int64 ``[M]``, eligible rows.
        state: the dynamics' state (Trial's includes ``response``), for privileged policies.
        rows, week, risk: ``[B]``, the patients, weeks elapsed and risk scores now.
    """

    def __init__(
        self,
        patients: Patients,
        dynamics: Dynamics,
        risk_model: RiskModel,
        settings: EnvSettings,
        num_envs: int,
        seed: int,
        first_env: int = 0,
    ) -> None:
        self.patients, self.dynamics, self.risk_model, self.settings = patients, dynamics, risk_model, settings
        self.num_envs, self.device = num_envs, patients.week.device
        self.layout = observation_layout(patients.signals, patients.encoder)
        self._cost = cost_table(settings).to(self.device)
        self._baseline = baseline_probabilities(patients, risk_model)  # (N, 3)
        self.pool = torch.from_numpy(eligible_rows(self._baseline, settings.min_risk)).to(self.device)
        scaled = patients.scaler.scale(patients.week).flatten(1)
        self._static = bounded(torch.cat([scaled, patients.features], dim=1).float())  # (N, 7C + P)
        self._ids = torch.as_tensor(patients.ids, dtype=torch.int64, device=self.device)
        self.state: State = {}
        self.seeds = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self.episode = torch.full_like(self.seeds, -1)
        self.reseed(seed + first_env + torch.arange(num_envs))

    def reseed(self, seeds: Tensor, which: Tensor | None = None) -> None:
        """Give the environments (or those True in ``which``) their seeds, int64 ``[B]``; call ``reset`` next."""
        given = torch.ones(self.num_envs, dtype=torch.bool) if which is None else which
        self.seeds = torch.where(given.to(self.device), seeds.to(self.device, torch.int64), self.seeds)
        self.episode = torch.where(given.to(self.device), -1, self.episode)

    @torch.no_grad()
    def reset(self, rows: Tensor | None = None, which: Tensor | None = None) -> Tensor:
        """Begin new episodes, in all environments or those that are True in ``which`` (bool ``[B]``).

        Args:
            rows: int64, one patient row for each environment that is reset (``[B]``, or as many as ``which`` has);
                otherwise drawn from the pool.

        Returns:
            The observations of all environments, ``[B, D]``.
        """
        if which is None or not self.state:
            index = torch.arange(self.num_envs, device=self.device)
        else:
            index = torch.nonzero(which.to(self.device))[:, 0]
        self.episode = self.episode.index_put((index,), self.episode[index] + 1)
        keys = stream_keys(self.seeds[index], self.episode[index], 0)
        if rows is None:
            draw = (stream_uniform(keys, 1)[:, 0] * len(self.pool)).long()
            rows = self.pool[draw]
        elif rows.shape != index.shape:
            raise DataError(f"reset: rows has shape {tuple(rows.shape)}, expected {tuple(index.shape)}")
        self._begin(index, rows.to(self.device), stream_keys(keys, 1))
        return self._observe()

    def _begin(self, index: Tensor, rows: Tensor, keys: Tensor) -> None:
        """Put new episodes of ``rows`` into the places ``index``."""
        probabilities, k, tried = self._baseline[rows], len(rows), len(TREATMENTS)
        zeros = probabilities.new_zeros
        fresh = {
            "rows": rows,
            "week": torch.zeros_like(rows),
            "days": self.patients.week[rows],
            "probabilities": probabilities,
            "risk": risk_score(probabilities),
            "well_weeks": torch.zeros_like(rows),
            "weeks_on": zeros(k, tried),
            "doses": zeros(k, tried),
            "risk_change": zeros(k, tried),
            "last_treatment": zeros(k, tried),
            "last_dose": zeros(k),
            "adverse": zeros(k, dtype=torch.bool),
        }
        state = self.dynamics.start(rows, keys)
        if k == self.num_envs:
            self._episodes, self.state = fresh, state
        else:
            self._episodes = {name: old.index_put((index,), fresh[name]) for name, old in self._episodes.items()}
            self.state = {name: old.index_put((index,), state[name]) for name, old in self.state.items()}

    @torch.no_grad()
    def step(self, treatment: Tensor, intensity: Tensor) -> Step:
        """One week under ``treatment`` (int64 ``[B]``, 0..4) at ``intensity`` (float ``[B]``, 0.1..1; Control's counts as 0).

        Raises:
            DataError: an action has the wrong shape, is not finite or out of range.
            NumericalError: a number of some patient became NaN or infinite: days, state, risk, reward or observation.
        """
        treatment, intensity = treatment.to(self.device), intensity.to(self.device, torch.float32)
        check_action(treatment, intensity, self.num_envs)
        dose = torch.where(treatment == CONTROL, 0.0, intensity)
        keys = stream_keys(self.seeds, self.episode, self.week + 1)
        self.state, outcome = self.dynamics.step(self.state, treatment, dose, keys)
        e, before = self._episodes, self.risk
        probabilities = self.risk_model.probabilities(self._static_features(), outcome.week).float()
        risk = risk_score(probabilities)

        well_weeks = torch.where(risk < self.settings.remission_threshold, e["well_weeks"] + 1, 0)
        remission = well_weeks >= self.settings.remission_weeks
        terms = reward_terms(
            before, risk, self._cost[treatment] * dose, outcome.adverse, outcome.spread, remission, self.settings
        )
        chosen = F.one_hot(treatment, len(TREATMENTS)).float()
        self._episodes = {
            "rows": e["rows"],
            "week": e["week"] + 1,
            "days": outcome.week,
            "probabilities": probabilities,
            "risk": risk,
            "well_weeks": well_weeks,
            "weeks_on": e["weeks_on"] + chosen,
            "doses": e["doses"] + chosen * dose[:, None],
            "risk_change": e["risk_change"] + chosen * (before - risk)[:, None],
            "last_treatment": chosen,
            "last_dose": dose,
            "adverse": outcome.adverse,
        }
        exceeded = self._beyond_limit(outcome.spread)
        truncated = ((self.week >= self.settings.horizon) | exceeded) & ~remission
        extra = {"intensity": dose, "level": outcome.level, "spread": outcome.spread, "spread_exceeded": exceeded}
        reward, observation = torch.stack(list(terms.values())).sum(dim=0), self._observe()
        made = {"week": outcome.week, "level": outcome.level, "spread": outcome.spread}
        state = {f"state '{name}'": value for name, value in self.state.items()}
        judged = {"risk": risk, "reward": reward, "observation": observation}
        check_finite(made | state | judged, self._ids[self.rows], self.week, self.patients.signals)
        info = {**self.info(), **terms, **extra, "remission": remission}
        return Step(observation, reward, remission, truncated, info)

    def _beyond_limit(self, spread: Tensor) -> Tensor:
        limit = self.settings.spread_limit
        return torch.zeros_like(spread, dtype=torch.bool) if limit is None else spread > limit

    @property
    def rows(self) -> Tensor:
        return self._episodes["rows"]

    @property
    def week(self) -> Tensor:
        return self._episodes["week"]

    @property
    def risk(self) -> Tensor:
        return self._episodes["risk"]

    @property
    def days(self) -> Tensor:
        """``[B, 7, C]``: the latest week in physical units."""
        return self._episodes["days"]

    def info(self) -> dict[str, Tensor]:
        """Where the episodes stand: ``patient_id``, ``week``, ``risk``, ``adverse`` ``[B]``, ``probabilities`` ``[B, 3]``.

        ``step`` adds the reward's terms (costs negative), ``intensity`` (that counted: 0 for Control), ``remission``,
        ``spread``, ``spread_exceeded`` ``[B]`` and ``level`` ``[B, C]`` (physical units).
        """
        e = self._episodes
        found = {name: e[name] for name in ("week", "risk", "adverse", "probabilities")}
        return {"patient_id": self._ids[e["rows"]], **found}

    def _static_features(self) -> Tensor:
        return self.patients.features[self.rows]

    def _observe(self) -> Tensor:
        """``[B, D]`` in the order of ``layout``."""
        e, horizon = self._episodes, self.settings.horizon
        weeks_on, doses = e["weeks_on"][:, 1:], e["doses"][:, 1:]
        parts = [
            bounded(self.patients.scaler.scale(e["days"]).flatten(1)),
            self._static[e["rows"]],
            e["probabilities"],
            e["risk"][:, None],
            weeks_on / horizon,
            doses / weeks_on.clamp(min=1.0),
            e["risk_change"][:, 1:],
            e["last_treatment"],
            e["last_dose"][:, None],
            e["week"][:, None] / horizon,
            e["well_weeks"][:, None] / self.settings.remission_weeks,
            e["adverse"][:, None],
        ]
        return torch.cat([part.float() for part in parts], dim=1)
