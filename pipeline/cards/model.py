"""The model card: the generators, the risk model and the Twin of a run (after Mitchell et al. 2019, "Model cards for model
reporting"). The policy has a card of its own."""

from collections.abc import Mapping
from typing import Any

from pipeline.cards.markdown import (
    NOT_MEASURED,
    Metrics,
    card,
    measured,
    provenance,
    table,
    told,
    with_interval,
)
from pipeline.console import number

RISK = [("AUC of High", "auc_high"), ("accuracy", "accuracy"), ("macro F1", "macro_f1"), ("recall of High", "recall_high"),
        ("F1 of High", "f1_high"), ("Brier score", "brier"), ("ECE", "ece")]  # fmt: skip
ALARM = [("recall of High", "recall"), ("specificity", "specificity"), ("PPV", "ppv"), ("NPV", "npv"),
         ("persons flagged, share", "flagged")]  # fmt: skip
TWIN = [("CRPS over Trial's own (1 is Trial itself)", "crps_ratio"), ("coverage of 50 % intervals", "coverage_50"),
        ("coverage of 90 % intervals", "coverage_90"), ("error of treatment effects (sd)", "effect_error"),
        ("individual effects, correlation with the truth", "person_effect_correlation"),
        ("the same, at most knowable", "person_effect_ceiling"), ("change under placebo (sd; 0 is right)", "placebo_change")]  # fmt: skip
RATES = [("recall", "recall"), ("false alarms", "false_positive_rate"), ("ECE", "ece")]


def model_card(run: str, metrics: Mapping[str, Metrics], made: Mapping[str, Metrics]) -> str:
    """Markdown; ``metrics`` and ``made`` (manifests) of the stages ``profiles``, ``rhythms``, ``risk`` and ``twin``."""
    risk, twin = metrics["risk"], metrics["twin"]
    best = [(name.replace("_", " "), f"baselines.{name}") for name in risk.get("baselines", {})]
    return card(
        f"Model card: {run}",
        [
            ("Intended use", intended()),
            ("Generators", [*generators(metrics), provenance(made["profiles"]), provenance(made["rhythms"])]),
            ("Risk model", [risk_words(risk, made["risk"]), provenance(made["risk"])]),
            ("Risk model on held-out persons", [measured(risk, RISK, "intervals", [*best, ("at most knowable", "bayes_ceiling")])]),
            ("Its alarm", [alarm_words(risk), measured(risk.get("alarm", {}), ALARM, "intervals", [])]),
            ("By group", groups(risk)),
            ("Twin, the learned world model", [twin_words(twin), measured(twin, TWIN, "ci", []), provenance(made["twin"])]),
            ("Remission in the Twin less that in Trial, by policy", [gaps(twin)]),
            ("Limits", limits()),
        ],
    )  # fmt: skip


def intended() -> list[str]:
    return [
        "For: making a synthetic cohort, scoring it, and simulating treatment courses, in research on methods and in teaching.",
        "Not for: screening, diagnosis, prescription, or any decision about a real person. The policy has its own card.",
    ]


def generators(metrics: Mapping[str, Metrics]) -> list[str]:
    kinds = [f"{stage}: {told(metrics[stage], 'choice.generator', str)}" for stage in ("profiles", "rhythms")]
    return [
        f"{'; '.join(kinds)}. Profiles are calibrated to the training persons' tables; effective share of the pool "
        f"{told(metrics['profiles'], 'effective_share')}. How good they are stands in the data card."
    ]


def risk_words(risk: Metrics, made: Metrics) -> str:
    labels = made["config"]["labels"]["kind"]
    return (
        "Dense branch for the profile, LSTM for the week, three classes (Low, Medium, High), temperature scaled. Label: "
        f"`labels={labels}`; the columns it is made from are hidden from the model. Trained on synthetic persons, validated on "
        f"{told(risk, 'validated_on', str)}, judged on held-out ones."
    )


def alarm_words(risk: Metrics) -> str:
    return (
        f"Raised where P(High) is {told(risk, 'alarm.threshold')} or more, chosen on the validation persons to find "
        f"{told(risk, 'alarm.target_recall')} of High."
    )


def groups(risk: Metrics) -> list[str]:
    """Rates of every group with intervals; a group too small for a rate is named as that."""
    rows = []
    for column, found in risk.get("subgroups", {}).items():
        for name, row in found["groups"].items():
            rates = (
                ["too few to say"] * len(RATES)
                if row.get("small")
                else [with_interval(row, key, "intervals") for _, key in RATES]
            )
            rows.append([f"{column} {name}", f"{row['n']:,}", *rates])  # fmt: skip
    return [table(["group", "persons", *(label for label, _ in RATES)], rows)] if rows else [f"Groups: {NOT_MEASURED}."]


def twin_words(twin: Metrics) -> str:
    return (
        "Attention sequence-to-sequence ensemble, distilled from virtual trials in Trial and judged against Trial on held-out "
        f"persons. Effects by treatment, error in sd: {told(twin, 'effects', _named)}."
    )


def _named(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def gaps(twin: Metrics) -> str:
    return f"Points: {told(twin, 'remission_gap', _named)}; by luck alone {told(twin, 'remission_gap_luck')}."


def limits() -> list[str]:
    return [
        "Trained on synthetic persons of one source; another population, device or questionnaire was not tried.",
        "The Twin is no better than Trial, whose effects are set from published averages and whose individual responses are assumed. "
        "Intervals are bootstrap intervals over persons of one run.",
        "Groups for whom it is worse stand above; those with too few persons are not known to be served.",
    ]
