"""The data card: the source a run read, the synthetic cohort it made of it, and how far the one may stand for the other
(after Gebru et al. 2021, "Datasheets for datasets")."""

from collections.abc import Mapping

from generators.sources.around import RHYTHMS
from pipeline.cards.markdown import (
    NO_PRIVACY_GUARANTEE,
    Metrics,
    card,
    count,
    measured,
    provenance,
    told,
)

FIDELITY = [("column shapes", "column_shapes"), ("pair trends, strong pairs", "pair_trends"),
            ("profile x week mean, correlation error", "profile_rhythm_correlation_error"),
            ("C2ST AUC, whole persons (0.5: cannot be told apart)", "whole_c2st_auc")]  # fmt: skip
RHYTHM = [("week means, 1-KS", "distribution_score"), ("day x signal, 1-KS, lowest", "day_signal_min"),
          ("within-week sd, 1-KS", "within_week_sd"), ("lag-1 error", "lag1_error"), ("ICC error", "icc_error"),
          ("C2ST AUC, weeks", "c2st_auc")]  # fmt: skip
UTILITY = [("AUC of High, learned from synthetic, tested on held-out persons", "tstr_auc"),
           ("the same over learned from the source", "tstr_ratio")]  # fmt: skip
PRIVACY = [("membership by distance, AUC", "membership_auc"), ("membership by density ratio, AUC", "density_auc"),
           ("membership by shadow models, AUC", "shadow_auc"), ("attribute inference, gain over control", "attribute_gain"),
           ("exact copies of training persons, share", "copy_rate"), ("near copies, share", "near_copy_rate")]  # fmt: skip


def data_card(
    run: str, metrics: Mapping[str, Metrics], made: Mapping[str, Metrics], columns: Mapping[str, list[str]]
) -> str:
    """Markdown.

    Args:
        metrics: of the stages ``source``, ``rhythms`` and ``cohort``.
        made: the manifests of ``source`` and ``cohort``.
        columns: the cohort's ``profile`` columns and ``signals`` (with units).
    """
    source, cohort = metrics["source"], metrics["cohort"]
    ceiling = [("the source's own", "ceiling")]
    # An attribute's gain keeps its interval under a name of its own.
    privacy = {**cohort, "ci": {**cohort.get("ci", {}), "attribute_gain": cohort.get("attribute_gain_ci")}}
    return card(
        f"Data card: {run}",
        [
            ("Intended use", intended()),
            ("Source", [described(source, made["source"]), provenance(made["source"])]),
            ("Synthetic cohort", [contents(cohort, columns), provenance(made["cohort"])]),
            ("Persons beside held-out ones of the source", [measured(cohort, FIDELITY, "ci", [*ceiling, ("shuffled", "baseline")])]),
            ("Weeks beside held-out ones of the source", [measured(metrics["rhythms"], RHYTHM, "ci", [*ceiling, ("hierarchical model", "hierarchical_baseline")])]),
            ("What can be learned from it", [measured(cohort, UTILITY, "ci", ceiling)]),
            ("Privacy", ["An AUC of 0.5 and a gain of 0 are chance.", measured(privacy, PRIVACY, "ci", ceiling), NO_PRIVACY_GUARANTEE]),
            ("Limits", limits(source, cohort)),
        ],
    )  # fmt: skip


def intended() -> list[str]:
    return [
        "For: research on methods, teaching, software tests, and as the population of the simulator.",
        "Not for: estimates of how common or how severe anything is, conclusions about a person or a group of persons, or "
        "finding out who was in the source. The run's folder `source/` holds the persons read; treat it as the data itself.",
    ]


def described(source: Metrics, made: Metrics) -> str:
    data = made["config"]["data"]
    files = [name for name in made["inputs"] if "/" in name or "." in name]
    read = f"{len(files)} file(s), digests below" if files else "no file: persons are drawn from a documented model"
    return (
        f"`data={data['kind']}`: {read}. Weeks: {told(source, 'rhythms', str)}. {told(source, 'persons', count)} persons "
        f"({told(source, 'weeks', count)} weeks) to learn from, {told(source, 'holdout_persons', count)} held out; observed share "
        f"of days {told(source, 'observed_share')}."
    )


def contents(cohort: Metrics, columns: Mapping[str, list[str]]) -> str:
    risks = told(cohort, "risk_counts", lambda counts: ", ".join(f"{name} {n:,}" for name, n in counts.items()))
    return (
        f"{told(cohort, 'persons', count)} persons, one week each. Profile: {', '.join(columns['profile'])}. Signals, by day: "
        f"{', '.join(columns['signals'])}. Risk classes by the run's label: {risks}."
    )


def limits(source: Metrics, cohort: Metrics) -> list[str]:
    lines = [
        "Every person is drawn from generators, profile first, then the week given the profile. What the source left out or "
        "got wrong, and who did not take part in it, is left out or wrong here as well.",
        f"Compared with {told(cohort, 'compared_persons', count)} held-out persons; intervals cover those persons, not another source.",
    ]
    if source.get("rhythms") == RHYTHMS:
        lines.append(
            "The source has no days: its weeks are simulated, and agreement with them says nothing about real weeks."
        )
    return lines
