"""The stages of a run, in order."""

from pipeline.stages import cohort, evaluate, policy, profiles, report, rhythms, risk, source, world

STAGES = (
    source.STAGE,
    profiles.STAGE,
    rhythms.STAGE,
    cohort.STAGE,
    *risk.STAGES,
    *world.STAGES,
    *policy.STAGES,
    *evaluate.STAGES,
    *report.STAGES,
)
