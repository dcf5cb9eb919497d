"""The risk model beside baselines and the Bayes ceiling, on persons nobody has seen, for both kinds of labels.

    python benchmarks/risk.py [--seeds 3] [--first-seed 0] [--json FILE]

Each seed draws 2,000 training persons, trains the default generators on them, draws 5,000 synthetic persons, and judges
on 10,000 fresh ones: on the 2,000 that a run holds out, the ECE of perfect probabilities is about .02 by chance alone.
Questionnaire and rules label the same persons. One thread but where two are named; seconds are of CPU time, scored
persons a second of wall clock.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import joblib
import numpy as np
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.candidates import COHORTS, PROFILES, QUIET, RHYTHMS, Population, clocked, fitted, labelled, population
from benchmarks.risk_scores import (
    BASELINES,
    BY_ITSELF,
    CEILING,
    EARLY,
    MODES,
    PRIOR,
    REAL,
    REAL_UNNAMED,
    SPECIALIST,
    UNNAMED,
    compared,
    metrics,
    tables,
)
from benchmarks.scores import OURS, Results, Scores, table, verdicts
from core.cohort import Cohort
from core.errors import ManoError
from generators.fusion import fuse
from generators.labels import concepts, hidden_columns
from pipeline.config import load_config
from pipeline.console import console
from pipeline.stages.risk import ATTRIBUTED, knowable
from predictor.baselines import baseline_probabilities
from predictor.calibration import ece_floor
from predictor.decision import operating_point
from predictor.dual_lstm import BATCH, DualLSTMRisk
from predictor.early_warning import early_warning
from predictor.evaluation import prior_probabilities
from predictor.explain import attribution_summary, batch_drivers
from predictor.metrics import HIGH, risk_metrics
from predictor.training import train_risk

PERSONS, FRESH = 2000, 10_000  # training persons, and those who judge
WIDE = 170  # columns where the output is no terminal


@dataclass(frozen=True)
class Timed:
    """How many persons are scored at once, how often (the fastest counts), and how many are explained."""

    scored: int
    repeats: int
    drivers: int
    attributed: int


TIMED, QUICK = Timed(4 * BATCH, 5, 1000, ATTRIBUTED), Timed(500, 1, 20, 10)


# --- one seed and label mode


def synthetic_persons(p: Population) -> Cohort:
    """As a run draws them with the default generators; not labelled yet."""
    profiles, rhythms = COHORTS[OURS]
    parts = fitted(PROFILES[profiles], p)[0], fitted(RHYTHMS[rhythms], p)[0]
    return fuse(*parts, p.config.cohort.persons, p.train.signals, p.rng("fusion"))


def in_mode(p: Population, mode: str, changes: list[str]) -> Population:
    """The same persons with other labels."""
    if p.config.labels.kind == mode:
        return p
    config = load_config([*changes, f"labels={mode}", f"seed={p.seed}"])
    train, holdout = (labelled(cohort, config, p.train) for cohort in (p.train, p.holdout))
    return replace(p, config=config, train=train, holdout=holdout)


def networks(p: Population, synthetic: Cohort) -> dict[str, tuple[DualLSTMRisk, float]]:
    """The network, trained in each way, and the CPU seconds it took."""

    def fit(cohort: Cohort, named: bool, validation: Cohort | None) -> tuple[DualLSTMRisk, float]:
        parts = concepts(cohort, p.config.labels, QUIET, relative_to=p.train) if named else {}
        hidden = hidden_columns(p.config.labels)
        return clocked(lambda: train_risk(cohort, p.config.risk, hidden, p.seed, QUIET, parts, validation))

    return {
        OURS: fit(synthetic, True, p.train),
        BY_ITSELF: fit(synthetic, True, None),
        UNNAMED: fit(synthetic, False, p.train),
        REAL: fit(p.train, True, None),
        REAL_UNNAMED: fit(p.train, False, None),
    }


def quality(p: Population, synthetic: Cohort, models: dict[str, tuple[DualLSTMRisk, float]]) -> dict[str, Scores]:
    """Every predictor's scores on the fresh persons."""
    fresh, ceiling = p.holdout, knowable(p.config, p.holdout)
    assert fresh.risk is not None and ceiling is not None
    labels = fresh.risk.astype(np.int64)
    predicted = {name: model.predict_cohort(fresh) for name, (model, _) in models.items()}
    for cohort, of, prefix in ((synthetic, OURS, ""), (p.train, REAL, "real: ")):
        model = models[of][0]
        found = baseline_probabilities(cohort, fresh, model.encoder, model.scaler, p.seed)
        predicted |= {prefix + BASELINES[name]: probabilities for name, probabilities in found.items()}
    predicted |= {PRIOR: prior_probabilities(synthetic, len(fresh)), CEILING: ceiling}
    rows: dict[str, Scores] = {name: {**risk_metrics(labels, each)} for name, each in predicted.items()}
    for name, probabilities in predicted.items():
        rows[name]["ece_floor"] = ece_floor(probabilities, p.rng("ece floor"))
    for name, (model, seconds) in models.items():
        found_high = operating_point(labels, predicted[name][:, HIGH], float(model.alarm))["recall"]
        rows[name] |= {"alarm_target": p.config.risk.target_recall, "alarm_recall": found_high, "fit_seconds": seconds}
    return compared(rows)


def first_days(p: Population, synthetic: Cohort, model: DualLSTMRisk) -> dict[str, Scores]:
    """Risk from the first days of the fresh persons' week: our model, a specialist, the ceiling where there is one."""
    found = {days: knowable(p.config, p.holdout, days) for days in EARLY}
    ceilings = {days: ceiling for days, ceiling in found.items() if ceiling is not None}
    early = early_warning(model, synthetic, p.holdout, EARLY, ceilings, p.seed)
    titles = {"masked": OURS, "specialist": SPECIALIST, "bayes": CEILING}
    rows: dict[str, Scores] = {}
    for days, scored in early.items():
        for which, name in titles.items():
            if which in scored:
                rows.setdefault(name, {}).update({f"{k}_{days}": scored[which][k] for k in ("auc_high", "ece")})
    return rows


def speed(p: Population, model: DualLSTMRisk) -> Scores:
    """Thousands of persons a second, scored and explained, and how far attributions are from adding up."""
    timed = QUICK if p.quick else TIMED
    many = p.holdout.select(np.resize(np.arange(len(p.holdout)), timed.scored))
    one = scored_a_second(model, many, 1, timed.repeats)
    two = scored_a_second(model, many, 2, timed.repeats) if len(os.sched_getaffinity(0)) > 1 else None
    seconds = clocked(lambda: batch_drivers(model, many.select(np.arange(timed.drivers)), 3))[1]
    return {
        "one_thread": one / 1000,
        "two_threads": None if two is None else two / 1000,
        "thread_gain": None if two is None else two / one,
        "explained": timed.drivers / seconds / 1000,
        "completeness_error": attribution_summary(model, p.holdout, timed.attributed)["completeness_error_max"],
    }


def scored_a_second(model: DualLSTMRisk, cohort: Cohort, threads: int, repeats: int) -> float:
    """Wall clock of the fastest repeat, encoding included."""
    took = []
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        for _ in range(repeats):
            start = time.perf_counter()
            model.predict_cohort(cohort)
            took.append(time.perf_counter() - start)
    torch.set_num_threads(1)
    return len(cohort) / min(took)


# --- all of them


def overrides(options: argparse.Namespace) -> list[str]:
    """The configuration that differs from the pipeline's own."""
    if options.quick:
        return ["preset=smoke", "risk.graded.steps=20", "risk.sharp.steps=20"]
    return [f"source.persons={PERSONS}", f"source.holdout_persons={FRESH}"]


def measure(options: argparse.Namespace, screen: Console, results: Results) -> None:
    """Every row of every seed and mode, into ``results``."""
    changes = overrides(options)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        with screen.status(f"seed {seed}: generators"):
            drawn = population(changes, seed, options.quick)
            unlabelled, seconds = clocked(lambda: synthetic_persons(drawn))  # noqa: B023 - called at once
        screen.print(f"seed {seed}  {'generators':<14} {seconds:6.1f} s", style="dim")
        for mode in MODES:
            with screen.status(f"seed {seed}: {mode}"):
                found, seconds = clocked(lambda: in_this_mode(in_mode(drawn, mode, changes), unlabelled, mode))  # noqa: B023
            screen.print(f"seed {seed}  {mode:<14} {seconds:6.1f} s", style="dim")
            for part, rows in found.items():
                for name, scores in rows.items():
                    results.setdefault(part, {}).setdefault(name, {})[str(seed)] = scores
        fitted.cache_clear()
        if options.json:
            options.json.write_text(json.dumps({"setup": changes, "results": results}, indent=1))


def in_this_mode(p: Population, unlabelled: Cohort, mode: str) -> dict[str, dict[str, Scores]]:
    synthetic = labelled(unlabelled, p.config, p.train)
    models = networks(p, synthetic)
    ours = models[OURS][0]
    return {
        mode: quality(p, synthetic, models),
        f"{mode}, first days": first_days(p, synthetic, ours),
        "speed": {f"{OURS}, {mode}": speed(p, ours)},
    }


def report(results: Results, screen: Console) -> None:
    """Every table, then a line for each row that is held to bars."""
    for part, every in results.items():
        for title, rows in tables(part, every).items():
            shown = [
                metric for metric in metrics(part) if any(metric.mean(seeds) is not None for seeds in rows.values())
            ]
            screen.print()
            screen.print(table(title, shown, rows))
    for part, rows in results.items():
        if any(metric.bar for metric in metrics(part)):
            for line in verdicts(part, metrics(part), rows):
                screen.print(line)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs: the numbers mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every number of every seed")
    options, screen, results = parser.parse_args(arguments), console(), Results()
    if not screen.is_terminal:
        screen.width = WIDE
    try:
        with threadpool_limits(1), joblib.parallel_config(backend="sequential"):
            torch.set_num_threads(1)
            measure(options, screen, results)
    except ManoError as error:
        sys.exit(f"error: {error}")
    report(results, screen)


if __name__ == "__main__":
    main()
