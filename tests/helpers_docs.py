"""What tests of the README and of the pages in docs/ share."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDS_AN_EXTRA = "launcher"


def commands(text: str) -> list[list[str]]:
    """The words after `python` on every command line of a page, without its comment."""
    lines = re.findall(r"^    (?:pip .* && )?python (.*)$", text, re.M)
    return [re.sub(r"\s+#.*", "", line).replace("'", "").split() for line in lines]


def overrides(text: str) -> set[tuple[str, ...]]:
    """What the pipeline's commands on a page ask for; of a sweep its first job. Defaults alone are left out."""
    asked = set()
    for script, *words in commands(text):
        if script == "run_pipeline.py" and not any(NEEDS_AN_EXTRA in word for word in words):
            kept = [word for word in words if not word.startswith("--")]
            asked.add(tuple(re.sub(r"^([\w.]+=[^,\[]+),.*", r"\1", word) for word in kept))
    return asked - {()}
