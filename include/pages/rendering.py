"""HTML pages from templates: every text is escaped, and only the pages' own script and style may run."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse

from include.reports.policy import content_policy, within_airflow
from include.settings.addresses import page_path

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent


def render_page(template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page as the response to a request.

    Parameters
    ----------
    template : str
        File of the template in this folder.
    status_code : int
        HTTP status.
    **values
        What the template shows.
    """
    text = _template(template).render(**values)
    return HTMLResponse(text, status_code=status_code, headers={"Content-Security-Policy": _policy()})


@functools.cache
def _asset(name: str) -> str:
    return FOLDER.joinpath("assets", name).read_text(encoding="utf-8")


@functools.cache
def _policy() -> str:
    own = content_policy([_asset("pages.js")], _asset("pages.css"))
    return within_airflow(f"{own}; connect-src 'self'")


@functools.cache
def _template(name: str) -> jinja2.Template:
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "style": markupsafe.Markup(_asset("pages.css")),
        "script": markupsafe.Markup(_asset("pages.js")),
        "page_path": page_path,
    }
    environment.filters |= {"moment": format_moment, "duration": format_duration}
    return environment.get_template(name)


def format_moment(moment: str | datetime | None) -> str:
    """Return a time in UTC, to the minute; a dash if it is unknown."""
    if moment is None:
        return "—"
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return parsed.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def format_duration(seconds: float | None) -> str:
    """Return a duration as people say it, such as ``1 h 05 min``; a dash if it is unknown."""
    if seconds is None:
        return "—"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
