"""A page opened in headless Chromium, at several widths at once, and asked what it shows."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Runs inside the page: what went wrong from the start, and what there is to see once it has been drawn.
EARLY = """<script>window.faults = []; addEventListener("error", e => faults.push(e.message));
addEventListener("unhandledrejection", e => faults.push(String(e.reason)));
for (const kind of ["error", "warn"]) { const told = console[kind]; console[kind] = (...all) => { faults.push(all.join(" ")); told(...all); }; }</script>"""
LATE = """<script>(async () => {
  const root = document.documentElement;
  await drawn;
  const said = () => document.getElementById("what-if-said").textContent, dose = document.getElementById("dose");
  const ask = (treatment, step) => { document.querySelector(`input[value=${treatment}]`).click();
    dose.value = step; dose.dispatchEvent(new Event("input", { bubbles: true })); return said(); };
  const before = ask("cbt", 2);
  ask("medication", 9);
  const empty = [...document.querySelectorAll("[data-chart], [id^=what-if-]:not(p)")].filter(e => !e.querySelector(".main-svg") || e.getBoundingClientRect().width < 60);
  const shown = Object.fromEntries([...document.querySelectorAll("section")].map(e => [e.id, Math.round(e.getBoundingClientRect().height)]));
  parent.postMessage(JSON.stringify({ inner: innerWidth, scroll: root.scrollWidth, drawn: +root.dataset.drawn, shown, faults, before, after: said(),
    empty: empty.map(e => e.dataset.chart ?? e.id), background: getComputedStyle(document.body).backgroundColor }), "*");
})();</script>"""


def browser() -> str:
    """The program; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium is installed (none of {', '.join(NAMES)})")
    return found


def look(page: str, widths: tuple[int, ...], folder: Path, *options: str) -> list[dict[str, Any]]:
    """What ``page`` shows at each width, as the script above finds it."""
    program = browser()
    probed = page.replace("<head>", "<head>" + EARLY, 1).replace("</body>", LATE + "</body>", 1)
    (folder / "page.html").write_text(probed)
    frames = "".join(
        f'<iframe src="page.html" width="{width}" height="800" style="border: 0"></iframe>' for width in widths
    )
    outer = f"""<!doctype html><title>probe</title>{frames}<pre></pre><script>const all = [];
addEventListener("message", e => {{ all.push(JSON.parse(e.data)); document.querySelector("pre").textContent = JSON.stringify(all); }});</script>"""
    (folder / "probe.html").write_text(outer)
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={sum(widths) + 50},900", f"--user-data-dir={folder / 'profile'}", "--dump-dom",
         "--virtual-time-budget=60000", *options, (folder / "probe.html").as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    told = re.search(r"<pre>(.*?)</pre>", done.stdout, re.S)
    assert told and told[1], f"the page never said it was drawn: {done.stderr[-2000:]}"
    return sorted(json.loads(html.unescape(told[1])), key=lambda each: each["inner"])
