"""``make forget`` as a person calls it: what it reads, what it prints, its exit code, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.erasure import __main__ as command
from include.erasure import proof
from tests.include.erasure.days import Days, image, states
from tests.include.lake.places import Folder

pytestmark = pytest.mark.slow  # it imports Airflow


def test_paths_labels_and_a_file_name_photos(days: Days, capsys: pytest.CaptureFixture[str]) -> None:
    photos = [f"data/a b/{number}.jpg" for number in range(6)] + ["data/c d/6.jpg", "data/é/7, 8.jpg"]
    for number, path in enumerate(photos):
        days.place.write(path, image(number))
    days.run()
    assert isinstance(days.place, Folder)
    root = days.place.root
    (root.parent / "list.txt").write_bytes(f"{photos[1]}\r\n\n{root}/{photos[7]}\n".encode())
    arguments = ["--lake", root.name, "--relative-to", str(root.parent)]
    assert command.main([*arguments, "--paths", f"'{photos[0]}'", "--labels", '"c d"', "--file", "list.txt"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("erased 4 photos: ")
    assert "published: state 1; kept states: 1\n" in printed
    gone = [photos[number] for number in (0, 1, 6, 7)]
    assert not set(gone) & days.place.names()
    assert states(days.place)[1]["featurize"]["features"] == 4
    assert not any(path in printed for path in photos), "the command prints no name"
    receipt = printed.split("RECEIPT=")[1].strip()
    assert len(json.loads(Path(receipt).read_bytes())["photos"]) == 4
    relative = str(Path(receipt).relative_to(root.parent))
    assert proof.main([relative, "--relative-to", str(root.parent)]) == 0

    assert command.main([*arguments, "--paths", f"'{photos[2]}'", "--keep-photos"]) == 0
    assert capsys.readouterr().out.count("erased 1 photo (the photos stay in the lake): ") == 1
    assert photos[2] in days.place.names()


def test_refusals_are_one_line_that_says_what_to_do(
    tmp_path: Path, days: Days, capsys: pytest.CaptureFixture[str]
) -> None:
    days.place.write("data/a/0.jpg", image(0))
    assert isinstance(days.place, Folder)
    lake = ["--lake", str(days.place.root), "--relative-to", str(tmp_path)]
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    refusals = {
        "nothing is named: expected paths such as data/Kiwi/1.jpg": lake,
        "FILE=none.txt cannot be read": [*lake, "--file", "none.txt"],
        "expected a text file with a path per line": [*lake, "--file", "photo.jpg"],
        "has no published state": [*lake, "--paths", "data/a/0.jpg"],
        "there is no lake at ": ["--lake", str(tmp_path / "no"), "--paths", "data/a/0.jpg"],
    }
    for expected, arguments in refusals.items():
        assert command.main(arguments) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert days.place.names() == {"data/a/0.jpg"}, "nothing was changed"
