"""The README's picture, from the report of a run: `python docs/overview.py runs/demo`. Needs Chromium."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SHOWN = ("weeks", "doses", "policies")
WIDTH, HEIGHT = 1240, 1400  # px
# Keeps the headline numbers and some figures, and gives each chart the room it has now.
STYLE = """<style>nav, header p { display: none } body { padding: 1rem 1.6rem; max-width: none }
figure { margin: 0 0 .8rem } .tiles { margin: .6rem 0 .8rem }</style>"""
SCRIPT = """<script>drawn.then(async () => {
  const kept = %s.map(id => document.getElementById(id)), tiles = document.querySelector(".tiles");
  document.body.replaceChildren(document.querySelector("header"), tiles, ...kept);
  for (const place of document.querySelectorAll("[data-chart]")) await Plotly.Plots.resize(place);
});</script>"""


def picture(run: Path, out: Path) -> None:
    """Write ``out`` from ``run``'s report."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    report = run / "report" / "report.html"
    if program is None or not report.is_file():
        sys.exit(f"needs Chromium (found {program}) and {report} (there: {report.is_file()}); `python run_pipeline.py`")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        text = report.read_text().replace("</head>", STYLE + "</head>", 1)
        page.write_text(text.replace("</body>", SCRIPT % list(SHOWN) + "</body>"))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=60000",
                   f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={out.resolve()}"]  # fmt: skip
        subprocess.run([program, *options, page.as_uri()], check=True, capture_output=True, timeout=300)


if __name__ == "__main__":
    picture(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"), Path(__file__).with_name("overview.png"))
