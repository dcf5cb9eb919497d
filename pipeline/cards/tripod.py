"""A checklist in the manner of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378), filled in for the risk model of a run.

The items are named in this project's words; the statement's own words are the ones to cite. An item that a run cannot
answer says so.
"""

from collections.abc import Mapping

from pipeline.cards.markdown import NOT_MEASURED, Metrics, card, count, table, told, with_interval

DONE, PART, NOT = "reported", "in part", "not done"


def tripod_card(
    run: str, metrics: Mapping[str, Metrics], made: Mapping[str, Metrics], columns: Mapping[str, list[str]]
) -> str:
    """Markdown; ``metrics`` of the stages ``source``, ``cohort`` and ``risk``, their manifests, the cohort's columns."""
    rows = [[item, status, said] for item, status, said in items(metrics, made, columns)]
    found = [status for _, status, _ in rows]
    tally = ", ".join(f"{found.count(status)} {status}" for status in (DONE, PART, NOT))
    return card(
        f"TRIPOD+AI style checklist of the risk model: {run}",
        [
            ("What this is", [
                f"{len(rows)} items after TRIPOD+AI (doi 10.1136/bmj-2023-078378): {tally}. It describes a model of a simulator; it "
                "is no report of a clinical study, and a full list here does not make the model fit for use."]),
            ("Checklist", [table(["item", "status", "where or what"], rows)]),
        ],
    )  # fmt: skip


def items(
    metrics: Mapping[str, Metrics], made: Mapping[str, Metrics], columns: Mapping[str, list[str]]
) -> list[tuple[str, str, str]]:
    source, cohort, risk = metrics["source"], metrics["cohort"], metrics["risk"]
    data, labels, settings = (
        made[s]["config"][k] for s, k in (("source", "data"), ("source", "labels"), ("risk", "risk"))
    )
    groups = ", ".join(risk.get("subgroups", {})) or NOT_MEASURED
    auc = with_interval(risk, "auc_high", "intervals")
    return [
        ("Title: kind of model and outcome", DONE, "model card, first lines"),
        ("Background: why, for whom", PART, "intended use in the model card; no clinical need was assessed"),
        ("Known inequalities between groups", PART, f"groups compared: {groups}; causes were not studied"),
        ("Objectives: development or evaluation", DONE, "development, evaluated on held-out persons of the same source"),
        ("Data: source and dates", PART, f"data={data['kind']}; dates of collection are the source's own"),
        ("Participants: setting, eligibility", PART, f"{told(source, 'persons', count)} to learn from, {told(source, 'holdout_persons', count)} held out; eligibility as the source had it"),
        ("Data preparation", DONE, f"weeks: {told(source, 'rhythms', str)}; filled days keep a mask; observed share {told(source, 'observed_share')}"),
        ("Outcome: definition, how assessed", DONE, f"labels={labels['kind']}: Low, Medium or High; no clinician assessed anybody"),
        ("Predictors: definition", DONE, f"{', '.join(columns['predictors'])}; daily {', '.join(columns['signals'])}"),
        ("Sample size: how arrived at", NOT, f"no calculation; {told(cohort, 'persons', count)} synthetic persons to train on"),
        ("Missing data", DONE, "days beyond the filled ones leave a week out; the model is also judged with days masked"),
        ("Methods: model, tuning, calibration", DONE, f"LSTM beside dense branch, up to {settings['sharp']['steps']:,} steps, early stopping, temperature scaling"),
        ("Class imbalance", DONE, f"weighted cross-entropy, class weights to the power {settings['class_weight_power']:g}"),
        ("Fairness: methods", DONE, f"error rates and calibration by {groups}, with intervals; groups below {settings['subgroup_min_persons']} persons not judged"),
        ("Output: probability, threshold", DONE, f"three probabilities; alarm from P(High) {told(risk, 'alarm.threshold')}, for a recall of {told(risk, 'alarm.target_recall')}"),
        ("Training beside evaluation data", DONE, f"trained on synthetic, validated on {told(risk, 'validated_on', str)}, judged on held-out persons of the source"),
        ("Ethical approval", NOT, "none sought for the simulator; a source's approval is its own"),
        ("Open science: protocol, registration", NOT, "no protocol, no registration"),
        ("Open science: data and code", DONE, f"code by version {made['risk']['versions']['mano-twin']}, every input and output by SHA-256 in the manifests"),
        ("Patient and public involvement", NOT, "none"),
        ("Results: participants and outcome", DONE, f"held-out classes {told(source, 'holdout_risk_counts', _classes)}"),
        ("Results: the model itself", DONE, "weights in risk.safetensors, settings in risk.json"),
        ("Results: performance with intervals", DONE if "auc_high" in risk else NOT, f"AUC of High {auc}; model card"),
        ("Results: performance by group", DONE if risk.get("subgroups") else NOT, "model card, by group"),
        ("Results: clinical usefulness", PART if risk.get("decision_curve") else NOT, f"decision curve: worth acting on from P(High) {told(risk, 'decision_curve.useful_from')} to {told(risk, 'decision_curve.useful_to')}; no clinical study"),
        ("External validation", NOT, "another source was not tried in this run"),
        ("Limitations", DONE, "model card, limits"),
        ("Use: poor or missing input, who must be able to do what", PART, "judged with days missing; no user was studied"),
    ]  # fmt: skip


def _classes(counts: list[int]) -> str:
    return " / ".join(f"{count:,}" for count in counts) + " (Low / Medium / High)"
