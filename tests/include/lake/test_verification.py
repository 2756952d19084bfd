"""A complete run passes verification; every kind of damage is found and named."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.lake.layout import Lake
from include.lake.verification import VerificationError, verify_run
from include.settings.parameters import RunParams
from spark_jobs import args
from spark_jobs.errors import JobError
from spark_jobs.featurize.completeness import check_reject_ratio
from spark_jobs.lake import schemas, storage
from tests.include.run_folders import (
    MODIFIED,
    K,
    edit_json,
    features_table,
    found_of,
    rows_of,
    write_json,
    write_parquet,
    write_run,
    write_scores,
    write_segment,
)
from tests.include.run_records import (
    FINGERPRINT,
    JOBS,
    MODEL_FILE,
    PREVIOUS,
    SLUG,
    basis_record,
    featurize_summary,
    kept_basis_record,
)

IMAGES = 5
PARAMS = RunParams(max_reject_ratio=0.2)
Damage = Callable[[Path], object]
MODEL_DIGEST = hashlib.sha256(MODEL_FILE).hexdigest()


def verify(lake: Path, params: RunParams = PARAMS, **found: Any) -> dict[str, Any]:
    changes = found_of(lake / "runs" / SLUG, **found)
    return verify_run(Lake(f"file://{lake}"), SLUG, changes, params, JOBS, None)  # type: ignore[arg-type,return-value]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path, IMAGES)


@pytest.mark.usefixtures("run")
def test_complete_run_passes_and_its_figures_are_returned(tmp_path: Path) -> None:
    assert verify(tmp_path) == {"images": 5, "rejects": 1, "k": 2, "variance_reached": 0.9, "warnings": []}


def parts(folder: str) -> Callable[[Path], list[Path]]:
    return lambda run: sorted((run / folder).glob("*.parquet"))


def FEATURES(run: Path) -> list[Path]:  # noqa: N802 - as the two below
    """The files of features of the run's new segments, the first with 2 rows, the second with 3."""
    return sorted((run.parent.parent / args.SEGMENTS_FOLDER).glob(f"{SLUG}-*/{args.FEATURES_FILE}"))


REJECTS, SCORES = parts(args.REJECTS_FOLDER), parts(args.SCORES_FOLDER)
FIRST, SECOND = (f"{SLUG}-00112233-{number:05d}" for number in range(2))


def rewrite_features(columns: dict[str, Any], schema: pa.Schema = schemas.FEATURES, **options: Any) -> Damage:
    """Replace the second file of features; the record of its segment has the new size, so that only this differs."""

    def damage(run: Path) -> None:
        file = FEATURES(run)[1]
        write_parquet(file, features_table(3, 2) | columns, schema, **options)
        change_segment(1, bytes=file.stat().st_size)(run)

    return damage


def change_segment(number: int, **changes: Any) -> Damage:
    """Change the record of one of the run's segments."""

    def damage(run: Path) -> None:
        live = json.loads((run / args.LIVE_SEGMENTS_FILE).read_text())
        live["segments"][number] |= changes
        write_json(run / args.LIVE_SEGMENTS_FILE, live)

    return damage


def change_segments(change: Callable[[list[Any]], list[Any]]) -> Damage:
    """Change the list of the run's segments."""

    def damage(run: Path) -> None:
        live = json.loads((run / args.LIVE_SEGMENTS_FILE).read_text())
        edit_json(run / args.LIVE_SEGMENTS_FILE, segments=change(live["segments"]))

    return damage


def vectors(*lengths: int) -> list[np.ndarray[Any, Any]]:
    return [np.zeros(length, np.float32) for length in lengths]


def with_value(value: float) -> list[np.ndarray[Any, Any]]:
    found = vectors(1280, 1280, 1280)
    found[1][700] = value
    return found


NULLABLE = pa.schema([field.with_nullable(True) for field in schemas.FEATURES])
EXTRA = pa.schema([*schemas.FEATURES, pa.field("extra", pa.int32())])


def scores_with(value: float) -> Damage:
    def damage(run: Path) -> None:
        scores = np.ones((IMAGES, K))
        scores[2, 1] = value
        write_scores(run, scores)

    return damage


def with_csv(change: Callable[[bytes], bytes]) -> Damage:
    def damage(run: Path) -> None:
        (run / args.CSV_FILE).write_bytes(change((run / args.CSV_FILE).read_bytes()))

    return damage


def featurize(**changes: Any) -> Damage:
    return lambda run: edit_json(run / args.FEATURIZE_SUMMARY_FILE, **changes)


def pca(**changes: Any) -> Damage:
    return lambda run: edit_json(run / args.PCA_SUMMARY_FILE, **changes)


def pca_csv(**changes: Any) -> Damage:
    def damage(run: Path) -> None:
        summary = json.loads((run / args.PCA_SUMMARY_FILE).read_text())
        edit_json(run / args.PCA_SUMMARY_FILE, csv=summary["csv"] | changes)

    return damage


def remove(find: Callable[[Path], list[Path]], number: int = 0) -> Damage:
    return lambda run: find(run)[number].unlink()


def overwrite(find: Callable[[Path], list[Path]], data: bytes) -> Damage:
    def damage(run: Path) -> None:
        find(run)[0].write_bytes(data)

    return damage


def scores_of(count: int, k: int = K) -> Damage:
    return lambda run: write_scores(run, np.ones((count, k)))


def no_rejects(run: Path) -> None:
    with pq.ParquetWriter(REJECTS(run)[0], schemas.REJECTS):
        pass  # a file without a row group, as the job writes it


def listing_of(count: int) -> Damage:
    return lambda run: write_parquet(run / args.LISTING_FILE, rows_of(count), schemas.LISTING)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "featurize ran other code": (featurize(code="1" * 64), f"featurize ran other code ({'1' * 16})"),
    "pca ran other code": (pca(code="2" * 64), f"pca ran other code ({'2' * 16}) than the plan names ({JOBS[:16]})"),
    "a file of features is gone": (remove(FEATURES), f"{FIRST}/features.parquet does not exist"),
    "a row of features is missing": (
        rewrite_features(features_table(2, 2)),
        f"rows of features of {SECOND}: found 2, expected 3",
    ),
    "a row of features is repeated": (
        rewrite_features(features_table(4, 2)),
        f"rows of features of {SECOND}: found 4, expected 3",
    ),
    "a file of features has other bytes": (
        change_segment(1, bytes=7),
        f"bytes of features of {SECOND}: found",
    ),
    "a segment is missing": (
        change_segments(lambda found: found[:1]),
        "features of the segments: found 2, expected 5",
    ),
    "a segment is there twice": (
        change_segments(lambda found: [*found, found[0]]),
        "different segments: found 2, expected 3",
    ),
    "a segment has fewer features than featurize counted": (
        change_segment(0, features=1),
        "features of the segments: found 4, expected 5",
    ),
    "a segment has more rejects than featurize counted": (
        change_segment(0, rejects=1),
        "rejects of the segments: found 2, expected 1",
    ),
    "a segment has another fingerprint": (
        change_segment(1, fingerprint="0" * 64),
        "segments with the planned fingerprint: found 1, expected 2",
    ),
    "the list of segments is gone": (
        lambda run: (run / args.LIVE_SEGMENTS_FILE).unlink(),
        "segments.json does not exist: featurize writes it",
    ),
    "the nodes have another version of a library": (
        featurize(
            fingerprint={"digest": "1" * 64, "inputs": FINGERPRINT["inputs"] | {"pillow": "12.0.0"}},
        ),
        "the features depend on other versions than planned (pillow: 13.0.0 → 12.0.0)",
    ),
    "a vector is short": (
        rewrite_features({"features": vectors(1280, 1279, 1280)}),
        f"values of features of {SECOND}: found 3839, expected 3840",
    ),
    "a vector is empty": (
        rewrite_features({"features": vectors(1280, 0, 1280)}),
        f"values of features of {SECOND}: found",
    ),
    "a vector is null": (
        rewrite_features({"features": [*vectors(1280), None, *vectors(1280)]}, NULLABLE),
        f"nulls in features of {SECOND}: found 1, expected 0",
    ),
    "a label is null": (
        rewrite_features({"label": ["a", None, "b"]}, NULLABLE),
        f"nulls in features of {SECOND}: found 1",
    ),
    "a feature is infinite": (
        rewrite_features({"features": with_value(np.inf)}),
        f"features of {SECOND} are finite: found False",
    ),
    "a feature is minus infinite": (
        rewrite_features({"features": with_value(-np.inf)}),
        f"features of {SECOND} are finite: found False",
    ),
    "all features are NaN": (
        rewrite_features({"features": [np.full(1280, np.nan, np.float32)] * 3}),
        "has no minimum of the column 'features'",
    ),
    "a file of features has another column": (
        rewrite_features({"extra": [1, 2, 3]}, EXTRA),
        f"columns of features of {SECOND}: found",
    ),
    "features have no statistics": (
        rewrite_features({}, write_statistics=False),
        "has no statistics of the column 'path'",
    ),
    "a file of features is no Parquet": (overwrite(FEATURES, b"PAR1"), "is not a Parquet file"),
    "a file of features is empty": (overwrite(FEATURES, b""), "is not a Parquet file"),
    "a model of other dimensions was used": (
        featurize(dimensions=1024),
        "dimensions of features: found 1024, expected 1280",
    ),
    "the listing is gone": (lambda run: (run / args.LISTING_FILE).unlink(), "listing.parquet does not exist"),
    "the listing has more rows": (listing_of(7), "features + rejects: found 6, expected 7"),
    "the listing has fewer rows than find_changes counted": (
        listing_of(5),
        "rows of the listing: found 5, expected 6",
    ),
    "featurize listed others than find_changes": (
        featurize(listed=7),
        "images listed by featurize: found 7, expected 6",
    ),
    "featurize computed fewer images than find_changes wanted": (
        featurize(featurized=3),
        "images computed by featurize: found 3, expected 6",
    ),
    "a reject is missing": (remove(REJECTS), "rows of rejects: found 0, expected 1"),
    "too many are rejects": (featurize(rejects=2, listed=7), "rejects: 2 of 7, expected at most 20.00%"),
    "pca saw fewer images": (pca(images=4), "images of pca: found 4, expected 5"),
    "pca had another target": (pca(variance_target=0.5), "variance target of pca: found 0.5, expected 0.8"),
    "pca had a number of components that was not requested": (
        pca(n_components=2),
        "number of components requested from pca: found 2, expected None",
    ),
    "pca computed other scores": (pca(scores="whitened"), "scores of pca: found whitened, expected projected"),
    "the variance is not reached, without a warning": (
        pca(variance_reached=0.79),
        "found 0.79, expected 0.8 or a warning",
    ),
    "the variance is not reached, and only drift warns": (
        pca(variance_reached=0.79, warnings=["drift"], drift={"warnings": ["drift"]}),
        "found 0.79, expected 0.8 or a warning",
    ),
    "the variance is more than all": (pca(variance_reached=1.01), "variance reached: found 1.01, expected 0 to 1"),
    "the variance is negative": (pca(variance_reached=-0.1), "variance reached: found -0.1"),
    "the variance is NaN": (pca(variance_reached=float("nan"), warnings=["w"]), "variance reached: found nan"),
    "k is 0": (pca(k=0), "k: found 0, expected 1 to 1280"),
    "k is more than the dimensions": (pca(k=1281), "k: found 1281"),
    "k is not that of the scores": (pca(k=3), "values of scores: found 10, expected 15"),
    "a score is missing": (scores_of(4), "rows of scores: found 4, expected 5"),
    "a row of scores is repeated": (scores_of(6), "rows of scores: found 6, expected 5"),
    "scores have another k": (scores_of(5, 3), "values of scores: found 15, expected 10"),
    "all scores are gone": (remove(SCORES), "rows of scores: found 0, expected 5"),
    "all scores are NaN": (
        lambda run: write_scores(run, np.full((IMAGES, K), np.nan)),
        "has no minimum of the column 'components'",
    ),
    "a score is infinite": (scores_with(np.inf), "scores are finite: found False"),
    "a score is minus infinite": (scores_with(-np.inf), "scores are finite: found False"),
    "the CSV is gone": (lambda run: (run / args.CSV_FILE).unlink(), "bytes of the CSV: found None, expected"),
    "the CSV is empty": (with_csv(lambda _: b""), "bytes of the CSV: found 0, expected"),
    "the CSV is a byte short": (with_csv(lambda data: data[:-1]), "bytes of the CSV: found"),
    "the CSV is a byte long": (with_csv(lambda data: data + b"\n"), "bytes of the CSV: found"),
    "the job wrote fewer rows into the CSV": (
        pca_csv(rows=4),
        "rows of the CSV: found 4, expected 5",
    ),
    "the job wrote a CSV without labels": (pca_csv(columns=2), "columns of the CSV: found 2, expected 3"),
}
"""Damages, each with the text that names it."""


def message_after(lake: Path, *names: str) -> str:
    """Damage a new run in these ways and return the message of the verification."""
    run = write_run(lake, IMAGES)
    for name in names:
        DAMAGES[name][0](run)
    with pytest.raises(VerificationError) as caught:
        verify(lake)
    return str(caught.value)


CONSEQUENCES = {
    "a segment is missing": 2,
    "a segment is there twice": 2,
    "a segment has fewer features than featurize counted": 2,
    "a vector is empty": 2,
    "a vector is null": 2,
    "the listing has more rows": 3,
    "the listing has fewer rows than find_changes counted": 3,
    "too many are rejects": 5,
    "pca saw fewer images": 3,
    "k is 0": 3,
    "k is more than the dimensions": 3,
    "k is not that of the scores": 2,
    "a score is missing": 2,
    "a row of scores is repeated": 2,
    "scores have another k": 2,
    "all scores are gone": 2,
    "all scores are NaN": 2,
    "a score is infinite": 2,
    "a score is minus infinite": 2,
}
"""Damages that several checks find, and how many; each of the others is found by exactly one."""


def test_every_damage_is_found_and_named_with_the_run(tmp_path: Path) -> None:
    for number, (name, (_, expected)) in enumerate(DAMAGES.items()):
        message = message_after(tmp_path / f"{number}", name)
        assert expected in message, name
        assert SLUG in message, name
        problems = re.split("; (?!the jobs always write)", message)
        assert len(problems) == CONSEQUENCES.get(name, 1), message


def test_all_problems_are_in_one_error(tmp_path: Path) -> None:
    names = ("a file of features is no Parquet", "pca had another target", "a score is infinite",
             "the CSV is gone", "a reject is missing")  # fmt: skip
    message = message_after(tmp_path, *names)
    assert [name for name in names if DAMAGES[name][1] not in message] == []


def test_a_count_that_differs_from_find_changes_is_the_only_problem(run: Path, tmp_path: Path) -> None:
    """The numbers of find_changes come from its XCom, not from the folder that the jobs can write to."""
    for found, message in [
        ({"listed": 7}, "rows of the listing: found 6, expected 7"),
        ({"work": 2}, "images computed by featurize: found 6, expected 2"),
    ]:
        with pytest.raises(VerificationError) as caught:
            verify(tmp_path, **found)
        assert str(caught.value) == f"file://{run}: {message}"


def test_missing_summary_is_named_with_its_job(tmp_path: Path) -> None:
    for name, writer in [
        (args.CHANGES_FILE, "find_changes"),
        (args.FEATURIZE_SUMMARY_FILE, "featurize"),
        (args.PCA_SUMMARY_FILE, "pca"),
    ]:
        found = found_of(write_run(tmp_path, IMAGES))
        (tmp_path / "runs" / SLUG / name).unlink()
        with pytest.raises(VerificationError, match=rf"{name} does not exist: {writer} writes it"):
            verify_run(Lake(f"file://{tmp_path}"), SLUG, found, PARAMS, JOBS, None)  # type: ignore[arg-type]


def test_segments_of_earlier_runs_are_not_read_again(tmp_path: Path) -> None:
    """They were verified when they were new, and are never edited: a day costs what that day's images cost."""
    kept = write_segment(tmp_path, f"{PREVIOUS}-00112233-00000", 4)
    write_run(tmp_path, IMAGES, kept=[kept])
    (tmp_path / "segments" / kept["id"] / args.FEATURES_FILE).write_bytes(b"not read")
    assert verify(tmp_path)["images"] == 4 + IMAGES


LAST_BYTES = 64 * 1024
"""pyarrow reads the end of a file, in which it expects the footer."""


class Reads:
    """The bytes that Airflow reads from the files of a lake, by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes: Counter[str] = Counter()
        open_file, read_bytes = storage.open_file, storage.read_bytes

        class Counted(io.RawIOBase):
            def __init__(inner, uri: str, stream: Any) -> None:  # noqa: N805
                inner.uri, inner.stream = uri, stream

            def readable(inner) -> bool:  # noqa: N805
                return True

            def seekable(inner) -> bool:  # noqa: N805
                return True

            def seek(inner, *position: int) -> int:  # noqa: N805
                return inner.stream.seek(*position)

            def tell(inner) -> int:  # noqa: N805
                return inner.stream.tell()

            def close(inner) -> None:  # noqa: N805
                inner.stream.close()
                super().close()

            def readinto(inner, buffer: Any) -> int:  # noqa: N805
                count = inner.stream.readinto(buffer)
                self.bytes[inner.uri.rpartition("/")[2]] += count
                return count

        def counted_bytes(uri: str, *others: Any) -> bytes:
            data = read_bytes(uri, *others)
            self.bytes[uri.rpartition("/")[2]] += len(data)
            return data

        monkeypatch.setattr(storage, "open_file", lambda uri, *others: Counted(uri, open_file(uri, *others)))
        monkeypatch.setattr(storage, "read_bytes", counted_bytes)


def write_large_run(lake: Path, rows: int) -> None:
    """Write a run with one segment of so many features, in two row groups like those of any larger file."""
    run = write_run(lake, IMAGES)
    labels, vector = ["Kiwi"] * rows, np.zeros((1, args.FEATURE_DIMENSIONS), np.float32)
    paths = [f"file:///lake/data/Kiwi/{number:06d}.jpg" for number in range(rows)]
    file = FEATURES(run)[0]
    with pq.ParquetWriter(file, schemas.FEATURES, compression="zstd") as writer:
        for half in (slice(0, rows // 2), slice(rows // 2, rows)):
            count = len(paths[half])
            values = pa.ListArray.from_arrays(
                np.arange(count + 1, dtype=np.int32) * args.FEATURE_DIMENSIONS, np.repeat(vector, count, axis=0).ravel()
            )
            writer.write_table(pa.table([paths[half], labels[half], values], schema=schemas.FEATURES), rows)
    segment = json.loads((run / args.LIVE_SEGMENTS_FILE).read_text())["segments"][0]
    segment |= {"images": rows, "features": rows, "rejects": 0, "bytes": file.stat().st_size}
    edit_json(run / args.LIVE_SEGMENTS_FILE, segments=[segment])
    columns = {"path": paths, "label": labels, "components": list(np.ones((rows, K)))}
    write_parquet(run / args.SCORES_FOLDER / "part-00000.parquet", columns, schemas.SCORES, row_group_size=rows // 2)
    modified = [MODIFIED] * rows
    listed = {"path": paths, "label": labels, "size": [1] * rows, "modification_time": modified, "etag": [None] * rows}
    write_parquet(run / args.LISTING_FILE, listed, schemas.LISTING, row_group_size=rows // 2)
    no_rejects(run)
    (run / args.CSV_FILE).write_bytes(b"x" * rows * 40)
    csv = {"rows": rows, "columns": K + 1, "bytes": rows * 40}
    pca(images=rows, csv=csv)(run)
    counts = {"listed": rows, "features": rows, "rejects": 0, "featurized": rows, "segments": 1}
    featurize(**counts)(run)
    edit_json(run / args.CHANGES_FILE, listed=rows, work=rows, new=rows)


def test_verification_and_publication_read_footers_and_summaries_whatever_the_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No features, scores or CSV pass through Airflow. A footer grows with the row groups, not with their rows."""
    from include.lake.commit import commit
    from include.lake.publication import show_published
    from include.lake.verification import read_segments
    from tests.include.run_records import manifest

    counted = []
    for rows in (1_000, 100_000):
        root = tmp_path / f"{rows}"
        write_large_run(root, rows)
        lake = Lake(f"file://{root}")
        run = lake.run(SLUG)
        summaries = {
            name: json.loads((root / "runs" / SLUG / f"{name}.json").read_text()) for name in ("featurize", "pca")
        }
        with monkeypatch.context() as patched:
            reads = Reads(patched)
            assert verify(root)["images"] == rows
            state = manifest(segments=read_segments(run, None), **summaries)
            commit(lake, state, None, "2026-11-22T12:05:00+00:00", None)
            show_published(lake, None)
        counted.append(reads.bytes)
        assert pq.read_metadata(root / "results" / f"part-{SLUG}-00112233-00000.parquet").num_rows == rows
        assert (root / "results_csv" / "pca_features.csv").stat().st_size == rows * 40
    small, large = counted
    assert small.keys() == large.keys() >= {"features.parquet", "part-00000.parquet", "listing.parquet"}
    assert "pca_features.csv" not in large
    files = [
        root / "runs" / SLUG / args.LISTING_FILE,
        SCORES(root / "runs" / SLUG)[0],
        FEATURES(root / "runs" / SLUG)[0],
    ]
    for name, file in zip(("listing.parquet", "part-00000.parquet", "features.parquet"), files, strict=True):
        assert large[name] < LAST_BYTES + 1_000 < file.stat().st_size / 2, name
    others = large.keys() - {file.name for file in files}
    assert sum(large[name] - small[name] for name in others) < 100, "numbers have more digits, nothing else"


def test_warning_explains_variance_that_cannot_be_reached_and_is_returned(run: Path, tmp_path: Path) -> None:
    pca(variance_reached=0.0, warnings=["the features are constant"])(run)
    assert verify(tmp_path)["warnings"] == ["the features are constant"]


def test_target_of_the_run_is_checked_and_not_the_default(run: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"variance target of pca: found 0\.8, expected 0\.9"):
        verify(tmp_path, replace(PARAMS, variance_target=0.9))


def test_target_that_is_missed_only_by_rounding_is_reached(run: Path, tmp_path: Path) -> None:
    """pca has the same tolerance: 0.7 + 0.1 is 0.7999999999999999 in floating point."""
    for below in (0, 1e-16, 2e-13):
        pca(variance_reached=0.8 - below)(run)
        assert verify(tmp_path)["k"] == K


def test_shares_that_sum_to_more_than_1_only_by_rounding_are_accepted(run: Path, tmp_path: Path) -> None:
    """The sum of 1280 rounded shares may be off by 1280 units of rounding: 1280 * 2^-53, which is 1.4e-13."""
    for reached in (1.0, 1 + 1280 * 2**-53):
        pca(variance_reached=reached)(run)
        assert verify(tmp_path)["variance_reached"] == reached
    for above in (1e-9, 1.0):
        pca(variance_reached=1 + above)(run)
        with pytest.raises(VerificationError, match=r"variance reached: found .*, expected 0 to 1$"):
            verify(tmp_path)
    pca(variance_reached=0.8 - 1e-9)(run)
    with pytest.raises(VerificationError, match=r"expected 0\.8 or a warning$"):
        verify(tmp_path)


def test_number_of_components_is_exact_or_an_upper_limit(run: Path, tmp_path: Path) -> None:
    for target, number, expected in [(None, 2, None), (None, 3, 3), (None, 1, 1), (0.8, 2, None), (0.8, 3, None)]:
        changes: dict[str, Any] = {"variance_target": target, "n_components": number}
        pca(**changes)(run)
        if expected is None:
            assert verify(tmp_path, replace(PARAMS, **changes))["k"] == K
        else:
            with pytest.raises(VerificationError, match=rf"k: found 2, expected {expected}$"):
                verify(tmp_path, replace(PARAMS, **changes))
    pca(variance_target=0.8, n_components=1)(run)
    with pytest.raises(VerificationError, match=r"k: found 2, expected 1$"):
        verify(tmp_path, replace(PARAMS, variance_target=0.8, n_components=1))


def test_fixed_number_of_components_has_no_target_to_miss(run: Path, tmp_path: Path) -> None:
    pca(variance_target=None, n_components=2, variance_reached=0.1)(run)
    params = replace(PARAMS, variance_target=None, n_components=2)
    assert verify(tmp_path, params)["variance_reached"] == 0.1


def test_run_without_rejects_passes(run: Path, tmp_path: Path) -> None:
    no_rejects(run)
    listing_of(IMAGES)(run)
    change_segment(1, rejects=0)(run)
    featurize(listed=IMAGES, rejects=0, featurized=IMAGES)(run)
    edit_json(run / args.CHANGES_FILE, listed=IMAGES, work=IMAGES)
    assert verify(tmp_path, replace(PARAMS, max_reject_ratio=0.0))["rejects"] == 0


def test_hidden_files_and_markers_are_ignored(run: Path, tmp_path: Path) -> None:
    for name in ("_part-9.parquet", ".part-9.parquet"):
        (run / args.SCORES_FOLDER / name).write_bytes(b"half")
        (run / args.REJECTS_FOLDER / name).write_bytes(b"half")
    assert verify(tmp_path)["images"] == IMAGES


def job_refuses(rejects: int, listed: int, ratio: float) -> bool:
    try:
        check_reject_ratio(
            args.FeaturizeArgs("i", "file:///r", "m", max_reject_ratio=ratio), listed, {"truncated": rejects}, []
        )
    except JobError:
        return True
    return False


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 100))
def test_job_and_verification_agree_on_the_share_of_rejects(listed: int, rejects: int, percent: int) -> None:
    """7 of 100 are not more than 7 %, though 0.07 * 100 is not 7 in floating point."""
    from include.lake import verification

    rejects, ratio = min(rejects, listed), percent / 100
    params = replace(PARAMS, max_reject_ratio=ratio)
    check = functools.partial(verification._rejects_problems, aws_conn_id=None)
    summary = featurize_summary(listed=listed, rejects=rejects)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verification, "parquet_files", lambda _: [])
        found = check(Lake("file:///nowhere").run(SLUG), summary, params)  # type: ignore[arg-type]
    assert any(problem.startswith("rejects: ") for problem in found) == job_refuses(rejects, listed, ratio)


def keep(run: Path, **changes: Any) -> None:
    """Let a run keep the basis of another one, whose components are in its folder."""
    before = write_run(run.parent.parent, IMAGES, PREVIOUS)
    edit_json(run / args.CHANGES_FILE, published=f"file://{before}")
    pca(basis=kept_basis_record(**changes), variance_reached=0.7)(run)


KEEP = replace(PARAMS, basis="keep")


def test_kept_components_pass_and_may_explain_less_than_the_target(run: Path, tmp_path: Path) -> None:
    keep(run)
    assert verify(tmp_path, KEEP)["variance_reached"] == 0.7


def test_every_kind_of_wrong_basis_is_found(tmp_path: Path) -> None:
    other = "0" * 64
    cases: list[tuple[RunParams, Damage, str]] = [
        (PARAMS, keep, "basis: found keep, expected refit"),
        (KEEP, lambda run: keep(run, copied=-2), "projected: found 7, expected at most those that were computed, 6"),
        (KEEP, lambda run: keep(run, copied=6), "projected: found -1, expected"),
        (
            KEEP,
            lambda run: keep(run, digest=other),
            f"digest of the components: found {MODEL_DIGEST}, expected {other}",
        ),
        (KEEP, lambda run: [keep(run), (run / args.PCA_MODEL_FILE).write_bytes(b"other")], "digest of the components"),
        (
            KEEP,
            lambda run: [keep(run), (run.parent / PREVIOUS / args.PCA_MODEL_FILE).write_bytes(b"other")],
            f"digest of the kept components: found {MODEL_DIGEST}, expected",
        ),
        (KEEP, lambda run: [keep(run), edit_json(run / args.CHANGES_FILE, published=None)], "expected None"),
        (KEEP, pca(), "fitted again without a reason, although basis is keep"),
        (PARAMS, pca(basis=basis_record(copied=2)), "images whose scores were copied: found 2, expected 0"),
        (PARAMS, pca(basis=basis_record(since=PREVIOUS)), "run that fitted the components: found"),
        (PARAMS, pca(basis=None), "the summary of pca has no basis"),
        (PARAMS, lambda run: (run / args.PCA_MODEL_FILE).unlink(), f"{args.PCA_MODEL_FILE} does not exist"),
        (
            KEEP,
            pca(basis=basis_record(why_fitted="it drifts"), variance_reached=0.7, warnings=["fitted: it drifts"]),
            "variance reached: found 0.7, expected 0.8 or a warning",
        ),
    ]
    for number, (params, damage, message) in enumerate(cases):
        damage(write_run(tmp_path / f"{number}", IMAGES))
        with pytest.raises(VerificationError) as caught:
            verify(tmp_path / f"{number}", params)
        assert message in str(caught.value), message
