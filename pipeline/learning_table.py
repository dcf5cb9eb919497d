"""Whether Trial is worth learning: what policies earn there, and what is asked of it as a problem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group

from core.treatments import LABELS
from intervention.trial_effects import Arms, best_arm
from pipeline.trial_table import new_table, with_caption

CONSTANT_SHARE = 0.75  # of stepped care's return: what no constant treatment should exceed
PRIVILEGE = 1.3  # times stepped care's return: what one who sees the response should earn at least
NAMES = {"none": "no treatment", "random": "random", "best_constant": "best constant",
         "stop_and_go": "  the same, stop and go", "put_off": "  the same, remission put off", "stepped_care": "stepped care",
         "late": "  the same, begun late", "ppo": "PPO", "privileged": "privileged PPO"}  # fmt: skip
Row = Mapping[str, Any]  # return, remission, dose_weeks, adverse_events


@dataclass(frozen=True)
class Requirement:
    """One thing asked: what it is, the number found (None: not known), and the bound it is held against."""

    asked: str
    found: float | None
    bound: float
    at_most: bool

    @property
    def met(self) -> bool:
        return self.found is not None and (self.found <= self.bound if self.at_most else self.found >= self.bound)


def requirements(policies: Mapping[str, Row], recovered: float) -> list[Requirement]:
    """What is asked of Trial, from the means of each policy and the share of the untreated who are no longer in care.

    Ratios to stepped care are not known where it earns nothing.
    """
    earned = {name: float(row["return"]) for name, row in policies.items()}
    stepped, constant = earned["stepped_care"], earned["best_constant"]
    seen = earned.get("privileged")
    return [
        Requirement("best constant / stepped care", constant / stepped if stepped > 0 else None, CONSTANT_SHARE, True),
        Requirement(
            "privileged PPO / stepped care",
            seen / stepped if seen is not None and stepped > 0 else None,
            PRIVILEGE,
            False,
        ),
        Requirement("waiting: stepped care begun late - at once", earned["late"] - stepped, 0.0, True),
        Requirement("hovering: stop and go - kept up", earned["stop_and_go"] - constant, 0.0, True),
        Requirement("delay of cure: remission put off - not", earned["put_off"] - constant, 0.0, True),
        Requirement("natural history: untreated no longer in care", recovered, 0.1, False),
    ]


def learning_table(arms: Arms, policies: Mapping[str, Row], recovered: float, notes: Sequence[str]) -> Group:
    """Returns of policies on the same patients with the same luck, then each requirement with the number found."""
    treatment, dose = best_arm(arms)
    table = new_table("Is it worth learning?", ["return", "remission", "dose-weeks", "adverse\nevents"])
    for name, label in NAMES.items():
        if name in policies:
            row = policies[name]
            numbers = [f"{row['remission']:.0%}", f"{row['dose_weeks']:.1f}", f"{row['adverse_events']:.2f}"]
            table.add_row(label, f"{row['return']:.2f}", *numbers)
    asked = new_table("", ["found", "asked", ""])
    for each in requirements(policies, recovered):
        found = "not known" if each.found is None else f"{each.found:.3f}"
        verdict = "[green]met[/]" if each.met else "[bold red]not met[/]"
        bound = f"{'at most' if each.at_most else 'at least'} {each.bound:g}"
        asked.add_row(each.asked, found, bound, verdict if each.found is not None else "n/a")
    best = f"Best constant: {LABELS[treatment]} at {dose:g}, of all treatments and doses .1 to 1, chosen on these very patients."
    return Group(with_caption(table, best, *notes), asked)
