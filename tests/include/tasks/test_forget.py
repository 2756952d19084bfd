"""The task of ``fruit_forget``: the form is the request, what it returns names no photo, refusals are not retried."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.settings.form import forget_params
from include.tasks import forget as tasks
from tests.include.erasure.days import Days, image, states
from tests.include.lake.places import Folder

pytestmark = pytest.mark.slow  # creates an AWS client


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Days:
    (tmp_path / "lake").mkdir()
    for service in ("EMR", "S3", "KMS", "EC2"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", "http://127.0.0.1:1")  # nothing listens there
    return Days(Folder(tmp_path / "lake"), monkeypatch)


def submit(monkeypatch: pytest.MonkeyPatch, **form: Any) -> Any:
    params = {name: param.resolve() for name, param in forget_params().items()} | form
    monkeypatch.setattr(tasks, "get_current_context", lambda: {"ti": SimpleNamespace(), "params": params})
    return tasks.forget_photos()


def test_the_photos_of_the_form_are_erased(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        days.place.write(f"data/{'ab'[number % 2]}/{number}.jpg", image(number))
    days.run()
    with pytest.raises(AirflowFailException, match="RequestError: nothing is named"):
        submit(monkeypatch)
    with pytest.raises(AirflowFailException, match="NothingFoundError"):
        submit(monkeypatch, paths=["data/a/1.jpg"])
    erased = submit(monkeypatch, paths=["data/a/0.jpg"], labels=["b"])
    assert erased["photos"] == 4
    assert erased["receipt"] == f"{days.lake.root}/erasures/{erased['erasure']}.json"
    assert "jpg" not in str(erased)
    assert states(days.place)[1]["featurize"]["features"] == 2
    kept = submit(monkeypatch, paths=["data/a/2.jpg"], keep_photos=True)
    assert kept["photos"] == 1
    assert "data/a/2.jpg" in days.place.names()
