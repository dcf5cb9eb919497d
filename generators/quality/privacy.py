"""Does the synthetic cohort keep its training persons' secrets?

Membership inference, three attackers who hold the synthetic cohort and want to know who was in the training set:

- distance: calls those members who lie closest to a synthetic record;
- density: closest by comparison with other people, since everybody average lies close to something (as DOMIAS,
  van Breugel, Sun, Qian & van der Schaar 2023, arXiv 2302.12580: synthetic over reference density, by nearest neighbours);
- shadow (``shadows.py``): has trained generators of their own and learned what membership looks like.

Attribute inference: a hidden column of training persons guessed better than that of persons the generator never saw
(the control group: Giomi et al. 2023, doi 10.56553/popets-2023-0055).

Distance to the closest record proves nothing either way (arXiv 2505.01524); exact and near copies are counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.cohort import Cohort, numeric_columns
from core.encoding import divisor
from generators.quality.intervals import (
    Interval,
    auc,
    bootstrap,
    caught_at,
    difference,
    once,
    weighted_auc,
    wider,
    wilson,
)
from generators.quality.persons import one_week_each, set_apart
from generators.quality.records import Space, by_person

_NEAR = 0.5  # a near copy lies within this share of a held-out person's usual distance to a training person
FALSE_ALARMS = {"tpr_10": 0.1, "tpr_1": 0.01}


@dataclass(frozen=True)
class Game:
    """Who is who in an attack: all disjoint, split by person.

    Attributes:
        members: training persons the attacker asks about; ``others``: equally many held-out ones.
        reference: held-out persons the attacker knows not to be members.
        rest: the other training persons. Published as they are they give nobody among the members away: the ceiling.
    """

    members: Cohort
    others: Cohort
    reference: Cohort
    rest: Cohort

    @classmethod
    def deal(cls, train: Cohort, holdout: Cohort, reference: int, rng: np.random.Generator) -> "Game":
        """``reference`` held-out persons as reference; of the others as many asked about as of the training persons,
        of whom at least half are the rest."""
        known, unknown = set_apart(holdout, rng, reference)
        n = min(unknown.persons, train.persons // 2)
        members, rest = set_apart(train, rng, n)
        return cls(members, set_apart(unknown, rng, n)[0], known, rest)


def distance_attack(published: Cohort, game: Game) -> tuple[np.ndarray, np.ndarray]:
    """How near each of members, then others, comes to a published record (higher: nearer) ``[M]``, and who is which."""
    space = Space.fit(published, "whole")
    return _both(game, lambda cohort: -space.nearest(published, cohort)[0][:, 0])


def density_attack(published: Cohort, game: Game) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`distance_attack`, by the logarithm of published over reference density (one nearest neighbour each)."""
    space = Space.fit(published, "whole")

    def ratio(cohort: Cohort) -> np.ndarray:
        return log_distance(space, game.reference, cohort)[:, 0] - log_distance(space, published, cohort)[:, 0]

    return _both(game, ratio)


def log_distance(space: Space, among: Cohort, cohort: Cohort, k: int = 1) -> np.ndarray:
    """Logarithms ``[N, k]`` of the distances to the nearest; an exact copy is a thousandth of a sd away."""
    return np.log(space.nearest(among, cohort, k)[0] + 1e-3)


def _both(game: Game, score: Any) -> tuple[np.ndarray, np.ndarray]:
    """The largest score of each person's weeks, and whether they are members."""
    scores = [-by_person(-score(cohort), cohort.person) for cohort in (game.members, game.others)]
    return np.concatenate(scores), np.repeat([True, False], [len(each) for each in scores])


def attack_report(name: str, score: np.ndarray, member: np.ndarray) -> dict[str, float | None]:
    """AUC and the shares of members caught at 10 % and at 1 % false alarms, under ``name_``; one score a person.

    A share of false alarms smaller than one person is not measured: None.
    """
    everybody = np.ones(len(score))
    report: dict[str, float | None] = {f"{name}_auc": weighted_auc(score, member)(everybody)}
    for key, share in FALSE_ALARMS.items():
        measurable = (~member).sum() * share >= 1
        report[f"{name}_{key}"] = caught_at(score, member, share)(everybody) if measurable else None
    return report


def attack_intervals(
    name: str, score: np.ndarray, member: np.ndarray, rng: np.random.Generator
) -> dict[str, Interval | None]:
    """The intervals of what :func:`attack_report` measures.

    Of a share: the bootstrap's over persons, or Wilson's where that is wider (nobody caught stays nobody, however drawn).
    """
    person, everybody = np.arange(len(score)), np.ones(len(score))
    intervals: dict[str, Interval | None] = {f"{name}_auc": auc(score, member, person, rng)[1]}
    for key, share in FALSE_ALARMS.items():
        intervals[f"{name}_{key}"] = None
        if (~member).sum() * share >= 1:
            caught = caught_at(score, member, share)
            exact = wilson(caught(everybody), int(member.sum()))
            intervals[f"{name}_{key}"] = wider(exact, bootstrap(caught, person, rng))
    return intervals


def attribute_inference(
    published: Cohort, members: Cohort, others: Cohort, sensitive: str, rng: np.random.Generator
) -> dict[str, Any]:
    """What the published cohort tells of a member's sensitive column beyond what it tells of anyone's.

    The attacker knows everything else about a person and guesses the value of the nearest published record. A guess
    succeeds where it is right (text) or within a quarter of a standard deviation (number).

    Returns:
        ``success``: the shares of right guesses on ``members``, on the ``control`` group ``others`` and by a ``naive``
        attacker who tells everybody the same (the published mode or median); ``gain``: members less control, with ``ci``.
    """
    n = min(members.persons, others.persons)
    groups = one_week_each(members, rng, n), one_week_each(others, rng, n)
    space = Space.fit(published, "whole", (sensitive,))
    known = published.profiles[sensitive].to_numpy()
    numeric = sensitive in numeric_columns(published.profiles)
    tolerance = 0.25 * known.std() if numeric else 0.0

    def hit(guess: Any, cohort: Cohort) -> np.ndarray:
        truth = cohort.profiles[sensitive].to_numpy()
        return np.abs(guess - truth) <= tolerance if numeric else guess == truth

    right = [hit(known[space.nearest(published, cohort)[1][:, 0]], cohort) for cohort in groups]
    gain, interval = difference(*right)
    mode = np.median(known) if numeric else published.profiles[sensitive].mode()[0]
    naive = np.mean([hit(mode, cohort).mean() for cohort in groups])
    success = {"members": float(right[0].mean()), "control": float(right[1].mean()), "naive": float(naive)}
    return {"success": success, "gain": gain, "ci": interval}


def copy_rate(published: Cohort, train: Cohort) -> float:
    """Share of published rows that repeat a training row: the whole profile and the week to 1 % of a signal's sd.

    Each published person counts once."""
    days = train.rhythms.astype(float)
    step = 0.01 * divisor(days.std(axis=(0, 1)), days.mean(axis=(0, 1)))
    seen = set(_keys(train, step))
    copied = [key in seen for key in _keys(published, step)]
    return float(np.average(copied, weights=once(published.person)))


def _keys(cohort: Cohort, step: np.ndarray) -> Iterator[tuple[Any, bytes]]:
    weeks = np.round(cohort.rhythms / step).astype(np.int64)
    profiles = cohort.profiles.itertuples(index=False, name=None)
    return zip(profiles, (week.tobytes() for week in weeks), strict=True)


def near_copy_rate(published: Cohort, train: Cohort, holdout: Cohort) -> float:
    """Share of published rows nearer to a training row than half of what is usual for a held-out person.

    Each person counts once, on either side; rows, not a person's nearest week, are compared with what is usual."""
    space = Space.fit(train, "whole")
    distance, near = (space.nearest(train, cohort)[0][:, 0] for cohort in (holdout, published))
    usual = np.quantile(distance, 0.5, weights=once(holdout.person), method="inverted_cdf")
    return float(np.average(near < _NEAR * usual, weights=once(published.person)))
