"""Prepare a lake for a run: load images and publish a model.

``python -m local.images.prepare --lake s3://bucket --images folder``. ``make run`` and ``make up`` start it as a child
process in the environment of the run, which contains no AWS settings except those of the local store.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from include.artifacts.weights import WeightsError
from include.records import ModelFile
from include.settings.parameters import RunParams
from local.environment import LOCAL, PROJECT
from local.images.bucket import ImageBucket
from local.images.folder import ImageFolder
from local.images.loading import (
    Destination,
    ImagesError,
    forget_removed_images,
    has_unloaded_files,
    load_images,
)
from local.images.model import choose_model
from local.images.sample import make_sample
from spark_jobs.left_out import describe, warn

SHARED = PROJECT.parent / "shared"


def prepare_lake(
    lake: str,
    images: Path | None,
    pattern: str,
    state: Path,
    report: Callable[[str], None],
    *,
    include_hidden: bool = False,
    shared: Path = SHARED,
) -> ModelFile:
    """Load images into a lake and publish a model; return the model's record.

    Parameters
    ----------
    lake : str
        The lake's root; a missing bucket is created.
    images : Path or None
        Folder of photos; by default the photos in the lake, else the shared ones, else a generated sample.
    pattern : str
        Pattern of file names, as in the featurize job.
    state : Path
        Folder for exported models and the generated sample.
    report : callable
        Prints one line for the user.
    include_hidden : bool
        Whether hidden files are loaded too, as in the featurize job.
    shared : Path
        Folder of shared files next to the project; it may be missing.

    Raises
    ------
    ImagesError
        If the images cannot be loaded.
    WeightsError
        If existing weights cannot be exported.
    """
    in_bucket = lake.startswith("s3://")
    destination = ImageBucket(lake) if in_bucket else ImageFolder(Path(lake.removeprefix("file://")))
    folder = _choose_images(images, destination, state, shared, report)
    if folder:
        _load(folder, destination, pattern, include_hidden, report)
    return choose_model(lake, state / "models", shared, report)


def _choose_images(
    images: Path | None, destination: Destination, state: Path, shared: Path, report: Callable[[str], None]
) -> Path | None:
    """Return the folder to load, None to use the images in the lake."""
    if images is not None:
        return images
    if has_unloaded_files(destination):
        forget_removed_images(destination)
        report(f"images: as they are in {destination.location}")
        return None
    images = shared / "fruits" / "Training"
    if not images.is_dir():
        images = state / "sample"
        make_sample(images)
        report("images: IMAGES is not set and ../shared/fruits/Training is missing: using a GENERATED SAMPLE")
    return images


def _load(
    images: Path, destination: Destination, pattern: str, include_hidden: bool, report: Callable[[str], None]
) -> None:
    result = load_images(images, destination, pattern, include_hidden=include_hidden)
    report(
        f"images: {result.images} from {images} ({result.added} new, {result.removed} removed"
        + (f", {result.kept} changed since and not deleted" if result.kept else "")
        + ")"
    )
    if result.left_out:
        for line in describe(result.left_out):
            report(f"not loaded: {line}")
        for warning in warn(result.left_out):
            report(f"WARNING: {warning}")


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m local.images.prepare",
        description="Prepare a lake for a run: load images and publish a model.",
        epilog="For an s3:// lake, boto3 reads the store's address and keys from AWS_ENDPOINT_URL_S3, "
        "AWS_ACCESS_KEY_ID and similar variables. Weights come from FRUITS_WEIGHTS, Keras's cache, "
        "../shared/weights, or Keras's download, in this order. Without any of them, random weights are used, with a "
        "warning.",
    )
    parser.add_argument("--lake", required=True, help="the lake's root, s3://bucket[/folder] or file:///path")
    parser.add_argument(
        "--images",
        type=Path,
        help="folder of photos, <label>/<name>.jpg at any depth; by default the photos in the lake, else "
        "../shared/fruits/Training if it exists, else a generated sample",
    )
    parser.add_argument(
        "--pattern", default=RunParams.image_pattern, help="pattern of file names (default: %(default)s)"
    )
    parser.add_argument(
        "--include-hidden", action="store_true", help="also load hidden files and the files of system folders"
    )
    parser.add_argument(
        "--state", type=Path, default=LOCAL, help="folder for exported models and the sample (default: .local)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. It prints lines for the user; if the exit code is 2, the last line is the error."""
    options = read_options(argv)

    def report(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    try:
        prepare_lake(
            options.lake,
            options.images,
            options.pattern,
            options.state.absolute(),
            report,
            include_hidden=options.include_hidden,
        )
    except (ImagesError, WeightsError) as error:
        report(str(error))
        return 2
    except (BotoCoreError, ClientError, OSError) as error:
        report(f"the lake {options.lake} cannot be written: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
