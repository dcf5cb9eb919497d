"""The vocabulary: cohorts, encodings, random streams."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.cohort import Cohort, require_classes, validate
from core.encoding import ProfileEncoder, WeekScaler, divisor
from core.errors import DataError
from core.patients import from_cohort
from core.protocols import risk_score
from core.random import numpy_generator, seeded_init, stream_keys, stream_normal, stream_uniform, torch_generator
from core.signals import DEFAULT_SIGNALS


def people(n: int = 30, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    profiles = pd.DataFrame({"age": rng.integers(18, 80, n), "gender": rng.choice(["Female", "Male"], n)})
    rhythms = np.tile(np.array([7.0, 6.0, 65.0, 5.0], np.float32), (n, 7, 1)) + rng.normal(0, 0.5, (n, 7, 4)).astype(
        "f4"
    )
    return Cohort(profiles, rhythms, np.ones(rhythms.shape, bool), np.arange(n), DEFAULT_SIGNALS)


def test_splitmix64_gives_its_published_numbers() -> None:
    # The first outputs of SplitMix64 from state 1234567, as in the reference implementation's test vector.
    from core.random import _words

    words = [int(word) & (2**64 - 1) for word in _words(torch.tensor([1234567]), 5)[:, 0]]
    assert words == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_streams_do_not_depend_on_the_batch() -> None:
    keys = stream_keys(7, torch.arange(50), 3, 2)
    whole = stream_normal(keys, 9)
    for i in (0, 13, 49):
        alone = stream_normal(stream_keys(7, torch.tensor([i]), 3, 2), 9)
        assert torch.equal(alone[0], whole[i])
    # A longer request begins with... its own numbers, so lengths are part of the contract; uniforms are a prefix.
    assert torch.equal(stream_uniform(keys, 3), stream_uniform(keys, 8)[:, :3])


def test_streams_are_uniform_normal_and_unrelated() -> None:
    keys = stream_keys(1, torch.arange(20_000), 0, 1)
    u, z = stream_uniform(keys, 4), stream_normal(keys, 4)
    assert u.min() > 0 and u.max() < 1
    assert torch.allclose(u.mean(0), torch.full((4,), 0.5, dtype=u.dtype), atol=0.01)
    assert torch.allclose(z.std(0), torch.ones(4, dtype=z.dtype), atol=0.02)
    assert (torch.corrcoef(z.T) - torch.eye(4)).abs().max() < 0.03
    # Neighbouring environments, episodes and weeks, and swapped counters, share nothing.
    others = [stream_keys(1, torch.arange(20_000) + 1, 0, 1), stream_keys(1, torch.arange(20_000), 1, 1),
              stream_keys(1, torch.arange(20_000), 1, 0), stream_keys(2, torch.arange(20_000), 0, 1)]  # fmt: skip
    for other in others:
        correlation = torch.corrcoef(torch.stack([z[:, 0], stream_normal(other, 4)[:, 0]]))[0, 1]
        assert abs(float(correlation)) < 0.03


def test_named_generators_are_independent_and_repeatable() -> None:
    assert numpy_generator(3, "a").random() == numpy_generator(3, "a").random()
    assert numpy_generator(3, "a").random() != numpy_generator(3, "b").random()
    assert torch.rand(2, generator=torch_generator(3, "a")).equal(torch.rand(2, generator=torch_generator(3, "a")))


def test_global_random_state_is_untouched() -> None:
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    numpy_generator(1, "x").random(5)
    stream_normal(stream_keys(1, torch.arange(5)), 3)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_seeded_init_repeats_and_restores() -> None:
    before = torch.get_rng_state()
    with seeded_init(3):
        first = torch.nn.Linear(3, 2).weight
    with seeded_init(3):
        again = torch.nn.Linear(3, 2).weight
    with seeded_init(4):
        other = torch.nn.Linear(3, 2).weight
    assert torch.equal(first, again) and not torch.equal(first, other)
    with pytest.raises(RuntimeError, match="within"), seeded_init(3):
        torch.rand(5)
        raise RuntimeError("within")
    assert torch.equal(torch.get_rng_state(), before)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda x: sum(x) > 0))
def test_risk_score_lies_between_its_classes(weights: list[float]) -> None:
    p = torch.tensor(weights, dtype=torch.float64)
    p = p / p.sum()
    assert 0 <= float(risk_score(p)) <= 1 + 1e-12
    assert float(risk_score(p)) == pytest.approx(float(p[1]) / 2 + float(p[2]))


def test_encoder_standardises_and_counts_what_it_has_not_seen() -> None:
    cohort = people()
    encoder = ProfileEncoder.fit(cohort.profiles)
    encoded = encoder.encode(cohort.profiles)
    assert encoded.shape == (30, encoder.size) == (30, 1 + 2)
    assert encoded[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert (encoded[:, 1:].sum(1) == 1).all()
    strange = cohort.profiles.assign(gender="Unheard")
    assert encoder.feature_names == ("age", "gender=Female", "gender=Male")
    assert not encoder.encode(strange)[:, 1:].any()
    assert np.array_equal(encoder.encode(strange)[:, 0], encoded[:, 0])
    assert encoder.unseen(strange) == {"gender": 30}
    assert ProfileEncoder.from_meta(encoder.to_meta()) == encoder
    with pytest.raises(DataError, match="lack column 'gender'"):
        encoder.encode(cohort.profiles.drop(columns="gender"))
    assert "age" not in ProfileEncoder.fit(cohort.profiles, hidden=("age",)).columns


def test_every_feature_was_seen_in_training() -> None:
    """A column that is constant in training leaves weights on it as they were drawn."""
    cohort = people()
    assert (ProfileEncoder.fit(cohort.profiles).encode(cohort.profiles).std(axis=0) > 0).all()


@pytest.mark.parametrize("value", [0.1, 0.7, 1e6 + 0.1, -37.3, 0.0])
def test_a_constant_column_or_signal_is_centred_not_blown_up(value: float) -> None:
    cohort = people()
    encoder = ProfileEncoder.fit(cohort.profiles.assign(flat=value))
    assert encoder.numeric["flat"][1] == 1
    moved = encoder.encode(cohort.profiles.assign(flat=value + 0.5))[:, encoder.feature_names.index("flat")]
    assert moved == pytest.approx(0.5, abs=1e-6)
    rhythms = cohort.rhythms.copy()
    rhythms[:, :, 1] = value
    scaler = WeekScaler.fit(Cohort(cohort.profiles, rhythms, cohort.mask, cohort.person, cohort.signals))
    assert scaler.sd[1] == scaler.between[1] == 1
    assert scaler.sd[0] == pytest.approx(cohort.rhythms[:, :, 0].std(), rel=1e-5)


def test_a_small_but_real_spread_is_kept() -> None:
    assert np.std([0.1] * 30) > 0  # what the tolerance is for
    assert divisor(np.array([1e-17, 1e-6, 1e-4]), np.array([0.1, 0.0, 1e6])).tolist() == [1, 1e-6, 1]


def test_scaler_inverts_and_ignores_what_was_not_observed() -> None:
    cohort = people()
    scaler = WeekScaler.fit(cohort)
    week = torch.from_numpy(cohort.rhythms)
    assert torch.allclose(scaler.unscale(scaler.scale(week)), week, atol=1e-4)
    spoiled = cohort.rhythms.copy()
    mask = np.ones(spoiled.shape, bool)
    mask[:, 0, 0] = False
    spoiled[:, 0, 0] = 13.0
    again = WeekScaler.fit(Cohort(cohort.profiles, spoiled, mask, cohort.person, cohort.signals))
    assert again.mean[0] == pytest.approx(cohort.rhythms[:, 1:, 0].mean(), abs=1e-4)


def test_cohort_selects_and_validates() -> None:
    cohort = people().with_risk(np.arange(30) % 3)
    assert len(cohort.select(np.array([2, 1]))) == 2
    assert cohort.select(np.array([2, 1])).person.tolist() == [2, 1]
    assert cohort.select(cohort.risk == 1).persons == 10
    validate(cohort, "here")
    with pytest.raises(DataError, match="19 persons"):
        validate(cohort.select(np.arange(19)), "here")
    spoiled = cohort.rhythms.copy()
    spoiled[4, 2, 0] = 99
    with pytest.raises(DataError, match="'sleep_duration' is 99 at row 4, day 2"):
        validate(Cohort(cohort.profiles, spoiled, cohort.mask, cohort.person, cohort.signals), "here")
    with pytest.raises(DataError, match="risk class 'High'"):
        require_classes(cohort.with_risk(np.arange(30) % 2), "here")
    with pytest.raises(DataError, match="shape"):
        Cohort(cohort.profiles, cohort.rhythms[:5], cohort.mask, cohort.person, cohort.signals)


def test_patients_know_their_rows() -> None:
    cohort = people()
    patients = from_cohort(cohort, ProfileEncoder.fit(cohort.profiles), WeekScaler.fit(cohort)).select(np.array([4, 9]))
    assert patients.row_of(9) == 1
    with pytest.raises(DataError, match="patient_id 5 is unknown"):
        patients.row_of(5)
