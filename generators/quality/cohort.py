"""Does the synthetic cohort hang together, is it useful, and does it keep its training persons' secrets?

Every number stands beside what real persons get in the synthetic ones' place (``ceiling``), what a trivial cohort gets
(``baseline``: shuffled columns, weeks dealt out anew, shares of classes, a published training set) and, where chance
matters, its 95 % interval over persons (``ci``).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from core.cohort import RISK_CLASSES, Cohort
from core.errors import DataError, NumericalError
from generators.quality.dependence import dependence
from generators.quality.persons import one_week_each
from generators.quality.privacy import (
    Game,
    attack_intervals,
    attack_report,
    attribute_inference,
    copy_rate,
    density_attack,
    distance_attack,
    near_copy_rate,
)
from generators.quality.profiles import profile_scores
from generators.quality.shadows import Shadows, learn_attack
from generators.quality.utility import utility

Report = dict[str, Any]
Attacker = Callable[[Cohort, Game], tuple[np.ndarray, np.ndarray]]
BESIDE = ("ceiling", "baseline", "ci")


def cohort_quality(
    synthetic: Cohort,
    train: Cohort,
    holdout: Cohort,
    hidden: tuple[str, ...],
    sensitive: str | None,
    shadows: Shadows | None,
    rng: np.random.Generator,
) -> Report:
    """Score a labelled synthetic cohort against the persons it was learned from and persons it never saw.

    Args:
        synthetic, train, holdout: labelled cohorts; a person may have several weeks, and counts once.
        hidden: profile columns that the risk model must not see (the label's own inputs).
        sensitive: the profile column the attacker wants to know; None for none (``attribute_gain`` is then None).
        shadows: how the shadow attacker trains generators; None for no such attack (``shadow_auc`` is then None).

    Returns:
        ``persons``, ``compared_persons`` (on each side of a comparison), ``risk_counts``; the numbers of :func:`profile_scores` (without its two-sample test),
        :func:`dependence` and :func:`utility`; of three attacks ``membership_`` (distance), ``density_`` and ``shadow_``:
        ``auc`` (0.5: nothing learned), ``tpr_10`` and ``tpr_1`` (members caught at 10 % and 1 % false alarms);
        ``attribute_gain``, ``attribute_gain_ci`` and ``attribute_success`` (members, control, naive); ``copy_rate`` and
        ``near_copy_rate``; ``shadow_note`` (why there is no shadow attack, or None). ``ceiling``, ``baseline`` and ``ci``
        hold the same keys where they have them.

    Raises:
        DataError: a cohort is not labelled or has fewer than two persons, persons are in training and held out, a synthetic value is missing, or ``sensitive`` is no column.
    """
    _check(synthetic, train, holdout, sensitive)
    assert synthetic.risk is not None
    counts = np.bincount(synthetic.risk, minlength=len(RISK_CLASSES))
    n = min(synthetic.persons, train.persons, holdout.persons)
    drawn, real, other = (one_week_each(cohort, rng, n) for cohort in (synthetic, train, holdout))
    # A random stream of its own for each part: what one of them draws moves none of the others.
    streams = rng.spawn(5)
    with threadpool_limits(1):  # on tables this small a second thread costs time, on a busy machine a lot of it
        parts = [
            _fidelity(drawn.profiles, real.profiles, other.profiles, streams[0]),
            dependence(drawn, real, other, streams[1]),
            utility(synthetic, train, holdout, hidden, streams[2]),
            _membership(synthetic, train, holdout, shadows, streams[3]),
            _attributes(synthetic, train, holdout, sensitive, streams[4]),
            _copies(synthetic, train, holdout),
        ]
    report = {
        "persons": synthetic.persons,
        "compared_persons": n,
        "risk_counts": dict(zip(RISK_CLASSES, counts.tolist(), strict=True)),
    }
    for part in parts:
        report |= {key: value for key, value in part.items() if key not in BESIDE}
    return report | {side: {k: v for part in parts for k, v in part.get(side, {}).items()} for side in BESIDE}


def _check(synthetic: Cohort, train: Cohort, holdout: Cohort, sensitive: str | None) -> None:
    for name, cohort in (("synthetic", synthetic), ("train", train), ("holdout", holdout)):
        if cohort.risk is None:
            raise DataError(f"cohort quality: the {name} cohort has no risk labels; label it first")
        if cohort.persons < 2:
            raise DataError(f"cohort quality: the {name} cohort has {cohort.persons} person, expected at least 2")
    shared = np.intersect1d(train.person, holdout.person)
    if len(shared):
        raise DataError(
            f"cohort quality: {len(shared)} persons (person {shared[0]}) are both in training and held out, expected none"
        )
    if sensitive is not None and sensitive not in train.profiles:
        raise DataError(
            f"cohort quality: sensitive column '{sensitive}' is unknown; expected one of {', '.join(map(str, train.profiles))}"
        )
    missing = int((~np.isfinite(synthetic.rhythms)).sum())
    if missing:
        raise DataError(
            f"cohort quality: the synthetic weeks have {missing} missing values, expected none; scores would leave them out"
        )


def _fidelity(synthetic: Any, train: Any, holdout: Any, rng: np.random.Generator) -> Report:
    """The fused cohort's profiles, as :mod:`generators.quality.profiles` scores a generator's."""
    scores = profile_scores(synthetic, train, holdout, rng)
    return {**scores[0], "ceiling": scores[1], "baseline": scores[2]}


def _membership(
    synthetic: Cohort, train: Cohort, holdout: Cohort, shadows: Shadows | None, rng: np.random.Generator
) -> Report:
    """Each attack on the synthetic cohort, on other training persons published as they are, and on the training set."""
    known = holdout.persons // 2  # a reference for those attackers who need one
    plain, informed = Game.deal(train, holdout, 0, rng), Game.deal(train, holdout, known, rng)
    report: Report = {"attacked_persons": informed.members.persons, **{side: {} for side in BESIDE}}

    def add(name: str, attack: Attacker, game: Game, on_copies: Attacker) -> None:
        under_attack = attack(synthetic, game)
        report.update(attack_report(name, *under_attack))
        ceiling, copied = attack_report(name, *attack(game.rest, game)), attack_report(name, *on_copies(train, game))
        for side, found in zip(BESIDE, (ceiling, copied, attack_intervals(name, *under_attack, rng)), strict=True):
            report[side] |= found

    add("membership", distance_attack, plain, distance_attack)
    add("density", density_attack, informed, density_attack)
    none: Report = {"shadow_auc": None, "shadow_tpr_10": None, "shadow_tpr_1": None}
    if shadows is None:
        return report | none | {"shadow_note": "not asked for: cohort.shadows=0"}
    try:
        learned = learn_attack(shadows, informed.reference, rng)
        # Who attacks a published training set has shadows that publish theirs.
        copying = learn_attack(Shadows(lambda members, seed: members, shadows.count), informed.reference, rng)
    except (DataError, NumericalError) as error:  # a generator that cannot learn from so few is no reason to stop
        return report | none | {"shadow_note": str(error)}
    add("shadow", learned, informed, copying)
    return report | {"shadow_note": None}


def _attributes(
    synthetic: Cohort, train: Cohort, holdout: Cohort, sensitive: str | None, rng: np.random.Generator
) -> Report:
    if sensitive is None:
        return {"attribute_gain": None, "attribute_gain_ci": None, "attribute_success": None}
    game = Game.deal(train, holdout, 0, rng)  # the same persons asked about, whatever is published
    found, ceiling, baseline = (
        attribute_inference(published, game.members, game.others, sensitive, rng)
        for published in (synthetic, game.rest, train)
    )
    return {
        "attribute_gain": found["gain"],
        "attribute_gain_ci": found["ci"],
        "attribute_success": found["success"],
        "ceiling": {"attribute_gain": ceiling["gain"]},
        "baseline": {"attribute_gain": baseline["gain"]},
        "ci": {"attribute_gain": found["ci"]},
    }


def _copies(synthetic: Cohort, train: Cohort, holdout: Cohort) -> Report:
    return {
        "copy_rate": copy_rate(synthetic, train),
        "near_copy_rate": near_copy_rate(synthetic, train, holdout),
        "ceiling": {"copy_rate": copy_rate(holdout, train), "near_copy_rate": near_copy_rate(holdout, train, holdout)},
        "baseline": {"copy_rate": copy_rate(train, train), "near_copy_rate": near_copy_rate(train, train, holdout)},
    }
