"""The terminal output of a run: a progress bar, or lines where there is no terminal."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local.run import watch

LINE_SECONDS = 5.0
"""Minimum time between two lines of progress, if the output is not a terminal."""


class Display:
    """Shows the running task and the progress of its job: as a bar on a terminal, else as lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._shown: dict[str, str] = {}
        self._last_line = 0.0
        self._last_text = ""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[share]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting Airflow", total=None, share="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def print_line(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        self._console.print(
            f"[{time.monotonic() - self._started:6.1f} s] {text}", markup=False, highlight=False, soft_wrap=True
        )

    def show(self, state: watch.RunState | None, progress: watch.Progress | None) -> None:
        """Show the state of a run. A line is printed once for each task that ends."""
        if state is None:
            return
        ended = {"success": "done", "failed": "FAILED", "upstream_failed": "not run", "skipped": "skipped"}
        for task, text in state.tasks.items():
            if text in ended and self._shown.get(task) != text:
                self._shown[task] = text
                self.print_line(f"{task:<18} {ended[text]}")
        working = state.tasks_in("running", "queued", "up_for_reschedule", "scheduled", "up_for_retry")
        if working:
            self._show_working(working[0], progress)

    def _show_working(self, task: str, progress: watch.Progress | None) -> None:
        # The name of a stage starts with that of its job, such as pca-moments.
        matches = progress is not None and task == f"wait_{progress.name.partition('-')[0]}"
        progress = progress if matches else None
        share = f"{progress.done}/{progress.total} {progress.unit}" if progress else ""
        self._bar.update(
            self._task,
            description=task,
            total=progress.total if progress else None,
            completed=progress.done if progress else 0,
            share=share,
        )
        text = f"{task:<18} {share}".rstrip()
        due = time.monotonic() - self._last_line >= LINE_SECONDS
        if not self._console.is_terminal and due and text != self._last_text:
            self._last_line, self._last_text = time.monotonic(), text
            self.print_line(text)
