"""Thumbnails of real files, which are decoded in a child process."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spark_jobs.args import FeaturizeArgs, PcaArgs
from spark_jobs.insights import thumbnails
from spark_jobs.lake.schemas import LISTING
from spark_jobs.pca import job
from tests.spark_jobs.feature_runs import feature_file, realistic, rewrite, write_listing, write_run
from tests.spark_jobs.in_process import Here

pytestmark = pytest.mark.slow

PATH = LISTING.field("path")


def jpeg(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (100, 60), (20 * number, 90, 200 - 20 * number)).save(stream, format="JPEG")
    return stream.getvalue()


def test_photos_are_shown_as_they_are_and_files_with_the_same_bytes_are_duplicates(here: None, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "Pêche <b>&\u202e"
    folder.mkdir(parents=True)
    contents = {f"{number}.jpg": jpeg(number) for number in range(6)}
    contents["copy of 2.jpg"] = contents["2.jpg"]
    contents["other bytes of 3.jpg"] = contents["3.jpg"] + b"\0"
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    cut = folder / "cut.jpg"
    cut.write_bytes(jpeg(9)[:-40])
    (folder / "5.jpg").write_bytes(b"replaced since it was listed")
    names = sorted(contents)
    vectors = realistic(len(names), 12)
    vectors[names.index("copy of 2.jpg")] = vectors[names.index("2.jpg")]
    vectors[names.index("other bytes of 3.jpg")] = vectors[names.index("3.jpg")]
    reject = {"path": f"file://{cut}", "reason": "truncated", "detail": ""}
    run = tmp_path / "run"
    uri = write_run(run, vectors, rows_a_file=20, with_moments=True, summary={"first_rejects": [reject]})
    paths = [f"file://{folder}/{name}" for name in names]
    rewrite_paths(run, paths)
    write_listing(run, [*((path, len(contents[path.rpartition("/")[2]])) for path in paths),
                        (f"file://{cut}", cut.stat().st_size)])  # fmt: skip
    job.run(PcaArgs(run=uri, variance_target=None, n_components=8))

    record = json.loads((run / "pca" / "insights" / "insights.json").read_text())
    shown = {photo["path"].rpartition("/")[2]: photo["thumbnail"] for photo in record["photos"]}
    assert sorted(name for name, thumbnail in shown.items() if thumbnail is None) == ["5.jpg"]
    for number in (0, 4):
        picture = Image.open(io.BytesIO(base64.b64decode(shown[f"{number}.jpg"])))
        assert (picture.format, picture.size) == ("WEBP", (thumbnails.SIDE, thumbnails.SIDE))
        colour = np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(colour, (20 * number, 90, 200 - 20 * number), atol=8)
    assert [record["photos"][number]["path"] for number in record["rejects"]] == [f"file://{cut}"]

    found = pd.read_csv(run / "pca" / "insights" / "duplicates.csv")
    kinds = {frozenset(path.rpartition("/")[2] for path in group["path"]): group for _, group in found.groupby("group")}
    same, other = kinds[frozenset({"2.jpg", "copy of 2.jpg"})], kinds[frozenset({"3.jpg", "other bytes of 3.jpg"})]
    assert set(same["kind"]) == {"identical_bytes"}
    assert set(same["sha256"]) == {hashlib.sha256(contents["2.jpg"]).hexdigest()}
    assert (set(other["kind"]), other["sha256"].nunique()) == ({"equal_features"}, 2)


@pytest.fixture
def published(here: None, tmp_path: Path) -> Path:
    """The root of a run of four photos with insights."""
    folder = tmp_path / "data" / "Apple"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    analyse(tmp_path, "before", [0, 1, 2, 3])
    return tmp_path


def analyse(
    root: Path, name: str, numbers: list[int], *, published: str | None = None, work: tuple[int, ...] = ()
) -> dict[str, str | None]:
    """Run pca on some photos, and return the thumbnails by name; ``work`` are new or changed since ``published``."""
    files = {f"file://{root}/data/Apple/{number}.jpg": root / "data" / "Apple" / f"{number}.jpg" for number in numbers}
    run = root / name
    uri = write_run(run, realistic(len(numbers), 6), rows_a_file=20, with_moments=True)
    rewrite_paths(run, list(files))
    write_listing(run, [(path, file.stat().st_size if file.exists() else 9) for path, file in files.items()])
    pq.write_table(
        pa.table({"path": [f"file://{root}/data/Apple/{number}.jpg" for number in work]}, pa.schema([PATH])),
        run / "work.parquet",
    )
    (run / "changes.json").write_text(json.dumps({"published": published}))
    job.run(PcaArgs(run=uri, variance_target=None, n_components=2))
    record = json.loads((run / "pca" / "insights" / "insights.json").read_text())
    return {photo["path"].rpartition("/")[2]: photo["thumbnail"] for photo in record["photos"]}


def test_thumbnails_of_unchanged_photos_are_kept_and_their_files_are_not_read(published: Path) -> None:
    folder = published / "data" / "Apple"
    before = analyse(published, "first", [0, 1, 2, 3])
    for number in range(3):
        (folder / f"{number}.jpg").unlink()  # so that whoever reads it has no thumbnail
    (folder / "2.jpg").write_bytes(jpeg(9))
    (folder / "4.jpg").write_bytes(jpeg(4))
    after = analyse(published, "after", [0, 1, 2, 4], published=f"file://{published}/before", work=(2, 4))
    assert set(after) == {"0.jpg", "1.jpg", "2.jpg", "4.jpg"}
    assert [after[name] == before[name] for name in ("0.jpg", "1.jpg", "2.jpg")] == [True, True, False]
    for number, shown in ((9, "2.jpg"), (4, "4.jpg")):
        picture = Image.open(io.BytesIO(base64.b64decode(after[shown] or "")))
        colour = np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(colour, (20 * number, 90, 200 - 20 * number), atol=8)


@pytest.mark.parametrize("damage", ["no published run", "other size", "not JSON", "no insights"])
def test_without_published_thumbnails_all_are_made(published: Path, damage: str) -> None:
    insights = published / "before" / "pca" / "insights" / "insights.json"
    record = json.loads(insights.read_text())
    for photo in record["photos"]:
        photo["thumbnail"] = base64.b64encode(b"old").decode()
    record["thumbnail_side"] = 20 if damage == "other size" else record["thumbnail_side"]
    insights.write_text("{" if damage == "not JSON" else json.dumps(record))
    if damage == "no insights":
        insights.unlink()
    before = None if damage == "no published run" else f"file://{published}/before"
    shown = analyse(published, "after", [0, 1, 2, 3], published=before)
    for thumbnail in shown.values():
        assert Image.open(io.BytesIO(base64.b64decode(thumbnail or ""))).format == "WEBP"


def rewrite_paths(run: Path, paths: list[str]) -> None:
    rewrite(feature_file(run, 0), lambda table: table.set_column(0, table.schema.field(0), pa.array(paths)))


def test_a_thumbnail_is_small_whatever_the_picture() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    smooth = np.repeat(np.linspace(0, 255, 224)[:, None], 224, 1)[:, :, None].repeat(3, 2).astype(np.uint8)
    for pixels in (noise, smooth):
        thumbnail = thumbnails.encode(pixels)
        assert thumbnail is None or len(thumbnail) <= thumbnails.MAX_BYTES
    assert thumbnails.encode(smooth) is not None


def test_a_photo_that_is_not_shown_has_a_digest_and_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "b.jpg").write_bytes(jpeg(2))
    sizes = {name: (tmp_path / name).stat().st_size for name in ("a.jpg", "b.jpg")}
    hidden, shown = (f"file://{tmp_path}/{name}" for name in sizes)
    wanted = [
        thumbnails.Wanted(hidden, sizes["a.jpg"], with_thumbnail=False, with_digest=True),
        thumbnails.Wanted(shown, sizes["b.jpg"], with_thumbnail=True, with_digest=False),
    ]
    found = thumbnails.read(Here(), wanted, vars(FeaturizeArgs(images="i", run="r", model="m")))  # type: ignore[arg-type]
    assert found[hidden] == (None, hashlib.sha256(jpeg(1)).hexdigest())
    assert found[shown].digest is None
    assert found[shown].thumbnail is not None
