"""Random numbers that depend only on what they are for.

Two kinds. *Generators* for training loops and sampling are derived from the run's seed and a name, so that adding a
draw in one stage never shifts another. *Streams* for the simulator are counter-based: the numbers of one environment,
episode and week are a pure function of (seed, environment, episode, week), whatever the batch they are drawn in.

The stream is SplitMix64 (Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195) on 64-bit integers that wrap.
"""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The two's-complement reading of a 64-bit constant, which is how torch holds it."""
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_LOW_32 = 0xFFFFFFFF


def numpy_generator(seed: int, *names: str) -> np.random.Generator:
    """A generator for the purpose that ``names`` spell, independent of every other purpose's."""
    return np.random.default_rng(np.random.SeedSequence([seed, *(zlib.crc32(name.encode()) for name in names)]))


def torch_generator(seed: int, *names: str, device: str | torch.device = "cpu") -> torch.Generator:
    """As :func:`numpy_generator`, for torch."""
    state = np.random.SeedSequence([seed, *(zlib.crc32(name.encode()) for name in names)]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(state[0]) >> 1)


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Torch's global generators seeded within, as they were after: for libraries' and layers' own initial weights.

    Build networks on the CPU and move them afterwards: CUDA's generators take part only where CUDA is already in use,
    since seeding them before would stay queued until it is.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical (unsigned) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection on 64-bit integers that avalanches."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def stream_keys(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Fold ``seed`` and ``counters`` (ints or int64 ``[B]``, broadcast) into int64 keys of the broadcast shape."""
    key = _mix(torch.as_tensor(seed, dtype=torch.int64) + _GAMMA)
    for counter in counters:
        key = _mix((key ^ torch.as_tensor(counter, dtype=torch.int64).to(key.device)) * _MIX_2 + _GAMMA)
    return key


def _words(keys: Tensor, n: int) -> Tensor:
    """``[B, n]`` 64-bit words of each key's stream."""
    offsets = torch.arange(1, n + 1, dtype=torch.int64, device=keys.device) * _GAMMA
    return _mix(keys.unsqueeze(-1) + offsets)


def stream_uniform(keys: Tensor, n: int) -> Tensor:
    """Uniform numbers in (0, 1): float64 ``[B, n]`` from keys ``[B]``."""
    return (_shift_right(_words(keys, n), 12).to(torch.float64) + 0.5) * 2.0**-52


def stream_normal(keys: Tensor, n: int) -> Tensor:
    """Standard normal numbers: float64 ``[B, n]`` from keys ``[B]`` (Box-Muller, two numbers a word)."""
    words = _words(keys, (n + 1) // 2)
    radius = torch.sqrt(-2.0 * torch.log((_shift_right(words, 32).to(torch.float64) + 0.5) * 2.0**-32))
    angle = (2.0 * math.pi * 2.0**-32) * (words & _LOW_32).to(torch.float64)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)[..., :n]
