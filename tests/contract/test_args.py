"""The jobs' arguments: a job reads exactly what the DAG wrote; errors name the flag, the value and the expectation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.args import FeaturizeArgs, JobArgs, PcaArgs, is_hidden, name_matcher

FEATURIZE = ["--images=file:///i", "--run=file:///r", "--model=file:///m"]
PCA = ["--run=file:///r"]
JOBS: list[tuple[type[JobArgs], list[str]]] = [(FeaturizeArgs, FEATURIZE), (PcaArgs, PCA)]


def refused(job: type[JobArgs], argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        job.from_argv(argv)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_required_arguments_are_sufficient() -> None:
    for job, argv in JOBS:
        parsed = job.from_argv(argv)
        assert job.from_argv(parsed.to_argv()) == parsed


def test_help_explains_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    for job, _ in JOBS:
        with pytest.raises(SystemExit) as caught:
            job.from_argv(["--help"])
        assert caught.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        for item in fields(job):  # type: ignore[arg-type]
            assert f"--{item.name.replace('_', '-')} " in shown
            assert item.metadata["help"] in shown
            default = "none" if item.default is None else "false" if item.default is False else item.default
            assert item.default is MISSING or f"(default: {default})" in shown


WRONG: list[tuple[type[JobArgs], list[str], list[str]]] = [
    (FeaturizeArgs, [*FEATURIZE, "--max-reject-ratio=1.01"], ["--max-reject-ratio", "1.01", "between 0 and 1"]),
    (FeaturizeArgs, [*FEATURIZE, "--max-reject-ratio=-0.1"], ["--max-reject-ratio", "-0.1", "between 0 and 1"]),
    (FeaturizeArgs, [*FEATURIZE, "--max-reject-ratio=nan"], ["--max-reject-ratio", "nan", "between 0 and 1"]),
    (FeaturizeArgs, [*FEATURIZE, "--images-per-task=0"], ["--images-per-task", "'0'", "1 or more"]),
    (FeaturizeArgs, [*FEATURIZE, "--images-per-task=1.5"], ["--images-per-task", "1.5", "type int"]),
    (FeaturizeArgs, [*FEATURIZE, "--max-pixels=0"], ["--max-pixels", "1 or more"]),
    (FeaturizeArgs, [*FEATURIZE, "--max-file-bytes=x"], ["--max-file-bytes", "'x'", "type int"]),
    (FeaturizeArgs, [*FEATURIZE, "--exif-orientation=auto"], ["--exif-orientation", "'auto'", "ignore, apply"]),
    (FeaturizeArgs, [*FEATURIZE, "--decode-seconds=0"], ["--decode-seconds", "greater than 0"]),
    (FeaturizeArgs, [*FEATURIZE, "--decode-memory-mb=255"], ["--decode-memory-mb", "256 or more"]),
    (FeaturizeArgs, [*FEATURIZE, "--read-bytes-in-flight=999"], ["--read-bytes-in-flight", "--max-file-bytes"]),
    (FeaturizeArgs, [*FEATURIZE, "--pattern="], ["--pattern", "''", "must not be empty"]),
    (FeaturizeArgs, [*FEATURIZE, "--include-hidden=False"], ["--include-hidden", "'False'", "type bool"]),
    (FeaturizeArgs, [*FEATURIZE, "--include-hidden=1"], ["--include-hidden", "'1'", "type bool"]),
    (FeaturizeArgs, [*FEATURIZE, "--images= "], ["--images", "must not be empty"]),
    (FeaturizeArgs, FEATURIZE[1:], ["--images", "required"]),
    (FeaturizeArgs, [*FEATURIZE, "--variance-target=0.8"], ["--variance-target"]),
    (FeaturizeArgs, [*FEATURIZE, "--max-reject=0.1"], ["--max-reject"]),
    (PcaArgs, [*PCA, "--variance-target=0"], ["--variance-target", "'0'", "greater than 0 and less than 1"]),
    (PcaArgs, [*PCA, "--variance-target=1"], ["--variance-target", "'1'", "greater than 0 and less than 1"]),
    (PcaArgs, [*PCA, "--variance-target=nan"], ["--variance-target", "nan"]),
    (PcaArgs, [*PCA, "--variance-target=80%"], ["--variance-target", "80%", "type float, nor 'none'"]),
    (PcaArgs, [*PCA, "--variance-target=none"], ["--variance-target and --n-components: both are none"]),
    (PcaArgs, [*PCA, "--n-components=0"], ["--n-components", "'0'", "1 or more"]),
    (PcaArgs, [*PCA, "--n-components=2.5"], ["--n-components", "'2.5'", "type int, nor 'none'"]),
    (PcaArgs, [*PCA, "--n-components=None"], ["--n-components", "'None'", "type int, nor 'none'"]),
    (PcaArgs, [*PCA, "--scores=centered"], ["--scores", "'centered'", "projected, centred, whitened"]),
    (PcaArgs, [*PCA, "--scores=none"], ["--scores", "'none'", "projected, centred, whitened"]),
    (PcaArgs, [*PCA, "--previous-model="], ["--previous-model", "''", "must not be empty"]),
    (PcaArgs, [*PCA, "--drift-threshold=0"], ["--drift-threshold", "'0'", "greater than 0"]),
    (PcaArgs, [*PCA, "--drift-threshold=inf"], ["--drift-threshold", "'inf'", "greater than 0"]),
    (PcaArgs, [*PCA, "--drift-threshold=none"], ["--drift-threshold", "'none'", "type float"]),
    (PcaArgs, [*PCA, "--sample-images=-1"], ["--sample-images", "'-1'", "between 0 and 5000"]),
    (PcaArgs, [*PCA, "--sample-images=5001"], ["--sample-images", "'5001'", "between 0 and 5000"]),
    (PcaArgs, [*PCA, "--seed=-1"], ["--seed", "'-1'", "0 or more"]),
    (PcaArgs, [], ["--run", "required"]),
]
"""A job, a wrong command line, and what the message contains."""


def test_error_names_flag_value_and_expectation(capsys: pytest.CaptureFixture[str]) -> None:
    for job, argv, parts in WRONG:
        message = refused(job, argv, capsys)
        assert [part for part in parts if part not in message] == [], message


def test_limits_are_exclusive_where_the_message_says_so() -> None:
    for target in ("5e-324", "0.9999999999999999"):
        assert PcaArgs.from_argv([*PCA, f"--variance-target={target}"]).variance_target == float(target)


def test_none_is_accepted_for_optional_arguments() -> None:
    for flags, expected in (
        ([], (0.8, None)),
        (["--n-components=60"], (0.8, 60)),
        (["--variance-target=none", "--n-components=60"], (None, 60)),
        (["--variance-target=0.95", "--n-components=none"], (0.95, None)),
    ):
        parsed = PcaArgs.from_argv([*PCA, *flags])
        assert (parsed.variance_target, parsed.n_components) == expected


@given(
    variance_target=st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    n_components=st.integers(1),
    scores=st.sampled_from(["projected", "centred", "whitened"]),
    previous_model=st.none() | st.just("s3://lake/runs/-1 %/pca/model.npz"),
    drift_threshold=st.floats(0, exclude_min=True, allow_infinity=False),
    sample_images=st.integers(0, 5000),
)
def test_pca_reads_the_values_that_were_written(**values: Any) -> None:
    arguments = PcaArgs("file:///r", **values)
    assert PcaArgs.from_argv(arguments.to_argv()) == arguments


def test_hidden_files_are_included_by_true_only() -> None:
    assert FeaturizeArgs.from_argv(FEATURIZE).include_hidden is False
    for value in (True, False):
        argv = FeaturizeArgs("i", "r", "m", include_hidden=value).to_argv()
        assert f"--include-hidden={str(value).lower()}" in argv
        assert FeaturizeArgs.from_argv(argv).include_hidden is value


def test_names_of_system_folders_and_dot_names_are_hidden_and_underscores_are_not() -> None:
    hidden = [".x.jpg", "._x.jpg", ".", ".DS_Store", "__MACOSX", "Icon\r", "Thumbs.db", "THUMBS.DB", "desktop.ini"]
    hidden += ["$RECYCLE.BIN", "System Volume Information", ".Trash-1000", ".directory", "lost+found", "@eaDir"]
    hidden += ["#recycle", "#snapshot", ".ipynb_checkpoints"]
    assert [name for name in hidden if not is_hidden(name)] == []
    shown = ["_x.jpg", "_under", "__init__", "MACOSX", "Thumbs", "thumbs.db.jpg", "#1.jpg", "@home", "a.b", "$x", "~"]
    assert [name for name in shown if is_hidden(name)] == []


def test_command_line_contains_none_in_lower_case_only() -> None:
    flags = PcaArgs("file:///r").to_argv()
    assert "--n-components=none" in flags
    assert "--previous-model=none" in flags
    assert not any("None" in flag for flag in flags)


@given(st.floats(0, 1))
def test_floats_are_read_exactly_as_they_were_written(ratio: float) -> None:
    arguments = FeaturizeArgs("i", "r", "m", max_reject_ratio=ratio)
    assert FeaturizeArgs.from_argv(arguments.to_argv()).max_reject_ratio == ratio


@pytest.mark.slow
def test_arguments_need_only_the_standard_library() -> None:
    code = "import sys; before = set(sys.modules); import spark_jobs.args; print('\\n'.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"spark_jobs"}
    assert loaded <= sys.stdlib_module_names


def test_name_matcher_takes_globs_separated_by_commas_in_any_case() -> None:
    matches = name_matcher(" *.jpg,, *.JPEG,[ab]?")
    assert all(matches(name) for name in ["x.jpg", "_x.JPG", ".jpg", "é.Jpeg", "B1"])
    assert not any(matches(name) for name in ["x.jpg.txt", "jpg", "c1", "", "b12"])
    assert name_matcher("*")("anything")
