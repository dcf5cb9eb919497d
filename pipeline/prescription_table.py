"""What the agent prescribes, to whom and to what end, in words and tables of at most 100 columns."""

from typing import Any

from rich.console import Group
from rich.text import Text

from core.treatments import LABELS, SHORT_LABELS, TREATMENTS
from pipeline.console import display_name, number, policy_table
from pipeline.terminal.table import SOFT, Table, paragraph
from pipeline.trial_table import new_table, with_caption

Metrics = dict[str, Any]
SHORT = dict(zip(TREATMENTS, SHORT_LABELS, strict=True))
RIVALS = {"stepped_care": "stepped care", "best_constant_by_remission": "best constant by remission"}


def treatment_report(evaluate: Metrics) -> Group:
    """Everything the evaluate stage found out about the agent's prescriptions."""
    parts: list[Group | Table] = [
        group_table(evaluate),
        dose_table(evaluate, "risk", "risk score"),
        dose_table(evaluate, "week", "week"),
    ]
    return Group(
        policy_table(evaluate),
        *parts,
        lowered_table(evaluate),
        rival_table(evaluate),
        safety_table(evaluate),
        tree_lines(evaluate),
    )


def shares(row: Metrics) -> list[str]:
    return [f"{row['treatments'][name]:.0%}" for name in TREATMENTS]


def intensity(row: Metrics) -> str:
    return "n/a" if row["intensity"] is None else f"{row['intensity']:.0%}"


def group_table(evaluate: Metrics) -> Group:
    treatments = ["none", "app", "CBT", f"exer{SOFT}cise", f"medi{SOFT}cation"]
    headers = ["n", *treatments, "dose", "return", "gain (interval)", f"remis{SOFT}sion", "adverse\nevents"]
    table = new_table("Who gets what, how much, with what result", headers, padding=0)
    for column, groups in evaluate["subgroups"].items():
        for name, row in groups.items():
            low, high = row["gain_ci"]
            gain = f"{row['gain']:+.2f} ({low:+.2f} to {high:+.2f})"
            result = [f"{row['return']:.2f}", gain, f"{row['remission']:.0%}", f"{row['adverse_events']:.2f}"]
            label = f"{column.removeprefix('baseline ').replace('_', ' ')} {name}"
            table.add_row(label, str(row["persons"]), *shares(row), intensity(row), *result)
        table.add_section()
    caption = "Risk: thirds of the score before treatment. Treatments: share of weeks. Dose: mean intensity of the weeks with one. Gain: return over stepped care, same persons."
    return with_caption(table, caption)


def dose_table(evaluate: Metrics, by: str, label: str) -> Table:
    """What is prescribed by week or by risk score."""
    table = new_table(f"What is prescribed by {label}", ["weeks", *SHORT.values(), "dose"])
    for name, row in evaluate["prescribed"][by].items():
        table.add_row(name, f"{row['weeks']:,}", *shares(row), intensity(row))
    return table


def rival_table(evaluate: Metrics) -> Group:
    columns = ["dose-weeks,\nratio", "remission,\npoints", "adverse events,\ndifference", "remission\nno worse"]
    table = new_table("Dose and remission beside", columns)
    for label, row in beside(evaluate).items():
        ratio = "n/a" if row["dose_ratio"] is None else f"{row['dose_ratio']:.2f}\n{span(row['dose_ratio_ci'], 2)}"
        points, bounds = 100 * row["remission_difference"], [100 * each for each in row["remission_difference_ci"]]
        adverse = f"{row['adverse_difference']:+.3f}\n{span(row['adverse_difference_ci'], 3)}"
        table.add_row(label, ratio, f"{points:+.1f}\n{span(bounds, 1)}", adverse, verdict(row))
    caption = (
        "Ratio: the agent's dose-weeks over the rival's; others: the agent's less the rival's; least dose: the agent with every "
        "dose lowered as above. No worse: by 1 point at most, yes "
        "where the whole interval says so, perhaps where only the difference does."
    )
    return with_caption(table, caption)


def beside(evaluate: Metrics) -> dict[str, Metrics]:
    """What is known of dose and remission beside each rival, by label: of the agent, then of the agent at its least dose."""
    rows = {rival(key, row): row for key, row in evaluate["dose_saved"].items()}
    least = evaluate["least_dose"]
    return rows | {
        f"{RIVALS[key].removesuffix(' by remission')}, least dose": row for key, row in least["saved"].items()
    }


def lowered_table(evaluate: Metrics) -> Group:
    """What comes of the agent as all its intensities are lowered."""
    table = new_table("Every dose of the agent lowered alike", LOWERED)
    for label, *cells in lowered(evaluate):
        table.add_row(label, *cells)
    return with_caption(table, lowered_sentence(evaluate))


LOWERED = ["remission", "more than stepped care, at least", "return", "dose-weeks", "adverse events"]


def lowered(evaluate: Metrics) -> list[list[str]]:
    """Label and cells of each share of the agent's doses, then of stepped care."""
    least = evaluate["least_dose"]
    rows = {
        f"{float(share):.0%} of each dose": row
        for share, row in sorted(least["curve"].items(), reverse=True, key=lambda item: float(item[0]))
    }
    return [
        [
            label,
            f"{row['remission']:.1%}",
            f"{100 * row['remission_gained']:+.1f} points" if "remission_gained" in row else "",
            f"{row['return']:.2f}",
            f"{row['dose_weeks']:.2f}",
            f"{row['adverse_events']:.3f}",
        ]
        for label, row in {**rows, "stepped care": least["reference"]}.items()
    ]


def lowered_sentence(evaluate: Metrics) -> str:
    least = evaluate["least_dose"]
    found = "the smallest tried at which no fewer remit than under stepped care by the whole interval"
    if least["curve"]["1"]["remission_gained"] < 0:
        found = "as the agent gives them: not even so are there no fewer remissions than under stepped care by the whole interval"
    return (
        "Synthetic patients in Trial; at least: the lower end of the difference's interval. "
        f"Least dose: {least['share']:.0%} of each, {found}; judged on held-out persons below."
    )


def rival(key: str, row: Metrics) -> str:
    name = row["policy"].removeprefix("constant_").replace("_", " ")
    return RIVALS[key] if key == row["policy"] else f"{RIVALS[key]} ({name})"


def span(interval: list[float], digits: int) -> str:
    return f"({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def verdict(row: Metrics) -> str:
    """Whether remission is no worse than the rival's, by as much as the persons can tell."""
    if row["non_inferior"]:
        return "yes"
    return "perhaps" if row["within_margin"] else "no"


def safety_table(evaluate: Metrics) -> Group:
    table = new_table("Return against adverse events", ["adverse events", "return"])
    for name, (adverse, earned) in evaluate["safety"].items():
        table.add_row(
            display_name(name, evaluate).replace("constant ", "constant: "), f"{adverse:.3f}", f"{earned:.2f}"
        )
    return with_caption(table, "Only those that no other policy beats in both.")


def tree_lines(evaluate: Metrics) -> Group:
    return Group(
        Text("The trees that explain the agent: what it begins with, and how it goes on", style="bold"),
        *map(paragraph, tree_sentences(evaluate)),
        Text(evaluate["tree"]),
    )


def tree_sentences(evaluate: Metrics) -> list[str]:
    """How far the trees can be believed, and why not further."""
    found, policies = evaluate["explanation"], evaluate["policies"]
    clear = "n/a" if found["clear_fidelity"] is None else f"{found['clear_fidelity']:.0%}"
    return [
        f"They name the agent's treatment in {evaluate['tree_fidelity']:.0%} of held-out weeks (the week before's: "
        f"{found['unchanged']:.0%}; its commonest: {found['majority']:.0%}), in {found['first_fidelity']:.0%} of first weeks, and in "
        f"{clear} of the {found['clear_share']:.0%} in which the agent's choice is clear. Where they do, the dose is off by "
        f"{number(found['dose_error'])}.",
        f"The agent's first choice leads its second by {number(found['margin_right'])} where the trees are right and by "
        f"{number(found['margin_wrong'])} where they are wrong (probability). Were the luck of week 1 drawn anew, the agent itself "
        f"would keep its second treatment for {found['self_agreement']:.0%} of patients.",
        f"Played as a policy the trees return {policies['tree']['return']:.2f}, the agent {policies['ppo']['return']:.2f}.",
    ]


def treatment_name(name: str) -> str:
    return LABELS[TREATMENTS.index(name)]
