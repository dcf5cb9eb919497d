"""The least dose: how far all intensities of a policy can be lowered before fewer patients remit than under another policy.

Found on patients other than those it is judged on, as a dose is found in one trial and confirmed in the next.
"""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from core.protocols import Tracker
from core.treatments import MIN_INTENSITY
from envs.simulation import Simulation, Step
from intervention.baselines import Action, Policy
from intervention.evaluation import courses, run_policies

SHOWN = ("return", "remission", "dose_weeks", "adverse_events")
Curve = dict[float, dict[str, float]]  # share of the intensities -> mean of each of ``SHOWN``


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
    tracker: Tracker,
) -> tuple[Curve, dict[str, float]]:
    """What comes of ``policy`` at each of the ``shares``, 1 besides, and of ``reference``: the same patients, the same luck.

    Arguments as of ``evaluation.run_policies``.
    """
    policies = {str(share): Lowered(policy, share) for share in sorted({*shares, 1.0})}
    table = courses(run_policies({**policies, "reference": reference}, make_simulation, rows, seeds, tracker))
    means = table.groupby(level="policy")[list(SHOWN)].mean()
    found = {name: {key: float(value) for key, value in row.items()} for name, row in means.iterrows()}
    return {float(name): found[name] for name in policies}, found["reference"]


def least_share(curve: Curve, remission: float) -> float:
    """The smallest share at which, and above which, no fewer remit than ``remission``; 1 where none is small enough."""
    enough = 1.0
    for share in sorted(curve, reverse=True):
        if curve[share]["remission"] < remission:
            break
        enough = share
    return enough
