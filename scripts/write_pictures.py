"""Write the pictures of the documents from a real run: ``python -m scripts.write_pictures``, or ``make pictures``.

The report is rendered anew from the files of the published run, so that the pictures show the layout of this version.
The terminal is replayed from Airflow's database and from the logs of the run's steps.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageChops

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json
from include.records import Report
from include.reports.publishing import render_page
from local.airflow.home import open_read_only
from local.environment import LOCAL, PROJECT
from local.run.console import PlainTextConsole
from local.run.display import Display
from local.run.locations import locate_lake
from local.run.watch import Progress, RunState
from spark_jobs.runtime.progress import PROGRESS_PATTERN

PICTURES = PROJECT / "docs" / "pictures"
MAX_BYTES = 600_000
"""Size of all pictures together: a clone has each of their versions."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = {
    "report-1400-light": (1400, 1235, "light", ""),
    "report-1400-dark": (1400, 1235, "dark", ""),
    "report-390-light": (390, 1420, "light", ""),
    "report-390-dark": (390, 1420, "dark", ""),
    "map": (1100, 1000, "light", "plot"),
    "curve": (1100, 1000, "light", "curve"),
}
"""Width and height in pixels, colour scheme, and the id of an element whose section alone is shown."""

SHOWN_LAKE = "file:///home/me/lake"
"""Shown instead of the path of the lake, which may have the name of a person."""

COLORS = 200
TERMINAL_COLUMNS = 90


def main(argv: Sequence[str] | None = None) -> int:
    """Write all pictures."""
    parser = argparse.ArgumentParser(prog="make pictures", description=__doc__)
    parser.add_argument("--lake", help="the lake of a local run, a folder (default: .local/lake)")
    parser.add_argument("--state", type=Path, default=LOCAL, help="state folder of that run (default: .local)")
    parser.add_argument("--relative-to", type=Path, default=Path())
    parser.add_argument("--output", type=Path, default=PICTURES)
    options = parser.parse_args(argv)
    browser = find_browser()
    lake = Lake(locate_lake(options.lake, "folder", options.relative_to))
    report = read_report(lake)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, data in {**screenshots(browser, lake, report), "terminal.svg": terminal(options.state, report)}.items():
        (options.output / name).write_bytes(data)
    total = sum(file.stat().st_size for file in options.output.iterdir())
    print(f"{total:,} bytes of pictures in {options.output}")  # noqa: T201
    if total > MAX_BYTES:
        raise SystemExit(f"the pictures have {total:,} bytes together; at most {MAX_BYTES:,} are allowed: show less")
    return 0


def find_browser() -> str:
    """Return the path of Chromium.

    Raises
    ------
    SystemExit
        If it is not installed; the message names the package.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(
            f"make pictures: none of {', '.join(BROWSERS)} is on the PATH; install the package chromium "
            "(Debian and Ubuntu: apt-get install chromium; macOS: brew install --cask chromium)"
        )
    return found


def read_report(lake: Lake) -> Report:
    """Return the report of the published run.

    Raises
    ------
    SystemExit
        If no run is published.
    """
    with contextlib.suppress(FileNotFoundError):
        current = read_json(LakePath(lake.current), "a run writes it")
        return cast("Report", read_json(LakePath(lake.run(current["run"]).report_json), "a run writes it"))
    raise SystemExit(f"make pictures: no run is published in {lake.current}; run `make run` first")


def screenshots(browser: str, lake: Lake, report: Report) -> dict[str, bytes]:
    """Return PNG files of the report of a run, by name."""
    page = render_page(lake, report, None).replace(lake.root, SHOWN_LAKE)
    with tempfile.TemporaryDirectory() as folder:
        return {
            f"{name}.png": optimize(shoot(browser, show_only(page, element), width, height, scheme, work=Path(folder)))
            for name, (width, height, scheme, element) in SCREENSHOTS.items()
        }


def show_only(page: str, element: str) -> str:
    """Return a report that shows the section of one element only; all of it if the id is empty."""
    if not element:
        return page
    style = f"<style>header, header + div, main > :not(:has(#{element})) {{ display: none !important; }}</style>"
    return re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", style, page)


def shoot(browser: str, page: str, width: int, height: int, scheme: str, *, work: Path) -> Image.Image:
    """Return a screenshot of the top of a page, without the empty part below it."""
    file, picture = work / "report.html", work / "picture.png"
    file.write_text(page, encoding="utf-8")
    picture.unlink(missing_ok=True)
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--lang=en-US"]
    command += [f"--user-data-dir={work / 'browser'}", f"--window-size={width},{height}", "--virtual-time-budget=4000"]
    command += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", f"--screenshot={picture}"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, check=False)
    if not picture.exists():
        raise SystemExit(f"make pictures: {browser} made no screenshot: {done.stderr.strip()[-500:]}")
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    _, _, _, bottom = ImageChops.difference(image, empty).getbbox() or (0, 0, width, height)
    return image.crop((0, 0, width, min(height, bottom + 16)))


def optimize(image: Image.Image) -> bytes:
    """Return a picture as a PNG file with few colours."""
    data = io.BytesIO()
    image.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    return data.getvalue()


class _KeptLines(PlainTextConsole):
    """A terminal that remembers the lines that stay, without the states of the live line."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), force_terminal=True, width=TERMINAL_COLUMNS, _environ={"TERM": "xterm"})
        self.kept: list[str] = []

    def print(self, *objects: Any, **options: Any) -> None:
        self.kept += [text for text in objects if isinstance(text, str)]
        super().print(*objects, **options)


def terminal(state: Path, report: Report) -> bytes:
    """Return the terminal in the middle of featurize as an SVG file, replayed from the traces of a run.

    Parameters
    ----------
    state : Path
        State folder of the run: Airflow's database, and the logs of the steps.
    report : Report
        The run's report, for its ids.

    Raises
    ------
    SystemExit
        If the traces are not in the folder.
    """
    tasks = read_tasks(state / "airflow" / "airflow.db", report["run_id"])
    progress = read_progress(state / "emr", report["cluster"]["id"])
    partial = [moment for moment, each in progress if each.name == "featurize" and 0 < each.done < each.total]
    if not tasks or not partial:
        raise SystemExit(f"make pictures: the traces of {report['run_id']} are not in {state}; run `make run` first")
    now = min(start for _, start, _ in tasks)
    console = _KeptLines()
    with Display(console, lambda: now) as display:
        while now <= partial[-1]:
            now += 0.5
            done = {task: "success" if end <= now else "none" for task, _, end in tasks}
            # A sensor that waits has no start yet: the task that ends next is the one that runs.
            done[next(task for task, text in done.items() if text == "none")] = "running"
            seen = [each for moment, each in progress if moment <= now]
            display.show(RunState("", "running", done), seen[-1] if seen else None)
        shown = PlainTextConsole(io.StringIO(), record=True, force_terminal=True, width=TERMINAL_COLUMNS)
        for line in ["$ make run", *console.kept]:
            shown.print(line)
        shown.print(display.live_line())
    svg = shown.export_svg(title="make run")
    # Without the fonts from the network: viewers have a monospace font.
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.S).encode()


def read_tasks(database: Path, run_id: str) -> list[tuple[str, float, float]]:
    """Return task id, start and end of the tasks of a run in seconds since the epoch, in the order of their ends."""
    if not database.exists():
        return []
    with contextlib.closing(open_read_only(database, timeout=5)) as connection:
        rows = connection.execute(
            "SELECT task_id, start_date, end_date FROM task_instance WHERE run_id = ? AND state = 'success' "
            "ORDER BY end_date",
            [run_id],
        ).fetchall()
    times = [
        (task, *(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in dates))
        for task, *dates in rows
    ]
    return cast("list[tuple[str, float, float]]", times)


def read_progress(endpoint: Path, cluster: str) -> list[tuple[float, Progress]]:
    """Return the progress lines in the logs of the steps of a cluster, with their times in seconds since the epoch."""
    found = []
    for log in endpoint.glob(f"*/clusters/{cluster}/steps/*/stdout"):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if match := PROGRESS_PATTERN.search(line):
                moment = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                found.append((moment, Progress(match["name"], int(match["done"]), int(match["total"]), match["unit"])))
    return sorted(found, key=lambda pair: pair[0])


if __name__ == "__main__":
    raise SystemExit(main())
