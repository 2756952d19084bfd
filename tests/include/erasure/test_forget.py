"""An erasure: everything derived from the photos is gone, and everything else is as if they had never been there."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.erasure import forget as erasure
from include.erasure.denylist import find_key
from include.erasure.errors import NoStateError, NothingFoundError, NothingLeftError
from include.erasure.forget import forget
from include.erasure.request import RequestError, read_request
from include.lake.commit import restore
from include.lake.garbage import collect_garbage
from include.lake.publication import show_published
from include.records import Receipt
from spark_jobs.keyed_hash import keyed_hash
from tests.end_to_end.kills import writer
from tests.include.erasure.conftest import both_places, folder_and_soak_in_a_bucket
from tests.include.erasure.days import (
    Days,
    all_bytes,
    check_state,
    features_of_state,
    image,
    lists,
    pictures,
    states,
    table,
    thumbnail,
    uncompressed,
)
from tests.include.lake.places import Bucket

pytestmark = pytest.mark.slow  # it imports Airflow

Photos = dict[str, bytes]


def first_days(days: Days) -> dict[int, Photos]:
    """Run three days: photos are added, changed and deleted; return the photos of each state."""
    photos = {f"data/{'ab'[number % 2]}/{number}.jpg": image(number) for number in range(9)}
    photos |= {"data/a/bad.jpg": writer.BAD, "data/b/worse.jpg": writer.BAD}
    second = {"data/a/20.jpg": image(20), "data/a/0.jpg": image(100)}
    if not days.resume(next_=3):
        change(days, photos)
        days.run()
        change(days, second)
        days.run()
        days.place.delete("data/b/1.jpg")
        days.run()
        days.keep()
    return {1: photos, 2: photos | second, 3: without(photos | second, "data/b/1.jpg")}


def change(days: Days, photos: Photos) -> None:
    for path, data in photos.items():
        days.place.write(path, data)


def erase(days: Days, *paths: str, labels: tuple[str, ...] = (), keeps_photos: bool = False) -> Receipt:
    request = read_request(days.lake, paths, labels, keeps_photos=keeps_photos)
    return forget(days.lake, request, 7, days.conn)


def without(photos: Photos, *paths: str) -> Photos:
    return {path: data for path, data in photos.items() if path not in paths}


def assert_no_trace(days: Days, *names: str) -> None:
    """No version of any file has one of the names, in its own name or in its content."""
    for path, data in all_bytes(days.place).items():
        for name in names:
            assert name not in path
            assert name.encode() not in uncompressed(data), path


@both_places
def test_every_kept_state_is_as_if_the_photos_had_never_been_there(days: Days) -> None:
    before = first_days(days)
    if isinstance(days.place, Bucket):
        old_versions = {name for name in all_bytes(days.place) if name.startswith("data/a/0.jpg")}
        assert len(old_versions) == 2
    erased = ("data/a/0.jpg", "data/b/3.jpg", "data/b/1.jpg", "data/a/bad.jpg")
    receipt = erase(days, *erased)
    found = states(days.place)
    assert sorted(found) == [1, 2, 3]
    for number, photos in before.items():
        check_state(days.place, found[number], without(photos, *erased))
        assert receipt["states"][str(number)]["after"] == {
            "images": found[number]["featurize"]["features"],
            "rejects": found[number]["featurize"]["rejects"],
        }
    collect_garbage(days.lake, 7, days.conn)
    assert_no_trace(days, *erased)
    assert days.place.names() & set(erased) == set()
    rows = pd.concat(table(days.place, name) for name in days.place.names() if name.startswith("results/"))
    assert set(rows["path"]) == {f"{days.lake.root}/{path}" for path in features_of_state(days.place, found[3])}
    current = json.loads(days.place.read("current.json"))
    assert days.place.read("results_csv/pca_features.csv") == days.place.read(current["csv"])
    assert set(before[3]) - set(erased) <= days.place.names(), "other photos stay"
    assert days.run() is None, "the next run has nothing to do"
    restored = restore(days.lake, 1, "2026-11-30T12:00:00+00:00", days.conn)
    show_published(days.lake, days.conn)
    assert restored["images"] == found[1]["featurize"]["features"]
    assert days.run() is not None, "the photos of the third day differ from those of the first"
    check_state(days.place, states(days.place)[5], without(before[3], *erased))


@folder_and_soak_in_a_bucket
def test_photos_of_a_label_go_and_the_label_with_them(days: Days) -> None:
    before = first_days(days)
    receipt = erase(days, labels=("b",))
    gone = [path for path in before[1] if path.startswith("data/b/")]
    for number, manifest in states(days.place).items():
        check_state(days.place, manifest, without(before[number], *gone))
    assert_no_trace(days, *gone)
    key = find_key(days.lake, days.conn)
    assert key is not None
    assert receipt["photos"] == sorted(keyed_hash(key, path.encode()) for path in gone)
    for name, data in all_bytes(days.place).items():
        assert b"'label': 'b'" not in uncompressed(data), name
        assert b'"label": "b"' not in data, name


def test_receipt_has_hashes_and_counts_and_no_names(days: Days) -> None:
    before = first_days(days)
    receipt = erase(days, "data/a/0.jpg", "data/a/bad.jpg")
    key = find_key(days.lake, days.conn)
    assert key is not None
    assert len(key) == 32
    assert receipt["requested"]["paths"] == receipt["photos"]
    assert receipt["photos"] == sorted(keyed_hash(key, name) for name in (b"data/a/0.jpg", b"data/a/bad.jpg"))
    vectors = {keyed_hash(key, writer.features_of(data).tobytes()) for data in (image(0), image(100))}
    assert vectors < set(receipt["vectors"]), "both contents of the photo, and its scores"
    assert len(receipt["vectors"]) == 2 + 3, "its features twice, its scores in three states"
    encoded = [base64.b64encode(thumbnail(data)) for data in (image(0), image(100))]
    assert receipt["thumbnails"] == sorted(keyed_hash(key, data) for data in encoded), "as three reports showed them"
    assert receipt["contents"] == sorted(keyed_hash(key, data) for data in (image(100), writer.BAD))
    assert json.loads(days.place.read("erasures/denylist.json"))["contents"] == receipt["contents"]
    runs, segments = receipt["searched"]["runs/"], receipt["searched"]["segments/"]
    assert runs["before"]["rows_found"] >= 3 * 3, "listing, rejects and scores of three states"
    assert segments["before"]["rows_found"] == 4, "the photo before and after its change; a reject, in two segments"
    assert all(
        place["after"]["files_found"] == place["after"]["rows_found"] == 0 for place in receipt["searched"].values()
    )
    assert receipt["states"]["3"]["before"] == {"images": 9, "rejects": 2}
    assert all(entry["rule"] and entry["where"] for entry in receipt["remains"])
    written = days.place.read(f"erasures/{receipt['erasure']}.json")
    assert json.loads(written) == receipt
    assert b"jpg" not in written
    assert [name for name in days.place.names() if name.endswith(".plan.json")] == []
    assert len(before[3]) == 11
    content = all_bytes(days.place)
    assert erase(days, "data/a/bad.jpg", "data/a/0.jpg") == receipt, "a repetition finds nothing, and says when it went"
    assert all_bytes(days.place) == content


@folder_and_soak_in_a_bucket
def test_bytes_of_an_erased_photo_never_come_back(days: Days) -> None:
    before = first_days(days)
    erase(days, "data/a/0.jpg")
    change(days, {"data/b/copy.jpg": image(100), "data/b/new.jpg": image(200)})
    days.run()
    manifest = states(days.place)[4]
    assert manifest["changes"]["work"] == 2, "the denylist computes nothing again"
    assert features_of_state(days.place, manifest).keys() == {
        "data/b/new.jpg",
        *(path for path, data in before[3].items() if data != writer.BAD and path != "data/a/0.jpg"),
    }
    rejects = table(days.place, f"runs/{manifest['run']}/rejects/part-00000.parquet").set_index("path")
    assert rejects.loc[f"{days.lake.root}/data/b/copy.jpg", "reason"] == "erased"
    shown = pictures(days.place, manifest["run"])
    assert shown["data/b/new.jpg"] == thumbnail(image(200))
    assert "data/b/copy.jpg" not in shown, "the report shows other rejects only"
    change(days, {"data/b/newer.jpg": image(201)})
    days.run()
    manifest = states(days.place)[5]
    assert manifest["changes"]["work"] == 1, "the reject is remembered"
    assert manifest["featurize"]["rejects_by_reason"] == {"not_an_image": 2, "erased": 1}
    days.run(full_run=True)
    assert states(days.place)[6]["featurize"]["rejects_by_reason"] == {"not_an_image": 2, "erased": 1}


def test_photos_stay_if_the_request_says_so_and_nothing_is_derived_from_them_again(days: Days) -> None:
    before = first_days(days)
    paths = [path for path, data in before[3].items() if data != writer.BAD][:6]
    receipt = erase(days, *paths, keeps_photos=True)
    assert receipt["keeps_photos"]
    assert set(paths) <= days.place.names()
    check_state(days.place, states(days.place)[3], without(before[3], *paths))
    days.run()  # eight of eleven files are rejects: more than the limit, but a person has asked for them
    manifest = states(days.place)[4]
    assert manifest["featurize"]["rejects_by_reason"] == {"erased": 6, "not_an_image": 2}
    assert not set(paths) & set(features_of_state(days.place, manifest))


def test_a_run_in_progress_cannot_publish_the_erased_photo(days: Days) -> None:
    before = first_days(days)
    change(days, {"data/a/30.jpg": image(30)})
    record, params, done = days.begin()
    days.proceed(record, params, done, "featurize", "pca", "verify_results")
    receipt = erase(days, "data/a/30.jpg")
    with pytest.raises((AirflowFailException, FileNotFoundError)):
        days.proceed(record, params, done, "publish_results")
    assert sorted(states(days.place)) == [1, 2, 3]
    check_state(days.place, states(days.place)[3], before[3])
    assert receipt["states"]["3"]["before"] == receipt["states"]["3"]["after"]
    assert_no_trace(days, "data/a/30.jpg")


def test_an_erasure_that_loses_the_race_begins_again_and_erases_what_was_published(
    days: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = first_days(days)
    change(days, {"data/a/30.jpg": image(30)})
    record, params, done = days.begin()
    days.proceed(record, params, done, "featurize", "pca", "verify_results")
    rewrite, calls = erasure.rewrite_states, []

    def publish_first(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            with monkeypatch.context() as patch:
                patch.setattr("include.erasure.states.move_pointer", publish_and_move)
                return rewrite(*arguments)
        return rewrite(*arguments)

    from include.erasure import states as erasure_states

    move = erasure_states.move_pointer

    def publish_and_move(*arguments: Any) -> Any:
        days.proceed(record, params, done, "publish_results")
        return move(*arguments)

    monkeypatch.setattr(erasure, "rewrite_states", publish_first)
    erase(days, "data/a/0.jpg")
    assert len(calls) == 2
    found = states(days.place)
    check_state(days.place, found[4], without(before[3] | {"data/a/30.jpg": image(30)}, "data/a/0.jpg"))
    check_state(days.place, found[3], without(before[3], "data/a/0.jpg"))
    assert_no_trace(days, "data/a/0.jpg")


def test_states_and_runs_that_are_not_kept_lose_what_may_have_the_photo(days: Days) -> None:
    """Of two means with and without a photo, anyone computes its vector: the fits of old runs go."""
    first_days(days)
    old = json.loads(days.place.read("current.json"))["run"]
    report = days.place.read(f"runs/{old}/report.html")
    failed = "20261105T120000Z-aaaaaaaa"
    insights = [
        f"pca/insights/{name}" for name in ("insights.json", "outliers.csv", "duplicates.csv", "unlike_label.csv")
    ]
    for name, data in {
        f"runs/{failed}/report.html": report.replace(b"</body>", b'<img src="data:image/png;base64,AAAA"></body>'),
        f"runs/{failed}/report.json": days.place.read(f"runs/{old}/report.json").replace(old.encode(), failed.encode()),
        **{f"runs/{failed}/{name}": days.place.read(f"runs/{old}/{name}") for name in insights},
        f"runs/{failed}/pca/model.npz": days.place.read(f"runs/{old}/pca/model.npz"),
        f"runs/{failed}/pca/pictures.bin": b"of whom is not known",
    }.items():
        days.place.write(name, data)
    first_version = "20261101T120000Z-aaaaaaaa"
    for name in ("listing.parquet", "pca/scores/part-00000.parquet", "pca/pca_features.csv"):
        days.place.write(f"runs/{first_version}/{name}", days.place.read(f"runs/{old}/{name}"))
    days.place.write(f"runs/{first_version}/manifest.json", b"{}")
    untouched = "20261106T120000Z-aaaaaaaa"
    buffer = io.BytesIO()
    listing = table(days.place, f"runs/{old}/listing.parquet")
    listing[listing["path"].str.endswith("/b/3.jpg")].to_parquet(buffer)
    days.place.write(f"runs/{untouched}/listing.parquet", buffer.getvalue())
    days.place.write(f"runs/{untouched}/pca/model.npz", b"of other photos")
    for name in ("current.json", "results.json", ".loaded_images.json"):  # as a killed writer leaves them
        days.place.write(f".{name}.{'0' * 32}", b'{"warnings": ["data/a/0.jpg"]}')
    days.place.write(".loaded_images.json", b'{"a/0.jpg": [[1, 2]], "a/2.jpg": [[1, 2]]}')
    request = read_request(days.lake, ["data/a/0.jpg"], [])
    forget(days.lake, request, 1, days.conn)
    assert json.loads(days.place.read(".loaded_images.json")) == {"a/2.jpg": [[1, 2]]}, "make run's ledger"
    names = days.place.names()
    assert sorted(states(days.place)) == [3]
    assert not [name for name in names if name.endswith("0" * 32)]
    assert f"runs/{failed}/pca/model.npz" not in names
    assert f"runs/{failed}/pca/pictures.bin" not in names
    page = days.place.read(f"runs/{failed}/report.html")
    assert b"base64,AAAA" not in page, "it was made again"
    assert base64.b64encode(thumbnail(image(100))) in report
    assert base64.b64encode(thumbnail(image(100))) not in page
    shown = pictures(days.place, failed)
    stays = {f"data/{'ab'[number % 2]}/{number}.jpg": thumbnail(image(number)) for number in (20, *range(2, 9))}
    assert shown == {"": None, "data/a/bad.jpg": None, "data/b/worse.jpg": None, **stays}
    assert all(base64.b64encode(data) in page for data in stays.values()), "the other photos are still shown"
    assert set(lists(days.place, failed)["outliers"]) == set(stays)
    assert f"runs/{first_version}/pca/pca_features.csv" not in names
    scores = table(days.place, f"runs/{first_version}/pca/scores/part-00000.parquet")
    assert len(scores) == 8, "nothing else has these rows"
    assert not scores["path"].str.endswith("/a/0.jpg").any()
    assert days.place.read(f"runs/{untouched}/pca/model.npz") == b"of other photos"
    models = {name.split("/")[1] for name in names if name.endswith("model.npz")} - {untouched}
    assert models == {states(days.place)[3]["run"]}
    assert_no_trace(days, "data/a/0.jpg")


def test_a_state_with_erased_photos_only_is_not_kept_any_more(days: Days) -> None:
    photos = {"data/a/0.jpg": image(0), "data/a/1.jpg": image(1)}
    change(days, photos)
    days.run()
    later = {f"data/b/{number}.jpg": image(number) for number in range(2, 6)}
    change(days, later)
    days.run()
    receipt = erase(days, labels=("a",))
    assert receipt["states"]["1"]["after"] is None
    assert sorted(states(days.place)) == [2]
    check_state(days.place, states(days.place)[2], later)


def test_requests_that_cannot_be_met_change_nothing(days: Days) -> None:
    with pytest.raises(NoStateError, match="run the DAG once"):
        erase(days, "data/a/0.jpg")
    before = first_days(days)
    content = all_bytes(days.place)
    with pytest.raises(NothingFoundError, match="check the spelling"):
        erase(days, "data/a/no.jpg")
    with pytest.raises(RequestError, match="expected a path in data"):
        erase(days, "manifests/000001.json")
    with pytest.raises(NothingLeftError, match="Delete the lake"):
        erase(days, labels=("a", "b"))
    assert all_bytes(days.place) == content
    assert len(before) == 3


def test_deletion_from_data_alone_is_enough_for_the_published_state(days: Days) -> None:
    """Without an erasure, the next run takes the photo out of everything that it publishes."""
    before = first_days(days)
    days.place.delete("data/a/0.jpg")
    days.run()
    check_state(days.place, states(days.place)[4], without(before[3], "data/a/0.jpg"))
    run = states(days.place)[4]["run"]
    picture = base64.b64encode(thumbnail(image(100)))
    assert picture in days.place.read(f"runs/{states(days.place)[3]['run']}/report.html")
    published = [name for name in days.place.names() if name.startswith((f"runs/{run}/", "results"))]
    for name in published:
        if not name.endswith(("/gone.parquet", "/changes.json")):  # what had to go; garbage collection deletes them
            assert b"a/0.jpg" not in uncompressed(days.place.read(name)), name
            assert picture not in days.place.read(name), name
    assert np.isfinite(states(days.place)[4]["pca"]["variance_reached"])


def test_a_kept_basis_goes_even_if_the_photo_had_gone_from_the_state_before(days: Days) -> None:
    """The components of the second state were fitted on a photo of which that state has nothing."""
    photos = {f"data/{'ab'[number % 2]}/{number}.jpg": image(number) for number in range(9)}
    change(days, photos)
    days.run()
    days.place.delete("data/a/0.jpg")
    days.run(basis="keep")
    before = states(days.place)[2]
    assert before["pca"]["basis"]["kept"]
    assert before["pca"]["basis"]["copied"] == 8
    kept = days.place.read(f"runs/{before['run']}/pca/model.npz")
    erase(days, "data/a/0.jpg")
    for manifest in states(days.place).values():
        check_state(days.place, manifest, without(photos, "data/a/0.jpg"))
        basis = manifest["pca"]["basis"]
        assert (basis["kept"], basis["since"]) == (False, manifest["run"])
    collect_garbage(days.lake, 7, days.conn)
    assert kept not in all_bytes(days.place).values()
    assert not any(path.endswith("fit/model.npz") for path in all_bytes(days.place))
    assert days.run(basis="keep") is None
    change(days, {"data/a/40.jpg": image(40)})
    days.run(basis="keep")
    after = states(days.place)[3]["pca"]["basis"]
    assert (after["kept"], after["since"], after["copied"]) == (True, states(days.place)[2]["run"], 8)
