"""Membership inference with shadow models: the attacker trains generators of their own and learns what membership does.

Shokri, Stronati, Song & Shmatikov 2017 (arXiv 1610.05820) for classifiers; Stadler, Oprisanu & Troncoso 2022 (arXiv
2011.07018) for synthetic data. The attacker holds reference persons known not to be members. Half of them train a shadow
generator, half do not, K times over; a classifier learns from what each shadow publishes who was in. It then looks at the
cohort under attack and at persons none of the shadows has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from core.cohort import MIN_PERSONS, Cohort
from core.errors import DataError
from generators.quality.persons import set_apart
from generators.quality.privacy import Game, log_distance
from generators.quality.records import SPACES, Space, by_person

_NEIGHBOURS = 5


@dataclass(frozen=True)
class Shadows:
    """How the attacker makes shadow cohorts: ``fit(members, seed)`` trains a generator and publishes; ``count`` of them."""

    fit: Callable[[Cohort, int], Cohort]
    count: int


class Attack:
    """A classifier that has learned membership from shadows."""

    def __init__(self, reference: Cohort, classifier: LogisticRegression):
        self.reference, self.classifier = reference, classifier

    def __call__(self, published: Cohort, game: Game) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of membership of the game's members, then others ``[M]``, and who is which."""
        x = clues(published, self.reference, [game.members, game.others])
        return self.classifier.decision_function(x), np.repeat(
            [True, False], [game.members.persons, game.others.persons]
        )


def learn_attack(shadows: Shadows, reference: Cohort, rng: np.random.Generator) -> Attack:
    """Train the shadows on halves of the reference persons, and the attack on the shadows.

    Raises:
        DataError: too few persons for a shadow, or the shadow generator refuses them.
    """
    half = reference.persons // 2
    if half < MIN_PERSONS:
        raise DataError(
            f"{reference.persons} reference persons, expected at least {2 * MIN_PERSONS} to train shadow generators on half of"
        )
    features, member = [], []
    for seed in rng.integers(2**31, size=shadows.count):
        inside, outside = set_apart(reference, rng, half)
        features.append(clues(shadows.fit(inside, int(seed)), reference, [inside, outside]))
        member.append(np.repeat([1, 0], [inside.persons, outside.persons]))
    classifier = LogisticRegression(C=1.0).fit(np.concatenate(features), np.concatenate(member))
    return Attack(reference, classifier)


def clues(published: Cohort, reference: Cohort, groups: list[Cohort]) -> np.ndarray:
    """What betrays a member, ``[persons, 9]``: for profile, week and whole record, how near the nearest and the fifth
    published record are, and how much nearer than the nearest *other* reference person.

    Each is a rank within these persons, in (-1, 1): cohorts of other sizes and other generators compare.
    """
    columns = []
    for name in SPACES:
        space = Space.fit(published, name)
        parts = []
        for cohort in groups:
            near = by_person(log_distance(space, published, cohort, _NEIGHBOURS), cohort.person)  # (persons, K)
            usual = by_person(_to_others(space, reference, cohort), cohort.person)
            parts.append(np.stack([-near[:, 0], -near[:, -1], usual - near[:, 0]], axis=1))
        columns.append(np.concatenate(parts))
    table = np.concatenate(columns, axis=1)
    return 2 * (rankdata(table, axis=0) - 0.5) / len(table) - 1


def _to_others(space: Space, reference: Cohort, cohort: Cohort) -> np.ndarray:
    """Log distance ``[N]`` of each row to the nearest reference row of another person."""
    weeks = int(np.unique(reference.person, return_counts=True)[1].max())
    distance, row = space.nearest(reference, cohort, weeks + 1)
    own = reference.person[row] == cohort.person[:, None]
    return np.log(np.where(own, np.inf, distance).min(axis=1) + 1e-3)
