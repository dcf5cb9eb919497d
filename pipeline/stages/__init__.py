"""The stages of a run, in order."""

from pipeline.stages import cohort, profiles, report, rhythms, risk, source, treatment, world

STAGES = (
    source.STAGE,
    profiles.STAGE,
    rhythms.STAGE,
    cohort.STAGE,
    *risk.STAGES,
    *world.STAGES,
    *treatment.STAGES,
    *report.STAGES,
)
