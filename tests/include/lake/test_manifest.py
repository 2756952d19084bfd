"""The manifest of a run."""

from __future__ import annotations

from include.records import FoundChanges, Manifest, Run
from spark_jobs.records import ChangeCounts, Changes, FeaturizeSummary, PcaSummary, Segment
from tests.include.run_records import (
    changes_record,
    counts_record,
    featurize_summary,
    found_record,
    manifest,
    pca_summary,
    run_record,
    segment_record,
)


def test_manifest_has_the_fields_of_its_record() -> None:
    assert set(manifest()) == set(Manifest.__annotations__) - {"erasures"}, "only an erasure adds its id"


def test_records_of_the_tests_have_the_fields_of_the_records_that_they_stand_for() -> None:
    for record, definition in (
        (run_record(), Run),
        (counts_record(), ChangeCounts),
        (changes_record(), Changes),
        (found_record(), FoundChanges),
        (segment_record(), Segment),
        (featurize_summary(), FeaturizeSummary),
        (pca_summary(), PcaSummary),
    ):
        assert set(record) == set(definition.__annotations__), definition.__name__


def test_manifest_has_the_counts_and_names_each_published_file_once() -> None:
    one, other = segment_record("a"), segment_record("b", results=["part-c.parquet", "part-a.parquet"])
    found = manifest(found=found_record(new=1, work=2), segments=[one, other])
    assert found["changes"] == counts_record(new=1, work=2)
    assert found["segments"] == [one, other]
    assert found["results"] == ["part-a.parquet", "part-c.parquet"]


def test_random_weights_are_the_first_warning_and_the_arguments_stay_unchanged() -> None:
    verified = {"warnings": ["the variance target was not reached"]}
    assert manifest(verified=verified)["warnings"] == verified["warnings"]
    model = run_record()["model"] | {"weights": {"source": "random"}}
    first, *others = manifest(run=run_record(model=model), verified=verified)["warnings"]
    assert first.startswith("RANDOM WEIGHTS")
    assert others == verified["warnings"] == ["the variance target was not reached"]
