"""The progress of a run in the terminal: one live line per step, or plain lines where lines cannot be redrawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Self

from rich.console import RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TaskID
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from local.run import watch
from local.run.console import PlainTextConsole

LINE_SECONDS = 5.0
"""Minimum time between two plain lines of progress."""

RATE_SECONDS = 120.0
"""Time over which the rate is measured: a task of Spark takes some ten seconds, more on a loaded machine."""

BAR_COLUMNS = 80
"""Minimum width of a terminal that shows a bar; narrower ones show a short text."""

ENDED = {"success": "done", "failed": "FAILED", "skipped": "skipped"}
"""What a line says of a task that has ended, by its state; tasks that only follow a failed one have no line."""


def describe(step: Task, *, short: bool = False) -> str:
    """Return how far a step is, its rate and the time left, as far as they are known.

    Parameters
    ----------
    step : Task
        A task of rich's progress display, with the field ``unit``.
    short : bool
        Whether the text must fit into 40 columns.
    """
    if step.total is None:
        return ""
    unit = step.fields["unit"]
    parts = [f"{step.percentage:.0f} %" if short else f"{step.completed:.0f}/{step.total:.0f} {unit}"]
    rate = step.finished_speed or step.speed
    if rate:
        parts.append(f"{rate:.{0 if rate >= 10 else 1}f}{'' if short else f' {unit}'}/s")
    if step.time_remaining and not step.finished:
        parts.append(f"{timedelta(seconds=step.time_remaining)} left")
    return ", ".join(parts)


class _StepColumn(ProgressColumn):
    """The live line of a step, in the width that the terminal has at the moment."""

    def __init__(self, console: PlainTextConsole) -> None:
        self._console = console
        self._bar = BarColumn(bar_width=16)
        super().__init__()

    def render(self, task: Task) -> RenderableType:
        width = self._console.width
        short = width < BAR_COLUMNS
        # Without a rate, the time since the start shows that the step goes on.
        since = "" if task.speed or task.finished else f"{timedelta(seconds=int(task.elapsed or 0))}"
        details = ", ".join(filter(None, [describe(task, short=short), since]))
        text = Text(f"{task.description} {details}", no_wrap=True)
        text.truncate(width - 1 if short else width - 18)
        if short or task.total is None:
            return text
        line = Table.grid(padding=(0, 1))
        line.add_row(self._bar.render(task), text)
        return line


class Display:
    """Shows the running task and the progress of its job.

    On a terminal, the current step has one live line. Elsewhere, and with ``TERM=dumb`` or ``TTY_INTERACTIVE=0``, such
    as for a screen reader, there are plain lines and no cursor movement.

    Parameters
    ----------
    console : PlainTextConsole
        The terminal.
    clock : callable
        Replacement for ``time.monotonic``.
    """

    def __init__(self, console: PlainTextConsole, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        self._shown: dict[str, str] = {}
        self._last_line = float("-inf")
        self._last_text = ""
        self._live = console.is_interactive
        self._bars = Bars(
            _StepColumn(console),
            console=console,
            transient=True,
            auto_refresh=False,  # show() redraws
            speed_estimate_period=RATE_SECONDS,
            get_time=clock,
            disable=not self._live,
        )
        self._step: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end_step()
        self._bars.stop()

    def print_line(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        self._console.print(f"[{self._clock() - self._started:6.1f} s] {text}")

    def live_line(self) -> RenderableType:
        """Return the live line as it is now."""
        return self._bars.get_renderable()

    def show(self, state: watch.RunState | None, progress: watch.Progress | None) -> None:
        """Show the state of a run. A line is printed once for each task, and for each measured step, that ends."""
        if state is None:
            return
        working = state.tasks_in("running", "queued", "up_for_reschedule", "scheduled", "up_for_retry")
        self._update_step(working[0] if working else None, progress)
        for task, text in state.tasks.items():
            if text in ENDED and self._shown.get(task) != text:
                self._shown[task] = text
                self.print_line(f"{task:<18} {ENDED[text]}")
        self._bars.refresh()

    def _update_step(self, task: str | None, progress: watch.Progress | None) -> None:
        # The name of a stage starts with that of its job, such as pca-moments.
        if progress is not None and task != f"wait_{progress.name.partition('-')[0]}":
            progress = None
        name = progress.name if progress else task
        if self._step is None or self._bars.tasks[0].description != name:
            self._end_step()
            if name is None:
                return
            unit = progress.unit if progress else ""
            self._step = self._bars.add_task(name, total=progress.total if progress else None, unit=unit)
        if progress is not None:
            self._bars.update(self._step, completed=progress.done, total=progress.total)
        step = self._bars.tasks[0]
        text = f"{step.description:<18} {describe(step)}".rstrip()
        due = self._clock() - self._last_line >= LINE_SECONDS
        if not self._live and due and text != self._last_text:
            self._last_line, self._last_text = self._clock(), text
            self.print_line(text)

    def _end_step(self) -> None:
        """Remove the live line of the current step; if it was measured, print its figures."""
        if self._step is None:
            return
        step = self._bars.tasks[0]
        text = f"{step.description:<18} {describe(step)}"
        if step.finished and self._last_text != text:
            self._last_text = text
            self.print_line(text)
        self._bars.remove_task(self._step)
        self._step = None
