"""The figures of the Twin: the same held-out patients and plans in the Twin and in Trial, and what the twin stage measured."""

from typing import Any

import numpy as np
import torch

from core.treatments import CONTROL, LABELS, TREATMENTS
from intervention.trial_effects import effect
from intervention.what_if import Choice, Futures, what_if
from pipeline.console import number
from pipeline.parts import World
from pipeline.report.charts import GREY, REAL, SYNTHETIC, Figure, at, band, bars, chart, dots, downwards, line, readable
from pipeline.report.worlds import maker

Metrics = dict[str, Any]
DOSES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
FAN_DOSE = 0.6
CHOICES: list[Choice] = [(CONTROL, 0.0)] + [(t, dose) for t in range(CONTROL + 1, len(TREATMENTS)) for dose in DOSES]
PATIENTS = 200
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
SIDES = (("Twin", SYNTHETIC, "solid"), ("Trial, the truth", REAL, "dash"))
LEGEND = [("Twin", SYNTHETIC, "line"), ("Trial, the truth", REAL, "dash")]


def courses_of(world: World, weeks: int, seed: int) -> Futures:
    """Every choice of ``CHOICES`` on the same patients with the same luck."""
    rows = torch.arange(min(len(world.patients), PATIENTS))
    return what_if(maker(world), rows, CHOICES, weeks, seed)


def twin_figures(twin: Futures, trial: Futures, metrics: Metrics) -> dict[str, Figure]:
    """Every figure by name; ``metrics`` are those of the twin stage."""
    figures = {"fans": fans(twin, trial), "doses": doses(twin, trial), "coverage": coverage(metrics)}
    if metrics.get("person_effects"):
        figures["individuals"] = individuals(metrics)
    return figures | {"remission": remission(metrics)}


def fans(twin: Futures, trial: Futures) -> Figure:
    """The spread of the patients' risk by week, twelve weeks open loop."""
    charts, gaps = [], []
    for treatment in range(len(TREATMENTS)):
        data, curves = [], []
        place = CHOICES.index((treatment, 0.0 if treatment == CONTROL else FAN_DOSE))
        for (name, colour, dash), futures in zip(SIDES, (twin, trial), strict=True):
            risk = futures.risk[place].T.numpy()  # (W + 1, B)
            weeks = list(range(len(risk)))
            edges = np.quantile(risk, LEVELS, axis=1)
            data += [band(weeks, edges[i], edges[-1 - i], name, f"{colour}/0.13") for i in range(2)]
            curves.append(edges)
            data.append(line(weeks, curves[-1][2], name, colour, dash))
        gaps.append(np.abs(curves[0] - curves[1]).max(axis=1))
        label = LABELS[treatment] + ("" if treatment == CONTROL else f" at {FAN_DOSE:.0%}")
        charts.append(chart(data, label, "week", "risk score", 230, yaxis={"range": [0, 1]}))
    worst = np.max(gaps, axis=0)
    horizon = twin.treatment.shape[2]
    title = f"{horizon} weeks ahead, on its own, the Twin keeps the median risk within {worst[2]:.2f} of Trial's and the edges of the fan within {worst[[0, 4]].max():.2f}"  # fmt: skip
    beside = f"Median, middle 50 % and 80 % of {twin.risk.shape[1]} held-out patients, the same in both; risk score 0 to 1; luck moves a median by about {_luck(trial):.2f}."  # fmt: skip
    return Figure(title, beside, charts, LEGEND, wide=185)


def _luck(futures: Futures) -> float:
    """The standard error of a median of the last week's risk, as of a normal law: 1.25 sd / sqrt(n)."""
    last = futures.risk[0, :, -1]
    return 1.2533 * float(last.std()) / len(last) ** 0.5


def benefit(futures: Futures, choice: Choice) -> tuple[float, float]:
    """By how much the risk score of the last week is below Control's, in points of 100, and its standard error."""
    last = futures.risk[:, :, -1]
    found = effect(last[CHOICES.index(choice)], last[0], last.shape[1])
    return -100 * found.difference, 100 * found.error


def doses(twin: Futures, trial: Futures) -> Figure:
    """Benefit by dose, learned and true."""
    charts, gaps, largest = [], [], 0.0
    for treatment in range(CONTROL + 1, len(TREATMENTS)):
        data, curves = [], []
        for (name, colour, dash), futures in zip(SIDES, (twin, trial), strict=True):
            found = [(0.0, 0.0)] + [benefit(futures, (treatment, dose)) for dose in DOSES]
            mean, error = np.array(found).T
            curves.append(mean)
            x = [0.0, *DOSES]
            data += [band(x, mean - 1.96 * error, mean + 1.96 * error, name, f"{colour}/0.15"), line(x, mean, name, colour, dash)]  # fmt: skip
        gaps.append((float(np.abs(curves[0] - curves[1]).max()), LABELS[treatment]))
        largest = max(largest, float(curves[1].max()))
        charts.append(chart(data, LABELS[treatment], "intensity", "points of risk", shapes=[at(0, "y")]))
    gap, where = max(gaps)
    weeks = twin.treatment.shape[2]
    title = f"Learned dose-response curves miss the true ones by {gap:.1f} points of risk at most ({where}); the best true effect is {largest:.1f}"  # fmt: skip
    beside = f"Risk score (x 100) below Control's in week {weeks}; areas: 95 % intervals, {twin.risk.shape[1]} held-out patients paired; 0: no effect."  # fmt: skip
    return Figure(title, beside, charts, LEGEND)


def coverage(metrics: Metrics) -> Figure:
    """Share of days inside the central intervals, one week ahead."""
    nominal = [50, 90]
    found = [100 * metrics[f"coverage_{each}"] for each in nominal]
    data = [line([0, 100], [0, 100], "exact", GREY, "dash", 1), dots(nominal, found, "Twin", SYNTHETIC)]
    data[1] |= {"text": [f"{each:.1f} %" for each in found], "textposition": "top left", "mode": "markers+text"}
    unit = {"range": [0, 103]}
    cover = chart(data, "one week ahead", "nominal, %", "days inside, %", 280, xaxis=unit, yaxis=unit)
    ratio = bars(["Twin", "Trial's own"], [metrics["crps_ratio"], 1.0], [SYNTHETIC, REAL])
    score = chart([ratio], "CRPS over Trial's own", "1 is the ceiling", **downwards(2, height=280))
    off = max(abs(each - want) for each, want in zip(found, nominal, strict=True))
    title = f"Intervals hold what they promise to {off:.1f} points; the forecast scores {metrics['crps_ratio']:.3f} of what the truth itself would"  # fmt: skip
    beside = "Held-out persons, days one week ahead along courses that Trial lives; ceiling: Trial's own samples, which know the person's response (CRPS ratio 1, coverage 50 and 90 %)."  # fmt: skip
    return Figure(title, beside, [cover, score], wide=190)


def individuals(metrics: Metrics) -> Figure:
    """How well individual effects are known: correlation with the truth, beside what the weeks so far can tell."""
    names = list(metrics["person_effects"])
    values, ceilings = ([row[side] for row in metrics["person_effects"].values()] for side in (0, 1))
    labels = [LABELS[TREATMENTS.index(name)] for name in names]
    data = [
        bars(labels, values, SYNTHETIC, name="Twin", text=[number(value) for value in values], textposition="inside"),
        dots(ceilings, labels, "ceiling", REAL, "line-ns", size=22),
    ]
    drawn = chart(data, "", "correlation with the true effect", **downwards(len(names), xaxis={"range": [0, 1]}))
    share = metrics.get("person_effect_share")
    title = f"Who responds to what is known with a correlation of {number(metrics['person_effect_correlation'])}; a regression on the same weeks reaches {number(metrics['person_effect_ceiling'])}"  # fmt: skip
    beside = "Held-out persons, effects of continued treatment after weeks watched; 0 is the average effect for all" + ("" if share is None else f"; the Twin reaches {100 * share:.0f} % of the ceiling")  # fmt: skip
    return Figure(title, beside + ".", [drawn], [("Twin", SYNTHETIC, "box"), ("ceiling", REAL, "tick")])


def remission(metrics: Metrics) -> Figure:
    """Twin minus Trial in remission, by policy."""
    gaps, luck = metrics["remission_gap"], metrics["remission_gap_luck"]
    names = sorted(gaps, key=lambda name: abs(gaps[name]))
    worst = names[-1]
    beyond = [name for name in names if abs(gaps[name]) > 1.96 * luck]
    data = [bars([readable(name) for name in names], [gaps[name] for name in names],
                 [SYNTHETIC if name in beyond else GREY for name in names])]  # fmt: skip
    shapes = [at(0), at(-1.96 * luck, dash="dash"), at(1.96 * luck, dash="dash")]
    drawn = chart(data, "", "percentage points, Twin minus Trial", **downwards(len(names), shapes=shapes))
    title = f"Remission in the Twin is off by {abs(gaps[worst]):.1f} points at most ({readable(worst)}); {len(beyond)} of {len(names)} policies by more than luck"  # fmt: skip
    beside = f"Share of courses in remission within the horizon, held-out persons; dashed: what luck alone would do (95 %, standard error {luck:.1f} points)."  # fmt: skip
    return Figure(title, beside, [drawn], [("more than luck", SYNTHETIC, "box"), ("within luck", GREY, "box")])
