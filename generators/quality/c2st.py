"""Classifier two-sample test: can a random forest tell synthetic rows from real ones?

Lopez-Paz & Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017.
"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

_TREES, _FOLDS, _MIN_ROWS = 100, 4, 8


def c2st_auc(real: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator) -> float | None:
    """Out-of-fold AUC of a random forest for "this row is synthetic": 0.5 is indistinguishable, 1 a giveaway.

    ``real`` and ``synthetic`` are ``[N, F]`` and ``[M, F]``, finite; the larger is subsampled to the smaller.
    None where a side has fewer than 8 rows: too few to learn from and to test on.
    """
    n = min(len(real), len(synthetic))
    if n < _MIN_ROWS:
        return None
    rows = [table[rng.permutation(len(table))[:n]] for table in (real, synthetic)]
    x = np.concatenate(rows).astype(np.float32)  # (2n, F)
    y = np.repeat([0, 1], n)
    score = np.empty(2 * n)
    seeds = rng.integers(2**31, size=_FOLDS + 1)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=int(seeds[0])).split(x, y)
    for seed, (fit, test) in zip(seeds[1:], folds, strict=True):
        forest = RandomForestClassifier(_TREES, min_samples_leaf=5, random_state=int(seed), n_jobs=-1)
        score[test] = forest.fit(x[fit], y[fit]).predict_proba(x[test])[:, 1]
    return float(roc_auc_score(y, score))
