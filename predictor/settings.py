"""What training and judging the risk model take: see ``conf/risk.yaml``."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Le

from core.settings import Count, Fraction, NonNegative, Positive


@dataclass(frozen=True)
class Recipe:
    """How labels of one nature are best learned."""

    rate: Positive  # peak learning rate of branches and head
    steps_rate: NonNegative  # peak learning rate of the steps along the patterns, and of the link to the classes
    steps: Count  # at most; the learning rates decay along them
    batch_size: Count  # weeks per step
    missing_share: Fraction  # share of weeks from which days or signals are hidden


@dataclass(frozen=True)
class RiskSettings:
    width: Count  # units of the profile branch and of the head
    hidden: Count  # units of each LSTM layer
    layers: Count  # stacked LSTM layers
    dropout: Fraction  # in both branches and the head
    steps: Count  # smooth steps along each pattern of the week
    link: Count  # hidden units between concepts and classes
    unnamed_concepts: Count  # how many, where a label says nothing of what it is made of
    graded: Recipe  # labels that scores shade into (a questionnaire): a gentle fit
    sharp: Recipe  # labels that thresholds cut (rules)
    concept_weight: NonNegative  # of the concepts' loss beside the classes'
    weight_decay: NonNegative  # decoupled
    average: Fraction  # decay per step of the weights' moving average, which is what is kept
    class_weight_power: (
        Fraction  # class weights = (inverse frequency) ** this; calibration undoes their effect on probabilities
    )
    validate_on: Literal["source", "synthetic"]  # whose persons stop, calibrate and set the alarm
    validation_share: Fraction  # of the training persons, where they validate too
    validate_every: Count  # steps
    patience: Count  # validations without a better loss before stopping
    bootstrap: Count  # resamples of persons behind the 95 % intervals
    subgroups: dict[str, tuple[float, ...]]  # profile column -> edges of bands (none for a categorical column)
    subgroup_min_persons: Count  # a group with fewer is named and counted, without rates
    target_recall: Fraction  # share of High persons that the alarm threshold is chosen to find, on validation persons
    observed_days: tuple[Annotated[Count, Le(7)], ...]  # early warning: how many days from Monday on are known
