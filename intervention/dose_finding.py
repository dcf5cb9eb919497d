"""The least dose: how far all intensities of a policy can be lowered before fewer patients may remit than under another policy.

Found on patients other than those it is judged on, as a dose is found in one trial and confirmed in the next. What is
to be confirmed must not be a matter of luck where it is found: no fewer, by the whole interval of the difference.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
from scipy.stats import norm
from torch import Tensor

from core.protocols import Tracker
from core.treatments import MIN_INTENSITY
from envs.simulation import Simulation, Step
from intervention.baselines import Action, Policy
from intervention.evaluation import courses, run_policies

SHOWN = ("return", "remission", "dose_weeks", "adverse_events")
Curve = dict[float, dict[str, float]]  # share of the intensities -> mean of each of ``SHOWN``, and ``remission_gained``


class Lowered:
    """``policy`` with every intensity at ``share`` of what it gives, but never below the least there is."""

    def __init__(self, policy: Policy, share: float) -> None:
        self.policy, self.share = policy, share
        self.reset = policy.reset

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        treatment, intensity = self.policy.act(simulation, observation, keys)
        return treatment, (self.share * intensity).clamp(min=MIN_INTENSITY)

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        self.policy.observe(simulation, action, step)


def dose_curve(
    policy: Policy,
    reference: Policy,
    shares: Iterable[float],
    make_simulation: Callable[[int], Simulation],
    rows: Tensor,
    seeds: Sequence[int],
    confidence: float,
    tracker: Tracker,
) -> tuple[Curve, dict[str, float]]:
    """What comes of ``policy`` at each of the ``shares``, 1 besides, and of ``reference``: the same patients, the same luck.

    ``remission_gained`` is by how much more patients remit than under ``reference``, at the lower end of its interval.
    Other arguments as of ``evaluation.run_policies``.
    """
    policies = {str(share): Lowered(policy, share) for share in sorted({*shares, 1.0})}
    table = courses(run_policies({**policies, "reference": reference}, make_simulation, rows, seeds, tracker))
    means = table.groupby(level="policy")[list(SHOWN)].mean()
    found = {name: {key: float(value) for key, value in row.items()} for name, row in means.iterrows()}
    remission = table["remission"].groupby(level=["policy", "patient"]).mean()
    for name in policies:
        gained = remission[name] - remission["reference"]
        found[name]["remission_gained"] = lower_end(gained, confidence)
    return {float(name): found[name] for name in policies}, found["reference"]


def lower_end(differences: pd.Series, confidence: float) -> float:
    """The lower end of the normal interval of the mean of ``differences``, one a patient."""
    reach = norm.ppf((1 + confidence) / 2) * differences.std() / math.sqrt(len(differences))
    return float(differences.mean() - reach)


def least_share(curve: Curve) -> float:
    """The smallest share at which, and above which, certainly no fewer remit; 1 where none is small enough."""
    enough = 1.0
    for share in sorted(curve, reverse=True):
        if curve[share]["remission_gained"] < 0:
            break
        enough = share
    return enough
