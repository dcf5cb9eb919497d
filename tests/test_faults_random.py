"""The same seed gives the same run, and nobody's random numbers are touched on the way."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_here
from helpers_faults import copy_of, fault, same_results

from pipeline.stages import STAGES
from pipeline.store import RunStore


def global_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    state = {"python": random.getstate(), "numpy": (name, keys.tolist(), *rest), "torch": torch.get_rng_state().tolist()}  # fmt: skip
    if torch.cuda.is_initialized():
        state["cuda"] = [each.tolist() for each in torch.cuda.get_rng_state_all()]
    return state


def whatever_state(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)


def touches_nothing_and_gives_the_same(smoke: RunStore, folder: Path, stage: str) -> None:
    """Made again among other global random numbers: the same files, and those numbers as they were."""
    store = copy_of(smoke, folder)
    kept = global_state()
    with fault("another global random state"):
        whatever_state(sum(map(ord, stage)))
        before = global_state()
        assert before != kept
        run_here("preset=smoke", f"runs_dir={folder}", f"stage={stage}", "force=true")
        assert global_state() == before
        assert same_results(store, smoke, stage)


@pytest.mark.parametrize("stage", ["source", "trials"])
def test_a_stage_neither_reads_nor_moves_global_random_numbers(smoke: RunStore, tmp_path: Path, stage: str) -> None:
    touches_nothing_and_gives_the_same(smoke, tmp_path, stage)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage.name for stage in STAGES if stage.name not in ("source", "trials")])
def test_nor_does_any_other(smoke: RunStore, tmp_path: Path, stage: str) -> None:
    touches_nothing_and_gives_the_same(smoke, tmp_path, stage)
