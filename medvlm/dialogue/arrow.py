"""Conversations as Arrow records: the one schema of the Parquet and Arrow files.

Arrow has one type a column, so `symbols` is a JSON string; everything else is as in the JSON Lines file. Two numbers
stand beside each row, so that batches of similar length can be planned without reading the text: `characters` (of all
turns) and `pictures`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1000
# First bytes of an Arrow file with an index (Arrow columnar format, "IPC file format").
INDEXED = b"ARROW1"


def conversation_schema() -> pa.Schema:
    """The columns of a conversation file."""
    import pyarrow as pa

    part = pa.struct([("type", pa.string()), ("text", pa.string())])
    message = pa.struct([("role", pa.string()), ("content", pa.list_(part)), ("train", pa.bool_())])
    texts = pa.list_(pa.string())
    columns = {name: pa.string() for name in ("id", "patient", "split", "task")}
    columns |= {"messages": pa.list_(message), "images": texts, "findings": texts, "symbols": pa.string()}
    columns |= {"characters": pa.int32(), "pictures": pa.int16()}
    return pa.schema(list(columns.items()))


def to_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `Conversation.to_json` as an Arrow record."""
    texts = (part.get("text") or "" for message in row["messages"] for part in message["content"])
    return {
        **row,
        "symbols": json.dumps(row["symbols"], ensure_ascii=False),
        "characters": sum(map(len, texts)),
        "pictures": len(row["images"]),
    }


def from_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """An Arrow record as a row for `Conversation.from_json`; also reads files whose `symbols` are a struct."""
    symbols = record.get("symbols")
    return {**record, "symbols": json.loads(symbols) if isinstance(symbols, str) else symbols}


def record_batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
    """Rows of `Conversation.to_json` in batches of a thousand, so that any number of them needs little memory."""
    import pyarrow as pa

    schema = conversation_schema()
    waiting = iter(rows)
    while batch := [to_record(row) for row in islice(waiting, BATCH)]:
        yield pa.RecordBatch.from_pylist(batch, schema=schema)


def arrow_batches(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file of either kind: ours have an index; those of `Dataset.save_to_disk` are streams."""
    import pyarrow as pa

    if file.read(len(INDEXED)) == INDEXED:
        reader = pa.ipc.open_file(file)
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        file.seek(0)
        yield from pa.ipc.open_stream(file)
