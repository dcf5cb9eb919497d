"""The Twin: an ensemble of Seq2Seq members that stands in for Trial, and its face as ``Dynamics``.

Members read the same sampled weeks, each into its own memory. A week's level is drawn from one member, chosen by the
week's stream; the moments they predict for a day are averaged. How far their expected levels lie apart is the spread.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core.artifact import Artifact
from core.batching import whole_tiles
from core.encoding import WeekScaler
from core.errors import ArtifactError
from core.patients import Patients
from core.protocols import Outcome, State
from core.random import seeded_init, stream_keys, stream_normal, stream_uniform
from core.signals import DAYS, Signal, Signals, names
from intervention.seq2seq import ACTION, FastCell, Record, Seq2Seq, TwinShape, action_features, attend


class Twin(nn.Module):
    """Members and how to read them: the signals, their scaler, the number of profile features, and for how many
    weeks back (``weeks``) days are remembered."""

    def __init__(
        self, shape: TwinShape, members: int, signals: Signals, scaler: WeekScaler, features: int, weeks: int, seed: int
    ) -> None:
        super().__init__()
        self.shape, self.signals, self.scaler, self.features, self.weeks = shape, signals, scaler, features, weeks
        low = scaler.scale(torch.tensor([signal.low for signal in signals]))
        high = scaler.scale(torch.tensor([signal.high for signal in signals]))
        with seeded_init(seed):
            self.members = nn.ModuleList(
                Seq2Seq(len(signals), features, low.clone(), high.clone(), shape) for _ in range(members)
            )

    def networks(self) -> list[Seq2Seq]:
        return [member for member in self.members if isinstance(member, Seq2Seq)]

    def to_artifact(self) -> Artifact:
        meta = {
            "shape": {**asdict(self.shape), "retention": list(self.shape.retention)},
            "members": len(self.members),
            "signals": [asdict(signal) for signal in self.signals],
            "scaler": self.scaler.to_meta(),
            "features": self.features,
            "weeks": self.weeks,
        }
        return Artifact({name: tensor.detach().clone() for name, tensor in self.state_dict().items()}, meta)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "Twin":
        """The Twin an artifact holds, exactly.

        Raises:
            ArtifactError: the artifact's tensors are not those its description asks for.
        """
        meta = artifact.meta
        twin = cls(
            _shape(meta["shape"]),
            meta["members"],
            tuple(Signal(**signal) for signal in meta["signals"]),
            WeekScaler.from_meta(meta["scaler"]),
            meta["features"],
            meta["weeks"],
            seed=0,
        )
        expected, got = twin.state_dict(), artifact.tensors
        wrong = [n for n in {*expected, *got} if n not in expected or n not in got or expected[n].shape != got[n].shape]
        if wrong:
            raise ArtifactError(
                f"twin: tensor '{min(wrong)}' is missing, unknown or of another shape; train the twin again"
            )
        twin.load_state_dict(got)
        return twin.eval()


def _shape(meta: dict[str, Any]) -> TwinShape:
    return TwinShape(**{**meta, "retention": tuple(meta["retention"])})  # JSON has no tuples


class View(NamedTuple):
    """A member's outlook on the coming week: history ``[B, K]``, contexts ``[B, 8, D]`` (the level's first), expected
    level ``[B, C]`` and log-odds of an adverse event ``[B]``."""

    history: Tensor
    contexts: Tensor
    level: Tensor
    adverse_logit: Tensor


class TwinDynamics:
    """The Twin as ``Dynamics`` (``core.protocols``) over ``patients``.

    State, batch first: ``rows`` [B]; ``week`` [B], weeks lived since the baseline; ``yesterday`` and ``last`` [B, C],
    the latest day and the latest week's mean in z; ``traces``, ``shown`` and ``seen``, the ``Record``; and for each
    member m ``hidden.m``, ``cell.m`` [B, H] and ``memory.m`` [B, weeks, 7, D], a ring of the latest weeks.

    Raises:
        ArtifactError: the patients have other signals or profile features than the Twin was trained on.
    """

    def __init__(self, twin: Twin, patients: Patients) -> None:
        if names(patients.signals) != names(twin.signals) or patients.features.shape[1] != twin.features:
            raise ArtifactError(
                f"twin: trained on signals {', '.join(names(twin.signals))} and {twin.features} profile features, got "
                f"{', '.join(names(patients.signals))} and {patients.features.shape[1]}; train the twin on this cohort"
            )
        self.twin = twin.to(patients.week.device).eval()
        self.between = torch.tensor(twin.scaler.between) / torch.tensor(twin.scaler.sd)  # in z
        self.between = self.between.to(patients.week.device)
        self._read_baseline(patients)

    @torch.no_grad()
    def _read_baseline(self, patients: Patients) -> None:
        """Encode every patient's baseline week once; ``start`` looks it up."""
        week = self.twin.scaler.scale(patients.week)
        self.yesterday, self.base = week[:, -1], week.mean(dim=1)
        self.person, self.hidden, self.cell, self.memory = [], [], [], []
        events = torch.zeros(len(week), 1, device=week.device)
        calm, traces = events.new_zeros(len(week), 1, ACTION), self._no_record(self.base).traces.unsqueeze(1)
        for net in self.twin.networks():
            person, base = net.read_person(patients.features, week)
            memory, (hidden, cell) = net.read_courses(
                week.unsqueeze(1), base, traces, calm, events, net.first_state(person)
            )[1:]
            self.person.append(person)
            self.hidden.append(hidden)
            self.cell.append(cell)
            self.memory.append(memory)  # (N, 7, D)

    def _no_record(self, base: Tensor) -> Record:
        return Record.empty(base, len(self.twin.shape.retention))

    @torch.no_grad()
    def start(self, rows: Tensor, keys: Tensor) -> State:
        """The state after the baseline week; it takes no randomness."""
        state = {
            "rows": rows,
            "week": torch.zeros_like(rows),
            "yesterday": self.yesterday[rows],
            "last": self.base[rows],
            **self._no_record(self.base[rows])._asdict(),
        }
        for m in range(len(self.person)):
            memory = self.hidden[m].new_zeros(len(rows), self.twin.weeks, DAYS, self.twin.shape.memory)
            memory[:, 0] = self.memory[m][rows]
            state |= {f"hidden.{m}": self.hidden[m][rows], f"cell.{m}": self.cell[m][rows], f"memory.{m}": memory}
        return state

    @torch.no_grad()
    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        """One sampled week: ``treatment`` int64 ``[B]``, ``intensity`` float32 ``[B]``, ``keys`` int64 ``[B]``."""
        b = len(treatment)
        tiled = {name: whole_tiles(value) for name, value in state.items()}
        after, outcome = self._step(tiled, whole_tiles(treatment), whole_tiles(intensity), whole_tiles(keys))
        first = Outcome(outcome.week[:b], outcome.adverse[:b], outcome.level[:b], outcome.spread[:b])
        return {name: value[:b] for name, value in after.items()}, first

    def _step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        networks, action = self.twin.networks(), action_features(treatment, intensity)
        c = len(self.twin.signals)
        normal, uniform = stream_normal(keys, DAYS * c + 1 + c).float(), stream_uniform(stream_keys(keys, 1), 3)
        views = self._look_ahead(state, action)
        chance = torch.stack([torch.sigmoid(view.adverse_logit) for view in views]).mean(dim=0)
        adverse = uniform[:, 0] < chance
        level = self._draw_level(views, action, adverse.float() - chance, uniform[:, 1:].float(), normal[:, DAYS * c :])

        same_day = torch.stack([net.same_day() for net in networks]).mean(dim=0)
        noise = normal[:, : DAYS * c].view(-1, DAYS, c) @ same_day.T
        decoders = [net.begin_week(view.history, action, adverse) for net, view in zip(networks, views, strict=True)]
        cells = [FastCell(net.decoder, 0) for net in networks]
        yesterday, days = state["yesterday"], []
        for d in range(DAYS):
            mean, sd = torch.zeros_like(yesterday), torch.zeros_like(yesterday)
            for m, net in enumerate(networks):
                context = views[m].contexts[:, d + 1]
                mu, sigma, decoders[m] = net.write_day(cells[m], d, context, level, yesterday, decoders[m])
                mean, sd = mean + mu / len(networks), sd + sigma / len(networks)
            yesterday = torch.clamp(mean + sd * noise[:, d], networks[0].low, networks[0].high)
            days.append(yesterday)
        week = torch.stack(days, dim=1)  # (B, 7, C)

        after = self._observe(state, action, week, adverse)
        levels = torch.stack([view.level for view in views])
        expected = self.twin.scaler.unscale(levels.mean(dim=0))
        return after, Outcome(self.twin.scaler.unscale(week), adverse, expected, self._spread(levels))

    @torch.no_grad()
    def observe(self, state: State, treatment: Tensor, intensity: Tensor, week: Tensor, adverse: Tensor) -> State:
        """The state after a week that really was so: days ``[B, 7, C]`` in physical units, ``adverse`` bool ``[B]``."""
        return self._observe(state, action_features(treatment, intensity), self.twin.scaler.scale(week), adverse)

    @torch.no_grad()
    def expected_level(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        """``[B, C]`` physical: the level the coming week is expected to have under this action."""
        views = self._look_ahead(state, action_features(treatment, intensity))
        return self.twin.scaler.unscale(torch.stack([view.level for view in views]).mean(dim=0))

    @torch.no_grad()
    def adverse_probability(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        """``[B]``: how likely an adverse event is in the coming week under this action."""
        action = action_features(treatment, intensity)
        pairs = zip(self.twin.networks(), self._histories(state), strict=True)
        return torch.stack([torch.sigmoid(net.adverse_logit(history, action)) for net, history in pairs]).mean(dim=0)

    def _histories(self, state: State) -> list[Tensor]:
        """What each member knows of the past, ``[B, K]``."""
        rows, record = state["rows"], Record(state["traces"], state["shown"], state["seen"]).features()
        return [torch.cat([state[f"hidden.{m}"], person[rows], record], dim=-1) for m, person in enumerate(self.person)]

    def _look_ahead(self, state: State, action: Tensor) -> list[View]:
        """What each member sees coming under ``action`` ``[B, 8]``."""
        rows, slots = state["rows"], self.twin.weeks
        used = min(int(state["week"].max()) + 1, slots)
        valid = torch.arange(used, device=rows.device) <= state["week"].unsqueeze(1)  # (B, used)
        valid = valid.repeat_interleave(DAYS, dim=1).unsqueeze(1)
        views = []
        for m, (net, history) in enumerate(zip(self.twin.networks(), self._histories(state), strict=True)):
            memory = state[f"memory.{m}"][:, :used].flatten(1, 2)  # (B, T, D)
            queries = torch.cat(
                [net.level_query(history, action).unsqueeze(1), net.day_queries(history, action)], dim=1
            )
            contexts = attend(queries, memory, valid)
            level = net.level(history, self.base[rows], state["last"], action, contexts[:, 0])
            views.append(View(history, contexts, level, net.adverse_logit(history, action)))
        return views

    def _draw_level(
        self, views: list[View], action: Tensor, surprise: Tensor, uniform: Tensor, normal: Tensor
    ) -> Tensor:
        """The week's level ``[B, C]`` in z, from the member that ``uniform[:, 0]`` picks."""
        drawn = []
        for net, view in zip(self.twin.networks(), views, strict=True):
            law = net.level_law(view.history, action, view.contexts[:, 0], view.level, surprise)
            drawn.append(law.sample(uniform[:, 1], normal))
        member = (uniform[:, 0] * len(drawn)).long()
        return torch.stack(drawn)[member, torch.arange(len(member), device=member.device)]

    def _observe(self, state: State, action: Tensor, week: Tensor, adverse: Tensor) -> State:
        """Read a week ``[B, 7, C]`` in z into every member."""
        rows, lived = state["rows"], state["week"] + 1
        last = week.mean(dim=1)
        record = Record(state["traces"], state["shown"], state["seen"])
        record = record.after(last - self.base[rows], action, self.twin.shape.retention)
        after = {
            "rows": rows,
            "week": lived,
            "yesterday": week[:, -1],
            "last": last,
            **record._asdict(),
        }
        for m, net in enumerate(self.twin.networks()):
            before = state[f"hidden.{m}"], state[f"cell.{m}"]
            fresh, (hidden, cell) = net.read_week(week, self.base[rows], record.traces, action, adverse, before)
            memory = state[f"memory.{m}"].clone()
            memory[torch.arange(len(rows), device=rows.device), lived % self.twin.weeks] = fresh
            after |= {f"hidden.{m}": hidden, f"cell.{m}": cell, f"memory.{m}": memory}
        return after

    def _spread(self, levels: Tensor) -> Tensor:
        """Root mean square over signals of the members' sd, in between-person sd: ``[M, B, C]`` -> ``[B]``."""
        if len(levels) == 1:
            return torch.zeros_like(levels[0, :, 0])
        return (levels.std(dim=0) / self.between).square().mean(dim=1).sqrt()
