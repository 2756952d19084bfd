"""The jobs' arguments, and the constants that the jobs share with the DAG. Standard library only.

The Airflow side builds an object and calls ``to_argv()``; the job calls ``from_argv()``. Both use the same class,
so the flags that one writes are always those that the other reads. Defaults, ranges and choices are defined here only.
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
"""Default file name patterns, case-insensitive: a superset of the notebook's ``*.jpg``."""

IGNORE_ORIENTATION = "ignore"
APPLY_ORIENTATION = "apply"

PROJECTED_SCORES = "projected"
CENTRED_SCORES = "centred"
WHITENED_SCORES = "whitened"
SCORE_KINDS = (PROJECTED_SCORES, CENTRED_SCORES, WHITENED_SCORES)

REFIT_BASIS = "refit"
KEEP_BASIS = "keep"

MAX_SAMPLE_IMAGES = 5_000
"""Maximum sample size of the quality certificate: its distance matrix takes 200 MB."""

NONE = "none"
"""None on a command line."""

MODEL_FILE = "model.tflite"
MODEL_RECORD_FILE = "model.json"
MODEL_FOLDER_DIGITS = 16
"""Length of the model folder's name: the first hexadecimal digits of the flatbuffer's SHA-256."""

LISTING_FILE = "listing.parquet"
WORK_FILE = "work.parquet"
GONE_FILE = "gone.parquet"
CHANGES_FILE = "changes.json"
LIVE_SEGMENTS_FILE = "segments.json"
REJECTS_FOLDER = "rejects"
FEATURIZE_SUMMARY_FILE = "featurize.json"
PCA_SUMMARY_FILE = "pca.json"
SCORES_FOLDER = "pca/scores"
PCA_MODEL_FILE = "pca/model.npz"
PCA_FIT_FILE = "pca/fit/model.npz"
SPARK_ML_MODEL_FOLDER = "pca/spark_ml"
CSV_FILE = "pca/pca_features.csv"
INSIGHTS_FILE = "pca/insights/insights.json"
UNLIKE_LABEL_FILE = "pca/insights/unlike_label.csv"
OUTLIERS_FILE = "pca/insights/outliers.csv"
DUPLICATES_FILE = "pca/insights/duplicates.csv"
"""Files and folders of a run, in ``runs/<slug>``."""

PROGRESS_FOLDER = "progress"
PROGRESS_FILE = "progress/{}.json"
"""In a run's folder: how far a job is, by the name of the job. Nothing depends on it."""

PROGRESS_HELP = "publish the job's progress at most once in so many seconds; 0: do not publish it"

SEGMENTS_FOLDER = "segments"
SEGMENT_FILE = "segment.json"
FEATURES_FILE = "features.parquet"
REJECTS_FILE = "rejects.parquet"
MOMENTS_FILE = "moments.npz"
"""The folder of all segments, and the files in the folder of each."""

RESULTS_FILE = "part-{}.parquet"
"""Name of the file in ``results/`` with the rows of a segment, by the segment's id."""

ERASED = "erased"
"""The reason of the rejects that the denylist makes. A person has asked for them, so they count for no limit."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
"""Usual endings of the names of files in the formats that are read (``spark_jobs.images.formats``)."""

ALL_FORMATS = "all"
"""Pattern for all names with one of :data:`IMAGE_ENDINGS`."""


def name_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a file name matches a pattern.

    Parameters
    ----------
    pattern : str
        Glob patterns separated by commas. Case is ignored. :data:`ALL_FORMATS` stands for the usual endings of all
        formats that are read.

    Examples
    --------
    >>> matches = name_matcher("*.jpg, *.jpeg")
    >>> matches("_x.JPG"), matches("x.jpg.txt")
    (True, False)
    >>> name_matcher("all")("x.HEIC")
    True
    """
    globs = [glob.strip().lower() for glob in pattern.split(",") if glob.strip()]
    if ALL_FORMATS in globs:
        globs += [f"*{ending}" for ending in IMAGE_ENDINGS]
    return lambda name: any(fnmatch.fnmatchcase(name.lower(), glob) for glob in globs)


NOT_LOADED_FILE = ".not_loaded.json"
"""In a folder of images: the record of the files that ``make run`` did not load into it."""

LOADED_IMAGES_FILE = ".loaded_images.json"
"""At the lake's root: the ledger of the files that ``make run`` has loaded, by their names in the folder of images."""

_SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),  # Windows
        "lost+found",  # Linux
        *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"),  # Synology, QNAP, NetApp
    }
)
"""Names, in lower case, of the files and folders that operating systems and NAS boxes put beside a person's files."""


def is_hidden(name: str) -> bool:
    """Return whether the name of a file or folder is hidden: it begins with a dot, or is that of a system folder.

    The dot covers ``._x.jpg`` and ``.DS_Store`` of macOS, ``.Trash-1000`` and ``.directory`` of Linux desktops, and
    ``.ipynb_checkpoints`` of Jupyter. A name that begins with an underscore is not hidden.

    Examples
    --------
    >>> is_hidden("._1.jpg"), is_hidden("Thumbs.db"), is_hidden("_1.jpg")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


Check = Callable[[Any], str | None]
"""Returns what is wrong with a value, or None."""


@dataclass(frozen=True)
class Range:
    """A check that a number is finite and lies within limits.

    Parameters
    ----------
    minimum, maximum : float
        The limits.
    exclusive : bool
        Whether the limits themselves are refused.
    """

    minimum: float
    maximum: float = math.inf
    exclusive: bool = False

    def __call__(self, value: float) -> str | None:
        """Return what is wrong with a number, or None."""
        inside = self.minimum < value < self.maximum if self.exclusive else self.minimum <= value <= self.maximum
        return None if inside and value < math.inf else f"must be {self}"

    def __str__(self) -> str:
        low, high, bounded = self.minimum, self.maximum, self.maximum < math.inf
        if self.exclusive:
            return f"greater than {low}" + (f" and less than {high}" if bounded else "")
        return f"between {low} and {high}" if bounded else f"{low} or more"


@dataclass(frozen=True)
class OneOf:
    """A check that a text is one of several choices."""

    choices: tuple[str, ...]

    def __call__(self, value: str) -> str | None:
        """Return what is wrong with a text, or None."""
        return None if value in self.choices else f"must be one of {', '.join(self.choices)}"


POSITIVE = Range(0, exclusive=True)


def _not_empty(value: str) -> str | None:
    return None if value.strip() else "must not be empty"


def _nothing_wrong(value: bool) -> None:
    return None


def is_component_count_open(variance_target: float | None, n_components: int | None) -> bool:
    """Whether nothing determines how many components to keep: at least one of the two must be given."""
    return variance_target is None and n_components is None


def _argument(help_text: str, *, check: Check, default: Any = MISSING) -> Any:
    """Declare a job argument: its help text, its check and its default."""
    metadata = {"help": help_text, "check": check}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


class JobArgs:
    """Conversion between a frozen dataclass and a command line.

    Every field is a flag of the same name, with dashes for underscores. Its type is the field's annotation: str, int,
    float or bool (``true`` or ``false``), each optionally with None, which is ``none`` on the command line. Only
    :meth:`from_argv` checks the values, since on the Airflow side a value may still be a template.
    """

    program: ClassVar[str]

    def to_argv(self) -> list[str]:
        """Return the command line of these arguments, with every flag, in the order of the fields.

        Returns
        -------
        list of str
            ``["--flag=value", …]``: one element per argument, so that a value may begin with a dash.
        """
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return [f"{_flag(name)}={_text(value)}" for name, value in values.items()]

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
        """Return what is wrong with the combination of valid arguments, or None."""
        return None


def _text(value: Any) -> str:
    """Return a value as it is written on a command line."""
    if value is None:
        return NONE
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_bool(text: str) -> bool:
    """Return the value of ``true`` or ``false``, as argparse's ``type``: anything else is a ValueError."""
    if text not in {"true", "false"}:
        raise ValueError
    return text == "true"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add_flag(parser: argparse.ArgumentParser, item: Field[Any]) -> None:
    name, optional, _ = str(item.type).partition(" | None")
    conversions: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": _read_bool}
    options: dict[str, Any] = {"help": item.metadata["help"].replace("%", "%%")}
    if item.default is MISSING:
        options |= {"required": True, "default": argparse.SUPPRESS}  # else the help would show a default of None
    else:
        options["default"] = _text(item.default)
    parser.add_argument(
        _flag(item.name),
        dest=item.name,
        type=_checked(conversions[name], name, item.metadata["check"], optional=bool(optional)),
        metavar=name.upper(),
        **options,
    )


def _checked(convert: Callable[[str], T], name: str, check: Check, *, optional: bool) -> Callable[[str], T | None]:
    def parse(text: str) -> T | None:
        if optional and text == NONE:
            return None
        try:
            value = convert(text)
        except ValueError:
            expected = f"{name}, nor {NONE!r}" if optional else name
            raise argparse.ArgumentTypeError(f"{text!r} is not of type {expected}") from None
        if problem := check(value):
            raise argparse.ArgumentTypeError(f"{text!r} {problem}")
        return value

    return parse


@dataclass(frozen=True)
class FeaturizeArgs(JobArgs):
    """Turn every image under a folder into 1280 MobileNetV2 features, or into a reject with its reason."""

    program: ClassVar[str] = "featurize"

    images: str = _argument("URI of the folder to list recursively (s3://… or file:///…)", check=_not_empty)
    run: str = _argument("URI of the run's folder, runs/<slug>; all output is written there", check=_not_empty)
    model: str = _argument("URI of the model's folder, models/<digest>", check=_not_empty)
    changes: str | None = _argument(
        "URI of the run's changes.json, which names the images to compute and the segments to keep; none: the job "
        "lists the folder of images, and computes all of them",
        default=None,
        check=_not_empty,
    )
    segments: str | None = _argument(
        "URI of the folder of all segments; none: segments/ in the run's folder", default=None, check=_not_empty
    )
    denylist: str | None = _argument(
        "URI of the denylist of erased photos; a file with the bytes of one of them is a reject; none denies no file",
        default=None,
        check=_not_empty,
    )
    small_segments: int = _argument(
        "merge the small segments, those with fewer than half of the rows of a full one, if there are more than this",
        default=32,
        check=Range(1),
    )
    pattern: str = _argument(
        "glob patterns of file names, separated by commas, case-insensitive",
        default=DEFAULT_PATTERN,
        check=_not_empty,
    )
    include_hidden: bool = _argument(
        "true: also list files and folders whose names begin with a dot, and the system folders of macOS, Windows, "
        "Linux and NAS boxes; false: count them only",
        default=False,
        check=_nothing_wrong,
    )
    max_reject_ratio: float = _argument(
        "fail if more than this share of the listed files are rejects", default=0.05, check=Range(0, 1)
    )
    images_per_task: int = _argument(
        "images per full Spark task, about two minutes of work", default=12_000, check=Range(1)
    )
    bytes_per_task: int = _argument(
        "bytes of images per full Spark task; a task is full when its shares of images and bytes add up to one",
        default=4 * 2**30,
        check=Range(1),
    )
    reads_in_flight: int = _argument(
        "maximum number of files that one worker reads ahead of the model", default=32, check=Range(1)
    )
    read_bytes_in_flight: int = _argument(
        "maximum bytes of these files that one worker holds in memory; at least --max-file-bytes",
        default=64 * 2**20,
        check=Range(1),
    )
    exif_orientation: str = _argument(
        f"{IGNORE_ORIENTATION}: use the pixels as stored; {APPLY_ORIENTATION}: rotate them as the EXIF tag says",
        default=IGNORE_ORIENTATION,
        check=OneOf((IGNORE_ORIENTATION, APPLY_ORIENTATION)),
    )
    max_pixels: int = _argument(
        "an image with more pixels (width x height) is rejected without being decoded",
        default=64_000_000,
        check=Range(1),
    )
    max_file_bytes: int = _argument(
        "a file with more bytes is rejected without being read", default=64 * 2**20, check=Range(1)
    )
    decode_memory_mb: int = _argument(
        "limit of the address space for decoding one image, in MiB; above it the file is rejected",
        default=1024,
        check=Range(256),
    )
    decode_seconds: float = _argument(
        "time limit for decoding one image, in seconds; above it the file is rejected", default=60.0, check=POSITIVE
    )
    progress_seconds: float = _argument(PROGRESS_HELP, default=0.0, check=Range(0))

    def problem(self) -> str | None:
        """Return what is wrong with the combination of valid arguments, or None."""
        if self.read_bytes_in_flight < self.max_file_bytes:
            return (
                f"argument --read-bytes-in-flight: {self.read_bytes_in_flight} is less than --max-file-bytes "
                f"({self.max_file_bytes}); expected at least that, since a file is read whole"
            )
        return None


@dataclass(frozen=True)
class PcaArgs(JobArgs):
    """Fit a PCA on a run's features and keep the components that explain enough of the variance."""

    program: ClassVar[str] = "pca"

    run: str = _argument(
        "URI of the run's folder, runs/<slug>, which contains the output of featurize", check=_not_empty
    )
    variance_target: float | None = _argument(
        "keep the fewest components whose cumulative explained variance reaches this; none to keep a fixed number",
        default=0.80,
        check=Range(0, 1, exclusive=True),
    )
    n_components: int | None = _argument(
        "number of components to keep; an upper limit if a variance target is also set", default=None, check=Range(1)
    )
    scores: str = _argument(
        f"kind of scores: {PROJECTED_SCORES} (not centred, as in Spark ML), {CENTRED_SCORES} (mean subtracted, as in "
        f"scikit-learn) or {WHITENED_SCORES} (centred, with unit variance)",
        default=PROJECTED_SCORES,
        check=OneOf(SCORE_KINDS),
    )
    basis: str = _argument(
        f"{REFIT_BASIS}: fit the components on all images of the run; {KEEP_BASIS}: keep the published components and "
        "the scores of unchanged images, until the drift since their fit exceeds the threshold",
        default=REFIT_BASIS,
        check=OneOf((REFIT_BASIS, KEEP_BASIS)),
    )
    previous_model: str | None = _argument(
        "URI of an earlier run's pca/model.npz, to measure the drift of the features since; none for no comparison",
        default=None,
        check=_not_empty,
    )
    drift_threshold: float = _argument(
        "warn if a measure of the drift since the previous model exceeds this; fit kept components again if a measure "
        "of the drift since their fit does",
        default=0.1,
        check=POSITIVE,
    )
    sample_images: int = _argument(
        "number of images in the sample for the quality certificate of the components; 0 for no certificate",
        default=2000,
        check=Range(0, MAX_SAMPLE_IMAGES),
    )
    seed: int = _argument("random seed of that sample", default=0, check=Range(0))
    progress_seconds: float = _argument(PROGRESS_HELP, default=0.0, check=Range(0))

    def problem(self) -> str | None:
        """Return what is wrong with the combination of valid arguments, or None."""
        if is_component_count_open(self.variance_target, self.n_components):
            return "arguments --variance-target and --n-components: both are none; expected one of them or both"
        return None
