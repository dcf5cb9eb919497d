"""The command, end to end, as a user meets it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_command, run_here
from plotly.offline import get_plotlyjs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.errors import DataError, MissingStageError
from pipeline.console import lookup, number, sparkline
from pipeline.stages import STAGES
from pipeline.store import RunStore, sha256

SUMMARY = {
    "profiles": "column_shapes pair_trends c2st_auc effective_share seconds ceiling shuffled",
    "rhythms": "distribution_score day_signal_mean day_signal_min within_week_sd cross_correlation_error lag1_error "
    "icc_error gru_discriminative c2st_auc seconds ceiling hierarchical_baseline",
    "cohort": "persons risk_counts profile_rhythm_correlation_error tstr_auc trtr_auc membership_auc attribute_gain "
    "attribute_gain_ci",
    "risk": "accuracy f1_high recall_high auc_high ece brier bayes_ceiling baselines subgroups seconds",
    "twin": "crps_ratio coverage_50 coverage_90 effect_error remission_gap placebo_change seconds steps_per_second",
    "policy": "steps seconds steps_per_second",
    "evaluate": "policies normalised_score normalised_score_ci exploitation_gap tree_fidelity",
    "run": "preset seed seconds peak_memory_mb versions",
}


def files_of(store: RunStore) -> dict[str, str]:
    """The digest of everything a run's manifests list."""
    return {
        f"{stage.name}/{name}": digest
        for stage in STAGES
        for name, digest in store.manifest(stage.name)["outputs"].items()
        if name not in ("metrics.json", "summary.json", "report.html", "overview.png")  # these hold times
        and not name.endswith("_card.md")
        and name != "cards/tripod_ai.md"  # and these the run's name
    }


def test_a_run_leaves_what_it_promises(smoke: RunStore) -> None:
    summary = json.loads((smoke.root / "summary.json").read_text())
    for part, keys in SUMMARY.items():
        missing = set(keys.split()) - set(summary[part])
        assert not missing, f"{part} lacks {missing}"
    arrays = smoke.arrays("source", "holdout_rhythms.npz")
    assert set(arrays) == {"rhythms", "mask", "risk", "person"}
    assert not set(smoke.arrays("source", "train_rhythms.npz")["person"]) & set(arrays["person"])
    episodes = smoke.frame("evaluate", "episodes.parquet")
    assert list(episodes) == [
        "policy", "seed", "patient", "week", "treatment", "intensity", "risk", "reward", "adverse_event", "remission",
        "level_gain",
    ]  # fmt: skip
    page = (smoke.folder("report") / "report.html").read_text()
    assert not re.search(
        r"<(?:link|img|iframe)\b|<script[^>]*\bsrc|https?://|@import|url\(", page.replace(get_plotlyjs(), "")
    )


def test_the_screen_tells_the_story(smoke_output: str) -> None:
    for text in ("not medical advice", "risk before", "prescription", "risk after", "stepped care", "no treatment"):
        assert text in smoke_output
    assert "Traceback" not in smoke_output


def test_the_returns_in_the_table_are_those_of_the_episodes(smoke: RunStore) -> None:
    episodes, table = smoke.frame("evaluate", "episodes.parquet"), smoke.metrics("evaluate")["policies"]
    for name in ("ppo", "none", "stepped_care"):
        returns = episodes[episodes.policy == name].groupby(["patient", "seed"]).reward.sum()
        assert table[name]["return"] == pytest.approx(returns.mean(), rel=1e-4)
    assert (episodes[episodes.policy == "none"].intensity == 0).all()


def test_every_trained_part_has_scalars(smoke: RunStore) -> None:
    tags = {}
    for stage in STAGES:
        for events in sorted(smoke.folder(stage.name).rglob("events.out.tfevents*")):
            accumulator = EventAccumulator(str(events))
            accumulator.Reload()
            tags.setdefault(stage.name, set()).update(accumulator.Tags()["scalars"])
    assert any(tag.startswith("ctgan/") for tag in tags["profiles"])
    for phase in ("embedding", "supervisor", "joint"):
        assert any(tag.startswith(f"timegan/{phase}/") for tag in tags["rhythms"])
    assert any(tag.startswith("risk/") for tag in tags["risk"])
    assert any(tag.startswith("twin/") for tag in tags["twin"])
    assert {"rollout/ep_rew_mean", "train/loss", "train/approx_kl"} <= tags["policy"]


def test_the_same_seed_gives_the_same_files_and_weights(smoke: RunStore, runs_dir: Path) -> None:
    run_here("preset=smoke", "run=again", f"runs_dir={runs_dir}")
    assert files_of(RunStore(runs_dir / "again")) == files_of(smoke)


def test_nothing_changed_means_nothing_runs(smoke: RunStore, runs_dir: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in smoke.root.rglob("manifest.json")}
    assert run_here("preset=smoke", f"runs_dir={runs_dir}").count("skipped") == len(STAGES)
    assert {path: path.stat().st_mtime_ns for path in smoke.root.rglob("manifest.json")} == before


def test_caution_weighs_harm_where_the_agent_learns_and_nowhere_else(smoke: RunStore, tmp_path: Path) -> None:
    shutil.copytree(smoke.root, tmp_path / "smoke")
    run_here("preset=smoke", f"runs_dir={tmp_path}", "stage=policy", "policy.caution=1000")
    wary, usual = RunStore(tmp_path / "smoke"), smoke
    learned = [float(np.mean(store.metrics("policy")["returns"]["0"][-1])) for store in (wary, usual)]
    assert learned[0] < learned[1] - 10  # a course has some chance of an adverse event, at 2,500 each
    made = [store.manifest("policy")["outputs"] for store in (wary, usual)]
    assert made[0]["privileged.safetensors"] == made[1]["privileged.safetensors"]  # it learns what it is judged by
    assert made[0]["agent_0.safetensors"] != made[1]["agent_0.safetensors"]


def test_a_changed_setting_reruns_its_stage_and_what_follows(smoke: RunStore, tmp_path: Path) -> None:
    shutil.copytree(smoke.root, tmp_path / "smoke")
    printed = run_here("preset=smoke", f"runs_dir={tmp_path}", "evaluate.resamples=60")
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("✓")] == ["evaluate", "report"]
    assert "✓ source" in run_here("preset=smoke", f"runs_dir={tmp_path}", "stage=source", "seed=5")
    assert RunStore(tmp_path / "smoke").manifest("source")["seed"] == 5


def test_an_interrupted_policy_goes_on_and_ends_the_same(
    smoke: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(smoke.root, tmp_path / "smoke")
    command = ("preset=smoke", f"runs_dir={tmp_path}", "stage=policy", "force=true")
    save = RunStore.save_checkpoint

    def save_and_stop(self: RunStore, *what: object) -> None:
        save(self, *what)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(RunStore, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run_here(*command)
    store = RunStore(tmp_path / "smoke")
    assert store.digest("policy") == smoke.digest("policy")  # the old result is still there
    assert "went on from week 3,072" in run_here(*command)
    assert store.digest("policy") == smoke.digest("policy")
    assert not (store.root / "checkpoints").exists()


def test_other_settings_upstream_are_noted(smoke: RunStore, tmp_path: Path) -> None:
    shutil.copytree(smoke.root, tmp_path / "smoke")
    printed = run_here("preset=smoke", f"runs_dir={tmp_path}", "stage=evaluate", "twin.steps=41")
    assert "stage 'twin' was made with other settings" in printed


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_every_stage_runs_alone(smoke: RunStore, runs_dir: Path, stage: str) -> None:
    lines = run_here("preset=smoke", f"runs_dir={runs_dir}", f"stage={stage}").splitlines()
    assert [line.split()[:2] for line in lines if line[0] in "✓="] == [["=", stage]]


def one_line(done: object, status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr  # type: ignore[attr-defined]
    lines = done.stderr.strip().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0], lines[0]


def test_a_missing_stage_is_named_with_its_command(tmp_path: Path) -> None:
    done = run_command("preset=smoke", f"runs_dir={tmp_path}", "stage=rhythms")
    one_line(done, 1, "'source'", "python run_pipeline.py", "stage=source")
    with pytest.raises(MissingStageError, match=r"python run_pipeline.py .*stage=trials"):
        run_here("preset=smoke", f"runs_dir={tmp_path}", "stage=journey")


def test_a_wrong_key_ends_before_anything_runs(tmp_path: Path) -> None:
    one_line(run_command(f"runs_dir={tmp_path}/x", "rhythms.bach=3"), 2, "rhythms.bach", "'rhythms.batch'")
    assert not (tmp_path / "x").exists()


def test_the_journey_follows_the_patient_asked_for(smoke: RunStore, runs_dir: Path) -> None:
    journey = ("preset=smoke", f"runs_dir={runs_dir}", "stage=journey")
    with pytest.raises(DataError, match=r"patient=9999.* patients 0 to 399"):
        run_here(*journey, "patient=9999")
    first = run_here(*journey)
    assert run_here(*journey, f"patient={first.split('Patient ')[1].split()[0]}") == first


def test_help_is_a_page() -> None:
    done = run_command("--help")
    assert done.returncode == 0
    for text in ("stage=rhythms", "preset", "lifesnaps", "tensorboard --logdir runs", "not medical advice"):
        assert text in done.stdout


def write_tables(folder: Path, persons: int = 40, weeks: int = 2, seed: int = 0) -> tuple[Path, Path]:
    """A small made-up pair of CSV tables: a daily one and a profile one."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2026-01-05", periods=7 * weeks).strftime("%Y-%m-%d")
    strain = rng.normal(0, 1, persons)
    rows = [
        {
            "person": f"p{i}", "date": day, "sleep_duration": 7 - 0.4 * strain[i] + rng.normal(0, 1),
            "sleep_quality": np.clip(6 - strain[i] + rng.normal(0, 1), 1, 10), "heart_rate": 65 + rng.normal(0, 3),
            "stress": np.clip(5 + strain[i] + rng.normal(0, 1), 1, 10),
        }
        for i in range(persons) for day in days
    ]  # fmt: skip
    daily, profiles = folder / "daily.csv", folder / "profiles.csv"
    pd.DataFrame(rows).to_csv(daily, index=False)
    people = {"person": [f"p{i}" for i in range(persons)], "age": rng.integers(18, 70, persons),
              "gender": rng.choice(["Female", "Male"], persons)}  # fmt: skip
    pd.DataFrame(people).to_csv(profiles, index=False)
    return daily, profiles


def source_of(folder: Path, runs: Path) -> tuple[str, ...]:
    """The overrides that read those tables."""
    tables = (f"data.daily={folder}/daily.csv", f"data.profiles={folder}/profiles.csv")
    return ("preset=smoke", "stage=source", "data=csv", *tables, "labels=rules", f"runs_dir={runs}")


def spoil(daily: pd.DataFrame, how: str) -> pd.DataFrame:
    if how == "missing column":
        return daily.rename(columns={"stress": "stres"})
    if how == "duplicate":
        return pd.concat([daily, daily.iloc[[3]]])
    if how == "few persons":
        return daily[daily.person.isin([f"p{i}" for i in range(19)])]
    changed = daily.astype({"stress": object})
    changed.loc[3, "stress"] = {"text": "high", "range": 42.0}[how]
    return changed


def results(folder: Path) -> dict[Path, str]:
    """The SHA-256 of every file but of the lock and the audit trail, in which a refused attempt stands as well."""
    kept = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("audit.", ".lock")))
    return {path: sha256(path) for path in kept}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing column", ["daily.csv", "'stress'", "'stres'"]),
        ("text", ["daily.csv", "stress", "high"]),
        ("range", ["daily.csv", "stress", "42"]),
        ("duplicate", ["daily.csv", "two rows for one day", "2026-01-08"]),
        ("few persons", ["19", "20"]),
    ],
)
def test_a_bad_table_is_one_line_and_leaves_the_old_run(tmp_path: Path, how: str, words: list[str]) -> None:
    daily, _ = write_tables(tmp_path)
    runs = tmp_path / "runs"
    run_here(*source_of(tmp_path, runs))
    before = results(runs / "smoke")
    spoil(pd.read_csv(daily), how).to_csv(daily, index=False)
    with pytest.raises(DataError) as error:
        run_here(*source_of(tmp_path, runs))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), str(error.value)
    after = results(runs / "smoke")
    assert after == before


def test_an_absent_risk_class_is_named(tmp_path: Path) -> None:
    write_tables(tmp_path)
    with pytest.raises(DataError, match=r"'High'.*labels=") as error:
        run_here(*source_of(tmp_path, tmp_path / "runs"), "labels.high_at=1.0")
    assert "\n" not in str(error.value)


def test_small_numbers_are_written_as_a_person_would() -> None:
    assert [number(x) for x in (1234567, 0.12345, 3.14159, None, float("nan"))] == [
        "1,234,567",
        "0.123",
        "3.14",
        "n/a",
        "n/a",
    ]
    assert sparkline(np.array([0.0, 1.0, np.nan]), 0, 1) == "▁█·"
    assert lookup({"a": {"b": 1}}, "a.b") == 1 and lookup({"a": 1}, "a.b") is None


@pytest.mark.slow
def test_a_table_of_ones_own_goes_all_the_way(tmp_path: Path) -> None:
    """Three signals, two agents, no privileged reference, no sensitive column: everything that may be absent is."""
    write_tables(tmp_path, persons=90)
    signals = [
        f"{{column: {name}, name: {name}, unit: {unit}, low: {low}, high: {high}, better: {better}}}"
        for name, unit, low, high, better in (
            ("sleep_duration", "h", 0, 14, 1), ("sleep_quality", "score", 1, 10, 1), ("stress", "score", 1, 10, -1),
        )
    ]  # fmt: skip
    overrides = [word for word in source_of(tmp_path, tmp_path / "runs") if not word.startswith("stage=")]
    more = ("policy.seeds=2", "policy.privileged=false", "env.min_risk=0.2", f"data.signals=[{','.join(signals)}]")
    printed = run_here(*overrides, *more)
    store = RunStore(tmp_path / "runs" / "smoke")
    assert "rule 'raised_heart_rate' is not applicable" in printed
    assert store.cohort("cohort").rhythms.shape[1:] == (7, 3)
    assert set(store.frame("evaluate", "episodes.parquet").policy) >= {"ppo_0", "ppo_1", "none"}
    summary = json.loads((store.root / "summary.json").read_text())
    assert "bayes_ceiling" not in summary["risk"] and summary["cohort"]["attribute_gain"] is None
    assert "n/a" in (store.folder("report") / "report.html").read_text()


@pytest.mark.slow
def test_real_persons_go_all_the_way(tmp_path: Path, lifesnaps_folder: Path) -> None:
    """LifeSnaps: few persons with several weeks each, and rules for labels."""
    printed = run_here("preset=smoke", "data=lifesnaps", f"data.path={lifesnaps_folder}", f"runs_dir={tmp_path}")
    assert "persons" in printed and "Traceback" not in printed
    store = RunStore(tmp_path / "smoke")
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    assert not set(train.person) & set(holdout.person) and train.persons + holdout.persons >= 20
    assert (~train.mask).sum(axis=1).max() <= 2  # days filled, per signal and week
    summary = json.loads((store.root / "summary.json").read_text())
    assert summary["run"]["labels"] == "rules"
    assert summary["evaluate"]["policies"]["ppo"]["patients"] <= holdout.persons  # a person counts once
