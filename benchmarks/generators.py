"""The generators of profiles, weeks and whole cohorts beside plain baselines and real people, on held-out persons.

    python benchmarks/generators.py [--seeds 3] [--persons 2000] [--only profiles|rhythms|cohort] [--rows WORD]
    python benchmarks/generators.py --data lifesnaps --path DIR [--seeds 5]

One thread; seconds are of CPU time. A seed stands for everything: the persons drawn, the training, the sampling.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose generators.py is no package

import joblib
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.candidates import (
    COHORTS,
    PROFILES,
    QUIET,
    RHYTHMS,
    Population,
    Weeks,
    clocked,
    fitted,
    labelled,
    population,
)
from benchmarks.lifesnaps import LIFESNAPS
from benchmarks.plain_profiles import Rows
from benchmarks.scores import METRICS, REAL, TITLES, Results, Scores, table, verdicts
from core.encoding import ProfileEncoder
from core.errors import ConfigError, ManoError
from generators.fusion import fuse
from generators.labels import hidden_columns
from generators.quality.c2st import c2st_auc
from generators.quality.cohort import cohort_quality
from generators.quality.dependence import correlation_error
from generators.quality.profiles import profile_scores
from generators.quality.rhythms import rhythm_quality
from generators.sources import read_source
from pipeline.console import console

DRAWN = 10_000  # persons whose drawing is timed
WIDE = 170  # columns where the output is no terminal


def score_profiles(p: Population, name: str) -> Scores:
    generator, seconds = fitted(PROFILES[name], p)
    drawn = generator.sample(len(p.train), p.rng("profiles"))
    rng, real = p.rng("profile quality"), p.holdout.profiles
    quality = profile_scores(drawn, p.train.profiles, real, rng)[0]
    encoder = ProfileEncoder.fit(real)
    known = set(p.train.profiles.itertuples(index=False, name=None))
    timed = (
        {}
        if isinstance(generator, Rows)
        else {"fit_seconds": seconds, "sample_seconds": clocked(lambda: generator.sample(DRAWN, p.rng("time")))[1]}
    )
    return {
        **{key: quality[key] for key in ("column_shapes", "pair_trends", "all_pair_trends")},
        "c2st_auc": c2st_auc(encoder.encode(real), encoder.encode(drawn), rng),
        "effective_share": getattr(generator, "effective_share", None),
        "copy_rate": None if name == REAL else share_of(drawn, known),
        **timed,
    }


def share_of(table: pd.DataFrame, known: set[tuple[Any, ...]]) -> float:
    return float(np.mean([row in known for row in table.itertuples(index=False, name=None)]))


def score_rhythms(p: Population, name: str) -> Scores:
    generator, seconds = fitted(RHYTHMS[name], p)
    weeks = generator.sample(p.train.profiles, p.rng("weeks"))
    drawn = replace(p.train, rhythms=weeks, mask=np.ones_like(p.train.mask))
    many = p.train.profiles.sample(DRAWN, replace=True, random_state=0)
    timed = (
        {}
        if isinstance(generator, Weeks)
        else {"fit_seconds": seconds, "sample_seconds": clocked(lambda: generator.sample(many, p.rng("time")))[1]}
    )
    return {
        **rhythm_quality(weeks, p.holdout.rhythms, p.rng("rhythm quality")),
        "profile_rhythm_correlation_error": correlation_error(drawn, p.holdout),
        **timed,
    }


def score_cohort(p: Population, name: str) -> Scores:
    persons, seconds = p.config.cohort.persons, 0.0
    if name == REAL:  # persons of whom neither training nor testing knows
        fresh = read_source(p.config.data, persons, p.rng("fresh"), QUIET)
    else:
        profiles, rhythms = COHORTS[name]
        parts = fitted(PROFILES[profiles], p)[0], fitted(RHYTHMS[rhythms], p)[0]
        fresh = fuse(*parts, persons, p.train.signals, p.rng("fusion"))
        seconds = clocked(lambda: fuse(*parts, DRAWN, p.train.signals, p.rng("time")))[1]
    hidden, sensitive = hidden_columns(p.config.labels), p.config.cohort.sensitive
    synthetic = labelled(fresh, p.config, p.train)
    quality = cohort_quality(synthetic, p.train, p.holdout, hidden, sensitive, None, p.rng("cohort quality"))
    low, high = quality["attribute_gain_ci"]
    keys = [metric.key for metric in METRICS["cohort"] if metric.key in quality]
    found = {key: quality[key] for key in keys} | {"attribute_gain_low": low, "attribute_gain_high": high}
    return found if name == REAL else found | {"sample_seconds": seconds}


Parts = dict[str, tuple[dict[str, Any], Callable[[Population, str], Scores]]]  # rows, and how one is scored
PARTS: Parts = {
    "profiles": (PROFILES, score_profiles),
    "rhythms": (RHYTHMS, score_rhythms),
    "cohort": (COHORTS, score_cohort),
}


def overrides(options: argparse.Namespace) -> list[str]:
    """The configuration that differs from the pipeline's own."""
    preset = ["preset=smoke"] if options.quick else []
    if options.data == "lifesnaps":
        return [*preset, "data=lifesnaps", f"data.path={options.path}"]
    persons = options.persons or (200 if options.quick else 2000)
    return [*preset, f"source.persons={persons}", f"source.holdout_persons={persons}"]


def measure(options: argparse.Namespace, parts: Parts, screen: Console, results: Results) -> None:
    """Every asked row of every asked part, seed by seed, into ``results``; saved after each."""
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        p = population(overrides(options), seed, options.quick)
        for part, (rows, score) in parts.items():
            for name in rows:
                if options.only not in (None, part) or options.rows not in name:
                    continue
                with screen.status(f"seed {seed}, {part}: {name}"):
                    scores, seconds = clocked(lambda: score(p, name))  # noqa: B023 - called at once
                screen.print(f"seed {seed}  {part:<10} {name:<28} {seconds:6.1f} s", style="dim")
                results.setdefault(part, {}).setdefault(name, {})[str(seed)] = scores
                if options.out:
                    options.out.write_text(json.dumps({"setup": overrides(options), "results": results}, indent=1))
        fitted.cache_clear()


def earlier(options: argparse.Namespace) -> Results:
    """What ``--out`` holds already.

    Raises:
        ConfigError: it was measured with other persons, data or settings.
    """
    if not options.out or not options.out.exists():
        return {}
    found = json.loads(options.out.read_text())
    if found["setup"] != overrides(options):
        raise ConfigError(
            f"{options.out} was measured with {' '.join(found['setup'])}, this is {' '.join(overrides(options))}; "
            "name another file with --out"
        )
    return found["results"]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (splits by person with LifeSnaps)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--persons", type=int, help="training persons, and as many held-out ones (2000)")
    parser.add_argument("--only", choices=list(PARTS), help="one part of it")
    parser.add_argument("--rows", default="", metavar="WORD", help="only rows whose name contains it")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs: the numbers mean nothing")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of every number; what it holds already is kept")
    parser.add_argument("--data", choices=("reference", "lifesnaps"), default="reference")
    parser.add_argument("--path", metavar="DIR", help="folder of lifesnaps_daily.csv and lifesnaps_static.csv")
    options = parser.parse_args(arguments)
    if (options.data == "lifesnaps") != (options.path is not None):
        parser.error("--data lifesnaps and --path DIR belong together")
    if options.data == "lifesnaps" and options.persons is not None:
        parser.error("--persons is for the reference population; LifeSnaps has the persons it has")
    if options.data == "lifesnaps" and options.only not in (None, "rhythms"):
        parser.error("LifeSnaps is measured for its rhythms")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options, screen = parsed(arguments), console()
    if not screen.is_terminal:
        screen.width = WIDE
    try:
        results = earlier(options)
        parts = LIFESNAPS if options.data == "lifesnaps" else PARTS
        with threadpool_limits(1), joblib.parallel_config(backend="sequential"):
            torch.set_num_threads(1)
            measure(options, parts, screen, results)
    except ManoError as error:
        sys.exit(f"error: {error}")
    for part, rows in results.items():
        ordered = {name: rows[name] for name in parts[part][0] if name in rows}
        screen.print()
        screen.print(table(TITLES[part], METRICS[part], ordered))
        for line in verdicts(part, METRICS[part], ordered):
            screen.print(line)


if __name__ == "__main__":
    main()
