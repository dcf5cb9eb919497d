"""Persons as rows of numbers: the profile, the week, and both."""

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from core.cohort import Cohort
from core.encoding import ProfileEncoder

SPACES = ("profile", "week", "whole")


def week_summary(cohort: Cohort) -> np.ndarray:
    """Mean, sd, trend and weekend contrast of each signal over the observed days: float64 ``[N, 4C]``.

    The sd is the sample's (n - 1), 0 where fewer than two days were observed.
    """
    days = _observed(cohort)  # (N, 7, C)
    centred = (np.arange(7) - 3.0)[:, None]
    mean = _mean_observed(days)
    deviation = days - mean[:, None]
    others = np.maximum(np.isfinite(days).sum(axis=1) - 1, 1)  # (N, C)
    parts = (
        mean,
        np.sqrt(np.nansum(deviation**2, axis=1) / others),
        _mean_observed(deviation * centred),
        _mean_observed(deviation[:, 5:]),
    )
    return np.concatenate(parts, axis=1)


def week_days(cohort: Cohort) -> np.ndarray:
    """The days themselves, float64 ``[N, 7C]``; what was not observed stands at the mean of what was."""
    days = _observed(cohort)
    return np.where(np.isfinite(days), days, _mean_observed(days)[:, None]).reshape(len(days), -1)


def record(cohort: Cohort, encoder: ProfileEncoder) -> np.ndarray:
    """The encoded profile and the summary of the week: float64 ``[N, P + 4C]``."""
    return np.hstack([encoder.encode(cohort.profiles), week_summary(cohort)])


def _observed(cohort: Cohort) -> np.ndarray:
    return np.where(cohort.mask, cohort.rhythms.astype(float), np.nan)


def _mean_observed(values: np.ndarray) -> np.ndarray:
    """Mean over days of what is not NaN, 0 where nothing is: ``[N, D, C]`` -> ``[N, C]``."""
    seen = np.isfinite(values)
    return np.where(seen, values, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)


@dataclass(frozen=True)
class Space:
    """A way to compare persons: their profile, their week day by day, or the whole record. Scaled on one cohort."""

    name: str
    encoder: ProfileEncoder
    scaler: StandardScaler

    @classmethod
    def fit(cls, cohort: Cohort, name: str, hidden: tuple[str, ...] = ()) -> "Space":
        encoder = ProfileEncoder.fit(cohort.profiles, hidden)
        return cls(name, encoder, StandardScaler().fit(_raw(cohort, encoder, name)))

    def rows(self, cohort: Cohort) -> np.ndarray:
        """float64 ``[N, F]``"""
        return self.scaler.transform(_raw(cohort, self.encoder, self.name))

    def nearest(self, among: Cohort, cohort: Cohort, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Distances and rows ``[N, k]`` of each row's ``k`` nearest (all there are, if fewer) in ``among``."""
        index = NearestNeighbors(n_neighbors=min(k, len(among)), algorithm="brute").fit(self.rows(among))
        return index.kneighbors(self.rows(cohort))


def _raw(cohort: Cohort, encoder: ProfileEncoder, name: str) -> np.ndarray:
    if name == "profile":
        return encoder.encode(cohort.profiles).astype(float)
    return week_days(cohort) if name == "week" else record(cohort, encoder)


def by_person(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The smallest value of each person's rows, in the order of ``np.unique(person)``: ``[N, ...]`` -> ``[M, ...]``."""
    order = np.argsort(person, kind="stable")
    _, first = np.unique(person[order], return_index=True)
    return np.minimum.reduceat(values[order], first, axis=0)
