"""Is a synthetic cohort as good as real persons to learn from? Train on one, test on the other.

Esteban, Hyland & Rätsch 2017, arXiv 1706.02633: TSTR (train on synthetic, test on real), beside TRTR and TRTS.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.cohort import RISK_CLASSES, Cohort
from core.encoding import ProfileEncoder
from generators.quality.intervals import Interval, auc, bootstrap, mover_ratio, once, weighted_auc, wider
from generators.quality.records import record

HIGH = RISK_CLASSES.index("High")
_MIN_TESTED = 20  # with fewer held-out persons a ratio of two AUCs has no interval worth the name


@dataclass(frozen=True)
class Transfer:
    """What a classifier fitted on one cohort says of another: P(High), the class, and the truth ``[N]``."""

    high: np.ndarray
    guess: np.ndarray
    truth: np.ndarray
    person: np.ndarray


def utility(
    synthetic: Cohort, train: Cohort, holdout: Cohort, hidden: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Any]:
    """Fit the same classifier to synthetic and to training persons and test both on held-out ones.

    Returns:
        ``tstr_auc``, ``trtr_auc``, ``trts_auc`` (AUC of High; None where a table has no High or nothing else),
        ``tstr_ratio`` (of the first two) and ``tstr_f1`` (macro F1); under ``ceiling`` the same trained on real persons,
        under ``baseline`` the same of who knows only the shares of the classes, under ``ci`` the intervals.
    """
    # As many as there are training persons: otherwise the larger table would look the better one.
    alike = synthetic.select(rng.permutation(len(synthetic))[: train.persons])
    tstr, trtr, trts = (transfer(*pair, hidden) for pair in ((alike, holdout), (train, holdout), (train, synthetic)))
    (a, a_ci), (b, b_ci), (c, c_ci) = (_auc(each, rng) for each in (tstr, trtr, trts))
    blind = None if tstr is None else _by_shares(alike, holdout)
    blind_auc = _auc(blind)[0]
    return {
        "tstr_auc": a,
        "trtr_auc": b,
        "trts_auc": c,
        "tstr_ratio": _ratio(a, b),
        "tstr_f1": _f1(tstr),
        "ceiling": {"tstr_auc": b, "trts_auc": b, "tstr_ratio": _ratio(b, b), "tstr_f1": _f1(trtr)},
        "baseline": {
            "tstr_auc": blind_auc,
            "tstr_ratio": _ratio(blind_auc, b),
            "tstr_f1": _f1(blind),
        },
        "ci": {
            "tstr_auc": a_ci,
            "trtr_auc": b_ci,
            "trts_auc": c_ci,
            "tstr_ratio": None if tstr is None or trtr is None else ratio_interval(tstr, trtr, rng),
        },
    }


def _by_shares(fit: Cohort, test: Cohort) -> Transfer:
    """Who knows the shares of the classes and looks at nobody: the same guess for everyone."""
    assert fit.risk is not None and test.risk is not None
    shares = np.bincount(fit.risk, once(fit.person), len(RISK_CLASSES))
    everyone = np.ones(len(test))
    return Transfer(everyone * shares[HIGH] / shares.sum(), everyone * shares.argmax(), test.risk, test.person)


def _auc(found: Transfer | None, rng: np.random.Generator | None = None) -> tuple[float | None, Interval | None]:
    """AUC of High, each person counted once, and its interval where ``rng`` is given; None where there is no AUC."""
    if found is None:
        return None, None
    high = found.truth == HIGH
    if rng is not None:
        return auc(found.high, high, found.person, rng)
    value = weighted_auc(found.high, high)(once(found.person))
    return (value if np.isfinite(value) else None), None


def _f1(found: Transfer | None) -> float | None:
    """Macro F1 over the classes there are, each person counted once."""
    if found is None:
        return None
    weights, scores = once(found.person), []
    for risk in np.unique(found.truth):
        guessed, true = found.guess == risk, found.truth == risk
        scores.append(2 * weights[guessed & true].sum() / (weights[guessed].sum() + weights[true].sum()))
    return float(np.mean(scores))


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def ratio_interval(tstr: Transfer, trtr: Transfer, rng: np.random.Generator) -> Interval | None:
    """Interval of the ratio of two AUCs on the same persons: the paired bootstrap's, or MOVER's where that is wider.

    Two perfect classifiers stay perfect however persons are drawn; MOVER knows how far chance may have made them so.
    None below 20 persons, where there is no AUC, or where nothing bounds the ratio.
    """
    (a, a_ci), (b, b_ci) = _auc(tstr, rng), _auc(trtr, rng)
    if len(np.unique(tstr.person)) < _MIN_TESTED or a is None or not b or a_ci is None or b_ci is None:
        return None
    above, below = (weighted_auc(each.high, each.truth == HIGH) for each in (tstr, trtr))
    draws: list[tuple[float, float]] = []

    def ratio(weights: np.ndarray) -> float:
        draws.append((above(weights), below(weights)))
        return draws[-1][0] / draws[-1][1] if draws[-1][1] > 0 else float("nan")

    paired = bootstrap(ratio, tstr.person, rng)
    mover = mover_ratio((a, a_ci), (b, b_ci), _correlation(np.array(draws)))
    return None if mover is None else wider(mover, paired)


def _correlation(pairs: np.ndarray) -> float:
    """Pearson correlation of the finite rows of ``[N, 2]``; 0 where either does not vary."""
    defined = pairs[np.isfinite(pairs).all(axis=1)]
    return float(np.corrcoef(defined.T)[0, 1]) if len(defined) > 1 and defined.std(axis=0).min() > 1e-9 else 0.0


def transfer(fit: Cohort, test: Cohort, hidden: tuple[str, ...]) -> Transfer | None:
    """A logistic regression on visible profile and week summaries, fitted on one cohort and asked about another.

    Each person to learn from counts once, however many weeks there are. None where the cohort to learn from has only one class, or no High.
    """
    assert fit.risk is not None and test.risk is not None
    if HIGH not in fit.risk or len(np.unique(fit.risk)) == 1:
        return None
    encoder = ProfileEncoder.fit(fit.profiles, hidden)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    model.fit(record(fit, encoder), fit.risk, logisticregression__sample_weight=once(fit.person))
    probability = model.predict_proba(record(test, encoder))  # (N, classes in fit)
    return Transfer(
        probability[:, list(model.classes_).index(HIGH)],
        model.classes_[probability.argmax(axis=1)],
        test.risk,
        test.person,
    )
