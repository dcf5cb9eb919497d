"""One patient to try treatments on: the same person under every treatment and intensity in the Twin, and in Trial.

The patient is a held-out one where persons are made up, and a synthetic one where they are real: nobody's row is shown.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from core.cohort import RISK_CLASSES, Cohort
from core.patients import Patients
from core.treatments import CONTROL, LABELS, TREATMENTS
from intervention.baselines import Learned
from intervention.what_if import Choice, Futures, what_if, what_policy
from pipeline.config import Config
from pipeline.journey_text import profile_line
from pipeline.parts import load_agent
from pipeline.report.charts import NAME_OF_TREATMENT, Figure, chart, heat, plain
from pipeline.report.worlds import Judges, maker, shown_patients
from pipeline.store import RunStore

DRAWS = 64
DOSES = tuple(round(0.1 * step, 1) for step in range(1, 11))
CHOICES: list[Choice] = [(CONTROL, 0.0)] + [(t, dose) for t in range(CONTROL + 1, len(TREATMENTS)) for dose in DOSES]
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Journey:
    """What the page shows of the patient: facts, every choice's courses, the finding."""

    who: str
    profile: str
    figure: Figure
    data: dict[str, Any]


def journey(config: Config, store: RunStore, held_out: Judges) -> Journey:
    worlds, cohort = shown_patients(config, store, held_out)
    patients = worlds.twin.patients
    row = of_high_risk(patients, cohort)
    weeks = worlds.twin.settings.horizon
    rows, both = torch.full((DRAWS,), row), [maker(world) for world in (worlds.twin, worlds.trial)]
    twin, truth = (what_if(make, rows, CHOICES, weeks, config.seed) for make in both)
    agent = Learned(load_agent(store), privileged=False)
    own, own_truth = (what_policy(make, rows, agent, weeks, config.seed) for make in both)
    arms = {key(choice): arm(twin, truth, a) for a, choice in enumerate(CHOICES)}
    arms["agent"] = arm(own, own_truth, 0) | {"given": given(own)}
    data = {
        "treatments": [[name, LABELS[number]] for number, name in enumerate(TREATMENTS)],
        "doses": DOSES,
        "signals": [[signal.name.replace("_", " "), signal.unit] for signal in patients.signals],
        "start": key(CHOICES[best(twin)]),
        "arms": arms,
    }
    who = f"{'Held-out' if worlds.made_up else 'Synthetic'} person {patients.ids[row]}"
    return Journey(who, profile_line(patients.profiles.iloc[row]), figure(who, twin, truth), plain(data))


def of_high_risk(patients: Patients, cohort: Cohort) -> int:
    """The first row of High risk, or the first in care."""
    if cohort.risk is None:
        return 0
    high = np.flatnonzero(cohort.risk[patients.ids] == len(RISK_CLASSES) - 1)
    return int(high[0]) if len(high) else 0


def key(choice: Choice) -> str:
    return TREATMENTS[choice[0]] if choice[0] == CONTROL else f"{TREATMENTS[choice[0]]}_{choice[1]:g}"


def arm(twin: Futures, truth: Futures, a: int) -> dict[str, Any]:
    """Quantiles by week of risk ``[5][W + 1]`` and of every signal's weekly mean ``[C][5][W + 1]``, Trial's medians, and
    what comes of it."""
    return {
        "risk": quantiles(twin.risk[a]),
        "signals": np.moveaxis(quantiles(twin.mean[a]), -1, 0),
        "true_risk": np.median(truth.risk[a], axis=0),
        "true_signals": np.median(truth.mean[a], axis=0).T,
        "remission": [float(each.remitted[a, :, -1].float().mean()) for each in (twin, truth)],
        "adverse": [float(each.adverse[a].float().sum(dim=1).mean()) for each in (twin, truth)],
    }


def quantiles(courses: torch.Tensor) -> np.ndarray:
    """``[5, W + 1, ...]`` over the draws."""
    return np.quantile(courses.numpy(), LEVELS, axis=0)


def given(own: Futures) -> dict[str, Any]:
    """What the agent gives by week: shares of treatments and mean intensity of the active ones."""
    treatment, intensity = own.treatment[0], own.intensity[0]
    active = treatment != CONTROL
    dose = [float(i[a].mean()) if a.any() else None for i, a in zip(intensity.T, active.T, strict=True)]
    shares = {name: (treatment == t).float().mean(dim=0).tolist() for t, name in enumerate(TREATMENTS)}
    return {"shares": shares, "intensity": dose}


def last(futures: Futures) -> np.ndarray:
    """``[A]``: the median risk of the last week."""
    return np.median(futures.risk[:, :, -1], axis=1)


def best(twin: Futures) -> int:
    return int(np.argmin(last(twin)))


def figure(who: str, twin: Futures, truth: Futures) -> Figure:
    """The map of every choice: median risk of the last week, in the Twin and in Trial."""
    a = best(twin)
    treatment, dose = CHOICES[a]
    label = LABELS[treatment] + ("" if treatment == CONTROL else f" at {dose:.0%}")
    found, true = last(twin), last(truth)
    low, high = np.quantile(twin.risk[a, :, -1].numpy(), (0.1, 0.9))
    title = f"In the Twin {label} lowers this person's risk most, from {float(twin.risk[a, 0, 0]):.2f} to {found[a]:.2f} ({low:.2f} to {high:.2f}); in Trial, the truth, to {true[a]:.2f}"  # fmt: skip
    beside = (
        f"{who}; medians and middle 80 % of {DRAWS} courses of {twin.treatment.shape[2]} weeks for each of {len(CHOICES)} "
        f"choices, the same luck in all; Control: {found[0]:.2f} in the Twin, {true[0]:.2f} in Trial. Over all choices the two "
        f"differ by {np.abs(found - true).mean():.2f} on average: the Twin does not know how this person responds."
    )
    scale = float(min(found.min(), true.min())), float(max(found.max(), true.max()))
    charts = []
    for values, name in ((found, "Twin"), (true, "Trial, the truth")):
        table = values[1:].reshape(-1, len(DOSES))
        names = [NAME_OF_TREATMENT[each] for each in TREATMENTS if each != TREATMENTS[CONTROL]]
        cells = heat(
            table, [f"{dose:.0%}" for dose in DOSES], names, "warm", *scale, texttemplate="%{z:.2f}", showscale=False
        )
        axis = {"autorange": "reversed", "automargin": True}
        charts.append(
            chart(
                [cells], f"{name}: risk in the last week", "intensity", "", 230, xaxis={"type": "category"}, yaxis=axis
            )
        )
    return Figure(title, beside, charts, wide=420)
