"""The Twin's sampling, written out for speed: one function with the forms it is trained in, the same in any batch."""

import pytest
import torch
from helpers_twin import SCALER, load, make_patients, untrained
from torch import Tensor

from core.patients import Patients
from core.protocols import Outcome, State
from core.random import stream_draws, stream_keys
from core.signals import DAYS, DEFAULT_SIGNALS
from intervention import twin_sampling
from intervention.record import Record, action_features
from intervention.seq2seq import attend
from intervention.twin import Twin, TwinDynamics
from intervention.twin_sampling import cell_, gate_weights, parts_of
from intervention.twin_training import TwinSettings

PERSONS, WEEKS = 40, 12
ACTION = torch.full((PERSONS,), 3), torch.full((PERSONS,), 0.7)


@pytest.fixture(scope="module")
def patients() -> Patients:
    return make_patients()


def live(dynamics: TwinDynamics, rows: Tensor, weeks: int) -> tuple[State, list[Outcome]]:
    state, outcomes = dynamics.start(rows, stream_keys(1, rows)), []
    for week in range(weeks):
        doses = 0.1 + 0.05 * (rows % 10).float()
        state, outcome = dynamics.step(state, (rows + week) % 5, doses, stream_keys(3, rows, week))
        outcomes.append(outcome)
    return state, outcomes


def of_rows(state: State, rows: Tensor) -> State:
    return {name: value[rows] for name, value in state.items()}


def test_cell_equals_torch_lstm() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lstm, days, start = torch.nn.LSTM(5, 7, batch_first=True), torch.randn(3, 4, 5), torch.randn(2, 3, 7)
    expected = lstm(days, (start[:1], start[1:]))[0]
    inner, outer, bias = gate_weights(lstm)
    half, twice = start[0].T.clone() / 2, 2 * start[1].T
    with torch.no_grad():
        for day in range(4):
            gates = bias + inner @ days[:, day].T + 2 * outer @ half
            cell_(gates, parts_of(gates), twice, half)
            assert torch.allclose(2 * half.T, expected[:, day], atol=1e-6)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("lived", [0, 5, 14])
def test_a_sampled_week_is_that_of_the_training_forms(patients: Patients, members: int, lived: int) -> None:
    """Read back by the forms of training, a week has the level and the very noise that it was sampled with."""
    twin = untrained(members)
    dynamics = TwinDynamics(twin, patients)
    state, _ = live(dynamics, torch.arange(PERSONS), lived)
    keys, action = stream_keys(9, torch.arange(PERSONS)), action_features(*ACTION, state["given"])
    _, outcome = dynamics.step(state, *ACTION, keys)
    uniform, normal = stream_draws(keys, 2, DAYS * 4 + 5)
    week, used = SCALER.scale(outcome.week), min(lived + 1, WEEKS)
    previous = torch.cat([state["yesterday"].unsqueeze(1), week[:, :-1]], dim=1)
    base, record = patients.week[state["rows"]], Record(state["traces"], state["shown"], state["seen"]).features()
    base = SCALER.scale(base).mean(dim=1)
    views = []
    with torch.no_grad():
        for m, net in enumerate(twin.networks()):
            person, _ = net.read_person(patients.features, SCALER.scale(patients.week))
            history = net.history(state[f"hidden.{m}"], person[state["rows"]], record)
            memory = torch.cat([state[f"memory.{m}.{k}"] for k in range(used)], dim=1)
            queries = torch.cat([net.level_query(history)[:, None], net.day_queries(history, action)], dim=1)
            contexts = attend(queries, memory, torch.ones(1, 1, used * DAYS, dtype=torch.bool))
            expected = net.level(history, base, state["last"], action, contexts[:, 0])
            views.append((history, contexts, expected, torch.sigmoid(net.adverse_logit(history, action))))
        chance = torch.stack([view[3] for view in views]).mean(dim=0)
        adverse = uniform[:, 0] < chance
        assert torch.equal(outcome.adverse, adverse)
        assert torch.allclose(SCALER.scale(outcome.level), torch.stack([v[2] for v in views]).mean(dim=0), atol=1e-5)
        for m, (net, view) in enumerate(zip(twin.networks(), views, strict=True)):
            history, contexts, expected, _ = view
            law = net.level_law(history, action, contexts[:, 0], expected, adverse.float() - chance)
            level = law.sample(uniform[:, 1].float(), normal[:, DAYS * 4 :])
            begin = net.begin_week(history, action, adverse)
            mean, sd = net.write_forced(begin, contexts[:, 1:], level, expected, previous)
            found, noise = net.innovations(week, mean, sd), normal[:, : DAYS * 4].view(-1, DAYS, 4)
            inside = ((week > net.low + 1e-5) & (week < net.high - 1e-5)).all(dim=-1)
            own = inside & (state["member"] == m)[:, None]
            assert own.sum() > 10
            assert torch.allclose(found[own], noise[own], atol=1e-3)
            others = inside & (state["member"] != m)[:, None]
            assert members == 1 or (found[others] - noise[others]).abs().mean() > 0.05  # nobody else wrote them


@pytest.mark.parametrize("members", [1, 3])
def test_a_course_does_not_depend_on_its_batch(
    patients: Patients, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on where the batch is cut."""
    dynamics = TwinDynamics(untrained(members), patients)
    state, many = live(dynamics, torch.arange(PERSONS), 14)
    monkeypatch.setattr(twin_sampling, "CHUNK", 16)
    cut, parts = live(dynamics, torch.arange(PERSONS), 14)
    _, one = live(dynamics, torch.arange(17, 18), 14)
    for a, b, c in zip(many, parts, one, strict=True):
        for name in ("week", "level", "spread"):
            whole = getattr(a, name)
            assert torch.allclose(whole, getattr(b, name), atol=1e-4), name  # 1e-5 of a heart rate's sd
            assert torch.allclose(whole[17:18], getattr(c, name), atol=1e-4), name
        assert torch.equal(a.adverse, b.adverse) and bool(a.adverse[17]) == bool(c.adverse[0])
    assert state.keys() == cut.keys()
    for name, value in state.items():
        assert value.shape == cut[name].shape and torch.allclose(value, cut[name], atol=1e-4), name


@pytest.mark.parametrize("members", [1, 3])
def test_a_course_of_the_configured_shape_is_the_same_to_the_bit(patients: Patients, members: int) -> None:
    """Its widths fill whole tiles; narrower ones may differ in the last bits, which the test above allows for."""
    shape = load("twin.yaml", "twin", TwinSettings).shape
    dynamics = TwinDynamics(Twin(shape, members, DEFAULT_SIGNALS, SCALER, 2, 12, seed=1), patients)
    _, many = live(dynamics, torch.arange(PERSONS), 14)
    _, one = live(dynamics, torch.arange(17, 18), 14)
    for a, b in zip(many, one, strict=True):
        assert torch.equal(a.week[17:18], b.week) and torch.equal(a.level[17:18], b.level)


def test_a_step_leaves_the_state_it_was_given_and_may_be_taken_twice(patients: Patients) -> None:
    dynamics = TwinDynamics(untrained(3), patients)
    state, _ = live(dynamics, torch.arange(PERSONS), 3)
    before, keys = {name: value.clone() for name, value in state.items()}, torch.arange(PERSONS)
    dynamics.step(state, *ACTION, keys)
    dynamics.observe(state, *ACTION, patients.week, torch.zeros(PERSONS, dtype=torch.bool))
    assert all(torch.equal(before[name], state[name]) for name in state)
    weeks = [dynamics.step(state, *ACTION, keys)[1].week for _ in range(2)]
    assert torch.equal(*weeks)


def test_a_person_lives_an_episode_under_one_member(patients: Patients) -> None:
    dynamics, rows = TwinDynamics(untrained(3), patients), torch.arange(3000) % PERSONS
    state = dynamics.start(rows, stream_keys(0, torch.arange(3000)))
    shares = torch.bincount(state["member"], minlength=3) / 3000
    assert ((shares - 1 / 3).abs() < 0.04).all()
    some = of_rows(state, torch.arange(PERSONS))
    after, outcome = dynamics.step(some, *ACTION, torch.arange(PERSONS))
    assert torch.equal(after["member"], some["member"])
    changed = {**some, "member": (some["member"] + 1) % 3}
    other = dynamics.step(changed, *ACTION, torch.arange(PERSONS))[1]
    assert not torch.isclose(outcome.week, other.week).all(dim=2).any()
    assert torch.equal(outcome.level, other.level) and torch.equal(outcome.spread, other.spread)  # all members' view


def test_observing_a_sampled_week_gives_the_state_of_the_step(patients: Patients) -> None:
    dynamics = TwinDynamics(untrained(2), patients)
    state, _ = live(dynamics, torch.arange(PERSONS), 13)
    after, outcome = dynamics.step(state, *ACTION, torch.arange(PERSONS))
    told = dynamics.observe(state, *ACTION, outcome.week, outcome.adverse)
    assert after.keys() == told.keys()
    assert all(torch.allclose(after[name], told[name], atol=1e-4) for name in after)


def test_attention_is_over_the_days_that_were_lived(patients: Patients) -> None:
    """As the training form has it, the latest Sunday last; persons of several weeks side by side."""
    twin = untrained(2, weeks=4)
    dynamics, rows = TwinDynamics(twin, patients), torch.arange(PERSONS)
    states = [live(dynamics, rows, weeks)[0] for weeks in (1, 6)]
    state = {name: torch.cat([states[0][name][:20], states[1][name][20:]]) for name in states[0]}
    weights = dynamics.attention(state, *ACTION)
    assert weights.shape == (PERSONS, 1 + DAYS, 4 * DAYS)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(()), atol=1e-6)
    assert (weights[:20, :, : 2 * DAYS] == 0).all() and (weights[:20, :, 2 * DAYS :] > 0).all()
    assert (weights[20:] > 0).all()

    alone = TwinDynamics(untrained(1, weeks=4), patients)
    lived = live(alone, rows, 6)[0]
    net, record = alone.twin.networks()[0], Record(lived["traces"], lived["shown"], lived["seen"]).features()
    with torch.no_grad():
        person, _ = net.read_person(patients.features, SCALER.scale(patients.week))
        history = net.history(lived["hidden.0"], person, record)
        memory = torch.cat([lived[f"memory.0.{k}"] for k in reversed(range(4))], dim=1)
        expected = attend(
            net.day_queries(history, action_features(*ACTION, lived["given"])), memory, torch.tensor(True)
        )
    assert torch.allclose(alone.attention(lived, *ACTION)[:, 1:] @ memory, expected, atol=1e-5)


def test_one_member_never_disagrees_and_three_do(patients: Patients) -> None:
    spreads = [live(TwinDynamics(untrained(members), patients), torch.arange(PERSONS), 2)[1][-1].spread for members in (1, 3)]  # fmt: skip
    assert (spreads[0] == 0).all() and (spreads[1] > 0).all()
