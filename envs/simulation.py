"""The one batched simulation behind every face: gym.Env, gym.vector.VectorEnv and SB3's VecEnv.

Environment i draws from streams keyed by (its seed, episode, week), its seed being ``seed + first_env + i`` as
Gymnasium seeds sub-environments; so its trajectory does not depend on the batch it runs in. Seeds meant to be independent
must therefore lie further apart than there are environments. The last environment is repeated up to a whole tile
(``core.batching``), so that not even rounding tells of the batch; outside nothing is seen of the copies.
"""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from core.batching import take, turned, whole_tiles
from core.errors import DataError
from core.patients import Patients
from core.protocols import Dynamics, RiskModel, State, risk_score
from core.random import fold_keys, stream_keys, stream_uniform
from core.signals import DAYS
from core.treatments import CONTROL, MIN_INTENSITY, TREATMENTS
from envs.checks import check_action, check_finite
from envs.observation import BOUND, bounded, observation_layout
from envs.responses import Responses
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
        state: the dynamics' state (Trial's includes ``response``), for privileged policies; overwritten by ``reset``.
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
        self.layout = observation_layout(patients.signals, patients.encoder, settings.adverse_budget is not None)
        scaler = patients.scaler
        self._cost = cost_table(settings).to(self.device)
        self._baseline = baseline_probabilities(patients, risk_model)  # (N, 3)
        self.pool = torch.from_numpy(eligible_rows(self._baseline, settings.min_risk)).to(self.device)
        self._ids = torch.as_tensor(patients.ids, dtype=torch.int64, device=self.device)
        self._weeks, self._first = turned(patients.week.flatten(1)), self._first_observations()  # (N, 7C), (N, D)
        places = len(whole_tiles(torch.zeros(num_envs)))
        # What changes in place, and therefore never leaves: each number's row runs along the batch.
        self._view = self._first.new_zeros(self.layout.size, places)
        self._parts = {part: self._view[where] for part, where in self.layout.slices.items()}
        self._features = patients.features.new_zeros(places, patients.features.shape[1])
        self._treatments = torch.arange(len(TREATMENTS), device=self.device)[:, None]
        self._view_week = self._parts["week"].unflatten(0, (DAYS, -1))
        self._responses = Responses(self._parts)
        self._scale = [torch.tensor(value, device=self.device)[:, None] for value in (scaler.mean, scaler.sd)]
        self._state: State = {}
        self.seeds = torch.zeros(places, dtype=torch.int64, device=self.device)
        self.episode = torch.full_like(self.seeds, -1)
        self._keys = torch.zeros_like(self.seeds)  # of the running episodes
        self.reseed(seed + first_env + torch.arange(num_envs))

    def _first_observations(self) -> Tensor:
        """``[N, D]``: what an episode of each patient begins with."""
        scaled = bounded(self.patients.scaler.scale(self.patients.week).flatten(1))
        first = scaled.new_zeros(len(scaled), self.layout.size)
        features, risk = bounded(self.patients.features), risk_score(self._baseline)[:, None]
        parts = {"week": scaled, "baseline": scaled, "profile": features, "probabilities": self._baseline, "risk": risk}
        for part, values in parts.items():
            first[:, self.layout.slices[part]] = values
        if self.settings.adverse_budget is not None:
            first[:, self.layout.slices["adverse_budget"]] = 1.0
        return first

    def reseed(self, seeds: Tensor, which: Tensor | None = None) -> None:
        """Give the environments (or those True in ``which``) their seeds, int64 ``[B]``; call ``reset`` next."""
        given = torch.ones(self.num_envs, dtype=torch.bool) if which is None else which
        given = whole_tiles(given).to(self.device)
        self.seeds = torch.where(given, whole_tiles(seeds).to(self.device, torch.int64), self.seeds)
        self.episode = torch.where(given, -1, self.episode)

    @torch.no_grad()
    def reset(self, rows: Tensor | None = None, which: Tensor | None = None) -> Tensor:
        """Begin new episodes, in all environments or those that are True in ``which`` (bool ``[B]``).

        Args:
            rows: int64, one patient row for each environment that is reset (``[B]``, or as many as ``which`` has);
                otherwise drawn from the pool.

        Returns:
            The observations of all environments, ``[B, D]``.
        """
        if which is None or not self._state:
            index = torch.arange(len(self.seeds), device=self.device)
        else:
            index = torch.nonzero(whole_tiles(which.to(self.device)))[:, 0]
        self.episode = self.episode.index_add(0, index, torch.ones_like(index))
        episodes = stream_keys(self.seeds[index], self.episode[index])
        self._keys = self._keys.index_copy(0, index, episodes)
        keys = fold_keys(episodes, 0)
        if rows is None:
            draw = (stream_uniform(keys, 1)[:, 0] * len(self.pool)).long()
            rows = self.pool[draw]
        else:
            rows = self._with_copies(rows.to(self.device), index)
        self._begin(index, rows, fold_keys(keys, 1))
        return self._shown[: self.num_envs]

    def _with_copies(self, rows: Tensor, index: Tensor) -> Tensor:
        """``rows``, one for each environment in ``index``, and the last one's for its copies."""
        given = int((index < self.num_envs).sum())
        if rows.shape != (given,):
            raise DataError(f"reset: rows has shape {tuple(rows.shape)}, expected {(given,)}")
        return torch.cat([rows, rows[-1:].expand(len(index) - given)])

    def _begin(self, index: Tensor, rows: Tensor, keys: Tensor) -> None:
        """Put new episodes of ``rows`` into the places ``index``."""
        probabilities, zeros = take(self._baseline, rows), torch.zeros_like(rows)
        fresh = {
            "rows": rows,
            "patient_id": self._ids[rows],
            "week": zeros,
            "days": take(self._weeks, rows),
            "probabilities": probabilities,
            "risk": risk_score(probabilities),
            "well_weeks": zeros,
            "tally": self._view.new_zeros(3 * len(TREATMENTS), len(rows)).T,
            "adverse": zeros.bool(),
        }
        state, observation = self.dynamics.start(rows, keys), self._first.index_select(0, rows)
        self._features.index_copy_(0, index, self.patients.features.index_select(0, rows))
        self._view.index_copy_(1, index, observation.T)
        self._responses.begin(index)
        if len(rows) == len(self.seeds):
            self._episodes, self._state, self._shown = fresh, state, observation
            return
        # What was handed out stays as it is: these are copies, but for the state, which is large.
        self._episodes = {name: _replaced(old, index, fresh[name]) for name, old in self._episodes.items()}
        self._shown = self._shown.index_copy(0, index, observation)
        for name, old in self._state.items():
            if old.is_inference() and not torch.is_inference_mode_enabled():
                self._state[name] = old.index_put((index,), state[name])
            else:
                old.index_put_((index,), state[name])

    @torch.no_grad()
    def step(self, treatment: Tensor, intensity: Tensor) -> Step:
        """One week under ``treatment`` (int64 ``[B]``, 0..4) at ``intensity`` (float ``[B]``, 0.1..1; Control's counts as 0).

        Raises:
            DataError: an action has the wrong shape, is not finite or out of range.
            NumericalError: a number of some patient became NaN or infinite: days, state, risk, reward or observation.
        """
        treatment, intensity = treatment.to(self.device), intensity.to(self.device, torch.float32)
        check_action(treatment, intensity, self.num_envs)
        treatment, intensity = whole_tiles(treatment), whole_tiles(intensity)
        treatment, intensity = self._permitted(treatment, intensity)
        dose = torch.where(treatment == CONTROL, 0.0, intensity)
        e, before = self._episodes, self._episodes["risk"]
        keys = fold_keys(self._keys, e["week"] + 1)
        standing = {id(value) for value in self._state.values()}  # what a step hands on was judged when it was new
        self._state, outcome = self.dynamics.step(self._state, treatment, dose, keys)
        probabilities = self.risk_model.probabilities(self._features, outcome.week).float()
        risk = risk_score(probabilities)

        well_weeks = torch.where(risk < self.settings.remission_threshold, e["well_weeks"] + 1, 0)
        remission = well_weeks >= self.settings.remission_weeks
        terms = reward_terms(
            before, risk, self._cost[treatment] * dose, outcome.adverse, outcome.spread, remission, self.settings
        )
        chosen = treatment == self._treatments  # (5, B)
        gained = torch.stack([torch.ones_like(dose), dose, before - risk])[:, None] * chosen  # (3, 5, B)
        days = (
            outcome.week.flatten(1) if outcome.week.is_contiguous() else outcome.week.permute(1, 2, 0).flatten(0, 1).T
        )
        self._episodes = {
            "rows": e["rows"],
            "patient_id": e["patient_id"],
            "week": e["week"] + 1,
            "days": days,
            "probabilities": probabilities,
            "risk": risk,
            "well_weeks": well_weeks,
            "tally": e["tally"] + gained.flatten(0, 1).T,
            "adverse": outcome.adverse,
        }
        exceeded = self._beyond_limit(outcome.spread)
        truncated = ((self._episodes["week"] >= self.settings.horizon) | exceeded) & ~remission
        extra = {
            "treatment": treatment,
            "intensity": dose,
            "level": outcome.level,
            "spread": outcome.spread,
            "spread_exceeded": exceeded,
        }
        reward = reduce(torch.add, terms.values())  # a reduction's order depends on the batch
        self._shown = self._observe(chosen, dose)
        made = {"week": outcome.week, "level": outcome.level, "spread": outcome.spread}
        state = {f"state '{name}'": value for name, value in self._state.items() if id(value) not in standing}
        judged = {"risk": risk, "reward": reward, "observation": self._shown}
        check_finite(made | state | judged, self.info()["patient_id"], self.week, self.patients.signals)
        n = self.num_envs
        info = {
            **self.info(),
            **{name: value[:n] for name, value in {**terms, **extra, "remission": remission}.items()},
        }
        return Step(self._shown[:n], reward[:n], remission[:n], truncated[:n], info)

    def _permitted(self, treatment: Tensor, intensity: Tensor) -> tuple[Tensor, Tensor]:
        """What is given of what was chosen: nothing once the adverse events allowed have happened, and no intensity
        further from last week's than the settings allow."""
        budget, change = self.settings.adverse_budget, self.settings.max_intensity_change
        if budget is not None:
            spent = self._parts["adverse_budget"][0] * budget < 0.5  # a share of whole numbers, rounded
            treatment = torch.where(spent, CONTROL, treatment)
        if change is not None:
            last = self._parts["last_intensity"][0]
            limited = torch.minimum(torch.maximum(intensity, last - change), last + change)
            intensity = limited.clamp(min=MIN_INTENSITY)
        return treatment, intensity

    def _beyond_limit(self, spread: Tensor) -> Tensor:
        limit = self.settings.spread_limit
        return torch.zeros_like(spread, dtype=torch.bool) if limit is None else spread > limit

    @property
    def state(self) -> State:
        return {name: value[: self.num_envs] for name, value in self._state.items()}

    @property
    def rows(self) -> Tensor:
        return self._episodes["rows"][: self.num_envs]

    @property
    def week(self) -> Tensor:
        return self._episodes["week"][: self.num_envs]

    @property
    def risk(self) -> Tensor:
        return self._episodes["risk"][: self.num_envs]

    @property
    def days(self) -> Tensor:
        """``[B, 7, C]``: the latest week in physical units."""
        return self._episodes["days"][: self.num_envs].unflatten(1, (DAYS, -1))

    def info(self) -> dict[str, Tensor]:
        """Where the episodes stand: ``patient_id``, ``week``, ``risk``, ``adverse`` ``[B]``, ``probabilities`` ``[B, 3]``.

        ``step`` adds the reward's terms (costs negative), ``treatment`` and ``intensity`` as given (0 for Control, and
        what ``max_intensity_change`` and ``adverse_budget`` left of what was chosen), ``remission``,
        ``spread``, ``spread_exceeded`` ``[B]`` and ``level`` ``[B, C]`` (physical units).
        """
        names = ("patient_id", "week", "risk", "adverse", "probabilities")
        return {name: self._episodes[name][: self.num_envs] for name in names}

    def _observe(self, chosen: Tensor, dose: Tensor) -> Tensor:
        """``[B, D]`` in the order of ``layout``, after a week under ``chosen`` ``[5, B]``; baseline and profile stand."""
        e, horizon = self._episodes, self.settings.horizon
        view = self._parts
        weeks_on, doses, risk_change = e["tally"].T.unflatten(0, (3, -1))[:, 1:]  # (4, B) each
        mean, sd = self._scale
        week = torch.sub(e["days"].T.unflatten(0, (DAYS, -1)), mean, out=self._view_week)
        week.div_(sd).clamp_(-BOUND, BOUND)
        view["probabilities"].copy_(e["probabilities"].T)
        view["risk"].copy_(e["risk"])
        torch.div(weeks_on, horizon, out=view["weeks_on"])
        torch.div(doses, weeks_on.clamp(min=1.0), out=view["mean_intensity"])
        view["risk_change"].copy_(risk_change)
        self._responses.after(dose * chosen[1:])
        view["last_treatment"].copy_(chosen)
        view["last_intensity"].copy_(dose)
        torch.div(e["week"], horizon, out=view["time"][0])
        torch.div(e["well_weeks"], self.settings.remission_weeks, out=view["well_weeks"][0])
        view["adverse"].copy_(e["adverse"])
        if self.settings.adverse_budget is not None:
            view["adverse_budget"][0].sub_(e["adverse"] / self.settings.adverse_budget).clamp_(min=0.0)
        return self._view.T.contiguous()


def _replaced(old: Tensor, index: Tensor, fresh: Tensor) -> Tensor:
    """A copy of ``old`` with ``fresh`` in the rows ``index``."""
    if old.ndim == 1:
        return old.index_copy(0, index, fresh)
    return old.T.index_copy(old.ndim - 1, index, fresh.T).T
