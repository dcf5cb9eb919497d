"""The last stage: one summary of every number, and one page that shows them."""

from typing import Any

from envs.rewards import EnvSettings
from generators.sources import rhythm_origin
from intervention.twin import TwinDynamics
from pipeline import figures
from pipeline.board import show_run
from pipeline.cards.writing import write_cards
from pipeline.console import display_name, number
from pipeline.off_policy_table import NAMES as ESTIMATORS
from pipeline.parts import load_twin, section, synthetic_patients
from pipeline.prescription_table import tree_sentences
from pipeline.quality_table import BASELINES, quality_rows
from pipeline.report.charts import Figure
from pipeline.report.cohort import cohort_figures
from pipeline.report.journey import DOSES, Journey, journey
from pipeline.report.page import render
from pipeline.report.policy import off_policy, policy_figures
from pipeline.report.risk import risk_charts
from pipeline.report.twin import courses_of, twin_figures
from pipeline.report.worlds import Judges, judges
from pipeline.risk_table import risk_rows, sentences, short, span
from pipeline.runner import Context, Stage, peak_memory_mb, versions
from pipeline.store import RunStore, write_bytes, write_json

SUMMARISED = ("profiles", "rhythms", "cohort", "risk", "twin", "policy", "evaluate")
# Long tables stay in each stage's metrics.json; the summary holds the headline numbers.
DETAILS = ("notes", "stage_seconds", "intervals", "reliability", "roc", "decision_curve", "attribution",
           "early_warning", "signal_response", "returns", "learning_curves", "constants", "tree", "prescribed")  # fmt: skip
SECTIONS = [("card", "Run"), ("cohort", "Cohort"), ("risk", "Risk"), ("twin", "Twin"), ("policy", "Policies"),
            ("journey", "What if?"), ("off-policy", "Off-policy")]  # fmt: skip
Metrics = dict[str, Any]


def report(context: Context) -> Metrics:
    store = context.store
    metrics = {stage: store.metrics(stage) for stage in ("source", "trials", *SUMMARISED)}
    summary = summarised(context, metrics)
    worlds = judges(context.config, store)
    shown = journey(context.config, store, worlds)
    drawn = drawings(context, metrics, worlds) | {"what_if": shown.figure}
    page = render(drawn, **words(store, metrics, summary, shown))
    write_bytes(context.out / "report.html", page.encode())
    holdout, synthetic, evaluate = store.cohort("source", "holdout_"), store.cohort("cohort"), metrics["evaluate"]
    context.tracker.figure("report/policies", figures.policies_figure(evaluate))
    write_bytes(context.out / "overview.png", figures.png(figures.overview_figure(holdout, synthetic, evaluate)))
    write_json(context.out / "summary.json", summary)
    write_cards(context.config, store, context.out)
    patients = synthetic_patients(store, section(store, "trials", "env", EnvSettings))
    dynamics = TwinDynamics(load_twin(store), patients)
    show_run(context.tracker, context.config, metrics, store.frame("evaluate", "episodes.parquet"), dynamics)
    return {"page_bytes": len(page), "figures": {name: figure.title for name, figure in drawn.items()}}


def summarised(context: Context, metrics: dict[str, Metrics]) -> Metrics:
    """The headline numbers of every stage, and how the run was made."""
    store, config = context.store, context.config
    seconds = {stage: metrics[stage]["stage_seconds"] for stage in metrics}
    summary = {
        stage: {key: value for key, value in metrics[stage].items() if key not in DETAILS} for stage in SUMMARISED
    }
    memory = max(peak_memory_mb(), *(store.manifest(stage)["peak_memory_mb"] for stage in metrics))
    summary["run"] = {
        "preset": config.preset,
        "data": config.data.kind,
        "rhythms": rhythm_origin(config.data),
        "labels": config.labels.kind,
        "seed": config.seed,
        "seconds": round(sum(seconds.values()), 1),
        "stage_seconds": seconds,
        "peak_memory_mb": round(memory),
        "versions": versions(),
    }
    return summary


def drawings(context: Context, metrics: dict[str, Metrics], worlds: Judges) -> dict[str, Figure]:
    """Every figure by name; what was not measured has none."""
    store, seed = context.store, context.config.seed
    rows = quality_rows(metrics["profiles"], metrics["rhythms"], metrics["cohort"])
    drawn = cohort_figures(store.cohort("source", "holdout_"), store.cohort("cohort"), metrics["cohort"], rows)
    drawn |= risk_charts(metrics["risk"])
    weeks = worlds.twin.settings.horizon
    twin, trial = (courses_of(world, weeks, seed) for world in (worlds.twin, worlds.trial))
    drawn |= twin_figures(twin, trial, metrics["twin"]) | policy_figures(metrics["evaluate"], metrics["policy"])
    if "off_policy" in metrics["evaluate"]:
        table = store.frame("evaluate", "off_policy.parquet")
        drawn["off_policy"] = off_policy(table, metrics["evaluate"]["off_policy"])
    return drawn


def words(store: RunStore, metrics: dict[str, Metrics], summary: Metrics, shown: Journey) -> Metrics:
    """What the templates say beside the figures."""
    evaluate, risk = metrics["evaluate"], metrics["risk"]
    sections = [each for each in SECTIONS if each[0] != "off-policy" or "off_policy" in evaluate]
    start = shown.data["start"].partition("_")[2]
    return {
        "run": store.root.name,
        "sections": sections,
        "summary": summary,
        "source": metrics["source"],
        "digests": {stage: store.digest(stage) for stage in metrics},
        "tiles": tiles(summary),
        "quality": quality_rows(metrics["profiles"], metrics["rhythms"], metrics["cohort"]),
        "baselines": BASELINES,
        "risk": risk,
        "risk_table": risk_rows(risk),
        "risk_said": sentences(risk),
        "policy": metrics["policy"],
        "tree": evaluate["tree"],
        "tree_said": tree_sentences(evaluate),
        "estimators": ESTIMATORS,
        "journey": shown,
        "start_dose": DOSES.index(float(start)) if start else len(DOSES) // 2,
    }


def tiles(summary: Metrics) -> list[tuple[str, str, str]]:
    """The run in a few numbers: what, how much, and what to read it against."""
    cohort, risk, twin, evaluate = (summary[part] for part in ("cohort", "risk", "twin", "evaluate"))
    agent, none = (evaluate["policies"][name] for name in ("ppo", "none"))
    rivals = {name: row for name, row in evaluate["policies"].items() if name not in ("ppo", "privileged", "tree")}
    best = max(rivals, key=lambda name: rivals[name]["return"])
    attacks = {
        key: cohort[key] for key in ("membership_auc", "density_auc", "shadow_auc") if cohort.get(key) is not None
    }
    bayes = risk.get("bayes_ceiling", {}).get("auc_high")
    found = [
        ("whole persons told from real, AUC", number(cohort["whole_c2st_auc"]),
         f"real persons {number(cohort['ceiling']['whole_c2st_auc'])}, baseline {number(cohort['baseline']['whole_c2st_auc'])}"),
        ("strongest membership attack, AUC", number(max(attacks.values())), "chance 0.5, published data 1"),
        ("AUC of High risk", short(risk["auc_high"]), f"{'chance .5' if bayes is None else f'ceiling {short(bayes)}'}{span(risk.get('intervals', {}).get('auc_high'))}"),
        ("Twin: CRPS over Trial's own", f"{twin['crps_ratio']:.3f}", "ceiling 1"),
        ("agent's return in Trial", f"{agent['return']:.2f}", f"{display_name(best, evaluate)} {rivals[best]['return']:.2f}"),
        ("agent: remission", f"{agent['remission']:.0%}", f"no treatment {none['remission']:.0%}"),
    ]  # fmt: skip
    if evaluate.get("normalised_score") is not None:
        found.append(("normalised score", f"{evaluate['normalised_score']:.2f}", "0 no treatment, 1 privileged"))
    return found


NEEDS = ("source", "profiles", "rhythms", "cohort", "risk", "trials", "twin", "policy", "evaluate")
STAGES = (Stage("report", NEEDS, (), report, metrics=True),)
