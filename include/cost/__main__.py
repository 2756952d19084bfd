"""The command ``make prices``: write a new price table from the AWS Price List API.

The API has no exchange rates: pass the European Central Bank's with ``--eur-per-usd``,
or keep that of the present table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from include.cluster.instance_types import instance_types
from include.cost.price_list import API_REGION, INSTANCE_FILTERS, fetch_table
from include.cost.prices import TABLE, read_table


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m include.cost", description=__doc__)
    parser.add_argument("--region", default="eu-west-3")
    parser.add_argument("--output", type=Path, help="file to write; default: the region's table next to the code")
    parser.add_argument("--types", nargs="*", help="instance types; default: all that a cluster may have")
    parser.add_argument("--eur-per-usd", type=float, help="euros per dollar; default: the rate of the present table")
    parser.add_argument("--eur-date", help="the date of that rate, YYYY-MM-DD")
    options = parser.parse_args(argv)
    if (options.eur_per_usd is None) != (options.eur_date is None):
        parser.error("--eur-per-usd and --eur-date belong together: an exchange rate needs its date")
    output = options.output or TABLE.with_name(f"prices-{options.region}.json")

    import boto3

    rate = json.loads(TABLE.read_text(encoding="utf-8"))["eur_per_usd"]
    if options.eur_per_usd is not None:
        rate = {"value": options.eur_per_usd, "date": options.eur_date, "source": "given with --eur-per-usd"}
    names = options.types or sorted(instance_types())
    table = fetch_table(boto3.client("pricing", region_name=API_REGION), options.region, names, rate)
    text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    read_table(text, str(output))
    output.write_text(text, encoding="utf-8")
    missing = [name for name in names if len(table["instances"].get(name, {})) < len(INSTANCE_FILTERS)]
    sys.stdout.write(f"{output}: {len(table['instances'])} instance types, euro rate of {rate['date']}\n")
    if missing:
        sys.stdout.write(f"without a price for EC2 or EMR: {', '.join(missing)}\n")


if __name__ == "__main__":
    main()
