"""All cards of a run, written with its report."""

from pathlib import Path

from generators.labels import hidden_columns
from pipeline.cards.data import data_card
from pipeline.cards.model import model_card
from pipeline.cards.policy import CARD
from pipeline.cards.tripod import tripod_card
from pipeline.config import Config
from pipeline.store import RunStore, write_bytes

STAGES = ("source", "profiles", "rhythms", "cohort", "risk", "twin")
FOLDER = "cards"


def write_cards(config: Config, store: RunStore, out: Path) -> None:
    """``cards/`` in ``out``: data, model and policy card, and the checklist; every number from metrics and manifests."""
    metrics = {stage: store.metrics(stage) for stage in STAGES}
    made = {stage: store.manifest(stage) for stage in STAGES}
    cohort, hidden = store.cohort("cohort"), hidden_columns(config.labels)
    columns = {
        "profile": list(map(str, cohort.profiles)),
        "predictors": [str(column) for column in cohort.profiles if column not in hidden],
        "signals": [f"{signal.name} ({signal.unit})" for signal in cohort.signals],
    }
    cards = {
        "data_card.md": data_card(config.run, metrics, made, columns),
        "model_card.md": model_card(config.run, metrics, made),
        CARD: store.read("evaluate", CARD).decode(),
        "tripod_ai.md": tripod_card(config.run, metrics, made, columns),
    }
    for name, text in cards.items():
        write_bytes(out / FOLDER / name, text.encode())
