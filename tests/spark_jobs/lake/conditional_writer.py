"""A writer in a process of its own: it does the writes that it is told to do by lines of JSON."""

from __future__ import annotations

import json
import sys

from spark_jobs.lake import storage


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        written = storage.replace(order["uri"], order["data"].encode(), order["expected"])
        sys.stdout.write(json.dumps(written) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
