"""The lake mirrors the folder that was loaded, and nothing that was put there in another way is ever lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.images import loading
from local.images.folder import ImageFolder
from local.images.loading import ImagesError, find_images, has_unloaded_files, load_images

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
    """Every file under data/, hidden ones too."""
    found = (Path(parent) / name for parent, _, names in os.walk(lake / "data") for name in names)
    return {path.relative_to(lake / "data").as_posix(): path.read_text() for path in found}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return photos(tmp_path / "first", "Kiwi/1.jpg", "Kiwi/2.JPEG", "deep/crème brûlée/a#%+ .jpg")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return photos(tmp_path / "second", "Kiwi/1.jpg", "Lime/1.jpg")


def test_images_come_as_links_and_other_files_stay(first: Path, lake: Path) -> None:
    put(first / "Kiwi" / "notes.txt")
    loaded = load_images(first, ImageFolder(lake), PATTERN)
    assert (loaded.images, loaded.added, loaded.removed) == (3, 3, 0)
    assert set(data(lake)) == {"Kiwi/1.jpg", "Kiwi/2.JPEG", "deep/crème brûlée/a#%+ .jpg"}
    assert (lake / "data" / "Kiwi" / "1.jpg").samefile(first / "Kiwi" / "1.jpg")


def test_loading_again_does_nothing(first: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    loaded = load_images(first, ImageFolder(lake), PATTERN)
    assert (loaded.added, loaded.removed, loaded.kept) == (0, 0, 0)


def test_second_folder_replaces_the_first(first: Path, second: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    loaded = load_images(second, ImageFolder(lake), PATTERN)
    assert data(lake) == {"Kiwi/1.jpg": "photo second/Kiwi/1.jpg", "Lime/1.jpg": "photo second/Lime/1.jpg"}
    assert (loaded.images, loaded.added, loaded.removed) == (2, 2, 2)
    assert not (lake / "data" / "deep").exists(), "folders that became empty are gone"
    assert (first / "Kiwi" / "1.jpg").read_text() == "photo first/Kiwi/1.jpg", "the source is never touched"


def test_image_that_left_the_folder_leaves_the_lake(first: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    (first / "Kiwi" / "1.jpg").unlink()
    assert load_images(first, ImageFolder(lake), PATTERN).removed == 1
    assert "Kiwi/1.jpg" not in data(lake)


def test_files_that_were_not_loaded_survive_everything(first: Path, second: Path, lake: Path) -> None:
    put(lake / "data" / "Kiwi" / "mine.jpg", "mine")
    put(lake / "data" / "Kiwi" / ".hidden", "mine")
    for folder in (first, second, first):
        load_images(folder, ImageFolder(lake), PATTERN)
        assert data(lake)["Kiwi/mine.jpg"] == "mine"
        assert data(lake)["Kiwi/.hidden"] == "mine"


@pytest.mark.parametrize("how", ["copy", "link"])
def test_own_copy_of_an_image_is_not_taken_for_a_loaded_one(first: Path, second: Path, lake: Path, how: str) -> None:
    """It may be the only one left by the time that another folder is loaded."""
    target = lake / "data" / "deep" / "crème brûlée" / "a#%+ .jpg"
    target.parent.mkdir(parents=True)
    source = first / "deep" / "crème brûlée" / "a#%+ .jpg"
    if how == "copy":
        shutil.copy2(source, target)
    else:
        os.link(source, target)
    load_images(first, ImageFolder(lake), PATTERN)
    shutil.rmtree(first)
    load_images(second, ImageFolder(lake), PATTERN)
    assert target.read_text() == "photo first/deep/crème brûlée/a#%+ .jpg"


def test_foreign_file_in_the_way_is_refused_and_named_before_anything_changes(first: Path, lake: Path) -> None:
    put(lake / "data" / "Kiwi" / "2.JPEG", "mine")
    with pytest.raises(ImagesError, match=r"2\.JPEG exists, was not loaded by this command, and differs"):
        load_images(first, ImageFolder(lake), PATTERN)
    assert data(lake) == {"Kiwi/2.JPEG": "mine"}


def test_foreign_file_where_a_folder_is_needed_is_refused_and_named(first: Path, lake: Path) -> None:
    put(lake / "data" / "deep", "mine")
    with pytest.raises(ImagesError, match=r"data/deep is a file, but .* needs a folder of that name"):
        load_images(first, ImageFolder(lake), PATTERN)
    assert data(lake) == {"deep": "mine"}


def test_loaded_file_that_somebody_replaced_is_kept(first: Path, second: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    target = lake / "data" / "Kiwi" / "2.JPEG"
    target.unlink()
    target.write_text("retouched")
    loaded = load_images(second, ImageFolder(lake), PATTERN)
    assert loaded.kept == 1
    assert data(lake)["Kiwi/2.JPEG"] == "retouched"
    load_images(first.parent / "second", ImageFolder(lake), PATTERN)
    assert data(lake)["Kiwi/2.JPEG"] == "retouched", "from now on it is not ours"


STEPS = ("link", "replace", "unlink", "rmdir")


class Killed(BaseException):
    """The process is gone."""


def kill_at(number: int, patched: pytest.MonkeyPatch) -> list[str]:
    """Kill the process before its change of this number to the file system; return the changes that were begun."""
    begun: list[str] = []

    def counted(name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs.get("missing_ok"):  # with it, it is the clean-up of a temporary file
                begun.append(name)
                if len(begun) > number:
                    raise Killed(name)
            return original(*args, **kwargs)

        return call

    patched.setattr(os, "link", counted("link", os.link))
    for name in ("replace", "unlink", "rmdir"):
        patched.setattr(Path, name, counted(name, getattr(Path, name)))
    return begun


def test_load_that_is_killed_at_any_step_is_resumed_and_loses_nothing(
    first: Path, second: Path, tmp_path: Path
) -> None:
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
            except Killed:
                killed += 1
        assert data(lake)["Kiwi/mine.jpg"] == "mine"
        assert not [name for name in data(lake) if name.endswith(".loading")], begun
        for folder in (second, first, second):
            load_images(folder, ImageFolder(lake), PATTERN)
        assert set(data(lake)) == {"Kiwi/mine.jpg", "Kiwi/1.jpg", "Lime/1.jpg"}, f"killed before {begun[-1]} {killed}"
        assert data(lake)["Kiwi/1.jpg"] == "photo second/Kiwi/1.jpg"
    assert killed >= 8, "two ledgers, two links, two renames, two deletions"


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_images_on_another_disk_are_linked_symbolically(
    first: Path, second: Path, lake: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    assert load_images(first, ImageFolder(lake), PATTERN).added == 3
    assert (lake / "data" / "Kiwi" / "1.jpg").is_symlink()
    assert data(lake)["Kiwi/1.jpg"] == "photo first/Kiwi/1.jpg"
    assert load_images(first, ImageFolder(lake), PATTERN).added == 0
    assert load_images(second, ImageFolder(lake), PATTERN).removed == 2


def test_images_are_copied_where_nothing_can_be_linked(
    first: Path, second: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    load_images(first, ImageFolder(lake), PATTERN)
    assert not (lake / "data" / "Kiwi" / "1.jpg").is_symlink()
    assert load_images(first, ImageFolder(lake), PATTERN).added == 0, "a copy keeps size and time, and is known by them"
    assert load_images(second, ImageFolder(lake), PATTERN).removed == 2


def test_full_disk_is_an_error_and_leaves_no_half_image(
    first: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        load_images(first, ImageFolder(lake), PATTERN)
    assert data(lake) == {}


def test_source_that_cannot_be_written_is_fine(first: Path, second: Path, lake: Path) -> None:
    for path in [*first.rglob("*"), first]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    load_images(first, ImageFolder(lake), PATTERN)
    load_images(second, ImageFolder(lake), PATTERN)
    assert len(find_images(first, PATTERN)) == 3
    for path in [first, *first.rglob("*")]:
        path.chmod(0o755)


def test_images_at_the_top_get_the_folders_name_as_label(tmp_path: Path, lake: Path) -> None:
    load_images(photos(tmp_path / "Kiwi", "1.jpg", "2.jpg"), ImageFolder(lake), PATTERN)
    assert set(data(lake)) == {"Kiwi/1.jpg", "Kiwi/2.jpg"}


def test_label_of_a_folder_named_by_a_dot_is_its_real_name(
    tmp_path: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos(tmp_path / "Kiwi", "1.jpg"))
    load_images(Path(), ImageFolder(lake), PATTERN)
    assert set(data(lake)) == {"Kiwi/1.jpg"}


def test_two_images_of_one_name_are_refused(tmp_path: Path, lake: Path) -> None:
    folder = photos(tmp_path / "Kiwi", "1.jpg", "Kiwi/1.jpg")
    with pytest.raises(ImagesError, match=r"would both become data/Kiwi/1\.jpg; rename one"):
        load_images(folder, ImageFolder(lake), PATTERN)


def test_missing_and_empty_folders_are_named(tmp_path: Path, first: Path, lake: Path) -> None:
    for folder in (tmp_path / "missing", put(tmp_path / "file")):
        with pytest.raises(ImagesError, match=rf"IMAGES={folder}: not a folder; expected"):
            load_images(folder, ImageFolder(lake), PATTERN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImagesError, match=r"empty: no file matches '\*\.jpg,\*\.jpeg'; expected IMAGES/<label>"):
        load_images(tmp_path / "empty", ImageFolder(lake), PATTERN)
    load_images(first, ImageFolder(lake), PATTERN)
    with pytest.raises(ImagesError):
        load_images(tmp_path / "empty", ImageFolder(lake), PATTERN)
    assert len(data(lake)) == 3, "an empty folder does not empty the lake"


def test_lake_inside_the_images_and_images_inside_the_lake_are_refused(first: Path, tmp_path: Path) -> None:
    """LoadResult images would be loaded again, one level deeper, at every run."""
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
    (first / "circle").symlink_to(first)
    (first / "Kiwi" / "up").symlink_to("..")
    (first / "again").symlink_to("Kiwi")
    load_images(first, ImageFolder(lake), PATTERN)
    assert {name.partition("/")[0] for name in data(lake)} == {"Kiwi", "deep", "again"}
    assert len(data(lake)) == 5


@pytest.mark.parametrize("absolute", [True, False])
def test_links_to_images_lead_to_the_image(tmp_path: Path, lake: Path, absolute: bool) -> None:
    put(tmp_path / "store" / "a.jpg", "photo")
    (tmp_path / "links" / "Kiwi").mkdir(parents=True)
    link = tmp_path / "links" / "Kiwi" / "1.jpg"
    link.symlink_to(tmp_path / "store" / "a.jpg" if absolute else "../../store/a.jpg")
    load_images(tmp_path / "links", ImageFolder(lake), PATTERN)
    assert data(lake) == {"Kiwi/1.jpg": "photo"}
    assert load_images(tmp_path / "links", ImageFolder(lake), PATTERN).added == 0


def test_link_to_nothing_is_loaded_for_the_job_to_reject(first: Path, lake: Path) -> None:
    (first / "Kiwi" / "gone.jpg").symlink_to("nowhere")
    assert load_images(first, ImageFolder(lake), PATTERN).images == 4
    assert (lake / "data" / "Kiwi" / "gone.jpg").is_symlink()


def test_name_that_is_no_text_is_named(first: Path, lake: Path) -> None:
    Path(os.fsdecode(os.fsencode(first / "Kiwi") + b"/\xff.jpg")).touch()
    with pytest.raises(ImagesError, match=r"\\xff\.jpg is not valid UTF-8; rename it"):
        load_images(first, ImageFolder(lake), PATTERN)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Kiwi/1.jpg": 1}'])
def test_damaged_ledger_is_named_and_nothing_is_deleted(first: Path, second: Path, lake: Path, text: str) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    (lake / loading.LEDGER).write_text(text)
    with pytest.raises(ImagesError, match=rf"{loading.LEDGER} next to .* is damaged .*delete it"):
        load_images(second, ImageFolder(lake), PATTERN)
    assert len(data(lake)) == 3


def test_ledger_is_not_an_image_and_people_can_read_it(first: Path, lake: Path) -> None:
    load_images(first, ImageFolder(lake), PATTERN)
    record = json.loads((lake / loading.LEDGER).read_text(encoding="utf-8"))
    assert set(record) == set(data(lake))


def test_other_files_are_noticed(first: Path, lake: Path) -> None:
    assert has_unloaded_files(ImageFolder(lake)) is False
    load_images(first, ImageFolder(lake), PATTERN)
    assert has_unloaded_files(ImageFolder(lake)) is False
    put(lake / "data" / "Kiwi" / ".0123.loading")
    assert has_unloaded_files(ImageFolder(lake)) is False, "a load that was killed is not another way"
    put(lake / "data" / "Kiwi" / "mine.jpg")
    assert has_unloaded_files(ImageFolder(lake)) is True


names = st.sampled_from(["Kiwi/1.jpg", "Kiwi/2.jpg", "Lime/1.jpg", "Lime/deep/1.jpg", "a b/é.jpg"])


@given(st.lists(st.sets(names, min_size=1), min_size=1, max_size=4), st.sets(names))
def test_lake_is_always_the_last_folder_and_the_foreign_files(
    tmp_path_factory: pytest.TempPathFactory, folders: list[set[str]], foreign: set[str]
) -> None:
    root = tmp_path_factory.mktemp("mirror")
    for name in foreign:
        put(root / "lake" / "data" / f"{name}.mine.jpg", "mine")
    for number, wanted in enumerate(folders):
        load_images(photos(root / str(number), *wanted), ImageFolder(root / "lake"), PATTERN)
    expected = {name: f"photo {len(folders) - 1}/{name}" for name in folders[-1]}
    assert data(root / "lake") == expected | {f"{name}.mine.jpg": "mine" for name in foreign}
