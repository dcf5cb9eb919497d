"""Several seeds: a run for each, what they begin with, and what they come to together."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_here
from rich.console import Console

from core.errors import ConfigError, ManoError, MissingStageError
from pipeline.compare import MEASURES, comparison_table, group_row, grouped
from pipeline.config import check_command_line, load_config
from pipeline.store import RunStore, write_manifest
from pipeline.sweep import needed, take_stages, with_own_runs


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("--multirun seed=0,1,2,3,4 stage=policy", ["run=${preset}_seed${seed}", "base=${preset}"]),
        ("--multirun seed=0,1 stage=policy base=other preset=smoke", ["run=${preset}_seed${seed}"]),
        ("-m seed=range(0,3)", ["run=${preset}_seed${seed}"]),
        ("--multirun seed=0,1 stage=all runs_dir=x", ["run=${preset}_seed${seed}"]),
        ("--multirun seed=0,1 stage=policy run=mine_${seed}", []),
        ("--multirun seed=0,1 runs_dir=x_${seed}", []),
        ("--multirun seed=0,1 policy.epochs=1,2", []),
        ("seed=1 stage=policy", []),
    ],
)
def test_a_sweep_over_seeds_gets_a_run_for_each(line: str, more: list[str]) -> None:
    completed = with_own_runs(line.split())
    assert completed == [*line.split(), *more]
    if more:
        check_command_line(completed)


def test_what_a_stage_needs_is_all_that_stands_before_it() -> None:
    assert needed("source") == []
    assert needed("policy") == ["source", "profiles", "rhythms", "cohort", "risk", "trials", "twin"]


def test_a_run_begins_with_the_stages_of_another(smoke: RunStore, runs_dir: Path) -> None:
    def config(**changes: Any) -> Any:
        known = {"runs_dir": runs_dir, "run": "begun", "base": "smoke", "stage": "policy", **changes}
        return load_config(["preset=smoke", *(f"{key}={value}" for key, value in known.items())])

    begun, screen = RunStore(runs_dir / "begun"), Console(record=True, width=200, quiet=False)
    begun.root.mkdir()
    take_stages(config(), begun, screen)
    for stage in needed("policy"):
        assert begun.digest(stage, metrics=True) == smoke.digest(stage, metrics=True) and begun.damage(stage) is None
    assert not begun.has("policy")
    take_stages(config(), begun, screen)  # what is there stays
    assert screen.export_text().count("from run 'smoke'") == 1

    # Written anew, not into: the file is the base's too.
    write_manifest(begun.folder("twin"), begun.manifest("twin") | {"outputs": {"twin.json": "other"}})
    take_stages(config(), begun, screen)
    assert "stage 'twin' is not that of run 'smoke'" in screen.export_text()
    assert smoke.damage("twin") is None

    for wrong, error, message in (
        ({"stage": "all"}, ConfigError, "expected another run than 'begun', and one stage"),
        ({"base": "begun"}, ConfigError, "expected another run"),
        ({"base": "nowhere"}, MissingStageError, "needs 'source', which that run does not have; make it with"),
    ):
        with pytest.raises(error, match=message):
            take_stages(config(**wrong), begun, screen)


# --- the comparison


def row(run: str, earned: float, settings: str = "same", twin: str = "one", gap: float | None = 0.1) -> dict[str, Any]:
    rest = {
        "remission": 0.3,
        "dose_weeks": 6.0,
        "adverse_events": 0.1,
        "normalised_score": earned / 5,
        "exploitation_gap": gap,
    }
    known = {
        "run": run,
        "seed": 0,
        "return": earned,
        "return_ci": [earned - 1, earned + 1],
        "normalised_score_ci": None,
    }
    return {**known, **rest, "settings": settings, "twin": twin}


def test_runs_that_differ_in_their_seed_alone_are_taken_together() -> None:
    rows = [
        row("a_0", 1.0),
        row("b_seed0", 2.0, "other"),
        row("a_1", 3.0),
        row("lone", 2.0, "third"),
        row("b_seed1", 2.0, "other"),
    ]
    names = [[member["run"] for member in members] for members in grouped(rows)]
    assert names == [["a_0", "a_1"], ["b_seed0", "b_seed1"]]
    rng = np.random.default_rng(0)
    assert [group_row(members, rng, 10, 0.95)["group"] for members in grouped(rows)] == ["a", "b"]


def test_means_and_intervals_over_seeds() -> None:
    earned = [1.0, 2.0, 3.0, 4.0, 100.0]
    members = [row(f"r{k}", value, gap=None if k == 3 else 0.1) for k, value in enumerate(earned)]
    group = group_row(members, np.random.default_rng(0), 4_000, 0.9)
    found = group["return"]
    assert found["mean"] == 22 and found["iqm"] == 3  # of five, the middle three
    draws = np.random.default_rng(1).choice(earned, (4_000, 5))
    np.testing.assert_allclose(found["mean_ci"], np.quantile(draws.mean(axis=1), [0.05, 0.95]), atol=1.5)
    np.testing.assert_allclose(
        found["iqm_ci"], np.quantile(np.sort(draws)[:, 1:4].mean(axis=1), [0.05, 0.95]), atol=1.5
    )
    assert group["exploitation_gap"] is None and group["same_twin"]
    assert not group_row([row("a", 1.0), row("b", 1.0, twin="two")], np.random.default_rng(0), 5, 0.9)["same_twin"]
    console = Console(record=True, width=120)
    console.print(comparison_table(members, [group], 0.9))
    text = console.export_text()
    assert "r: IQM" in text and "n/a" in text and text.index("r4") < text.index("r0")


def test_the_command_reads_finished_runs(smoke: RunStore, runs_dir: Path) -> None:
    for name in ("twice_0", "twice_1"):
        shutil.copytree(smoke.root, runs_dir / name)
    where = f"runs_dir={runs_dir}"
    told = run_here("preset=smoke", where, "stage=compare", "compare=[twice_0,twice_1]")
    assert "twice: mean" in told and "the policy alone" in told
    found = json.loads((runs_dir / "comparison.json").read_text())
    policies = smoke.metrics("evaluate")["policies"]
    assert [each["return"] for each in found["runs"]] == [policies["ppo"]["return"]] * 2
    assert found["groups"][0]["return"]["mean_ci"] == pytest.approx([policies["ppo"]["return"]] * 2)
    assert {name for name, _, _ in MEASURES} <= set(found["groups"][0])

    shutil.rmtree(runs_dir / "twice_1" / "evaluate")
    for names, message in (
        ("[twice_0,twice_1]", "stage 'evaluate' has not been run; make it with"),
        ("[twice_0,nowhere]", "run 'nowhere' is not in .* expected one of "),
        ("[]", "expected names of different runs"),
        ("[twice_0,twice_0]", "expected names of different runs"),
    ):
        with pytest.raises(ManoError, match=message):
            run_here("preset=smoke", where, "stage=compare", f"compare={names}")
