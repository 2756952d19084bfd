"""A complete run passes verification; every kind of damage is found and named."""

from __future__ import annotations

import functools
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
from spark_jobs.lake import schemas
from tests.include.run_folders import (
    K,
    edit_json,
    features_table,
    rows_of,
    write_parquet,
    write_run,
    write_scores,
)
from tests.include.run_records import JOBS, SLUG, featurize_summary

IMAGES = 5
PARAMS = RunParams(max_reject_ratio=0.2)
Damage = Callable[[Path], None]


def verify(lake: Path, params: RunParams = PARAMS) -> dict[str, Any]:
    return verify_run(Lake(f"file://{lake}").run(SLUG), params, JOBS, None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path, IMAGES)


@pytest.mark.usefixtures("run")
def test_complete_run_passes_and_its_figures_are_returned(tmp_path: Path) -> None:
    assert verify(tmp_path) == {"images": 5, "rejects": 1, "k": 2, "variance_reached": 0.9, "warnings": []}


def parts(folder: str) -> Callable[[Path], list[Path]]:
    return lambda run: sorted((run / folder).glob("*.parquet"))


FEATURES, REJECTS, SCORES = parts(args.FEATURES_FOLDER), parts(args.REJECTS_FOLDER), parts(args.SCORES_FOLDER)


def rewrite_features(columns: dict[str, Any], schema: pa.Schema = schemas.FEATURES, **options: Any) -> Damage:
    return lambda run: write_parquet(FEATURES(run)[1], features_table(3, 2) | columns, schema, **options)


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


def in_csv(change: Callable[[list[str]], list[str]]) -> Damage:
    def damage(run: Path) -> None:
        lines = (run / args.CSV_FILE).read_text().splitlines()
        (run / args.CSV_FILE).write_text("\n".join(change(lines)) + "\n")

    return damage


def featurize(**changes: Any) -> Damage:
    return lambda run: edit_json(run / args.FEATURIZE_SUMMARY_FILE, **changes)


def pca(**changes: Any) -> Damage:
    return lambda run: edit_json(run / args.PCA_SUMMARY_FILE, **changes)


def remove(find: Callable[[Path], list[Path]], number: int = 0) -> Damage:
    return lambda run: find(run)[number].unlink()


def overwrite(find: Callable[[Path], list[Path]], data: bytes) -> Damage:
    def damage(run: Path) -> None:
        find(run)[0].write_bytes(data)

    return damage


def scores_of(count: int, k: int = K) -> Damage:
    return lambda run: write_scores(run, np.ones((count, k)))


def listing_of(count: int) -> Damage:
    return lambda run: write_parquet(run / args.LISTING_FILE, rows_of(count), schemas.LISTING)


def repeat_part(run: Path) -> None:
    first = FEATURES(run)[0]
    first.with_name("part-00009.parquet").write_bytes(first.read_bytes())


def remove_features(run: Path) -> None:
    for path in FEATURES(run):
        path.unlink()


DAMAGES: dict[str, tuple[Damage, str]] = {
    "featurize ran other code": (featurize(code="1" * 64), f"featurize ran other code ({'1' * 16})"),
    "pca ran other code": (pca(code="2" * 64), f"pca ran other code ({'2' * 16}) than the plan names ({JOBS[:16]})"),
    "a part of the features is gone": (remove(FEATURES), "rows of features: found 3, expected 5"),
    "all features are gone": (remove_features, "rows of features: found 0"),
    "a row of features is missing": (
        lambda run: write_parquet(FEATURES(run)[1], features_table(2, 2), schemas.FEATURES),
        "rows of features: found 4, expected 5",
    ),
    "a row of features is repeated": (
        lambda run: write_parquet(FEATURES(run)[1], features_table(4, 2), schemas.FEATURES),
        "rows of features: found 6, expected 5",
    ),
    "a part is repeated": (repeat_part, "rows of features: found 7, expected 5"),
    "a vector is short": (rewrite_features({"features": vectors(1280, 1279, 1280)}), "values of features: found 6399"),
    "a vector is empty": (rewrite_features({"features": vectors(1280, 0, 1280)}), "of features: found"),
    "a vector is null": (
        rewrite_features({"features": [*vectors(1280), None, *vectors(1280)]}, NULLABLE),
        "nulls in features: found 1, expected 0",
    ),
    "a label is null": (rewrite_features({"label": ["a", None, "b"]}, NULLABLE), "nulls in features: found 1"),
    "a feature is infinite": (rewrite_features({"features": with_value(np.inf)}), "features are finite: found False"),
    "a feature is minus infinite": (
        rewrite_features({"features": with_value(-np.inf)}),
        "features are finite: found False",
    ),
    "a part has another column": (rewrite_features({"extra": [1, 2, 3]}, EXTRA), "has the columns"),
    "features have no statistics": (
        rewrite_features({}, write_statistics=False),
        "has no statistics of the column 'path'",
    ),
    "a part of the features is no Parquet": (overwrite(FEATURES, b"PAR1"), "is not a Parquet file"),
    "a part of the features is empty": (overwrite(FEATURES, b""), "is not a Parquet file"),
    "a model of other dimensions was used": (
        featurize(dimensions=1024),
        "dimensions of features: found 1024, expected 1280",
    ),
    "the listing is gone": (lambda run: (run / args.LISTING_FILE).unlink(), "listing.parquet does not exist"),
    "the listing has more rows": (listing_of(7), "features + rejects: found 6, expected 7"),
    "the listing has fewer rows": (listing_of(5), "rows of the listing: found 5, expected 6"),
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
    "a score is NaN": (scores_with(np.nan), "not k finite numbers and a label: found 1, expected 0"),
    "a score is infinite": (scores_with(np.inf), "scores are finite: found False"),
    "a score is minus infinite": (scores_with(-np.inf), "scores are finite: found False"),
    "the CSV is gone": (lambda run: (run / args.CSV_FILE).unlink(), "pca_features.csv does not exist"),
    "the CSV is empty": (lambda run: (run / args.CSV_FILE).write_bytes(b"") and None, "columns of the CSV: found []"),
    "the CSV has no header": (in_csv(lambda lines: lines[1:]), "columns of the CSV: found"),
    "the CSV's columns are in another order": (
        in_csv(lambda lines: ["label,F 1,F 2", *lines[1:]]),
        "columns of the CSV: found ['label', 'F 1', 'F 2']",
    ),
    "a row of the CSV is missing": (in_csv(lambda lines: lines[:-1]), "rows of the CSV: found 4, expected 5"),
    "a row of the CSV is repeated": (
        in_csv(lambda lines: [*lines, lines[-1]]),
        "rows of the CSV: found 6, expected 5",
    ),
    "a row of the CSV is short": (
        in_csv(lambda lines: [*lines[:-1], lines[-1].partition(",")[2]]),
        "not k finite numbers and a label: found 1, expected 0; the first is row 5, near the label 'crème brûlée'",
    ),
    "a label of the CSV is broken by a carriage return": (
        in_csv(lambda lines: [*lines[:-1], lines[-1].replace("me b", "me\rb")]),
        "rows of the CSV that are not k finite numbers and a label: found 1, expected 0; the first is row 6",
    ),
    "a label of the CSV is not that of the scores": (
        in_csv(lambda lines: [*lines[:-1], lines[-1] + " "]),
        "label is not that of the scores: found 1, expected 0; the first is row 5, found 'crème brûlée ', expected",
    ),
}


def message_after(lake: Path, *names: str) -> str:
    """Damage a new run in these ways and return the message of the verification."""
    run = write_run(lake, IMAGES)
    for name in names:
        DAMAGES[name][0](run)
    with pytest.raises(VerificationError) as caught:
        verify(lake)
    return str(caught.value)


def test_every_damage_is_found_and_named_with_the_run(tmp_path: Path) -> None:
    for number, (name, (_, expected)) in enumerate(DAMAGES.items()):
        message = message_after(tmp_path / f"{number}", name)
        assert expected in message, name
        assert SLUG in message, name


def test_all_problems_are_in_one_error(tmp_path: Path) -> None:
    names = ("a part of the features is no Parquet", "pca had another target", "a score is infinite",
             "the CSV is gone", "a reject is missing")  # fmt: skip
    message = message_after(tmp_path, *names)
    assert [name for name in names if DAMAGES[name][1] not in message] == []


def test_missing_summary_is_named_with_its_job(tmp_path: Path) -> None:
    for name, writer in [(args.FEATURIZE_SUMMARY_FILE, "featurize"), (args.PCA_SUMMARY_FILE, "pca")]:
        (write_run(tmp_path, IMAGES) / name).unlink()
        with pytest.raises(VerificationError, match=rf"{name} does not exist: {writer} writes it"):
            verify(tmp_path)


def test_additional_columns_of_all_parts_are_found(tmp_path: Path, run: Path) -> None:
    for path, (count, offset) in zip(FEATURES(run), [(2, 0), (3, 2)], strict=True):
        write_parquet(path, features_table(count, offset) | {"extra": [1] * count}, EXTRA)
    with pytest.raises(VerificationError, match=r"columns of features: found .*'extra'"):
        verify(tmp_path)


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
    with pq.ParquetWriter(REJECTS(run)[0], schemas.REJECTS):
        pass  # a file without a row group
    listing_of(IMAGES)(run)
    featurize(listed=IMAGES, rejects=0)(run)
    assert verify(tmp_path, replace(PARAMS, max_reject_ratio=0.0))["rejects"] == 0


def test_hidden_files_and_markers_are_ignored(run: Path, tmp_path: Path) -> None:
    for name in ("_part-9.parquet", ".part-9.parquet"):
        (run / args.FEATURES_FOLDER / name).write_bytes(b"half")
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
        found = check(Lake("file:///nowhere").run(SLUG), summary, params)
    assert any(problem.startswith("rejects: ") for problem in found) == job_refuses(rejects, listed, ratio)
