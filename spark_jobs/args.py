"""The jobs' arguments, and the few constants that the jobs share with the DAG. Standard library only.

This module is the only door between the Airflow side and the jobs: the DAG builds an object and calls ``to_argv()``,
the job calls ``from_argv()``, so that the flags that one writes and the other reads cannot drift apart.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, Self, TypeVar

T = TypeVar("T")

FEATURE_DIMENSIONS = 1280
"""Length of a feature vector: the channels of MobileNetV2 1.0's last layer (Sandler et al. 2018, table 2)."""

DEFAULT_PATTERN = "*.jpg,*.jpeg"
"""File names taken by default, in any case: a superset of the notebook's ``*.jpg``."""

IGNORE_ORIENTATION = "ignore"
APPLY_ORIENTATION = "apply"

PROJECTED_SCORES = "projected"
CENTRED_SCORES = "centred"
WHITENED_SCORES = "whitened"

MAX_SAMPLE_IMAGES = 5_000
"""Largest sample for the certificate of quality: its matrix of distances is 200 MB."""

NONE = "none"
"""What stands for None on a command line."""

MODEL_FILE = "model.tflite"
MODEL_RECORD_FILE = "model.json"
MODEL_FOLDER_DIGITS = 16
"""Hexadecimal digits of the flatbuffer's SHA-256 that name the model's folder."""

LISTING_FILE = "listing.parquet"
FEATURES_FOLDER = "features"
REJECTS_FOLDER = "rejects"
FEATURIZE_SUMMARY_FILE = "featurize.json"
PCA_SUMMARY_FILE = "pca.json"
MOMENTS_FOLDER = "moments"
SCORES_FOLDER = "pca/scores"
PCA_MODEL_FILE = "pca/model.npz"
SPARK_ML_MODEL_FOLDER = "pca/spark_ml"
CSV_FILE = "pca/pca_features.csv"


def name_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a file name matches a pattern.

    Parameters
    ----------
    pattern : str
        Glob patterns separated by commas. Case is ignored.

    Examples
    --------
    >>> matches = name_matcher("*.jpg, *.jpeg")
    >>> matches("_x.JPG"), matches("x.jpg.txt")
    (True, False)
    """
    globs = [glob.strip().lower() for glob in pattern.split(",") if glob.strip()]
    return lambda name: any(fnmatch.fnmatchcase(name.lower(), glob) for glob in globs)


def _argument(help_text: str, *, default: Any = MISSING, check: Callable[[Any], str | None] | None = None) -> Any:
    """Declare a job argument: its help text, its default, and a check that returns what is wrong, or None."""
    metadata = {"help": help_text, "check": check}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def _at_least(minimum: int) -> Callable[[int], str | None]:
    return lambda value: None if value >= minimum else f"must be {minimum} or more"


def _between(minimum: int, maximum: int) -> Callable[[int], str | None]:
    return lambda value: None if minimum <= value <= maximum else f"must be between {minimum} and {maximum}"


def _not_empty(value: str) -> str | None:
    return None if value.strip() else "must not be empty"


def _ratio(value: float) -> str | None:
    return None if math.isfinite(value) and 0 <= value <= 1 else "must be between 0 and 1"


def _positive(value: float) -> str | None:
    return None if math.isfinite(value) and value > 0 else "must be greater than 0"


def _one_of(*choices: str) -> Callable[[str], str | None]:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def _fraction(value: float) -> str | None:
    return None if 0 < value < 1 else "must be greater than 0 and less than 1"


class JobArgs:
    """Conversion between a frozen dataclass and a command line.

    Every field is a flag of the same name, with dashes for underscores. Types are those of the annotations (str, int or
    float, or one of these or None, which is ``none`` on the command line); ranges are checked by :meth:`from_argv`,
    since on the Airflow side a value may still be a template.
    """

    program: ClassVar[str]

    def to_argv(self) -> list[str]:
        """Return the command line of these arguments, every flag spelled out, in the order of the fields.

        Returns
        -------
        list of str
            ``["--flag=value", …]``: one element an argument, so that a value may begin with a dash.
        """
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return [f"{_flag(name)}={NONE if value is None else value}" for name, value in values.items()]

    @classmethod
    def from_argv(cls, argv: Sequence[str] | None = None) -> Self:
        """Parse and check a command line.

        Parameters
        ----------
        argv : sequence of str, optional
            The arguments without the program's name; those of this process by default.

        Raises
        ------
        SystemExit
            With code 2 and a message on standard error that names the flag, the value and what was expected; with code
            0 after ``--help``.
        """
        parser = argparse.ArgumentParser(
            prog=cls.program,
            description=(cls.__doc__ or "").partition("\n\n")[0],
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )
        for item in fields(cls):  # type: ignore[arg-type]
            _add_flag(parser, item)
        args = cls(**vars(parser.parse_args(argv)))
        if problem := args.problem():
            parser.error(problem)
        return args

    def problem(self) -> str | None:
        """Return what is wrong with arguments that are each valid, or None."""
        return None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add_flag(parser: argparse.ArgumentParser, item: Field[Any]) -> None:
    name, optional, _ = str(item.type).partition(" | None")
    convert = {"str": str, "int": int, "float": float}[name]
    options: dict[str, Any] = {"help": item.metadata["help"].replace("%", "%%")}
    if item.default is MISSING:
        options |= {"required": True, "default": argparse.SUPPRESS}  # else the help would show a default of None
    else:
        options["default"] = NONE if item.default is None else item.default
    parser.add_argument(
        _flag(item.name),
        dest=item.name,
        type=_checked(convert, item.metadata["check"], optional=bool(optional)),
        metavar=convert.__name__.upper(),
        **options,
    )


def _checked(
    convert: Callable[[str], T], check: Callable[[Any], str | None] | None, *, optional: bool
) -> Callable[[str], T | None]:
    def parse(text: str) -> T | None:
        if optional and text == NONE:
            return None
        try:
            value = convert(text)
        except ValueError:
            expected = f"{convert.__name__}, nor {NONE!r}" if optional else convert.__name__
            raise argparse.ArgumentTypeError(f"{text!r} is not of type {expected}") from None
        problem = check(value) if check else None
        if problem:
            raise argparse.ArgumentTypeError(f"{text!r} {problem}")
        return value

    return parse


@dataclass(frozen=True)
class FeaturizeArgs(JobArgs):
    """Turn every image under a folder into 1280 MobileNetV2 features, or into a reject with its reason."""

    program: ClassVar[str] = "featurize"

    images: str = _argument("URI of the folder to list recursively (s3://… or file:///…)", check=_not_empty)
    run: str = _argument("URI of the run's folder, runs/<slug>: everything is written under it", check=_not_empty)
    model: str = _argument("URI of the model's folder, models/<digest>", check=_not_empty)
    pattern: str = _argument(
        "glob patterns of file names, separated by commas, matched in any case",
        default=DEFAULT_PATTERN,
        check=_not_empty,
    )
    max_reject_ratio: float = _argument(
        "fail when more than this share of the listed files are rejects", default=0.05, check=_ratio
    )
    images_per_task: int = _argument(
        "images that make a full Spark task, of some two minutes", default=12_000, check=_at_least(1)
    )
    bytes_per_task: int = _argument(
        "bytes of images that make a full Spark task; a task takes a share of each",
        default=4 * 2**30,
        check=_at_least(1),
    )
    reads_in_flight: int = _argument(
        "most files that one worker reads at a time, ahead of the model", default=32, check=_at_least(1)
    )
    read_bytes_in_flight: int = _argument(
        "most bytes that one worker holds of these files; --max-file-bytes or more",
        default=64 * 2**20,
        check=_at_least(1),
    )
    exif_orientation: str = _argument(
        f"{IGNORE_ORIENTATION} takes the pixels as they are stored, {APPLY_ORIENTATION} turns them as EXIF says",
        default=IGNORE_ORIENTATION,
        check=_one_of(IGNORE_ORIENTATION, APPLY_ORIENTATION),
    )
    max_pixels: int = _argument(
        "an image with more pixels (width x height) is a reject, never decoded",
        default=64_000_000,
        check=_at_least(1),
    )
    max_file_bytes: int = _argument(
        "a file with more bytes is a reject, never read", default=64 * 2**20, check=_at_least(1)
    )
    decode_memory_mb: int = _argument(
        "MiB of address space that decoding one image may take, beyond which the file is a reject",
        default=1024,
        check=_at_least(256),
    )
    decode_seconds: float = _argument(
        "seconds that decoding one image may take, beyond which the file is a reject", default=60.0, check=_positive
    )

    def problem(self) -> str | None:
        """Return what is wrong with arguments that are each valid, or None."""
        if self.read_bytes_in_flight < self.max_file_bytes:
            return (
                f"argument --read-bytes-in-flight: {self.read_bytes_in_flight} is less than --max-file-bytes "
                f"({self.max_file_bytes}): a file is read whole, so expected as much or more"
            )
        return None


@dataclass(frozen=True)
class PcaArgs(JobArgs):
    """Fit a PCA on a run's features and keep the components that explain enough of the variance."""

    program: ClassVar[str] = "pca"

    run: str = _argument("URI of the run's folder, runs/<slug>, where featurize has written", check=_not_empty)
    variance_target: float | None = _argument(
        "keep the fewest components whose cumulative explained variance reaches this; none for a fixed number",
        default=0.80,
        check=_fraction,
    )
    n_components: int | None = _argument(
        "keep so many components; with a variance target, at most so many", default=None, check=_at_least(1)
    )
    scores: str = _argument(
        f"what a score is: {PROJECTED_SCORES} (not centred, as Spark ML), {CENTRED_SCORES} (the mean taken off, as "
        f"scikit-learn) or {WHITENED_SCORES} (centred, and of variance 1)",
        default=PROJECTED_SCORES,
        check=_one_of(PROJECTED_SCORES, CENTRED_SCORES, WHITENED_SCORES),
    )
    previous_model: str | None = _argument(
        "URI of an earlier run's pca/model.npz, to tell how the features have changed since; none for no comparison",
        default=None,
        check=_not_empty,
    )
    drift_threshold: float = _argument(
        "warn when a measure of the change since the previous model is more than this", default=0.1, check=_positive
    )
    sample_images: int = _argument(
        "images of the sample on which the quality of the components is measured; 0 for no certificate",
        default=2000,
        check=_between(0, MAX_SAMPLE_IMAGES),
    )
    seed: int = _argument("seed of that sample", default=0, check=_at_least(0))

    def problem(self) -> str | None:
        """Return what is wrong with arguments that are each valid, or None."""
        if self.variance_target is None and self.n_components is None:
            return "arguments --variance-target and --n-components: both are none, expected one of them or both"
        return None
