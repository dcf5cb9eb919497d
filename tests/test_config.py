"""The configuration: every composition loads, and what is wrong is one line."""

import pytest

from core.errors import ConfigError
from pipeline.config import check_command_line, choices, load_config, plain


@pytest.mark.parametrize("preset", choices("preset"))
@pytest.mark.parametrize("data", choices("data"))
def test_every_composition_loads(preset: str, data: str) -> None:
    config = load_config([f"preset={preset}", f"data={data}"])
    assert config.preset == config.run == preset
    assert data.startswith(config.data.kind)  # lifesnaps_hrv is LifeSnaps with a fifth signal
    asked = data in ("reference", "dass42", "csv")  # where a questionnaire is, or may be, in the table
    assert config.labels.kind == ("questionnaire" if asked else "rules")


@pytest.mark.parametrize("labels", choices("labels"))
def test_labels_can_be_chosen(labels: str) -> None:
    assert load_config([f"labels={labels}"]).labels.kind == labels


def test_a_choice_on_the_command_line_wins_over_the_source() -> None:
    assert load_config(["data=lifesnaps", "labels=column", "labels.column=x"]).labels.kind == "column"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["policy.stepz=3"], "unknown configuration key 'policy.stepz', did you mean 'policy.steps'?"),
        (["sed=1"], "did you mean 'seed'?"),
        (["+policy.stepz=3"], "did you mean 'policy.steps'?"),
        (["data.path=x"], "it belongs to data=dass42, lifesnaps, lifesnaps_hrv, pmdata, sleep_health"),
        (["policy.steps=-3"], "policy.steps=-3: expected greater than or equal to 1"),
        (["policy.steps=many"], "policy.steps='many': expected a valid integer"),
        (["risk.dropout=1.5"], "risk.dropout=1.5: expected less than or equal to 1"),
        (["stage=rhythm"], "stage='rhythm': expected 'all', 'source'"),
        (["preset=huge"], "preset= is one of demo, full, smoke"),
        (["--multirun", "seed=0,-1", "run=r_${seed}"], "seed=-1: expected greater than or equal to 0"),
        (["--multirun", "policy.epochs=1,2", "stage=policy"], "give each its own, as in 'run=sweep_${policy.epochs}'"),
        (["seed=0,1"], "add --multirun"),
        (["seed=99999999999"], "seed=99999999999: expected less than"),
        (["run=../elsewhere"], "run='../elsewhere'"),
        (["run="], "run="),
        (["run=${nowhere}"], "nowhere"),
        (["--frobnicate"], "unknown option '--frobnicate'"),
        (["oops"], "write overrides as key=value"),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line(arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_good_lines_pass() -> None:
    check_command_line(["preset=smoke", "run=x", "policy.steps=5"])
    check_command_line(["--multirun", "seed=0,1,2", "run=sweep_${seed}"])
    check_command_line(["run=2024"])
    check_command_line(["--help"])


def test_a_configuration_survives_json() -> None:
    import json

    config = load_config(["preset=smoke"])
    assert json.loads(json.dumps(plain(config)))["policy"]["steps"] == config.policy.steps


def test_the_stages_named_are_the_stages_there_are() -> None:
    from typing import get_args

    from pipeline.config import StageName
    from pipeline.stages import STAGES

    assert get_args(StageName) == (
        "all",
        *(stage.name for stage in STAGES),
        "journey",
        "predict",
        "trial",
        "dataset",
        "compare",
        "audit",
        "export",
    )
