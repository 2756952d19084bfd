"""The door between the DAG and the jobs: what one side writes the other reads, and wrong values are named."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.settings.deployment import RunParams
from include.settings.form import run_params
from spark_jobs.args import FeaturizeArgs, JobArgs, PcaArgs, name_matcher

FEATURIZE = ["--images=file:///i", "--run=file:///r", "--model=file:///m"]
PCA = ["--run=file:///r"]
JOBS: list[tuple[type[JobArgs], list[str]]] = [(FeaturizeArgs, FEATURIZE), (PcaArgs, PCA)]


def refused(job: type[JobArgs], argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        job.from_argv(argv)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("job", "argv"), JOBS)
def test_required_arguments_are_enough(job: type[JobArgs], argv: list[str]) -> None:
    parsed = job.from_argv(argv)
    assert job.from_argv(parsed.to_argv()) == parsed


@pytest.mark.parametrize(("job", "argv"), JOBS)
def test_help_explains_every_flag_with_its_default(
    job: type[JobArgs], argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        job.from_argv(["--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for item in fields(job):  # type: ignore[arg-type]
        assert f"--{item.name.replace('_', '-')} " in shown
        assert item.metadata["help"] in shown
        default = "none" if item.default is None else item.default
        assert item.default is MISSING or f"(default: {default})" in shown


@pytest.mark.parametrize(
    ("job", "argv", "told"),
    [
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
    ],
)
def test_wrong_value_is_refused_with_flag_value_and_expectation(
    job: type[JobArgs], argv: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(job, argv, capsys)
    for part in told:
        assert part in message


@pytest.mark.parametrize("target", ["5e-324", "0.9999999999999999"])
def test_bounds_are_those_that_are_told(target: str) -> None:
    assert PcaArgs.from_argv([*PCA, f"--variance-target={target}"]).variance_target == float(target)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], (0.8, None)),
        (["--n-components=60"], (0.8, 60)),
        (["--variance-target=none", "--n-components=60"], (None, 60)),
        (["--variance-target=0.95", "--n-components=none"], (0.95, None)),
    ],
)
def test_none_is_a_value_of_what_may_be_left_out(flags: list[str], expected: tuple[float | None, int | None]) -> None:
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
def test_arguments_of_pca_come_through(**values: Any) -> None:
    arguments = PcaArgs("file:///r", **values)
    assert PcaArgs.from_argv(arguments.to_argv()) == arguments


def test_a_command_line_never_says_python_s_none() -> None:
    flags = PcaArgs("file:///r").to_argv()
    assert "--n-components=none" in flags
    assert "--previous-model=none" in flags
    assert not any("None" in flag for flag in flags)


@given(st.floats(0, 1))
def test_numbers_come_through_to_the_last_bit(ratio: float) -> None:
    arguments = FeaturizeArgs("i", "r", "m", max_reject_ratio=ratio)
    assert FeaturizeArgs.from_argv(arguments.to_argv()).max_reject_ratio == ratio


def test_every_value_that_the_form_allows_is_one_that_the_jobs_take() -> None:
    """Bounds of the form and ranges of the jobs stand in two places: at the bounds they have to agree."""
    bounds: dict[str, list[Any]] = {"variance_target": [1e-9, 1 - 1e-9], "max_reject_ratio": [], "images_per_task": []}
    params = run_params()
    for name in ("max_reject_ratio", "images_per_task"):
        bounds[name] = [params[name].schema["minimum"], params[name].schema["maximum"]]
    for value in bounds["variance_target"]:
        params["variance_target"].resolve(value)
        assert PcaArgs.from_argv(PcaArgs("r", value).to_argv()).variance_target == value
    for name in ("max_reject_ratio", "images_per_task"):
        for value in bounds[name]:
            FeaturizeArgs.from_argv([*FEATURIZE, f"--{name.replace('_', '-')}={value}"])


def test_defaults_of_the_form_are_those_of_the_jobs() -> None:
    params, featurize = RunParams(), FeaturizeArgs("i", "r", "m")
    assert params.image_pattern == featurize.pattern
    assert params.max_reject_ratio == featurize.max_reject_ratio
    assert params.images_per_task == featurize.images_per_task
    assert params.exif_orientation == featurize.exif_orientation
    assert params.variance_target == PcaArgs("r").variance_target


def test_door_needs_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import spark_jobs.args; print('\\n'.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"spark_jobs"}
    assert loaded <= sys.stdlib_module_names


def test_name_matcher_takes_globs_separated_by_commas_in_any_case() -> None:
    matches = name_matcher(" *.jpg,, *.JPEG,[ab]?")
    assert all(matches(name) for name in ["x.jpg", "_x.JPG", ".jpg", "é.Jpeg", "B1"])
    assert not any(matches(name) for name in ["x.jpg.txt", "jpg", "c1", "", "b12"])
    assert name_matcher("*")("anything")
