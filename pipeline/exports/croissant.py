"""Croissant metadata of the exported tables (MLCommons Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.exports.tables import harmless


def croissant(
    facts: Mapping[str, str], files: Mapping[str, str], columns: pd.DataFrame, warning: str
) -> dict[str, Any]:
    """JSON-LD of two CSV tables, checked by mlcroissant as it is made.

    Args:
        facts: name, description, license, url, version, date_published and cite_as of the data set.
        files: of every table its SHA-256; the file is ``TABLE.csv`` beside the metadata.
        columns: the data dictionary (:func:`pipeline.exports.tables.dictionary`).
        warning: what the data must not be used for.
    """
    import mlcroissant as mlc

    kinds = {"integer": mlc.DataType.INTEGER, "number": mlc.DataType.FLOAT, "text": mlc.DataType.TEXT}
    records = []
    for table in files:
        fields = [
            mlc.Field(
                id=f"{table}/{row.column}",
                name=row.column,
                description=_described(row),
                data_types=[kinds[row.type]],
                source=mlc.Source(file_object=f"{table}.csv", extract=mlc.Extract(column=harmless(row.column))),
            )
            for row in columns[columns["table"] == table].itertuples()
        ]
        records.append(mlc.RecordSet(id=table, name=table, fields=fields))
    objects = [
        mlc.FileObject(id=f"{table}.csv", name=f"{table}.csv", content_url=f"{table}.csv", encoding_formats=["text/csv"],
                       sha256=digest)
        for table, digest in files.items()
    ]  # fmt: skip
    known = {
        **facts,
        "date_published": pd.Timestamp(facts["date_published"]).to_pydatetime(),
        "license": [facts["license"]],
    }
    metadata = mlc.Metadata(
        **known, distribution=objects, record_sets=records, data_limitations=warning, personal_sensitive_information=[
            "None of a real person: every row is drawn from a generator. It was trained on persons, and no differential privacy is claimed."
        ],
    )  # fmt: skip
    return dict(metadata.to_json())


def _described(row: Any) -> str:
    """The dictionary's words for a column: meaning, unit, values."""
    return "; ".join(part for part in (row.meaning, row.unit and f"unit {row.unit}", row.values) if part)
