"""OpenPsychometrics' DASS-42 survey: ``data.csv``, tab separated, 42 answers and who gave them; no days.

The answers are scored into the three subscales (Lovibond & Lovibond 1995), so ``labels=questionnaire`` works. The weeks
are simulated: each score gives its latent by the inverse of the reference population's scoring, and the latents with the
profile give the distribution of the levels (``generators.sources.around``).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from core.cohort import DASS_COLUMNS, Cohort
from core.errors import DataError
from core.protocols import Tracker
from core.signals import DEFAULT_SIGNALS
from generators.sources.around import note_simulated, same_person, simulated_weeks
from generators.sources.checks import read_csv
from generators.sources.reference import Population, latents_of_scores
from generators.sources.tables import UNKNOWN

ITEMS = {  # which of the 42 items belong to which subscale
    "dass_depression": (3, 5, 10, 13, 16, 17, 21, 24, 26, 31, 34, 37, 38, 42),
    "dass_anxiety": (2, 4, 7, 9, 15, 19, 20, 23, 25, 28, 30, 36, 40, 41),
    "dass_stress": (1, 6, 8, 11, 12, 14, 18, 22, 27, 29, 32, 33, 35, 39),
}
NOT_WORDS = ("VCL6", "VCL9", "VCL12")  # who ticks these as known words did not read the questions
# Ten Item Personality Inventory (Gosling 2003): trait -> its item and its reversed item, each 1-7.
TIPI = {
    "extraversion": (1, 6),
    "agreeableness": (7, 2),
    "conscientiousness": (3, 8),
    "emotional_stability": (9, 4),
    "openness": (5, 10),
}


@dataclass(frozen=True)
class DASS42Settings(Population):
    """DASS-42 (``data=dass42 data.path=...``); the rest is the reference population's."""

    kind: Literal["dass42"]
    path: str  # data.csv
    separator: str  # between columns
    accepted_age: tuple[int, int]  # years; others are taken for jokes and their rows left out
    max_familysize: int  # children in the family; more is taken for a joke and counts as no answer
    codes: dict[str, dict[int, str]]  # column -> code -> level; a code not named is no answer
    personality: bool  # whether the five TIPI traits are profile columns


def read_dass42(settings: DASS42Settings, rng: np.random.Generator, tracker: Tracker) -> Cohort:
    """One simulated week for each valid row; equal rows are one person.

    Raises:
        DataError: a file or column is missing, or no row is valid.
    """
    s = settings
    answers = [f"Q{item}A" for item in range(1, 43)]
    traits = [f"TIPI{item}" for item in range(1, 11)] if s.personality else []
    # Of 172 columns only those used are read.
    table = read_csv(s.path, s.separator, columns=[*answers, "age", "familysize", *s.codes, *NOT_WORDS, *traits])
    values = table.apply(pd.to_numeric, errors="coerce").astype(np.float32)
    values = _valid(values, answers, s, tracker)

    profiles = _profiles(values, s, tracker).reset_index(drop=True)
    person = same_person(values, s.path, tracker)
    first = np.unique(person, return_index=True)[1]
    note_simulated(s.path, tracker)
    scores, unknown = profiles[list(DASS_COLUMNS)].to_numpy(float)[first], np.full((len(first), 4), np.nan)
    known = profiles.loc[first, [c for c in ("age", "gender") if c in profiles]].replace(UNKNOWN, np.nan)
    weeks = simulated_weeks(s, known.reset_index(drop=True), latents_of_scores(s, scores), unknown, person, rng)
    return Cohort(profiles, weeks, np.ones(weeks.shape, bool), person, DEFAULT_SIGNALS)


def _valid(values: pd.DataFrame, answers: list[str], s: DASS42Settings, tracker: Tracker) -> pd.DataFrame:
    """The rows that can be scored and believed; how many were left out, and why, is said."""
    faults = {
        "an answer outside 1 to 4": ~values[answers].isin([1, 2, 3, 4]).all(axis=1),
        f"an age outside {s.accepted_age[0]} to {s.accepted_age[1]}": ~values["age"].between(*s.accepted_age),
        "a word ticked as known that is none (VCL6, VCL9, VCL12)": values[list(NOT_WORDS)].eq(1).any(axis=1),
    }
    bad = pd.concat(faults, axis=1).any(axis=1)
    told = "; ".join(f"{int(fault.sum())} with {name}" for name, fault in faults.items())
    if bad.all():
        raise DataError(f"{s.path}: none of {len(values)} rows is valid ({told}); is it the DASS-42 data.csv?")
    if bad.any():
        tracker.note(f"{s.path}: {int(bad.sum())} of {len(values)} rows left out ({told})")
    return values[~bad]


def _profiles(values: pd.DataFrame, s: DASS42Settings, tracker: Tracker) -> pd.DataFrame:
    """Who they are, in words, and how they scored."""
    family = values["familysize"].where(values["familysize"].between(1, s.max_familysize))
    profiles = {"age": values["age"].astype(np.int64), "familysize": family}
    for column, levels in s.codes.items():
        words = {float(code): level for code, level in levels.items()}
        profiles[column] = values[column].map(words).fillna(UNKNOWN)
        unanswered = int((profiles[column] == UNKNOWN).sum())
        if unanswered:
            tracker.note(f"{s.path}: '{column}' was not answered by {unanswered} of {len(values)}, taken as {UNKNOWN}")
    for trait, pair in TIPI.items() if s.personality else ():
        item, reverse = (values[f"TIPI{i}"].where(values[f"TIPI{i}"].between(1, 7)) for i in pair)
        profiles[trait] = (item + 8 - reverse) / 2
    for subscale, items in ITEMS.items():
        profiles[subscale] = (values[[f"Q{i}A" for i in items]] - 1).sum(axis=1).astype(np.int64)
    return pd.DataFrame(profiles)
