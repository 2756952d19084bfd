"""The lake mirrors the loaded folder, and files that were not loaded are never lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.images.folder import ImageFolder
from local.images.loading import (
    ImagesError,
    LoadResult,
    find_images,
    forget_removed_images,
    has_unloaded_files,
    load_images,
)
from spark_jobs.args import LOADED_IMAGES_FILE, NOT_LOADED_FILE
from spark_jobs.errors import JobError
from spark_jobs.images import not_loaded
from spark_jobs.images.reading import read_local
from spark_jobs.images.rejects import Reject
from spark_jobs.walk import walk_local_folder

PATTERN = "*.jpg,*.jpeg"


def put(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def photos(folder: Path, *names: str) -> Path:
    for name in names:
        put(folder / name, f"photo {folder.name}/{name}")
    return folder


def data(lake: Path) -> dict[str, str]:
    """Return all files under data/, including hidden ones, except the record of what was not loaded."""
    paths = (Path(parent) / name for parent, _, names in os.walk(lake / "data") for name in names)
    paths = (path for path in paths if path.name != NOT_LOADED_FILE)
    return {path.relative_to(lake / "data").as_posix(): path.read_text() for path in paths}


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let hard links fail with an error number."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return photos(tmp_path / "first", "Kiwi/1.jpg", "Kiwi/2.JPEG", "deep/crème brûlée/a#%+ .jpg")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return photos(tmp_path / "second", "Kiwi/1.jpg", "Lime/1.jpg")


def test_images_are_linked_and_other_files_are_not(first: Path, lake: Path) -> None:
    put(first / "Kiwi" / "notes.txt")
    names = {"Kiwi/1.jpg", "Kiwi/2.JPEG", "deep/crème brûlée/a#%+ .jpg"}
    assert load_images(first, ImageFolder(lake), PATTERN) == LoadResult(images=3, added=3, removed=0, kept=0)
    assert set(data(lake)) == names
    assert (lake / "data" / "Kiwi" / "1.jpg").samefile(first / "Kiwi" / "1.jpg")
    record = json.loads((lake / LOADED_IMAGES_FILE).read_text(encoding="utf-8"))
    assert set(record) == names, "the ledger is readable JSON, and not an image"
    assert load_images(first, ImageFolder(lake), PATTERN) == LoadResult(images=3, added=0, removed=0, kept=0)


def test_second_folder_replaces_the_first(first: Path, second: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    result = load_images(second, ImageFolder(lake), PATTERN)
    assert data(lake) == {"Kiwi/1.jpg": "photo second/Kiwi/1.jpg", "Lime/1.jpg": "photo second/Lime/1.jpg"}
    assert (result.images, result.added, result.removed) == (2, 2, 2)
    assert not (lake / "data" / "deep").exists(), "empty folders are deleted"
    assert (first / "Kiwi" / "1.jpg").read_text() == "photo first/Kiwi/1.jpg", "the source never changes"


def test_image_that_left_the_folder_is_removed_from_the_lake(first: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    (first / "Kiwi" / "1.jpg").unlink()
    assert load_images(first, ImageFolder(lake), PATTERN).removed == 1
    assert "Kiwi/1.jpg" not in data(lake)


def test_files_that_were_not_loaded_are_never_changed_or_deleted(first: Path, second: Path, lake: Path) -> None:
    put(lake / "data" / "Kiwi" / "mine.jpg", "mine")
    put(lake / "data" / "Kiwi" / ".hidden", "mine")
    for folder in (first, second, first):
        load_images(folder, ImageFolder(lake), PATTERN)
        assert data(lake)["Kiwi/mine.jpg"] == "mine"
        assert data(lake)["Kiwi/.hidden"] == "mine"


def test_foreign_file_that_equals_an_image_stays_foreign(first: Path, second: Path, tmp_path: Path) -> None:
    """It may be the only copy by the time that another folder is loaded."""
    name = "deep/crème brûlée/a#%+ .jpg"
    copies: tuple[Callable[[Path, Path], object], ...] = (shutil.copy2, os.link)
    for copy in copies:
        lake, folder = tmp_path / f"lake-{copy.__name__}", tmp_path / copy.__name__ / "first"
        shutil.copytree(first, folder)
        target = lake / "data" / name
        target.parent.mkdir(parents=True)
        copy(folder / name, target)
        load_images(folder, ImageFolder(lake), PATTERN)
        shutil.rmtree(folder)
        load_images(second, ImageFolder(lake), PATTERN)
        assert target.read_text() == f"photo first/{name}", copy.__name__


def test_foreign_file_in_the_place_of_an_image_or_folder_is_refused_before_any_change(first: Path, lake: Path) -> None:
    for name, message in (
        ("Kiwi/2.JPEG", r"2\.JPEG exists, was not loaded by this command, and differs"),
        ("deep", r"data/deep is a file, but .* needs a folder of that name"),
    ):
        foreign = put(lake / "data" / name, "mine")
        with pytest.raises(ImagesError, match=message):
            load_images(first, ImageFolder(lake), PATTERN)
        assert data(lake) == {name: "mine"}
        foreign.unlink()


def test_loaded_file_that_others_replaced_is_kept(first: Path, second: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    target = lake / "data" / "Kiwi" / "2.JPEG"
    target.unlink()
    target.write_text("retouched")
    assert load_images(second, ImageFolder(lake), PATTERN).kept == 1
    assert data(lake)["Kiwi/2.JPEG"] == "retouched"
    load_images(second, ImageFolder(lake), PATTERN)
    assert data(lake)["Kiwi/2.JPEG"] == "retouched", "it is now a foreign file"


class KilledError(BaseException):
    """Takes the place of a signal that kills the process."""


def kill_at(number: int, patched: pytest.MonkeyPatch) -> list[str]:
    """Kill the load after a number of changes to the file system; return the changes that it began."""
    begun: list[str] = []

    def counted(name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs.get("missing_ok"):  # else: the clean-up of a temporary file
                begun.append(name)
                if len(begun) > number:
                    raise KilledError(name)
            return original(*args, **kwargs)

        return call

    patched.setattr(os, "link", counted("link", os.link))
    for name in ("replace", "unlink", "rmdir"):
        patched.setattr(Path, name, counted(name, getattr(Path, name)))
    return begun


def test_load_that_is_killed_at_any_change_is_resumed_without_loss(first: Path, second: Path, tmp_path: Path) -> None:
    killed, finished = 0, False
    while not finished:
        lake = tmp_path / f"lake-{killed}"
        put(lake / "data" / "Kiwi" / "mine.jpg", "mine")
        load_images(first, ImageFolder(lake), PATTERN)
        with pytest.MonkeyPatch.context() as patched:
            begun = kill_at(killed, patched)
            try:
                load_images(second, ImageFolder(lake), PATTERN)
                finished = True
            except KilledError:
                killed += 1
        assert data(lake)["Kiwi/mine.jpg"] == "mine"
        assert not [name for name in data(lake) if name.endswith(".loading")], begun
        for folder in (second, first, second):
            load_images(folder, ImageFolder(lake), PATTERN)
        assert set(data(lake)) == {"Kiwi/mine.jpg", "Kiwi/1.jpg", "Lime/1.jpg"}, f"killed before {begun[-1]} {killed}"
        assert data(lake)["Kiwi/1.jpg"] == "photo second/Kiwi/1.jpg"
    assert killed >= 8, "two ledgers, two links, two renames, two deletions"


def test_images_on_another_disk_are_linked_symbolically(
    first: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (errno.EXDEV, errno.EPERM, errno.EMLINK):
        refuse_links(monkeypatch, number)
        lake = tmp_path / f"lake-{number}"
        assert load_images(first, ImageFolder(lake), PATTERN).added == 3
        assert (lake / "data" / "Kiwi" / "1.jpg").is_symlink()
        assert data(lake)["Kiwi/1.jpg"] == "photo first/Kiwi/1.jpg"
        assert load_images(first, ImageFolder(lake), PATTERN).added == 0
        assert load_images(second, ImageFolder(lake), PATTERN).removed == 2


def test_images_are_copied_if_links_are_impossible(
    first: Path, second: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch, errno.EPERM)
    monkeypatch.setattr(Path, "symlink_to", os.link)
    load_images(first, ImageFolder(lake), PATTERN)
    assert not (lake / "data" / "Kiwi" / "1.jpg").is_symlink()
    assert load_images(first, ImageFolder(lake), PATTERN).added == 0, "size and time identify a copy"
    assert load_images(second, ImageFolder(lake), PATTERN).removed == 2


def test_full_disk_is_an_error_and_leaves_no_partial_image(
    first: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        load_images(first, ImageFolder(lake), PATTERN)
    assert data(lake) == {}


def test_read_only_source_can_be_loaded(first: Path, second: Path, lake: Path) -> None:
    for path in [*first.rglob("*"), first]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    load_images(first, ImageFolder(lake), PATTERN)
    load_images(second, ImageFolder(lake), PATTERN)
    assert len(find_images(first, PATTERN)) == 3
    for path in [first, *first.rglob("*")]:
        path.chmod(0o755)


def test_images_at_the_top_level_have_the_folders_real_name_as_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "Kiwi", "1.jpg", "2.jpg")
    monkeypatch.chdir(folder)
    for number, path in enumerate((folder, Path())):
        lake = tmp_path / f"lake-{number}"
        load_images(path, ImageFolder(lake), PATTERN)
        assert set(data(lake)) == {"Kiwi/1.jpg", "Kiwi/2.jpg"}, path


def test_two_images_with_the_same_name_are_refused(tmp_path: Path, lake: Path) -> None:
    folder = photos(tmp_path / "Kiwi", "1.jpg", "Kiwi/1.jpg")
    with pytest.raises(ImagesError, match=r"would both become data/Kiwi/1\.jpg; rename one"):
        load_images(folder, ImageFolder(lake), PATTERN)


def test_missing_and_empty_folders_are_named(tmp_path: Path, first: Path, lake: Path) -> None:
    for folder in (tmp_path / "missing", put(tmp_path / "file")):
        with pytest.raises(ImagesError, match=rf"IMAGES={folder}: not a folder; expected"):
            load_images(folder, ImageFolder(lake), PATTERN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ImagesError, match=r"empty: no file matches '\*\.jpg,\*\.jpeg'; expected IMAGES/<label>.*empty$"
    ):
        load_images(tmp_path / "empty", ImageFolder(lake), PATTERN)
    load_images(first, ImageFolder(lake), PATTERN)
    with pytest.raises(ImagesError):
        load_images(tmp_path / "empty", ImageFolder(lake), PATTERN)
    assert len(data(lake)) == 3, "loading an empty folder does not empty the lake"


def test_lake_inside_the_images_and_images_inside_the_lake_are_refused(first: Path, tmp_path: Path) -> None:
    """Otherwise each run would load the loaded images again, one level deeper."""
    with pytest.raises(ImagesError, match="contains the lake's data folder"):
        load_images(first, ImageFolder(first / "lake"), PATTERN)
    load_images(first, ImageFolder(tmp_path / "lake"), PATTERN)
    for folder in (tmp_path / "lake" / "data", tmp_path / "lake" / "data" / "Kiwi"):
        with pytest.raises(ImagesError, match="in the lake's own data folder"):
            load_images(folder, ImageFolder(tmp_path / "lake"), PATTERN)
    (tmp_path / "link").symlink_to(tmp_path / "lake" / "data")
    with pytest.raises(ImagesError, match="in the lake's own data folder"):
        load_images(tmp_path / "link", ImageFolder(tmp_path / "lake"), PATTERN)


def test_links_to_folders_are_followed_once(first: Path, lake: Path) -> None:
    (first / "cycle").symlink_to(first)
    (first / "Kiwi" / "up").symlink_to("..")
    (first / "again").symlink_to("Kiwi")
    load_images(first, ImageFolder(lake), PATTERN)
    assert {name.partition("/")[0] for name in data(lake)} == {"Kiwi", "deep", "again"}
    assert len(data(lake)) == 5


def test_links_to_images_are_resolved(tmp_path: Path) -> None:
    put(tmp_path / "store" / "a.jpg", "photo")
    for target in (tmp_path / "store" / "a.jpg", Path("../../../store/a.jpg")):
        case = tmp_path / ("absolute" if target.is_absolute() else "relative")
        link = case / "links" / "Kiwi" / "1.jpg"
        link.parent.mkdir(parents=True)
        link.symlink_to(target)
        load_images(case / "links", ImageFolder(case / "lake"), PATTERN)
        assert data(case / "lake") == {"Kiwi/1.jpg": "photo"}, case.name
        assert load_images(case / "links", ImageFolder(case / "lake"), PATTERN).added == 0, case.name


def test_dangling_link_is_loaded_so_that_the_job_rejects_it(first: Path, lake: Path) -> None:
    (first / "Kiwi" / "gone.jpg").symlink_to("nowhere")
    assert load_images(first, ImageFolder(lake), PATTERN).images == 4
    assert (lake / "data" / "Kiwi" / "gone.jpg").is_symlink()


def test_links_that_loop_or_lead_through_a_file_become_rejects_of_the_job(
    first: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stopped the run with "the lake … cannot be written"."""
    expected = {"loop": "unreadable", "pair1": "unreadable", "pair2": "unreadable", "through": "vanished"}
    expected |= {"gone": "vanished", "long": "unreadable"}
    targets = {"loop": "loop.jpg", "pair1": "pair2.jpg", "pair2": "pair1.jpg", "through": "1.jpg/x", "gone": "none"}
    targets["long"] = "x" * 300
    for name, target in targets.items():
        (first / "Kiwi" / f"{name}.jpg").symlink_to(target)
    (first / "folder that loops").symlink_to("folder that loops")
    (first / "through a file").symlink_to("Kiwi/1.jpg/x")
    for number in (0, errno.EXDEV):
        target = lake / str(number)
        if number:
            refuse_links(monkeypatch, number)
        for added in (9, 0):
            assert load_images(first, ImageFolder(target), PATTERN).added == added
        images = list(walk_local_folder(f"{target}/data", PATTERN, include_hidden=False).images())
        results = {Path(image.path).stem: read_local(image.path, image.size) for image in images}
        rejects = {name: found.reason for name, found in results.items() if isinstance(found, Reject)}
        assert rejects == expected, number
        assert len(images) == 9


def test_loader_and_job_list_the_same_files_of_a_folder(first: Path, lake: Path) -> None:
    photos(first, ".hidden/1.jpg", "Kiwi/._1.jpg", "__MACOSX/Kiwi/._1.jpg", "_under/_1.jpg", "@eaDir/1.jpg", "b/1.png")
    (first / "Kiwi" / "loop.jpg").symlink_to("loop.jpg")
    (first / "cycle").symlink_to(first)
    (first / "again").symlink_to("Kiwi")
    for hidden in (True, False):
        walk = walk_local_folder(str(first), PATTERN, include_hidden=hidden)
        listed = {Path(image.path).relative_to(first).as_posix() for image in walk.images()}
        result = load_images(first, ImageFolder(lake), PATTERN, include_hidden=hidden)
        stored = walk_local_folder(f"{lake}/data", PATTERN, include_hidden=hidden)
        assert {Path(image.path).relative_to(lake / "data").as_posix() for image in stored.images()} == listed
        assert result.images == len(listed) == (13 if hidden else 8)
        assert result.left_out == walk.left_out.record(str(first), PATTERN)


def test_labels_that_are_not_loaded_are_recorded_for_the_job_and_forgotten_by_the_next_load(
    first: Path, second: Path, lake: Path
) -> None:
    photos(first, "banana/1.PNG", "banana/2.PNG", "cherry/1.HEIC", "Kiwi/notes.txt", "Kiwi/.DS_Store")
    result = load_images(first, ImageFolder(lake), PATTERN)
    record = not_loaded.read(f"file://{lake}/data")
    assert result.left_out == record
    assert record["folder"] == str(first)
    assert (record["skipped"], record["hidden"], record["lost_labels"]) == (4, 1, ["banana", "cherry"])
    assert has_unloaded_files(ImageFolder(lake)) is False, "the record is no file of the user"

    load_images(second, ImageFolder(lake), PATTERN)
    assert not (lake / "data" / NOT_LOADED_FILE).exists(), "nothing was left out"


def test_record_of_what_was_not_loaded_is_dropped_with_the_last_loaded_image(first: Path, lake: Path) -> None:
    put(first / "banana" / "1.png")
    load_images(first, ImageFolder(lake), PATTERN)
    put(lake / "data" / "Kiwi" / "mine.jpg")
    forget_removed_images(ImageFolder(lake))
    assert (lake / "data" / NOT_LOADED_FILE).exists()
    for name in find_images(first, PATTERN):
        (lake / "data" / name).unlink()
    forget_removed_images(ImageFolder(lake))
    assert not (lake / "data" / NOT_LOADED_FILE).exists()


def test_folder_with_other_formats_only_names_the_parameter(tmp_path: Path, lake: Path) -> None:
    folder = photos(tmp_path / "phone", "banana/1.PNG", "cherry/1.HEIC", "cherry/.DS_Store")
    with pytest.raises(
        ImagesError, match=r"Found: 2 files .* 1 \.heic, 1 \.png; 1 hidden.* image_pattern=all includes 2"
    ):
        load_images(folder, ImageFolder(lake), PATTERN)
    assert load_images(folder, ImageFolder(lake), "all").images == 2


def test_damaged_record_of_what_was_not_loaded_is_named(lake: Path) -> None:
    for text, message in [("{", "is not JSON"), ("[]", "is not the record"), ("{}", "is not the record")]:
        put(lake / "data" / NOT_LOADED_FILE, text)
        with pytest.raises(JobError, match=rf"{NOT_LOADED_FILE} {message}.*: delete it, or load the images again"):
            not_loaded.read(f"file://{lake}/data")


def test_name_that_is_not_utf8_is_reported(first: Path, lake: Path) -> None:
    Path(os.fsdecode(os.fsencode(first / "Kiwi") + b"/\xff.jpg")).touch()
    with pytest.raises(ImagesError, match=r"\\xff\.jpg is not valid UTF-8: rename it"):
        load_images(first, ImageFolder(lake), PATTERN)


def test_damaged_ledger_is_named_and_nothing_is_deleted(first: Path, second: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    for text in ("", "{", "[]", '{"Kiwi/1.jpg": 1}'):
        (lake / LOADED_IMAGES_FILE).write_text(text)
        with pytest.raises(ImagesError, match=rf"{LOADED_IMAGES_FILE} next to .* is damaged .*delete it"):
            load_images(second, ImageFolder(lake), PATTERN)
        assert len(data(lake)) == 3, text


def test_unloaded_files_are_detected(first: Path, lake: Path) -> None:
    assert has_unloaded_files(ImageFolder(lake)) is False
    load_images(first, ImageFolder(lake), PATTERN)
    assert has_unloaded_files(ImageFolder(lake)) is False
    put(lake / "data" / "Kiwi" / ".0123.loading")
    assert has_unloaded_files(ImageFolder(lake)) is False, "a killed load left this file"
    put(lake / "data" / ".DS_Store")
    assert has_unloaded_files(ImageFolder(lake)) is False, "Finder puts it into every folder"
    put(lake / "data" / "Kiwi" / "mine.jpg")
    assert has_unloaded_files(ImageFolder(lake)) is True


names = st.sampled_from(["Kiwi/1.jpg", "Kiwi/2.jpg", "Lime/1.jpg", "Lime/deep/1.jpg", "a b/é.jpg"])


@pytest.mark.slow  # 100 examples
@given(st.lists(st.sets(names, min_size=1), min_size=1, max_size=4), st.sets(names))
def test_lake_always_has_exactly_the_last_folder_and_the_foreign_files(
    tmp_path_factory: pytest.TempPathFactory, folders: list[set[str]], foreign: set[str]
) -> None:
    root = tmp_path_factory.mktemp("mirror")
    for name in foreign:
        put(root / "lake" / "data" / f"{name}.mine.jpg", "mine")
    for number, wanted in enumerate(folders):
        load_images(photos(root / str(number), *wanted), ImageFolder(root / "lake"), PATTERN)
    expected = {name: f"photo {len(folders) - 1}/{name}" for name in folders[-1]}
    assert data(root / "lake") == expected | {f"{name}.mine.jpg": "mine" for name in foreign}
