"""The stage that predicts: trained on the synthetic cohort, judged on held-out persons."""

import time
from typing import Any

import numpy as np

from core.cohort import RISK_CLASSES, Cohort
from core.protocols import NullTracker
from core.random import numpy_generator
from core.signals import DAYS
from generators.labels import QuestionnaireSettings, RulesSettings, concepts, hidden_columns
from generators.sources.bayes import bayes_posterior
from generators.sources.reference import ReferenceParameters
from pipeline.config import Config
from pipeline.risk_figures import risk_figures
from pipeline.runner import Context, Stage
from pipeline.store import save_artifact
from predictor.dual_lstm import DualLSTMRisk
from predictor.early_warning import early_warning
from predictor.evaluation import evaluate_risk
from predictor.explain import attribution_summary
from predictor.training import train_risk

# The fewest real training persons who may validate: below, chance would choose the weights.
VALIDATORS, VALIDATORS_PER_CLASS = 200, 20
ATTRIBUTED = 300  # held-out persons behind the mean attributions


def risk(context: Context) -> dict[str, Any]:
    config, store = context.config, context.store
    synthetic, holdout = store.cohort("cohort"), store.cohort("source", "holdout_")
    started = time.perf_counter()
    validators = validation_persons(context, store.cohort("source", "train_"))
    model = trained(context, synthetic, validators)
    seconds = time.perf_counter() - started
    save_artifact(context.out, "risk", model.to_artifact())
    for column, count in model.encoder.unseen(holdout.profiles).items():
        context.tracker.note(
            f"risk: '{column}' of {count} held-out rows was never seen in training, and counts as no level"
        )
    days = config.risk.observed_days
    ceilings = {d: knowable(config, holdout, d) for d in sorted({*days, DAYS})}
    metrics = evaluate_risk(model, synthetic, holdout, config.risk, ceilings[DAYS], config.seed)
    known = {d: ceiling for d, ceiling in ceilings.items() if ceiling is not None}
    metrics["early_warning"] = early_warning(model, synthetic, holdout, days, known, config.seed)
    metrics["attribution"] = attribution_summary(model, holdout, ATTRIBUTED)
    for name, figure in risk_figures(metrics).items():
        context.tracker.figure(f"risk/{name}", figure)
    validated_on = "synthetic persons" if validators is None else f"{validators.persons:,} real training persons"
    return {**metrics, "validated_on": validated_on, "seconds": round(seconds, 2)}


def validation_persons(context: Context, real: Cohort) -> Cohort | None:
    """The real training persons, where there are enough of them and ``risk.validate_on`` allows it; else None."""
    if context.config.risk.validate_on != "source":
        return None
    if not enough_to_validate(real):
        context.tracker.note(
            f"risk: validated on synthetic persons, since {real.persons} real training persons are too few "
            f"(of {VALIDATORS}, with {VALIDATORS_PER_CLASS} of each class)"
        )
        return None
    return real


def trained(context: Context, synthetic: Cohort, validators: Cohort | None) -> DualLSTMRisk:
    """The model fitted on synthetic persons. Real ones may stop it, calibrate it and set its alarm; they never enter a
    gradient."""
    config, tracker = context.config, context.tracker
    real = context.store.cohort("source", "train_")
    parts = concepts(synthetic, config.labels, NullTracker(), relative_to=real)  # labelling has said what it leaves out
    return train_risk(synthetic, config.risk, hidden_columns(config.labels), config.seed, tracker, parts, validators)


def enough_to_validate(real: Cohort) -> bool:
    """Whether there are persons enough, of every class too; many weeks of one person are one person."""
    assert real.risk is not None
    fewest = min(len(np.unique(real.person[real.risk == k])) for k in range(len(RISK_CLASSES)))
    return real.persons >= VALIDATORS and fewest >= VALIDATORS_PER_CLASS


def knowable(config: Config, holdout: Cohort, days: int = DAYS) -> np.ndarray | None:
    """The class probabilities that one who knows the source would give from the first ``days``, where there are such.

    They are the Bayes ceiling.
    """
    assert holdout.risk is not None
    if isinstance(config.labels, RulesSettings):
        # The rules read just what the model reads, observed days alone, so all of it is knowable; except that they also
        # know a person's other weeks, and of a part of a week its rest, which the model does not.
        return np.eye(3)[holdout.risk] if holdout.persons == len(holdout) and days == DAYS else None
    if isinstance(config.data, ReferenceParameters) and isinstance(config.labels, QuestionnaireSettings):
        rng = numpy_generator(config.seed, "risk", "bayes")
        return bayes_posterior(config.data, config.labels, holdout.profiles, holdout.rhythms, rng, days)
    return None


STAGES = (Stage("risk", ("source", "cohort"), ("risk", "labels", "data"), risk),)
