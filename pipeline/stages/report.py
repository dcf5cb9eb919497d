"""The last stage: one summary of every number, and one page that shows them."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from generators.sources import rhythm_origin
from pipeline import figures
from pipeline.console import display_name, number
from pipeline.off_policy_table import NAMES as ESTIMATORS
from pipeline.off_policy_table import off_policy_figure
from pipeline.quality_figures import quality_figures
from pipeline.quality_table import BASELINES, quality_rows
from pipeline.risk_figures import risk_figures
from pipeline.risk_table import apart, baseline_name, ordered, percent, risk_rows, sentences, short, span
from pipeline.runner import Context, Stage, peak_memory_mb, versions
from pipeline.store import write_bytes, write_json

SUMMARISED = ("profiles", "rhythms", "cohort", "risk", "twin", "policy", "evaluate")
# Long tables stay in each stage's metrics.json; the summary holds the headline numbers.
DETAILS = ("notes", "stage_seconds", "intervals", "reliability", "roc", "decision_curve", "attribution",
           "early_warning", "signal_response", "returns", "learning_curves", "constants", "tree", "prescribed")  # fmt: skip
TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def report(context: Context) -> dict[str, Any]:
    store, config = context.store, context.config
    metrics = {stage: store.metrics(stage) for stage in ("source", "trials", *SUMMARISED)}
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
    holdout, synthetic = store.cohort("source", "holdout_"), store.cohort("cohort")
    evaluate = metrics["evaluate"]
    drawn = {"policies": figures.policies_figure(evaluate)}
    context.tracker.figure("report/policies", drawn["policies"])
    drawn |= quality_figures(holdout, synthetic, metrics["cohort"])  # TensorBoard has these from the cohort stage
    if "off_policy" in evaluate:
        drawn["off_policy"] = off_policy_figure(store.frame("evaluate", "off_policy.parquet"))
        context.tracker.figure("report/off_policy", drawn["off_policy"])
    images = {name: figures.data_uri(figure) for name, figure in drawn.items()}
    risk_images = {name: figures.data_uri(figure) for name, figure in risk_figures(metrics["risk"]).items()}
    quality = quality_rows(metrics["profiles"], metrics["rhythms"], metrics["cohort"])
    told = {"quality": quality, "baselines": BASELINES, "tree": evaluate["tree"], "estimators": ESTIMATORS}
    told |= {
        "risk": metrics["risk"],
        "risk_table": risk_rows(metrics["risk"]),
        "risk_said": sentences(metrics["risk"]),
        "risk_images": risk_images,
    }
    page = render(summary=summary, source=metrics["source"], **told, **images)
    write_bytes(context.out / "report.html", page.encode())
    write_bytes(context.out / "overview.png", figures.png(figures.overview_figure(holdout, synthetic, evaluate)))
    write_json(context.out / "summary.json", summary)
    return {"page_bytes": len(page)}


def render(**values: Any) -> str:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape())
    environment.filters |= {"number": number, "short": short, "percent": percent}
    environment.globals |= {"display_name": display_name, "baseline_name": baseline_name}
    environment.globals |= {"apart": apart, "span": span, "ordered": ordered}
    return environment.get_template("report.html").render(**values)


NEEDS = ("source", "profiles", "rhythms", "cohort", "risk", "trials", "twin", "policy", "evaluate")
STAGES = (Stage("report", NEEDS, (), report, metrics=True),)
