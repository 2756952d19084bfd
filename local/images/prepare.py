"""Putting into a lake what a run needs: images and a model. Runs in the environment that the run will have.

``python -m local.images.prepare --lake s3://bucket --images folder``; ``make run`` and ``make up`` start it as a
child, with nothing of AWS in its environment but the local store.
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
from local.images.loading import Destination, ImagesError, holds_other_files, load_images
from local.images.model import choose_model
from local.images.sample import make_sample

SHARED = PROJECT.parent / "shared"


def prepare_lake(
    lake: str, images: Path | None, pattern: str, state: Path, say: Callable[[str], None], *, shared: Path = SHARED
) -> ModelFile:
    """Bring images and a model into a lake; return the model's record.

    Parameters
    ----------
    lake : str
        The lake's root; a bucket is made where it is missing.
    images : Path or None
        Folder of photos. By default those that the lake has, else the shared ones, else a generated sample.
    pattern : str
        File names to take, as the featurize job takes them.
    state : Path
        Folder for exported models and the generated sample.
    say : callable
        Tells a person one line.
    shared : Path
        Folder of shared files beside the project, which need not exist.

    Raises
    ------
    ImagesError
        When the images cannot be brought.
    WeightsError
        When weights that are there cannot be exported.
    """
    destination = image_destination(lake)
    bring_images(images, destination, pattern, state, shared, say)
    return choose_model(lake, state / "models", shared, say)


def image_destination(lake: str) -> Destination:
    """Return the lake's ``data/``."""
    return ImageBucket(lake) if lake.startswith("s3://") else ImageFolder(Path(lake.removeprefix("file://")))


def bring_images(
    images: Path | None, destination: Destination, pattern: str, state: Path, shared: Path, say: Callable[[str], None]
) -> None:
    """Bring the images into the lake: those that were asked for, else the shared photos, else a sample.

    Raises
    ------
    ImagesError
        When they cannot be brought.
    """
    if images is None and holds_other_files(destination):
        say(f"images: as they are in {destination.shown}")
        return
    if images is None:
        images = shared / "fruits" / "Training"
        if not images.is_dir():
            images = state / "sample"
            make_sample(images)
            say("images: no IMAGES given and no ../shared/fruits/Training: a GENERATED SAMPLE is used")
    loaded = load_images(images, destination, pattern)
    say(
        f"images: {loaded.images} from {images} ({loaded.added} new, {loaded.removed} removed"
        + (f", {loaded.kept} changed since and left alone" if loaded.kept else "")
        + ")"
    )


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m local.images.prepare",
        description="Put images and a model into a lake, before its first run.",
        epilog="Address and keys of the store of an s3:// lake are boto3's own: AWS_ENDPOINT_URL_S3, "
        "AWS_ACCESS_KEY_ID and the like. Weights: FRUITS_WEIGHTS, Keras's cache, ../shared/weights, Keras's download, "
        "and random ones with a warning where none of these is to be had.",
    )
    parser.add_argument("--lake", required=True, help="the lake's root, s3://bucket[/folder] or file:///path")
    parser.add_argument(
        "--images",
        type=Path,
        help="folder of photos, <label>/<name>.jpg at any depth; by default those in the lake, else "
        "../shared/fruits/Training when it is there, else a generated sample",
    )
    parser.add_argument("--pattern", default=RunParams.image_pattern, help="file names to take (default: %(default)s)")
    parser.add_argument(
        "--state", type=Path, default=LOCAL, help="folder for exported models and the sample (default: .local)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: lines for a person on standard output; the last one is the error when the exit code is 2."""
    options = read_options(argv)

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    try:
        prepare_lake(options.lake, options.images, options.pattern, options.state.absolute(), say)
    except (ImagesError, WeightsError) as error:
        say(str(error))
        return 2
    except (BotoCoreError, ClientError, OSError) as error:
        say(f"the lake {options.lake} cannot be written: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
