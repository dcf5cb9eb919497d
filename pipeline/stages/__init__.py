"""The stages of a run, in order."""

from pipeline.stages import population, report, risk, treatment, world

STAGES = (*population.STAGES, *risk.STAGES, *world.STAGES, *treatment.STAGES, *report.STAGES)
