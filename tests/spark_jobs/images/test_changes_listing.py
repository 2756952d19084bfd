"""Listing: nothing that the pattern takes is lost, and the order is that of the paths."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_jobs.args import DEFAULT_PATTERN, NOT_LOADED_FILE
from spark_jobs.errors import JobError
from spark_jobs.images import changes
from spark_jobs.lake import schemas
from spark_jobs.left_out import MAX_EXTENSIONS, MAX_LABELS, describe, warn
from spark_jobs.records import Changes, Fingerprint, LeftOut
from spark_jobs.walk import Image, walk_local_folder

REPOSITORY = Path(__file__).resolve().parents[3]

ODD_NAMES = [
    "plain.jpg",
    "UPPER.JPG",
    "Mixed.JpEg",
    "_hidden by spark.jpg",
    ".hidden by unix.jpg",
    "spaces and 100 %.jpg",
    "hash#plus+question?.jpg",
    "%20%2F.jpg",
    "pêche à l'été.jpg",
    "桃.jpg",
    "e\u0301 decomposed.jpg",
    "new\nline.jpg",
    "brackets[1]{2}*.jpg",
    "back\\slash.jpg",
    "colon:semi;comma,.jpg",
    ".jpg",
]
ODD_FOLDERS = ["Apple Red 2", "_under", ".dot", "50 % off", "a#b", "c+d", "pêche", "x.jpg", "label=1", "e:f"]


FINGERPRINT: Fingerprint = {"digest": "f" * 64, "inputs": {}}


def find(images: Path, run: Path, pattern: str = "*.jpg") -> Changes:
    return changes.find(changes.Folder(f"file://{images}", pattern), f"file://{run}", FINGERPRINT, None)


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def paths(folder: Path, pattern: str = DEFAULT_PATTERN, *, include_hidden: bool = False) -> list[str]:
    return [f"file://{row.path}" for row in rows(folder, pattern, include_hidden=include_hidden)]


def rows(folder: Path, pattern: str = DEFAULT_PATTERN, *, include_hidden: bool = False) -> list[Image]:
    return list(walk_local_folder(str(folder), pattern, include_hidden=include_hidden).images())


def left_out(folder: Path, pattern: str = DEFAULT_PATTERN, *, include_hidden: bool = False) -> LeftOut:
    """What the walk of a folder leaves out."""
    walk = walk_local_folder(str(folder), pattern, include_hidden=include_hidden)
    assert list(walk.images())
    return walk.left_out.record("there", pattern)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_name_is_listed_as_it_is_on_disk(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"label/{name}")
    assert paths(tmp_path, include_hidden=True) == [f"file://{tmp_path}/label/{name}"]


@pytest.mark.parametrize("label", ODD_FOLDERS)
def test_the_label_is_the_folders_name(tmp_path: Path, label: str) -> None:
    make(tmp_path, f"deep/down/{label}/1.jpg")
    images = [row for row in rows(tmp_path, include_hidden=True) if not row.path.endswith("/")]
    assert [row.label for row in images] == [label]


def test_other_files_are_not_listed(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/1.png", "a/jpg", "a/1.jpg.txt", "a/1.jpgx")
    assert paths(tmp_path) == [f"file://{tmp_path}/a/1.jpg"]


def test_the_pattern_is_a_list_of_globs_in_any_case(tmp_path: Path) -> None:
    make(tmp_path, "a/1.PNG", "a/2.webp", "a/3.jpg", "a/44.tif")
    assert [Path(path).name for path in paths(tmp_path, "*.png, ?.WEBP ,4[0-9].*")] == ["1.PNG", "2.webp", "44.tif"]


def test_empty_files_and_links_that_lead_nowhere_are_listed(tmp_path: Path) -> None:
    make(tmp_path, "a/full.jpg")
    (tmp_path / "a" / "empty.jpg").touch()
    (tmp_path / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "a" / "pipe.jpg").touch()
    (tmp_path / "a" / "pipe.jpg").unlink()
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    assert [Path(path).name for path in paths(tmp_path)] == ["empty.jpg", "full.jpg", "gone.jpg", "pipe.jpg"]


def test_a_folder_named_like_an_image_is_listed_as_one_and_walked(tmp_path: Path) -> None:
    make(tmp_path, "a/x.jpg/y.jpg", "a/x.jpg-2/z.jpg", "a/x.jpg.jpg")
    (tmp_path / "a" / "empty.jpg").mkdir()
    root = f"file://{tmp_path}/a"
    assert paths(tmp_path) == [
        f"{root}/empty.jpg/",
        f"{root}/x.jpg-2/z.jpg",
        f"{root}/x.jpg.jpg",
        f"{root}/x.jpg/",
        f"{root}/x.jpg/y.jpg",
    ]


def test_a_pattern_that_takes_everything_takes_no_label(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/notes", "b/x.jpg/2")
    root = f"file://{tmp_path}"
    assert paths(tmp_path, "*") == [f"{root}/a/1.jpg", f"{root}/a/notes", f"{root}/b/x.jpg/", f"{root}/b/x.jpg/2"]


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/1.jpg", "data/a/2.jpg")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "circle").symlink_to(tmp_path / "data")
    assert paths(tmp_path / "data") == [f"file://{tmp_path}/data/a/2.jpg", f"file://{tmp_path}/data/linked/1.jpg"]


def test_links_that_loop_or_lead_through_a_file_are_listed(tmp_path: Path) -> None:
    folder = make(tmp_path, "a/1.jpg") / "a"
    for name, target in {"loop.jpg": "loop.jpg", "pair1.jpg": "pair2.jpg", "pair2.jpg": "pair1.jpg"}.items():
        (folder / name).symlink_to(target)
    (folder / "through a file.jpg").symlink_to("1.jpg/x.jpg")
    (folder / "long.jpg").symlink_to("x" * 300)
    (folder / "loop without a pattern").symlink_to("loop without a pattern")
    names = ["1.jpg", "long.jpg", "loop.jpg", "pair1.jpg", "pair2.jpg", "through a file.jpg"]
    assert [Path(path).name for path in paths(tmp_path)] == names
    assert left_out(tmp_path)["skipped"] == 1


def test_a_folder_that_cannot_be_read_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, which can read every folder."""
    make(tmp_path, "a/1.jpg", "b/1.jpg", "lost+found/1.jpg")
    scandir = os.scandir

    def refuse(folder: bytes) -> Any:
        if folder.endswith((b"/b", b"/lost+found")):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(JobError, match=rf"the folder {tmp_path}/b cannot be read \(Permission denied\): change its"):
        paths(tmp_path)
    (tmp_path / "b" / "1.jpg").unlink()
    (tmp_path / "b").rmdir()
    assert paths(tmp_path) == [f"file://{tmp_path}/a/1.jpg"], "a hidden folder may be unreadable"


HIDDEN = [
    "__MACOSX/Kiwi/._1.jpg",
    "Kiwi/._2.jpg",
    "Kiwi/.DS_Store",
    "Kiwi/.ipynb_checkpoints/1-checkpoint.jpg",
    "Kiwi/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "#recycle/1.jpg",
    "$RECYCLE.BIN/$I1.jpg",
    "System Volume Information/x",
    ".Trash-1000/files/1.jpg",
    "lost+found/1.jpg",
    "Thumbs.db",
    "desktop.ini",
]


def test_hidden_system_folders_do_not_become_labels_and_their_files_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "Kiwi/1.jpg", "_Lime/_1.jpg", "Kiwi/notes.txt", *HIDDEN)
    (tmp_path / ".all").symlink_to("/")
    shown = ["Kiwi/1.jpg", "_Lime/_1.jpg"]
    assert paths(tmp_path) == [f"file://{tmp_path}/{name}" for name in shown]
    record = left_out(tmp_path)
    assert (record["hidden"], record["skipped"], record["lost_labels"]) == (len(HIDDEN) + 1, 1, [])
    assert describe(record)[1] == "13 hidden or system files in there left out (include_hidden=true includes them)"

    (tmp_path / ".all").unlink()
    every = [name for name in HIDDEN if name.endswith(".jpg")] + shown
    listed = [path for path in paths(tmp_path, include_hidden=True) if not path.endswith("/")]
    assert listed == sorted(f"file://{tmp_path}/{name}" for name in every)
    record = left_out(tmp_path, include_hidden=True)
    assert (record["hidden"], record["skipped"]) == (0, 1 + len(HIDDEN) + len(shown) - len(every))


def test_a_label_whose_files_all_have_other_endings_does_not_disappear_without_a_word(tmp_path: Path) -> None:
    pngs, heics = [f"banana/{number}.PNG" for number in range(3)], ["x/cherry/1.HEIC", "x/cherry/2.heic"]
    make(tmp_path, "apple/1.JPG", "apple/2.jpeg", "apple/notes", "README.txt", *pngs, *heics, "y/apple/1.gif")
    record = left_out(tmp_path)
    assert record["skipped"] == 8
    assert record["skipped_by_extension"] == [
        {"extension": ".png", "files": 3},
        {"extension": ".heic", "files": 2},
        {"extension": "", "files": 1},
        {"extension": ".gif", "files": 1},
        {"extension": ".txt", "files": 1},
    ]
    assert (record["lost_labels"], record["lost_label_count"]) == (["banana", "cherry"], 2)
    (line,), (warning,) = describe(record), warn(record)
    assert line.startswith("8 files in there left out by name, not matching '*.jpg,*.jpeg': 3 .png, 2 .heic, 1 without")
    assert warning.startswith("2 labels in there without any image: banana, cherry. No file name there matches '*.jpg")
    assert warning.endswith(". image_pattern=all includes 6 of the 8 skipped files")
    assert left_out(tmp_path, "all")["lost_labels"] == []
    assert left_out(tmp_path, "all")["skipped"] == 2


def test_images_beside_the_folders_of_labels_have_a_label_that_can_be_lost_too(tmp_path: Path) -> None:
    make(tmp_path / "photos", "apple/1.jpg", "1.png")
    assert left_out(tmp_path / "photos")["lost_labels"] == ["photos"]


def test_the_record_of_what_is_left_out_is_bounded_and_has_the_totals(tmp_path: Path) -> None:
    make(tmp_path, "apple/1.jpg", *(f"label {number:02d}/x.{number:02d}" for number in range(60)))
    record = left_out(tmp_path)
    assert len(record["skipped_by_extension"]) == MAX_EXTENSIONS == 20
    assert len(record["lost_labels"]) == MAX_LABELS == 50
    assert (record["skipped"], record["lost_label_count"], record["skipped_in_readable_formats"]) == (60, 60, 0)
    assert describe(record)[0].endswith("1 .19, 40 others")
    (warning,) = warn(record)
    assert "label 09 and 50 more. " in warning
    assert warning.endswith("None of the skipped files has the ending of a format that is read")


def test_labels_with_control_characters_do_not_break_the_lines_of_a_terminal(tmp_path: Path) -> None:
    make(tmp_path, "apple/1.jpg", "two\nlines\x1b[31m/1.png")
    (warning,) = warn(left_out(tmp_path))
    assert r"without any image: 'two\nlines\x1b[31m'. No" in warning


def test_the_record_of_the_loader_is_neither_an_image_nor_hidden_nor_skipped(tmp_path: Path) -> None:
    make(tmp_path, "apple/1.jpg", NOT_LOADED_FILE)
    for hidden in (False, True):
        assert len(rows(tmp_path, "*", include_hidden=hidden)) == 1
        record = left_out(tmp_path, include_hidden=hidden)
        assert (record["skipped"], record["hidden"]) == (0, 0)


def test_size_and_modification_time_identify_the_version(tmp_path: Path) -> None:
    make(tmp_path / "data", "a/1.jpg")
    os.utime(tmp_path / "data" / "a" / "1.jpg", ns=(0, 1_700_000_000_123_456_789))
    find(tmp_path / "data", tmp_path / "run")
    (row,) = pq.read_table(tmp_path / "run" / "listing.parquet").to_pylist()
    assert row["size"] == len("a/1.jpg")
    assert row["modification_time"] == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert row["etag"] is None


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(names, max_size=3), names), min_size=1, max_size=12))
def test_everything_is_listed_once_in_the_order_of_the_paths_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str]]
) -> None:
    folder = tmp_path_factory.mktemp("property")
    written = set()
    for parents, name in files:
        target = folder.joinpath(*parents, name + ".jpg")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        except (NotADirectoryError, FileExistsError, IsADirectoryError):
            continue
        written |= {f"file://{target}"}
    listed = paths(folder, include_hidden=True)
    assert listed == sorted(written, key=str.encode)


def test_the_lists_are_written_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(changes, "ROWS_READ", 5)
    make(tmp_path / "data", *(f"a/{number}.jpg" for number in range(7)))
    make(tmp_path / "data", "a/1.png", "b/notes.txt")
    found = find(tmp_path / "data", tmp_path / "run")
    assert (found["listed"], found["work"], found["work_bytes"]) == (7, 7, 49)
    assert [item["skipped"] for item in found["left_out"]] == [2]
    for name, rows in (("listing.parquet", [5, 2]), ("work.parquet", [3, 3, 1])):
        with pq.ParquetFile(tmp_path / "run" / name) as file:
            groups = range(file.num_row_groups)
            assert [file.metadata.row_group(group).num_rows for group in groups] == rows
            assert file.schema_arrow.equals(schemas.LISTING)
    assert pq.read_schema(tmp_path / "run" / "gone.parquet").equals(schemas.GONE)


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    message = r"the folder of images file://.*/nowhere does not exist; put images at file://.*/nowhere/<label>/<name>"
    with pytest.raises(changes.NoImagesError, match=message):
        find(tmp_path / "nowhere", tmp_path / "run")


def test_nothing_that_matches_is_a_clear_error_and_leaves_no_file(tmp_path: Path) -> None:
    make(tmp_path / "data", "a/1.png")
    message = r"no file in file://.*/data matches .*image_pattern=all includes 1 of"
    with pytest.raises(changes.NoImagesError, match=message):
        find(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run" / "changes.json").exists(), "it is written last: what is there without it is no list"


def test_a_name_that_is_not_utf_8_is_a_clear_error_that_names_the_folder(tmp_path: Path) -> None:
    folder = make(tmp_path, "a/1.jpg") / "a"
    descriptor = os.open(os.fsencode(folder) + b"/caf\xe9.jpg", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    with pytest.raises(JobError, match=rf"{folder}/caf\\xe9\.jpg is not valid UTF-8: rename it"):
        paths(tmp_path)
    assert paths(tmp_path, "1.*") == [f"file://{folder}/1.jpg"], "only the names of images matter"
    assert left_out(tmp_path, "1.*")["skipped"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_the_locale_loses_no_name(tmp_path: Path, locale: str) -> None:
    make(tmp_path, *(f"pêche {number}/{name}" for number in range(2) for name in ODD_NAMES))
    program = (
        "import sys; from spark_jobs.lake.image_walks import walk_through\n"
        "for row in walk_through(sys.argv[1], '*.jpg,*.jpeg', lambda walk: list(walk.images()), include_hidden=True):\n"
        "    print(ascii((row.path, row.label)))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program, f"file://{tmp_path}".encode()],
        env={**environment, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = [(row.path, row.label) for row in rows(tmp_path, include_hidden=True)]
    assert done.stdout.splitlines() == [ascii(row) for row in expected]
    assert len(expected) == 2 * len(ODD_NAMES)
