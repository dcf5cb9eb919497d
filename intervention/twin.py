"""The Twin: an ensemble of Seq2Seq members that stands in for Trial, and its face as ``Dynamics``.

Members read the same sampled weeks, each into its own memory; one of them writes a person's weeks for a whole episode.
How far their expected levels lie apart is the spread.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.artifact import Artifact
from core.batching import over_days, take, turned, whole_tiles
from core.encoding import WeekScaler
from core.errors import ArtifactError
from core.patients import Patients
from core.protocols import Outcome, State
from core.random import seeded_init, stream_draws, stream_uniform
from core.signals import DAYS, Signal, Signals, names
from core.treatments import CONTROL
from intervention.record import ACTION, Record, action_features
from intervention.seq2seq import Seq2Seq, TwinShape
from intervention.twin_sampling import (
    Draws,
    FastMember,
    Outlook,
    Past,
    average,
    chunks,
    joined,
    read_days,
    tiled,
    weights_of,
)
from intervention.twin_together import Together


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
            "shape": {**asdict(self.shape), "retention": [list(pair) for pair in self.shape.retention]},
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
    return TwinShape(**{**meta, "retention": tuple(map(tuple, meta["retention"]))})  # JSON has no tuples


class TwinDynamics:
    """The Twin as ``Dynamics`` (``core.protocols``) over ``patients``; its weights are packed here, once.

    A person lives an episode under one member, drawn at its start (trajectory sampling of Chua et al. 2018, arXiv
    1805.12114, TS-infinity): members are hypotheses about how treatment works, and a person's course is to follow one.
    That member draws the week's level and writes its days. All members read every week and say what level they expect:
    their mean is the outcome's level and how far they lie apart its spread. An adverse event has their mean chance.

    State, batch first: ``rows`` [B]; ``week`` [B], weeks lived since the baseline; ``member`` [B]; ``yesterday`` and
    ``last`` [B, C], the latest day and the latest week's mean in z; ``given`` [B], the latest treatment; ``traces``, ``shown``
    and ``seen``, the ``Record``; and for each member m ``hidden.m``, ``cell.m`` [B, H] and ``memory.m.k`` [B, 7, D], the
    days of k weeks ago. A step makes only the latest week's memory and hands on the others as they are.

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
        self.between = self.between.to(patients.week.device)[:, None]
        self.mean, self.sd = (self.between.new_tensor(numbers) for numbers in (twin.scaler.mean, twin.scaler.sd))
        self.ago = torch.arange(twin.weeks, device=self.between.device).repeat_interleave(DAYS)  # weeks, of each day
        self.members = [FastMember(net) for net in twin.networks()]
        self.together = Together(self.members)
        self._read_baseline(patients)

    @torch.no_grad()
    def _read_baseline(self, patients: Patients) -> None:
        """Encode every patient's baseline week once; ``start`` looks it up."""
        week = self.twin.scaler.scale(patients.week)
        self.yesterday, self.base = turned(week[:, -1]), turned(week.mean(dim=1))
        self.person, self.hidden, self.cell, self.memory = [], [], [], []
        events = torch.zeros(len(week), 1, device=week.device)
        calm, traces = events.new_zeros(len(week), 1, ACTION), self._no_record(self.base).traces.unsqueeze(1)
        for net in self.twin.networks():
            person, base = net.read_person(patients.features, week)
            memory, (hidden, cell) = net.read_courses(
                week.unsqueeze(1), base, traces, calm, events, net.first_state(person)
            )[1:]
            self.person.append(turned(person))
            self.hidden.append(turned(hidden))
            self.cell.append(turned(cell))
            self.memory.append(memory)  # (N, 7, D)

    def _no_record(self, base: Tensor) -> Record:
        return Record.empty(base, len(self.twin.shape.retention))

    @torch.no_grad()
    def start(self, rows: Tensor, keys: Tensor) -> State:
        """The state after the baseline week; ``keys`` draw the member."""
        base = take(self.base, rows)
        record = self._no_record(base)._asdict()
        state = {
            "rows": rows,
            "week": torch.zeros_like(rows),
            "member": (stream_uniform(keys, 1)[:, 0] * len(self.members)).long(),
            "yesterday": take(self.yesterday, rows),
            "last": base,
            "given": torch.full_like(rows, CONTROL),
            **{name: value.movedim(0, -1).contiguous().movedim(-1, 0) for name, value in record.items()},
        }
        for m in range(len(self.members)):
            state |= {f"hidden.{m}": take(self.hidden[m], rows), f"cell.{m}": take(self.cell[m], rows)}
            memory = self.memory[m].index_select(0, rows)
            state |= {f"memory.{m}.{k}": torch.zeros_like(memory) if k else memory for k in range(self.twin.weeks)}
        return state

    @torch.no_grad()
    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        """One sampled week: ``treatment`` int64 ``[B]``, ``intensity`` float32 ``[B]``, ``keys`` int64 ``[B]``."""
        parts = [self._step(*each) for each in chunks(state, treatment, intensity, keys)]
        after, outcome = [part[0] for part in parts], [part[1] for part in parts]
        b, fresh = len(treatment), {name: joined([part[name] for part in after]) for name in after[0]}
        made = [joined([part[i] for part in outcome]) for i in range(4)]
        if len(made[0]) != b:
            made = [part[:b] for part in made]
        return self._with_older(state, fresh), Outcome(*made)

    @torch.no_grad()
    def observe(self, state: State, treatment: Tensor, intensity: Tensor, week: Tensor, adverse: Tensor) -> State:
        """The state after a week that really was so: days ``[B, 7, C]`` in physical units, ``adverse`` bool ``[B]``."""
        days = self.twin.scaler.scale(whole_tiles(week)).permute(1, 2, 0).contiguous()
        given = {name: whole_tiles(value) for name, value in state.items() if not name.startswith("memory")}
        chosen, dose = whole_tiles(treatment), whole_tiles(intensity)
        return self._with_older(
            state, self._read(given, chosen, _action(given, chosen, dose), days, whole_tiles(adverse))
        )

    @torch.no_grad()
    def foresee(self, state: State, actions: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What the coming week is expected to be under each of K actions (treatment int64 and intensity float32, each ``[B]``).

        Returns:
            The level ``[K, B, C]`` in physical units and the chance of an adverse event ``[K, B]``, the members' means.
        """
        b, (given,) = len(state["rows"]), tiled(state)
        known, memory, mask = self._pasts(given, self.base.new_zeros(ACTION, len(given["rows"])))
        levels, chances = [], []
        for action in actions:  # of what is known only the action differs
            known[:, -ACTION:] = _action(given, *map(whole_tiles, action))
            outlooks = self.together.look_ahead(known, memory, mask)
            levels.append(self.twin.scaler.unscale(average([outlook.level for outlook in outlooks]).T)[:b])
            chances.append(average([torch.sigmoid(outlook.adverse_logit) for outlook in outlooks])[:b])
        return torch.stack(levels), torch.stack(chances)

    @torch.no_grad()
    def attention(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        """How much each past day counts for the coming week under this action, the members' mean.

        Returns:
            ``[B, 8, weeks*7]``: of the week's level, then of its seven days. The past runs from left to right and ends
            with the latest Sunday; a row sums to 1 over the days that are remembered and is 0 where none was lived.
        """
        given, *action = tiled(state, treatment, intensity)
        known, memory, mask = self._pasts(given, _action(given, *action))
        found = []
        for m, member in enumerate(self.members):
            past = Past(known[m], memory[m], mask)
            queries = torch.cat([member.level_queries(past.known), member.day_queries(past.known)], dim=1)
            found.append(weights_of(queries, past))
        newest_first = average(found).unflatten(2, (-1, DAYS))
        return F.pad(newest_first.flip(2).flatten(2), ((self.twin.weeks - newest_first.shape[2]) * DAYS, 0))[
            : len(treatment)
        ]

    def _step(
        self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor
    ) -> tuple[State, tuple[Tensor, ...]]:
        """Whole tiles: the state but for older memories, and the outcome's parts."""
        c, action = len(self.between), _action(state, treatment, intensity)
        uniform, normal = stream_draws(keys, 2, DAYS * c + 1 + c)
        draws = Draws(uniform[:, 1].float(), normal[:, DAYS * c :], normal[:, : DAYS * c].T.view(DAYS, c, -1))
        known, memory, mask = self._pasts(state, action)
        outlooks = self.together.look_ahead(known, memory, mask)
        pasts = [Past(*each, mask) for each in zip(known.unbind(), memory.unbind(), strict=True)]
        chance = average([torch.sigmoid(outlook.adverse_logit) for outlook in outlooks])
        adverse = uniform[:, 0] < chance
        week = self._write(state, pasts, outlooks, adverse.float(), adverse.float() - chance, draws)
        levels = [outlook.level for outlook in outlooks]
        days, expected = (torch.addcmul(self.mean, z, self.sd) for z in (week.permute(2, 0, 1), average(levels).T))
        return self._read(state, treatment, action, week, adverse), (days, adverse, expected, self._spread(levels))

    def _pasts(self, state: State, action: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the members are asked about, as in ``Past``: ``[M, K, B]``, ``[M, B, T, D]`` and the mask they share;
        ``action`` ``[ACTION, B]``."""
        weeks, (fewest, most) = state["week"], state["week"].aminmax()
        used, mask = min(int(most) + 1, self.twin.weeks), None
        if int(fewest) + 1 < used:
            ago = self.ago[: used * DAYS]
            mask = self.base.new_zeros(len(weeks), 1, len(ago))
            mask.masked_fill_((ago > weeks[:, None]).unsqueeze(1), -math.inf)
        base = take(self.base, state["rows"]).T
        record = [part.T for part in Record(state["traces"], state["shown"], state["seen"]).parts()]
        members = range(len(self.members))
        hidden, person = ([state[f"hidden.{m}"].T for m in members], [take(p, state["rows"]).T for p in self.person])
        known = self.together.known(hidden, person, record, [base, state["last"].T - base, action])
        memory = known.new_empty(len(members), len(weeks), used * DAYS, self.twin.shape.memory)
        for m in members:
            torch.cat([state[f"memory.{m}.{k}"] for k in range(used)], dim=1, out=memory[m])
        return known, memory, mask

    def _write(
        self, state: State, pasts: list[Past], outlooks: list[Outlook], adverse: Tensor, surprise: Tensor, draws: Draws
    ) -> Tensor:
        """The week in z ``[7, C, B]``, each person's from their own member."""
        week, yesterday = torch.empty_like(draws.days), state["yesterday"].T
        lowest, highest = (int(m) for m in state["member"].aminmax())
        if lowest == highest:
            return self.members[lowest].write(pasts[lowest], outlooks[lowest], adverse, surprise, yesterday, draws)
        for m, (member, past, outlook) in enumerate(zip(self.members, pasts, outlooks, strict=True)):
            rows = whole_tiles(torch.nonzero(state["member"] == m)[:, 0])
            if len(rows):
                known = past.select(rows), outlook.select(rows), adverse[rows], surprise[rows], yesterday[:, rows]
                week.index_copy_(2, rows, member.write(*known, draws.select(rows)))
        return week

    def _read(self, state: State, treatment: Tensor, action: Tensor, week: Tensor, adverse: Tensor) -> State:
        """Every member reads a week in z ``[7, C, B]``: the state but for older memories."""
        base, before = take(self.base, state["rows"]).T, Record(state["traces"], state["shown"], state["seen"])
        mean = over_days(week, 1 / DAYS)
        record = before.after((mean - base).T, action.T, self.twin.shape.retention)
        lived = read_days(week, mean, base, record.traces.T, action, adverse)
        after = {
            **{name: state[name] for name in ("rows", "member")},
            "week": state["week"] + 1,
            "yesterday": week[-1].T,
            "last": mean.T,
            "given": treatment,
            **record._asdict(),
        }
        coded = ([state[f"{name}.{m}"].T for m in range(len(self.members))] for name in ("hidden", "cell"))
        for m, (hidden, cell, memory) in enumerate(self.together.read(lived, *coded)):
            after |= {f"hidden.{m}": hidden.T, f"cell.{m}": cell.T, f"memory.{m}.0": memory}
        return after

    def _with_older(self, before: State, after: State) -> State:
        """``after``, without the copies that made whole tiles, and with the memories of the weeks before."""
        b = len(before["rows"])
        older = {
            f"memory.{m}.{k}": before[f"memory.{m}.{k - 1}"]
            for m in range(len(self.members))
            for k in range(1, self.twin.weeks)
        }
        if len(after["rows"]) != b:
            after = {name: value[:b] for name, value in after.items()}
        return after | older

    def _spread(self, levels: list[Tensor]) -> Tensor:
        """Root mean square over signals of the members' sd, in between-person sd: M of ``[C, B]`` -> ``[B]``."""
        if len(levels) == 1:
            return torch.zeros_like(levels[0][0])
        mean = average(levels)
        variance = reduce(torch.add, [(level - mean).square() for level in levels]) / (len(levels) - 1)
        return average(list((variance / self.between.square()).unbind())).sqrt()


def _action(state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
    """``[ACTION, B]``, number by number, of what is done next."""
    return action_features(treatment, intensity, state["given"]).T.contiguous()
