"""The policy card: what an agent is for, what it was trained on, what it does and to whom, and what it is not (after
Mitchell et al. 2019, "Model cards for model reporting"). Every number comes from the run's manifests and metrics."""

from core.treatments import TREATMENTS
from pipeline.cards.markdown import Metrics, card, table
from pipeline.config import Config
from pipeline.console import display_name
from pipeline.prescription_table import (
    LOWERED,
    SHORT,
    beside,
    intensity,
    lowered,
    lowered_sentence,
    shares,
    span,
    treatment_name,
    tree_sentences,
    verdict,
)

CARD = "policy_card.md"
WORLDS = {"twin": "the Twin, a model learned from virtual trials", "trial": "Trial, the simulator's ground truth"}


def policy_card(evaluate: Metrics, made: Metrics, config: Config) -> str:
    """Markdown; ``evaluate`` are that stage's metrics, ``made`` the policy stage's manifest."""
    sections = [
        ("Intended use", purpose(config)),
        ("Limits", limits(evaluate)),
        ("Training", training(made)),
        ("Contraindications", contraindications(made["config"]["policy"]["contraindications"])),
        ("Results on held-out persons", results(evaluate)),
        ("Every dose lowered alike", [table(["", *LOWERED], lowered(evaluate)), lowered_sentence(evaluate)]),
        ("Dose and remission beside its rivals", rivals(evaluate)),
        ("Who gets what, how much, with what result", groups(evaluate)),
        ("What is prescribed by risk score", prescribed(evaluate, "risk", "risk score")),
        ("What is prescribed by week", prescribed(evaluate, "week", "week")),
        ("Return against adverse events", safety(evaluate)),
        ("The trees that explain it", [*tree_sentences(evaluate), f"```\n{evaluate['tree']}\n```"]),
    ]
    return card(f"Policy card: {config.run}", sections)


def purpose(config: Config) -> list[str]:
    return [
        "This policy treats simulated patients. It was never tried on a person and must not choose "
        "anybody's treatment.",
        "Intended use: research on sequential treatment decisions in simulation: methods, evaluation, teaching. It chooses each "
        f"week, for up to {config.env.horizon} weeks, one of {', '.join(map(treatment_name, TREATMENTS))} and its intensity. "
        "Not intended: triage, prescription, or any decision about a real person.",
        f"Patients: persons with a risk score of {config.env.min_risk:g} or more; data `{config.data.kind}`, preset "
        f"`{config.preset}`, seed {config.seed}.",
    ]


def limits(evaluate: Metrics) -> list[str]:
    gap = evaluate.get("exploitation_gap")
    known = (
        ""
        if gap is None
        else f" Its return in the Twin differs from that in Trial by {gap:.1%} of the range between no treatment and the privileged reference."
    )
    return [
        "Its patients, their responses and their adverse events come from a simulator whose effects are set from published "
        "averages; individual responses are assumed. Nothing here says that a person would respond so." + known,
        f"Its choices turn on luck: were that of week 1 drawn anew, {1 - evaluate['explanation']['self_agreement']:.0%} of its "
        "second treatments would be others. Intervals are bootstrap intervals over persons of one run; they do not cover another "
        "cohort, another simulator or another training.",
    ]


def training(made: Metrics) -> list[str]:
    settings = made["config"]["policy"]
    shown = settings["imitation"]["courses"]
    begun = f" It began from the answers of one-week-ahead planning in the Twin to {shown:,} courses." if shown else ""
    if settings.get("caution", 1.0) != 1.0:
        begun += f" While it learned, an adverse event weighed {settings['caution']:g} times what it costs where it is judged."
    return [
        f"PPO with a head for the treatment and one for its intensity, {settings['seeds']} seed(s) of {settings['steps']:,} "
        f"patient-weeks in {WORLDS[settings['world']]}; seed {made['seed']}.{begun}",
        "Made from: " + ", ".join(f"{name} `{digest[:12]}`" for name, digest in made["inputs"].items()) + " (SHA-256); "
        + ", ".join(f"{name} {version}" for name, version in made["versions"].items()) + ".",
    ]  # fmt: skip


def contraindications(rules: list[Metrics]) -> list[str]:
    if not rules:
        return [
            "None were set. `policy.contraindications` sets them; they hold in training, evaluation and in the trees."
        ]
    lines = [
        f"- {treatment_name(rule['treatment'])}: "
        + ("never" if rule["when"] is None else f"never where `{rule['when']}` is above {rule['above']:g}")
        for rule in rules
    ]
    return ["Never given, in training or evaluation:", "\n".join(lines)]


def results(evaluate: Metrics) -> list[str]:
    share = f"{evaluate['confidence']:.0%}"
    rows = [
        [display_name(name, evaluate), f"{row['return']:.2f} {span(row['return_ci'], 2)}",
         f"{row['remission']:.1%} ({row['remission_ci'][0]:.1%} to {row['remission_ci'][1]:.1%})",
         f"{row['dose_weeks']:.2f}", f"{row['adverse_events']:.3f}"]
        for name, row in sorted(evaluate["policies"].items(), key=lambda item: -item[1]["return"])
    ]  # fmt: skip
    persons = evaluate["policies"]["ppo"]["patients"]
    lines = [
        f"{persons} persons whom no part of the run was trained on, in Trial, the same luck for all; {share} intervals."
    ]
    lines.append(table(["policy", "return", "remission", "dose-weeks", "adverse events"], rows))
    if evaluate.get("normalised_score") is not None:
        interval = evaluate["normalised_score_ci"]
        known = "" if interval is None else f" {span(interval, 2)}"
        lines.append(
            f"Normalised score (0 no treatment, 1 the privileged reference): {evaluate['normalised_score']:.2f}{known}."
        )
    return lines


def rivals(evaluate: Metrics) -> list[str]:
    rows = [
        [label,
         "n/a" if row["dose_ratio"] is None else f"{row['dose_ratio']:.2f} {span(row['dose_ratio_ci'], 2)}",
         f"{100 * row['remission_difference']:+.1f} {span([100 * each for each in row['remission_difference_ci']], 1)}",
         verdict(row), f"{row['adverse_difference']:+.3f} {span(row['adverse_difference_ci'], 3)}"]
        for label, row in beside(evaluate).items()
    ]  # fmt: skip
    header = [
        "rival",
        "dose-weeks, ratio",
        "remission, points",
        "no worse by more than 1 point (perhaps: the difference says so, its interval does not)",
        "adverse events, difference",
    ]
    return [table(header, rows)]


def groups(evaluate: Metrics) -> list[str]:
    rows = [
        [f"{column.replace('_', ' ')} {name}", str(row["persons"]), *shares(row), intensity(row), f"{row['return']:.2f}",
         f"{row['gain']:+.2f} {span(row['gain_ci'], 2)}", f"{row['remission']:.1%}", f"{row['adverse_events']:.3f}"]
        for column, found in evaluate["subgroups"].items()
        for name, row in found.items()
    ]  # fmt: skip
    header = [
        "group",
        "persons",
        *SHORT.values(),
        "mean intensity",
        "return",
        "over stepped care",
        "remission",
        "adverse events",
    ]
    return [table(header, rows)]


def prescribed(evaluate: Metrics, by: str, label: str) -> list[str]:
    rows = [
        [name, f"{row['weeks']:,}", *shares(row), intensity(row)] for name, row in evaluate["prescribed"][by].items()
    ]
    return [table([label, "weeks", *SHORT.values(), "mean intensity"], rows)]


def safety(evaluate: Metrics) -> list[str]:
    rows = [
        [display_name(name, evaluate), f"{adverse:.3f}", f"{earned:.2f}"]
        for name, (adverse, earned) in evaluate["safety"].items()
    ]
    return ["The policies that no other beats in both.", table(["policy", "adverse events", "return"], rows)]
