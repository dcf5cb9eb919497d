"""A policy of one's own beside the standard ones: in Trial, on a run's held-out patients, with its normalised score.

    python run_pipeline.py                      # once: makes runs/demo
    python examples/own_policy.py [--run runs/demo]

Patients, luck, intervals and baselines are those of the run's evaluate stage, so the rows they share agree to the digit.
"""

import argparse
import re

import torch
from torch import Tensor

from core.treatments import TREATMENTS
from envs.simulation import Simulation
from intervention.baselines import Action, Memoryless
from pipeline.command import one_line_errors
from pipeline.environments import open_run
from pipeline.judge import judge, table_of

CBT, EXERCISE = TREATMENTS.index("cbt"), TREATMENTS.index("exercise")


class SleepFirst(Memoryless):
    """CBT for whoever slept worse than the average person this week, exercise for the others; less as risk falls.

    A policy may look at the observation, whose layout has names, and at nothing else of the simulation.
    """

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        layout = simulation.layout
        nights = [i for i, name in enumerate(layout.names) if re.fullmatch(r"week\..*\.sleep_quality", name)]
        risk = observation[:, layout.slices["risk"]][:, 0]
        poor = observation[:, nights].mean(dim=1) < 0  # scaled: 0 is the training persons' mean
        return torch.where(poor, CBT, EXERCISE), (0.3 + 0.5 * risk).clamp(0.3, 0.7)


def main(run: str) -> None:
    torch.set_num_threads(1)
    print(table_of(*judge(open_run(run), {"sleep first": SleepFirst()})))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="folder of a run that has been evaluated")
    with one_line_errors(()):
        main(**vars(parser.parse_args()))
