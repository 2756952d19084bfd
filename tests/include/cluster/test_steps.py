"""EMR steps: as in the golden files, valid for EMR, and parsed by the jobs exactly as they were written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.cluster.sizing import DRIVER_HEAP_MIB
from include.cluster.steps import MAX_STEP_CHARACTERS, spark_step, step_name
from include.settings.deployment import SettingsError
from spark_jobs.args import MAX_SAMPLE_IMAGES, NONE, FeaturizeArgs, PcaArgs
from tests.include.golden.regenerate import CODE, SLUG, read_golden, steps
from tests.include.service_model import problems_of

texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip),
    st.sampled_from(["--run", "-x", "a=b", "a b", "'", '"', "é à ü", "$HOME", "`id`", "100%", "*.jpg,*.jpeg", "@file"]),
)
featurize_args = st.builds(
    FeaturizeArgs,
    images=texts,
    run=texts,
    model=texts,
    pattern=texts,
    max_reject_ratio=st.floats(0, 1),
    images_per_task=st.integers(1, 10**9),
    bytes_per_task=st.integers(1, 10**15),
    reads_in_flight=st.integers(1, 1000),
    exif_orientation=st.sampled_from(["ignore", "apply"]),
    max_pixels=st.integers(1, 10**12),
    max_file_bytes=st.integers(1, 10**8),
    read_bytes_in_flight=st.integers(10**8, 10**12),
    decode_memory_mb=st.integers(256, 10**6),
    decode_seconds=st.floats(0, 1e6, exclude_min=True),
)
targets = st.floats(0, 1, exclude_min=True, exclude_max=True)
pca_args = st.builds(
    PcaArgs,
    run=texts,
    variance_target=st.none() | targets,
    n_components=st.none() | st.integers(1, 1280),
    scores=st.sampled_from(["projected", "centred", "whitened"]),
    previous_model=st.none() | texts.filter(lambda text: text != NONE),
    drift_threshold=st.floats(0, 1e6, exclude_min=True),
    sample_images=st.integers(0, MAX_SAMPLE_IMAGES),
    seed=st.integers(0, 2**64),
).filter(lambda arguments: arguments.problem() is None)


def command(arguments: FeaturizeArgs | PcaArgs, minutes: int = 180) -> list[str]:
    step = spark_step(arguments, slug=SLUG, code=CODE, time_limit_minutes=minutes)
    args: list[str] = step["HadoopJarStep"]["Args"]
    return args


def test_steps_are_those_of_the_golden_files() -> None:
    for name, built in steps().items():
        assert built == read_golden(name), (
            f"{name}: if the change is intended: python -m tests.include.golden.regenerate, and read the diff"
        )


@given(st.one_of(featurize_args, pca_args))
def test_job_parses_exactly_the_arguments_of_the_step(arguments: FeaturizeArgs | PcaArgs) -> None:
    argv = command(arguments)
    script = argv.index(f"{CODE}/{arguments.program}.py")
    assert type(arguments).from_argv(argv[script + 1 :]) == arguments


@given(st.one_of(featurize_args, pca_args), st.integers(1, 720))
def test_emr_accepts_the_step_with_any_values(arguments: FeaturizeArgs | PcaArgs, minutes: int) -> None:
    step = spark_step(arguments, slug=SLUG, code=CODE, time_limit_minutes=minutes)
    assert problems_of("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": [step]}) == ""
    assert all(isinstance(item, str) for item in step["HadoopJarStep"]["Args"])


def test_step_enforces_its_own_time_limit() -> None:
    assert command(PcaArgs("s3://b/r"), minutes=7)[:4] == ["timeout", "--signal=TERM", "--kill-after=60s", "7m"]
    assert command(PcaArgs("s3://b/r"))[4] == "spark-submit"


def test_driver_has_the_memory_that_the_primary_node_is_checked_for() -> None:
    argv = command(PcaArgs("s3://b/r"))
    assert argv[argv.index("--driver-memory") + 1] == f"{DRIVER_HEAP_MIB}m"


def test_stopping_the_command_stops_the_application() -> None:
    argv = command(PcaArgs("s3://b/r"))
    assert argv[argv.index("--deploy-mode") + 1] == "client"


def test_step_can_be_found_by_its_job_and_slug() -> None:
    for arguments in (FeaturizeArgs("i", "r", "m"), PcaArgs("r")):
        step: dict[str, Any] = spark_step(arguments, slug=SLUG, code=CODE, time_limit_minutes=1)
        assert step["Name"] == step_name(arguments.program, SLUG)
        assert arguments.program in step["Name"]
        assert SLUG in step["Name"]
        assert len(step["Name"]) <= 256


def test_failed_step_leaves_the_cluster_readable() -> None:
    step = spark_step(PcaArgs("r"), slug=SLUG, code=CODE, time_limit_minutes=1)
    assert step["ActionOnFailure"] == "CONTINUE"


def test_a_step_with_more_than_10240_characters_of_arguments_is_refused_before_emr_sees_it() -> None:
    def build(images: str) -> dict[str, Any]:
        arguments = FeaturizeArgs(images=images, run="s3://lake/run", model="s3://lake/model")
        return spark_step(arguments, slug=SLUG, code=CODE, time_limit_minutes=180)

    step = build("")["HadoopJarStep"]
    free = MAX_STEP_CHARACTERS - len(step["Jar"]) - sum(map(len, step["Args"]))
    assert build("x" * free)["HadoopJarStep"]["Args"]
    with pytest.raises(SettingsError, match=r"the step featurize has 10241 characters .* EMR accepts at most 10240"):
        build("x" * (free + 1))
