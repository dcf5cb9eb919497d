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
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The two's-complement reading of a 64-bit constant, which is how torch holds it."""
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


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


def _mix_(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, in place: a bijection on 64-bit integers that avalanches."""
    shifted = torch.empty_like(x)  # one scratch for all: memory, not arithmetic, is what large batches wait for
    for bits, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
        torch.bitwise_right_shift(x, bits, out=shifted)
        x ^= shifted.bitwise_and_((1 << (64 - bits)) - 1)  # torch's shift carries the sign along
        if factor is not None:
            x *= factor
    return x


def stream_keys(seed: int | Tensor, *counters: int | Tensor) -> Tensor:
    """Fold ``seed`` and ``counters`` (ints or int64 ``[B]``, broadcast) into int64 keys of the broadcast shape."""
    return fold_keys(_mix_(torch.as_tensor(seed, dtype=torch.int64) + _GAMMA), *counters)


def fold_keys(keys: Tensor, *counters: int | Tensor) -> Tensor:
    """Fold further ``counters`` into keys: ``stream_keys(seed, a, b)`` is ``fold_keys(stream_keys(seed, a), b)``."""
    for counter in counters:
        keys = keys ^ (counter.to(keys.device, torch.int64) if isinstance(counter, Tensor) else counter)
        keys = _mix_(keys.mul_(_MIX_2).add_(_GAMMA))
    return keys


def _words(keys: Tensor, n: int) -> Tensor:
    """``[n, B]`` 64-bit words of each key's stream: number by number in memory, so that all that follows runs along B."""
    return _mix_(keys.unsqueeze(0) + _offsets(n, keys.device).view(n, *[1] * keys.ndim))


@lru_cache(maxsize=64)
def _offsets(n: int, device: torch.device) -> Tensor:
    return torch.arange(1, n + 1, dtype=torch.int64, device=device) * _GAMMA


def stream_uniform(keys: Tensor, n: int) -> Tensor:
    """Uniform numbers in (0, 1): float64 ``[B, n]`` from keys ``[B]``."""
    return _uniform(_words(keys, n)).movedim(0, -1)


def stream_normal(keys: Tensor, n: int) -> Tensor:
    """Standard normal numbers: float32 ``[B, n]`` from keys ``[B]`` (Box-Muller, two numbers a word)."""
    return _normal(_words(keys, (n + 1) // 2))[:n].movedim(0, -1)


def stream_draws(keys: Tensor, uniforms: int, normals: int) -> tuple[Tensor, Tensor]:
    """Both at once, from words of their own: float64 ``[B, uniforms]`` and float32 ``[B, normals]``."""
    words = _words(keys, uniforms + (normals + 1) // 2)
    return _uniform(words[:uniforms]).movedim(0, -1), _normal(words[uniforms:])[:normals].movedim(0, -1)


def _uniform(words: Tensor) -> Tensor:
    high = (words >> 12) & ((1 << 52) - 1)
    return (high.to(torch.float64) + 0.5) * 2.0**-52


def _normal(words: Tensor) -> Tensor:
    """Twice as many normals as ``words``, which are used up. The signed halves of a word are as good as unsigned ones:
    one gives the radius by its size (31 bits, so up to 6.7), the other the angle (-pi to pi)."""
    radius = (words >> 32).to(torch.float32).abs_().add_(0.5).mul_(2.0**-31)
    radius.log_().mul_(-2.0).clamp_(min=0.0).sqrt_()
    angle = words.bitwise_left_shift_(32).to(torch.float32).mul_(2.0 * math.pi * 2.0**-64)
    normal = angle.new_empty(2 * len(words), *words.shape[1:])
    torch.cos(angle, out=normal[: len(words)]).mul_(radius)
    torch.sin(angle, out=normal[len(words) :]).mul_(radius)
    return normal
