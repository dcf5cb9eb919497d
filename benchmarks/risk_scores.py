"""What the risk benchmark measures, the bars it holds the model to, and how rows are set beside the ceiling."""

from dataclasses import replace

from benchmarks.scores import OURS, Metric, Rows, Scores

MODES = ("questionnaire", "rules")  # of labels
EARLY = (3, 5)  # days
CEILING, PRIOR, SPECIALIST = "ceiling", "class prior", "specialist for these days"
BY_ITSELF, UNNAMED = "validated on synthetic", "without concepts"  # else as OURS
REAL, REAL_UNNAMED = "on real persons", "on real, without concepts"
BASELINES = {"logistic": "logistic", "gradient_boosting": "gradient boosting", "tree": "tree"}
OF_CEILING = ("auc_high", "macro_f1", "brier")
LEADS = ("accuracy", "macro_f1", "f1_high", "auc_high")

QUALITY = {
    metric.key: metric
    for metric in (
        Metric("accuracy", "accuracy"),
        Metric("macro_f1", "macro F1"),
        Metric("f1_high", "F1 of High"),
        Metric("recall_high", "recall of High"),
        Metric("auc_high", "AUC of High"),
        Metric("ece", "ECE"),
        Metric("ece_floor", "ECE by chance alone"),
        Metric("ece_debiased", "ECE debiased"),
        Metric("brier", "Brier"),
        Metric("alarm_target", "recall the alarm aims at"),
        Metric("alarm_recall", "recall it reaches"),
        Metric("fit_seconds", "fit, s", at_most=25.0),
    )
}
BARS = {
    "questionnaire": (
        replace(QUALITY["ece"], at_most=0.02),
        Metric("auc_high_share", "AUC / ceiling", at_least=0.98),
        Metric("macro_f1_share", "macro F1 / ceiling", at_least=0.98),
        Metric("brier_share", "Brier / ceiling", at_most=1.02),
        Metric("auc_high_lead", "AUC - best baseline", at_least=0.0),
        Metric("macro_f1_lead", "macro F1 - best baseline", at_least=0.0),
        Metric("auc_high_over_real", "AUC - trained on real", at_least=-0.01),
    ),
    "rules": (
        replace(QUALITY["accuracy"], at_least=0.97),
        replace(QUALITY["f1_high"], at_least=0.98),
        Metric("accuracy_lead", "accuracy - best baseline", at_least=-0.005),
        Metric("f1_high_lead", "F1 of High - best baseline", at_least=-0.005),
        Metric("auc_high_over_real", "AUC - trained on real", at_least=-0.01),
    ),
}
FIRST_DAYS = tuple(
    Metric(f"{key}_{days}", f"{label} from {days} days")
    for days in EARLY
    for key, label in (("auc_high", "AUC of High"), ("ece", "ECE"))
)
SPEED = (
    Metric("one_thread", "scored, thousand persons/s", at_least=50.0),
    Metric("two_threads", "scored on two threads"),
    Metric("thread_gain", "two threads / one"),
    Metric("explained", "drivers, thousand persons/s"),
    Metric("completeness_error", "attribution, largest gap"),
)


def metrics(part: str) -> tuple[Metric, ...]:
    """What a part of the results shows: a label mode, its first days, or speed."""
    if part in BARS:
        return tuple((QUALITY | {metric.key: metric for metric in BARS[part]}).values())
    return SPEED if part == "speed" else FIRST_DAYS


def compared(rows: dict[str, Scores]) -> dict[str, Scores]:
    """Each row with its share of the ceiling, and ours with its lead over others.

    The best baseline is the one best in this metric and seed, which favours the baselines a little.
    """

    def number(name: str, key: str) -> float:
        value = rows[name][key]
        assert value is not None
        return value

    of_ceiling = [key for key in OF_CEILING if number(CEILING, key)]  # who knows all has a Brier score of 0
    result = {
        name: row | {f"{key}_share": number(name, key) / number(CEILING, key) for key in of_ceiling}
        for name, row in rows.items()
    }
    for key in LEADS:
        result[OURS][f"{key}_lead"] = number(OURS, key) - max(number(name, key) for name in BASELINES.values())
    result[OURS]["auc_high_over_real"] = number(OURS, "auc_high") - number(REAL, "auc_high")
    return result


def tables(part: str, rows: Rows) -> dict[str, Rows]:
    """A part's rows by the title they are printed under, with the ceiling beside each."""
    if part not in MODES:
        return {part: rows}
    real = [REAL, *(f"real: {name}" for name in BASELINES.values()), REAL_UNNAMED]
    return {
        f"{part}, trained on synthetic persons": {name: row for name, row in rows.items() if name not in real},
        f"{part}, trained on the real training persons": {name: rows[name] for name in [*real, CEILING]},
    }
