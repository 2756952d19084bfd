"""The ten days of the benchmark of bases, on a few vectors whose axes change places."""

from __future__ import annotations

import numpy as np

from benchmarks import basis
from benchmarks.basis import Day, Photos
from spark_jobs.args import PcaArgs


def test_every_photo_arrives_once_and_half_of_them_on_the_first_day() -> None:
    labels = np.repeat(["a", "b", "c", "d"], 30)
    photos = Photos(np.arange(120, dtype=np.float32)[:, None], -np.arange(120, dtype=np.float32)[:, None], labels)
    for arrive in basis.STORIES.values():
        days = arrive(photos)
        assert len(days) == basis.DAYS
        assert sorted(np.abs(np.concatenate([day.vectors for day in days])).ravel()) == list(range(120))
    assert len(basis.more_of_the_same(photos)[0].labels) == 60
    first, *_, last = basis.new_labels(photos)
    assert len(set(first.labels)) == 3
    assert set(last.labels) <= set(first.labels)
    brighter, darker = basis.darker(photos)[4].vectors, basis.darker(photos)[5].vectors
    assert (brighter >= 0).all()
    assert (darker <= 0).all()


def cloud(widths: tuple[float, float, float], n: int, seed: int) -> Day:
    vectors = np.random.default_rng(seed).normal(size=(n, 3)) * widths
    return Day(vectors.astype(np.float32), np.where(vectors[:, 0] > 0, "right", "left"))


def test_a_classifier_fails_when_the_axes_change_places_and_refuses_another_number_of_components() -> None:
    days = [cloud((4, 3, 0.5), 300, 1), cloud((1, 5, 0.5), 200, 2)]
    fixed = {"variance_target": None, "n_components": 2}
    outcomes = {how: basis.judge(days, basis.live(days, PcaArgs("", basis=how, **fixed))) for how in ("keep", "refit")}
    assert outcomes["keep"]["refits"] == []
    assert outcomes["refit"]["refits"] == [2]
    assert outcomes["keep"]["accuracy"] > 0.9
    assert outcomes["refit"]["accuracy"] < 0.7
    assert outcomes["refit"]["trained_again"] > 0.9
    wider = [days[0], cloud((4, 3, 9), 200, 2)]
    found = basis.judge(wider, basis.live(wider, PcaArgs("", basis="refit", variance_target=0.9)))
    assert (found["accuracy"], found["k"]) == (None, [2, 3])
    row = {"story": "s", "setting": "n", "photos": 200, "refit": found, "keep": outcomes["keep"]}
    assert "| refuses: another k |" in basis.lines({"rows": [row]})[-1]
    assert f"{outcomes['keep']['accuracy']:.1%} |" in basis.lines({"rows": [row]})[-1]


def test_drift_lets_the_benchmark_fit_again() -> None:
    days = [
        cloud((4, 3, 0.5), 300, 1),
        cloud((4, 3, 0.5), 300, 2),
        Day(cloud((1, 1, 1), 900, 3).vectors + 9, np.array([])),
    ]
    assert basis.live(days, PcaArgs("", basis="keep")).refits == (3,)
    assert basis.live(days, PcaArgs("", basis="keep", drift_threshold=99.0)).refits == ()
