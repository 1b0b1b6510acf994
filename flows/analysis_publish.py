"""An analysis that publishes its result: a table per group from the CSV files of a dataset, as a dataset of its own.

    python flows/analysis_publish.py ecs://my-bucket/<uuid> --group-by species

It reads the dataset from the bucket, computes count, mean and standard deviation of every numeric column in each group,
and publishes the tables into the same bucket with the provenance: which run, parameters, versions, commit and source.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import dtoolcore
from prefect import flow, task

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.provenance import publish_dataset

Table = dict[tuple[str, str], list[float]]
"""Numbers by group and column."""


@flow(name="analysis")
def analysis(source_uri: str, bucket: EcsBucket, group_by: str = "species") -> str:
    """Summarise the CSV files of a dataset and publish the summaries.

    Args:
        source_uri: The dataset to read.
        bucket: The bucket that it is in, and that the result goes into.
        group_by: Name of the column that tells the groups apart.
    """
    return summarise(source_uri, bucket, group_by)


@task
def summarise(source_uri: str, bucket: EcsBucket, group_by: str) -> str:
    """Publish one table of means for each CSV file that has the column; return the new dataset's URI."""
    with publish_dataset(f"means-by-{group_by}", bucket, tags=["analysis"], derived_from=[source_uri]) as out:
        source = dtoolcore.DataSet.from_uri(source_uri)
        out.readme(f"---\ndescription: Means of {source.name} by {group_by}\nsource: {source.uri}\n")
        for identifier in source.identifiers:
            relpath = source.item_properties(identifier)["relpath"]
            table = read(Path(source.item_content_abspath(identifier)), group_by) if relpath.endswith(".csv") else {}
            if table:
                write(table, out.staging_path(f"means/{relpath}"), group_by)
    return out.uri


def read(path: Path, group_by: str) -> Table:
    """Return the numbers of a CSV file; nothing where it has no such column."""
    numbers: Table = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if group_by not in row:
                return {}
            for column, text in row.items():
                try:
                    number = float(text)
                except (TypeError, ValueError):
                    continue  # a word, or a value that was not measured
                numbers[row[group_by], column].append(number)
    return numbers


def write(table: Table, path: Path, group_by: str) -> None:
    """Write one row for each group and column."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([group_by, "column", "count", "mean", "standard deviation"])
        for (group, column), values in sorted(table.items()):
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            writer.writerow([group, column, len(values), f"{statistics.fmean(values):.3f}", f"{spread:.3f}"])


def main() -> None:
    """Run once, now."""
    parser = argparse.ArgumentParser(description="Publish means of a dataset's CSV files.")
    parser.add_argument("source_uri")
    parser.add_argument("--group-by", default="species")
    parser.add_argument("--block", help="name of a saved EcsBucket block; else as dtool is configured")
    arguments = parser.parse_args()
    bucket_name = urlsplit(arguments.source_uri).netloc
    bucket = EcsBucket.load(arguments.block) if arguments.block else EcsBucket.configured(bucket_name)
    assert isinstance(bucket, EcsBucket)
    print(analysis(arguments.source_uri, bucket, arguments.group_by))


if __name__ == "__main__":
    main()
