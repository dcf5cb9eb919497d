"""Whether weeks still belong to their profiles: correlations of who people are with how their weeks run."""

import numpy as np
import pandas as pd

from core.encoding import OTHER, ProfileEncoder


def profile_rhythm_correlations(profiles: pd.DataFrame, weeks: np.ndarray, encoder: ProfileEncoder) -> np.ndarray:
    """``[P, C]`` Pearson correlations of encoded profile features with week means of ``weeks [N, 7, C]``.

    A feature or signal that does not vary has no linear dependence: its correlation counts as 0.
    """
    features, means = encoder.encode(profiles).astype(float), weeks.mean(axis=1, dtype=float)  # (N, P), (N, C)
    features, means = features - features.mean(0), means - means.mean(0)
    scale = np.sqrt((features**2).sum(0)[:, None] * (means**2).sum(0)[None])
    return np.divide(features.T @ means, scale, out=np.zeros_like(scale), where=scale > 1e-12)


def profile_rhythm_correlation_error(
    synth_profiles: pd.DataFrame, synth_weeks: np.ndarray, real_profiles: pd.DataFrame, real_weeks: np.ndarray
) -> float:
    """Mean absolute difference of the correlations of profile features with week means, synthetic against real.

    Profiles are encoded as the real ones are (numeric columns as they are, one indicator per category); weeks are
    ``[N, 7, C]``. A generator that draws weeks without looking at the profile is caught here and nowhere else.
    """
    encoder = ProfileEncoder.fit(real_profiles)
    gap = np.abs(
        profile_rhythm_correlations(synth_profiles, synth_weeks, encoder)
        - profile_rhythm_correlations(real_profiles, real_weeks, encoder)
    )
    known = [not name.endswith(f"={OTHER}") for name in encoder.feature_names]  # "other" is empty in the real ones
    return float(gap[known].mean()) if any(known) else 0.0
