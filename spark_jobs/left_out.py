"""Files that are not featurized because of their names, counted and described. Standard library only.

Both the job's listing and the loader of ``make run`` count with it, and the report and the summary describe with it.
"""

from __future__ import annotations

import os.path
from collections import Counter

from spark_jobs.args import ALL_FORMATS, IMAGE_ENDINGS
from spark_jobs.records import LeftOut

MAX_EXTENSIONS = 20
MAX_LABELS = 50
MAX_UNREADABLE = 20
"""Number of extensions, labels and paths that a record lists."""

MAX_COUNTED_EXTENSIONS = 10_000
"""Number of different extensions that are counted, since names such as ``photo.0001`` may have a million."""

LABELS_IN_TEXT = 10


class LeftOutCounter:
    """Counts the files of a folder that are left out, and finds the labels that lose all their files."""

    def __init__(self) -> None:
        self.skipped = 0
        self.hidden = 0
        self.unreadable: list[str] = []
        self._readable = 0
        self._extensions: Counter[str] = Counter()
        self._labels_with_images: set[str] = set()
        self._labels_with_skipped: set[str] = set()

    def keep(self, label: str) -> None:
        """Count an image."""
        self._labels_with_images.add(label)

    def skip(self, name: str, label: str, *, at_top: bool) -> None:
        """Count a file whose name does not match the pattern.

        Parameters
        ----------
        name : str
            The file's name.
        label : str
            Name of its folder.
        at_top : bool
            Whether the folder is the folder of images itself. There, only a file with the ending of an image has a
            label: a README is not a lost label.
        """
        self.skipped += 1
        is_readable = name.lower().endswith(IMAGE_ENDINGS)
        self._readable += is_readable
        extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a Path is slow)
        if extension in self._extensions or len(self._extensions) < MAX_COUNTED_EXTENSIONS:
            self._extensions[extension] += 1
        if is_readable or not at_top:
            self._labels_with_skipped.add(label)

    def record(self, folder: str, pattern: str) -> LeftOut:
        """Return the counts as a record.

        Parameters
        ----------
        folder : str
            Where the files are, for messages.
        pattern : str
            The pattern of names that was used.
        """
        lost = sorted(self._labels_with_skipped - self._labels_with_images)
        frequent = sorted(self._extensions.items(), key=lambda item: (-item[1], item[0]))[:MAX_EXTENSIONS]
        return {
            "folder": _printable(folder),
            "pattern": pattern,
            "skipped": self.skipped,
            "skipped_by_extension": [{"extension": _printable(name), "files": count} for name, count in frequent],
            "skipped_in_readable_formats": self._readable,
            "lost_labels": [_printable(label) for label in lost[:MAX_LABELS]],
            "lost_label_count": len(lost),
            "hidden": self.hidden,
            "unreadable": len(self.unreadable),
            "first_unreadable": [_printable(path) for path in self.unreadable[:MAX_UNREADABLE]],
        }


def _printable(text: str) -> str:
    """Return a text that UTF-8 can encode, also if it contains bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def describe(left_out: LeftOut) -> list[str]:
    """Return a line each on the skipped, the hidden and the unreadable files, if there are any."""
    lines = []
    if left_out["skipped"]:
        lines.append(
            f"{_count(left_out['skipped'], 'file')} in {left_out['folder']} left out by name, not matching "
            f"{left_out['pattern']!r}: {describe_extensions(left_out)}"
        )
    if left_out["hidden"]:
        lines.append(
            f"{_count(left_out['hidden'], 'hidden or system file')} in {left_out['folder']} left out "
            "(include_hidden=true includes them)"
        )
    if left_out["unreadable"]:
        lines.append(
            f"{_count(left_out['unreadable'], 'file')} not loaded, because reading failed; the first is "
            f"{_quoted(left_out['first_unreadable'][0])}"
        )
    return lines


def describe_extensions(left_out: LeftOut) -> str:
    """Return the skipped files by extension, the most frequent first."""
    parts = [
        f"{item['files']} {_quoted(item['extension']) or 'without extension'}"
        for item in left_out["skipped_by_extension"]
    ]
    others = left_out["skipped"] - sum(item["files"] for item in left_out["skipped_by_extension"])
    return ", ".join([*parts, *([f"{others} others"] if others else [])])


def warn(left_out: LeftOut) -> list[str]:
    """Return a warning if labels lose all their files, with the parameter that includes them; otherwise nothing."""
    count = left_out["lost_label_count"]
    if not count:
        return []
    shown = [_quoted(label) for label in left_out["lost_labels"][:LABELS_IN_TEXT]]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    lost = f"{_count(count, 'label')} in {left_out['folder']} without any image: {', '.join(shown)}{more}"
    return [f"{lost}. No file name there matches {left_out['pattern']!r}. {advise(left_out)}"]


def advise(left_out: LeftOut) -> str:
    """Return what the user can do to include the skipped files."""
    readable, skipped = left_out["skipped_in_readable_formats"], left_out["skipped"]
    if not readable:
        return "None of the skipped files has the ending of a format that is read"
    return f"image_pattern={ALL_FORMATS} includes {readable} of the {_count(skipped, 'skipped file')}"


def _quoted(text: str) -> str:
    """Return a text for a terminal: as it is, or with escapes if it has control characters."""
    return text if text.isprintable() else repr(text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
