"""The proof of an erasure: it finds nothing after one, and every trace that is put back."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from include.erasure import proof
from include.erasure.forget import forget
from include.erasure.request import read_request
from include.records import Receipt
from tests.end_to_end.kills import writer
from tests.include.erasure.days import Days, image, thumbnail
from tests.include.lake.places import Bucket

pytestmark = pytest.mark.slow  # it imports Airflow

ERASED = "data/a b/0.jpg"


@pytest.fixture
def erased(days: Days, monkeypatch: pytest.MonkeyPatch) -> Days:
    """A lake of two days from which a photo was erased."""
    for number in range(6):
        days.place.write(f"data/a b/{number}.jpg", image(number))
    days.run()
    days.place.write("data/c/9.jpg", image(9))
    days.run()
    forget(days.lake, read_request(days.lake, [ERASED], []), 7, days.conn)
    if isinstance(days.place, Bucket):
        monkeypatch.setattr(proof, "file_client", lambda _: days.place.store.s3)  # type: ignore[attr-defined]
    return days


def prove(days: Days, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    (name,) = (name for name in days.place.names() if name.startswith("erasures/2"))
    code = proof.main([f"{days.lake.root}/{name}"])
    return code, capsys.readouterr().out


def test_nothing_is_found_after_an_erasure(erased: Days, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = prove(erased, capsys)
    assert code == 0, text
    assert "no path, no row and no vector was found" in text
    assert ERASED not in text
    rows, vectors = (int(text.split(f" {name}")[0].split()[-1].replace(",", "")) for name in ("rows,", "vectors,"))
    assert rows > 40
    assert vectors > 2 * (5 + 6), "features and scores of both states"


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pd.DataFrame(columns).to_parquet(stream)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


PICTURE = base64.b64encode(thumbnail(image(0))).decode()
VECTOR = writer.features_of(image(0))


def uri(days: Days) -> str:
    return f"{days.lake.root}/{ERASED}"


TRACES: dict[str, tuple[str, Callable[[Days], bytes]]] = {
    "the photo": (ERASED, lambda _: b"other bytes"),
    "a row": ("runs/x/listing.parquet", lambda days: parquet(path=[uri(days), "z"])),
    "a row without scheme": ("runs/x/any.parquet", lambda _: parquet(detail=[f"in {ERASED}: bad"])),
    "a vector": ("segments/x/features.parquet", lambda _: parquet(path=["z"], features=[VECTOR])),
    "a mean of one": ("segments/x/moments.npz", lambda _: npz(mean=VECTOR.astype(np.float64))),
    "a text in JSON": ("runs/x/report.json", lambda days: json.dumps({"first": [{"path": uri(days)}]}).encode()),
    "a key in JSON": ("manifests/x.json", lambda days: json.dumps({uri(days): 1}).encode()),
    "a page": ("runs/x/report.html", lambda days: f"<td>{uri(days)}: truncated (x)</td>".encode()),
    "an escaped page": ("runs/x/page.html", lambda _: b'<img src="data/a%20b/0.jpg">'),
    "the ledger of loaded images": (".loaded_images.json", lambda _: b'{"a b/0.jpg": [[1]], "a b/1.jpg": [[1]]}'),
    "a thumbnail": ("runs/x/insights.json", lambda _: json.dumps({"any": [PICTURE]}).encode()),
    "a thumbnail in a page": ("runs/y/report.html", lambda _: f'<script>[["x", "{PICTURE}"]]</script>'.encode()),
    "a short path in a page": ("runs/z/report.html", lambda _: b'<script>[["a b/0.jpg", 0]]</script>'),
    "a row of a list": ("runs/x/outliers.csv", lambda days: f"path,label\n{uri(days)},x\n".encode()),
    "text of any kind": ("exports/list.txt", lambda _: f"see {ERASED}\n".encode()),
}


def test_every_trace_is_found(erased: Days, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in TRACES.values():
        erased.place.write(name, content(erased))
    code, text = prove(erased, capsys)
    assert code == 1
    for trace, (name, _) in TRACES.items():
        assert f"FOUND {name}" in text, trace


def test_scores_in_a_csv_are_found(days: Days, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        days.place.write(f"data/a/{number}.jpg", image(number))
    before = days.place.read(days.run()["csv"])
    forget(days.lake, read_request(days.lake, ["data/a/0.jpg"], []), 7, days.conn)
    assert prove(days, capsys)[0] == 0
    days.place.write("results_csv/old.csv", before)
    code, text = prove(days, capsys)
    assert code == 1
    assert "FOUND results_csv/old.csv: a vector" in text


@pytest.mark.parametrize("place", ["bucket"], indirect=True)
def test_old_versions_and_markers_are_searched(erased: Days, capsys: pytest.CaptureFixture[str]) -> None:
    place = erased.place
    assert prove(erased, capsys)[0] == 0
    place.write("runs/x/report.json", json.dumps([uri(erased)]).encode())
    place.write("runs/x/report.json", b"[]")
    code, text = prove(erased, capsys)
    assert code == 1
    assert "FOUND runs/x/report.json (old version " in text
    place.write("runs/y/report.json", json.dumps([uri(erased)]).encode())
    place.delete("runs/y/report.json")
    place.delete(ERASED)  # leaves a marker with the name
    code, text = prove(erased, capsys)
    assert text.count("FOUND") == 3


def test_labels_are_found_and_logs_are_declared(days: Days, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        days.place.write(f"data/{'ab'[number % 2]}/{number}.jpg", image(number))
    days.run()
    forget(days.lake, read_request(days.lake, [], ["b"]), 7, days.conn)
    days.place.write("logs/j-1/steps/s-1/stderr.gz", gzip.compress(f"bad: {days.lake.root}/data/b/1.jpg, why".encode()))
    code, text = prove(days, capsys)
    assert code == 0
    assert "remains, as declared: logs/j-1/steps/s-1/stderr.gz" in text
    days.place.write("runs/x/report.json", b'{"by_label": [{"label": "b"}], "other": "b"}')
    days.place.write("runs/x/list.parquet", parquet(label=["b", "c"]))
    days.place.write("data/b/7.jpg", b"another photo with the label")
    days.place.write("runs/x/unlike_label.csv", b"path,label,looks_like,votes\nx,a,b,3\n")
    days.place.write("runs/y/insights.json", b'{"groups": [{"labels": ["a", "b"]}]}')
    code, text = prove(days, capsys)
    assert code == 1
    assert text.count("FOUND") == 5


def test_another_photo_with_the_same_bytes_is_named_and_is_no_failure(
    days: Days, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        days.place.write(f"data/a/{number}.jpg", image(number))
    days.place.write("data/b/copy.jpg", image(0))
    days.run()
    forget(days.lake, read_request(days.lake, ["data/a/0.jpg"], []), 7, days.conn)
    code, text = prove(days, capsys)
    assert code == 0, text
    assert "another photo with the same bytes" in text
    assert "data/b/copy.jpg" in text
    days.place.write("data/b/copy.jpg", b"now it has other bytes")
    assert prove(days, capsys)[0] == 1, "it is no copy, so the vector must be of the erased photo"


def test_it_is_a_program_of_its_own(erased: Days) -> None:
    """It shares no code with the erasure but the access to the store and the keyed hash."""
    (name,) = (name for name in erased.place.names() if name.startswith("erasures/2"))
    code = """if True:
        import sys
        from include.erasure.proof import main
        code = main(sys.argv[1:])
        print(*sorted(name for name in sys.modules if name.startswith(("include", "spark_jobs"))), file=sys.stderr)
        sys.exit(code)
    """
    command = [sys.executable, "-c", code, f"{erased.lake.root}/{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no path, no row and no vector was found")
    assert set(done.stderr.split()) == {
        *("include", "include.erasure", "include.erasure.proof"),
        *("include.lake", "include.lake.buckets", "include.records"),
        *("spark_jobs", "spark_jobs.keyed_hash", "spark_jobs.records"),
        *("spark_jobs.lake", "spark_jobs.lake.object_store"),  # which include.lake.buckets needs
    }


def test_a_receipt_that_cannot_be_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert proof.main([str(tmp_path / "receipt.json")]) == 2
    assert "expected <lake>/erasures/<id>.json" in capsys.readouterr().err
    assert proof.main([str(tmp_path / "erasures" / "x.json")]) == 2
    assert "cannot be read: FileNotFoundError" in capsys.readouterr().err


def test_kept_photos_are_no_trace_but_their_rows_are(days: Days, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        days.place.write(f"data/a/{number}.jpg", image(number))
    days.run()
    receipt: Receipt = forget(days.lake, read_request(days.lake, ["data/a/0.jpg"], [], keeps_photos=True), 7, days.conn)
    assert prove(days, capsys)[0] == 0
    days.run()
    code, text = prove(days, capsys)
    assert code == 0, f"listed, and a reject: {text}"
    days.place.write("segments/x/features.parquet", parquet(path=["z"], features=[writer.features_of(image(0))]))
    assert prove(days, capsys)[0] == 1
    assert receipt["keeps_photos"]
