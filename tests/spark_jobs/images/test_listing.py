"""Listing: nothing that the pattern takes is lost, and the order is that of the paths."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_jobs.args import DEFAULT_PATTERN
from spark_jobs.errors import JobError
from spark_jobs.images import listing
from spark_jobs.lake import schemas

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


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def paths(folder: Path, pattern: str = DEFAULT_PATTERN) -> list[str]:
    return [f"file://{row.path}" for row in rows(folder, pattern)]


def rows(folder: Path, pattern: str = DEFAULT_PATTERN) -> list[listing.Image]:
    return list(listing.walk_through(f"file://{folder}", pattern).images())


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_name_is_listed_as_it_is_on_disk(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"label/{name}")
    assert paths(tmp_path) == [f"file://{tmp_path}/label/{name}"]


@pytest.mark.parametrize("label", ODD_FOLDERS)
def test_the_label_is_the_folders_name(tmp_path: Path, label: str) -> None:
    make(tmp_path, f"deep/down/{label}/1.jpg")
    assert [row.label for row in rows(tmp_path) if not row.path.endswith("/")] == [label]


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


def test_size_and_modification_time_identify_the_version(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg")
    os.utime(tmp_path / "a" / "1.jpg", ns=(0, 1_700_000_000_123_456_789))
    listing.write(f"file://{tmp_path}", "*.jpg", f"file://{tmp_path}/l.parquet", rows_per_group=3)
    (row,) = pq.read_table(tmp_path / "l.parquet").to_pylist()
    assert row["size"] == len("a/1.jpg")
    assert row["modification_time"] == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)


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
    listed = paths(folder)
    assert listed == sorted(written, key=str.encode)


def test_the_listing_is_written_in_row_groups(tmp_path: Path) -> None:
    make(tmp_path / "data", *(f"a/{number}.jpg" for number in range(7)))
    target = tmp_path / "run" / "listing.parquet"
    make(tmp_path / "data", "a/1.png", "b/notes.txt")
    listed = listing.write(f"file://{tmp_path}/data", "*.jpg", f"file://{target}", rows_per_group=3)
    assert listed.sizes.tolist() == [7] * 7
    assert listed.skipped == 2
    file = pq.ParquetFile(target)
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [3, 3, 1]
    assert file.schema_arrow.equals(schemas.LISTING)


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"file://.*/nowhere does not exist: check --images"):
        listing.write(f"file://{tmp_path}/nowhere", "*.jpg", f"file://{tmp_path}/l.parquet", rows_per_group=3)


def test_nothing_that_matches_is_a_clear_error_and_leaves_no_file(tmp_path: Path) -> None:
    make(tmp_path / "data", "a/1.png")
    with pytest.raises(JobError, match=r"no file in file://.*/data matches the pattern '\*\.jpg'"):
        listing.write(f"file://{tmp_path}/data", "*.jpg", f"file://{tmp_path}/run/l.parquet", rows_per_group=3)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_name_that_is_not_utf_8_is_a_clear_error_that_names_the_folder(tmp_path: Path) -> None:
    folder = make(tmp_path, "a/1.jpg") / "a"
    descriptor = os.open(os.fsencode(folder) + b"/caf\xe9.jpg", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    with pytest.raises(JobError, match=rf"caf\\xe9.*{folder}.*not valid UTF-8"):
        paths(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_the_locale_loses_no_name(tmp_path: Path, locale: str) -> None:
    make(tmp_path, *(f"pêche {number}/{name}" for number in range(2) for name in ODD_NAMES))
    program = (
        "import sys; from spark_jobs.images import listing\n"
        "for row in listing.walk_through(sys.argv[1], '*.jpg,*.jpeg').images(): print(ascii((row.path, row.label)))"
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
    expected = [(row.path, row.label) for row in rows(tmp_path)]
    assert done.stdout.splitlines() == [ascii(row) for row in expected]
    assert len(expected) == 2 * len(ODD_NAMES)
