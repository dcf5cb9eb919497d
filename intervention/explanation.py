"""Why the agent treats as it does: two small trees over readable numbers that imitate it, and how far they can be believed.

One says what the agent begins with, one how it goes on. Of a single tree the first weeks, a twelfth of all, would have
no branch: it would name what was given the week before, be right nearly always, and begin everybody on the same. The
trees are grown on the weeks that the agent meets. They are a policy themselves: what it earns says whether the weeks in
which it differs from the agent matter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from core.signals import DAYS
from core.treatments import CONTROL, LABELS, TREATMENTS
from envs.simulation import Simulation
from intervention.baselines import Action, Learned, Memoryless
from intervention.evaluation import observations_under
from intervention.policy import forbidden_treatments

CLEAR = 0.5  # by how much the likeliest treatment leads the next where a choice counts as clear
COURSE_SEEDS = 10_000_019  # between two draws of luck: more than any number of environments


def readable_names(simulation: Simulation) -> tuple[str, ...]:
    """What the columns of ``readable`` are."""
    patients, layout = simulation.patients, simulation.layout
    signals = [f"{signal.name} ({signal.unit})" for signal in patients.signals]
    names = [*(f"mean {name}" for name in signals), *(f"change since baseline in {name}" for name in signals)]
    for part in _kept(simulation):
        names += layout.names[layout.slices[part]]
    return tuple(name.removeprefix("profile.").replace("_", " ").replace(".", " ") for name in names)


def readable(simulation: Simulation, observation: Tensor) -> Tensor:
    """``[B, F]`` from observations ``[B, D]``: numbers a person can name, in units a person uses.

    Week means and their changes since baseline instead of single days; profile columns, weeks and signals in their own
    units; all other parts of the observation as they are.
    """
    patients, settings, slices = simulation.patients, simulation.settings, simulation.layout.slices
    week, baseline = (
        patients.scaler.unscale(observation[:, slices[part]].unflatten(1, (DAYS, -1)).mean(dim=1))
        for part in ("week", "baseline")
    )
    numeric = patients.encoder.numeric.values()
    profile = observation[:, slices["profile"]].clone()
    profile[:, : len(numeric)] *= profile.new_tensor([sd for _, sd in numeric])
    profile[:, : len(numeric)] += profile.new_tensor([mean for mean, _ in numeric])
    parts = {part: observation[:, slices[part]] for part in _kept(simulation)}
    weeks = {"weeks_on": settings.horizon, "time": settings.horizon, "well_weeks": settings.remission_weeks}
    parts |= {"profile": profile} | {part: parts[part] * count for part, count in weeks.items()}
    return torch.cat([week, week - baseline, *parts.values()], dim=1)


def _kept(simulation: Simulation) -> list[str]:
    """Parts of the observation that are readable as they are; the risk score says what the class probabilities do."""
    return [part for part in simulation.layout.slices if part not in ("week", "baseline", "probabilities")]


@dataclass(frozen=True)
class Tree:
    """A tree over ``readable`` numbers: each leaf names the treatment the agent gives there most, at its mean dose.

    ``fitted`` has its classes among the treatments; ``doses`` float32 ``[nodes, 5]``, the intensity of each treatment in
    each leaf.
    """

    fitted: DecisionTreeClassifier
    doses: Tensor

    def act(self, inputs: np.ndarray, forbidden: Tensor | None) -> Action:
        """Of ``inputs`` ``[B, F]``; where the leaf's treatment is ``forbidden`` (bool ``[B, 5]``), the next likeliest."""
        share = torch.full((len(inputs), len(TREATMENTS)), -1.0)
        share[:, CONTROL] = -0.5  # where a leaf knows forbidden treatments only
        share[:, self.fitted.classes_] = torch.from_numpy(self.fitted.predict_proba(inputs)).float()
        if forbidden is not None:
            share = share.masked_fill(forbidden, -2.0)
        treatment = share.argmax(dim=1)
        return treatment, self.doses[torch.from_numpy(self.fitted.apply(inputs)), treatment]


class TreePolicy(Memoryless):
    """``begin`` treats in the first week of a course, ``go_on`` in the others; the ``agent``'s contraindications hold."""

    def __init__(self, begin: Tree, go_on: Tree, agent: Learned) -> None:
        self.begin, self.go_on, self.agent = begin, go_on, agent

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        inputs = readable(simulation, observation).numpy(force=True)
        forbidden = forbidden_treatments(observation, self.agent.agent.rules)
        begin, go_on = (tree.act(inputs, forbidden) for tree in (self.begin, self.go_on))
        first = first_week(simulation, observation)
        return torch.where(first, begin[0], go_on[0]), torch.where(first, begin[1], go_on[1])


def first_week(simulation: Simulation, observation: Tensor) -> Tensor:
    """Bool ``[B]``: whether the course begins with this observation."""
    return observation[:, simulation.layout.slices["time"]][:, 0] == 0


def grow_tree(
    agent: Learned, make_simulation: Callable[[int], Simulation], rows: Tensor, seed: int, depth: int, leaf: int
) -> TreePolicy:
    """Both trees, each at most ``depth`` deep, on the weeks of one course of each patient in ``rows`` under the agent.

    ``make_simulation(seed)`` gives a new simulation of ``len(rows)`` environments; ``leaf`` is the least number of weeks
    in a leaf.
    """
    simulation = make_simulation(seed)
    met = observations_under(agent, simulation, rows, seed)
    first = first_week(simulation, met)
    begin, go_on = (
        _grown(readable(simulation, part).numpy(force=True), agent.agent.act(part), depth, leaf)
        for part in (met[first], met[~first])
    )
    return TreePolicy(begin, go_on, agent)


def _grown(inputs: np.ndarray, action: Action, depth: int, leaf: int) -> Tree:
    treatment, dose = action
    tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=leaf, random_state=0).fit(inputs, treatment.numpy())
    place = torch.from_numpy(tree.apply(inputs)) * len(TREATMENTS) + treatment
    size = tree.tree_.node_count * len(TREATMENTS)
    count = torch.bincount(place, minlength=size)
    total = torch.bincount(place, weights=dose.double(), minlength=size)
    mean = torch.where(count > 0, total / count.clamp(min=1), dose.mean())
    return Tree(tree, mean.float().view(-1, len(TREATMENTS)))


@dataclass(frozen=True)
class Fidelity:
    """How far the trees are the agent, over weeks the agent meets with other patients than they were grown on."""

    fidelity: float  # share of weeks with the agent's treatment
    first_fidelity: float  # the same of first weeks alone
    majority: float  # share of weeks with the agent's treatment, had its commonest one been named every week
    unchanged: float  # the same, had the treatment of the week before been named (in a first week, the commonest there)
    clear_share: float  # share of weeks in which the agent's choice is clear (its lead is at least CLEAR)
    clear_fidelity: float | None  # fidelity in these weeks; None where there is none
    margin_right: (
        float | None
    )  # mean lead of the agent's choice where the tree names it; None where there is no such week
    margin_wrong: float | None  # and where the tree does not
    dose_error: (
        float | None
    )  # mean |intensity of the leaf - of the agent| where the treatment is the agent's and active
    self_agreement: float  # share of patients whose second treatment stays when the first week's luck is drawn anew


def fidelity(tree: TreePolicy, make_simulation: Callable[[int], Simulation], rows: Tensor, seed: int) -> Fidelity:
    """Arguments as in ``grow_tree``."""
    agent = tree.agent
    met = observations_under(agent, make_simulation(seed), rows, seed)
    treatment, dose = agent.agent.act(met)
    named, given = tree.act(make_simulation(seed), met, torch.zeros(0))
    likeliest = agent.agent.distribution(met).log_p.exp().topk(2, dim=1).values
    margin = likeliest[:, 0] - likeliest[:, 1]
    right, clear = named == treatment, margin >= CLEAR
    first = first_week(make_simulation(seed), met)
    return Fidelity(
        fidelity=float(right.double().mean()),
        first_fidelity=float(right[first].double().mean()),
        unchanged=float((_unchanged(make_simulation(seed), met, first, treatment) == treatment).double().mean()),
        majority=float(treatment.bincount().max() / len(treatment)),
        clear_share=float(clear.double().mean()),
        clear_fidelity=_mean(right[clear]),
        margin_right=_mean(margin[right]),
        margin_wrong=_mean(margin[~right]),
        dose_error=_mean((given - dose).abs()[right & (treatment != CONTROL)]),
        self_agreement=self_agreement(agent, make_simulation, rows, seed),
    )


def _unchanged(simulation: Simulation, observation: Tensor, first: Tensor, treatment: Tensor) -> Tensor:
    """What was given the week before ``[B]``; in first weeks what the agent begins with most."""
    last = observation[:, simulation.layout.slices["last_treatment"]].argmax(dim=1)
    return torch.where(first, treatment[first].bincount().argmax(), last)


def self_agreement(agent: Learned, make_simulation: Callable[[int], Simulation], rows: Tensor, seed: int) -> float:
    """Share of patients who get the same treatment in week 2 under two draws of the luck of week 1.

    Patient, baseline week and first action are the same. An account of the agent that does not turn on one week's
    luck cannot be right about the others.
    """
    second = []
    for luck in (seed, seed + COURSE_SEEDS):
        simulation = make_simulation(luck)
        observation = simulation.reset(rows=rows)
        observation = simulation.step(*agent.agent.act(observation)).observation
        second.append(agent.agent.act(observation)[0])
    return float((second[0] == second[1]).double().mean())


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def tree_text(policy: TreePolicy, names: tuple[str, ...]) -> str:
    """Both trees, a line a condition; a branch whose leaves name one treatment is one line. Shares are of the weeks each was
    grown on."""
    parts = ("The first week", policy.begin), ("Every week after it", policy.go_on)
    return "\n".join(line for title, tree in parts for line in (title, *_lines(tree, names, 0, "    ")))


def _lines(grown: Tree, names: tuple[str, ...], node: int, indent: str) -> Iterator[str]:
    tree = grown.fitted.tree_
    leaves = list(_leaves(grown.fitted, node))
    named = {_named(grown, leaf) for leaf in leaves}
    if len(named) == 1:
        yield indent + _leaf_line(grown, node, leaves, named.pop())
        return
    name, threshold = names[tree.feature[node]], tree.threshold[node]
    for sign, child in (("<=", tree.children_left[node]), (">", tree.children_right[node])):
        yield f"{indent}{name} {sign} {threshold:.2f}"
        yield from _lines(grown, names, int(child), indent + "|   ")


def _leaves(tree: DecisionTreeClassifier, node: int) -> Iterator[int]:
    left, right = int(tree.tree_.children_left[node]), int(tree.tree_.children_right[node])
    if left < 0:
        yield node
    else:
        yield from _leaves(tree, left)
        yield from _leaves(tree, right)


def _named(grown: Tree, leaf: int) -> int:
    return int(grown.fitted.classes_[grown.fitted.tree_.value[leaf][0].argmax()])


def _leaf_line(grown: Tree, node: int, leaves: list[int], treatment: int) -> str:
    tree = grown.fitted.tree_
    weight = tree.weighted_n_node_samples[leaves]
    dose = float(np.average(grown.doses[leaves, treatment].numpy(), weights=weight))
    agreed = tree.value[node][0][list(grown.fitted.classes_).index(treatment)]  # shares of the classes
    what = LABELS[treatment] if treatment == CONTROL else f"{LABELS[treatment]} at {dose:.0%}"
    share = weight.sum() / tree.weighted_n_node_samples[0]
    return f"{what}  ({share:.0%} of weeks, the agent's choice in {agreed:.0%} of them)"
