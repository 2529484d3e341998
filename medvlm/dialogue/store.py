"""Conversations that stay on disk: memory-mapped Arrow through Hugging Face `datasets`, one conversation at a time.

    rows = open_conversations(["data/train.arrow", "more/train.jsonl"])
    rows[12], len(rows), rows.folder(12), rows.characters
    mine = rows.shard(rank, ranks)
    for conversation in rows.stream(seed=0, epoch=1, rank=rank, ranks=ranks): ...

An `.arrow` file opens at once, however many conversations it holds. A `.jsonl` or `.parquet` file is converted once;
the result is kept in `.arrow-cache/` beside it and made anew when the file changes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from medvlm.dialogue.arrow import INDEXED, from_record
from medvlm.dialogue.conversation import Conversation, iterate_conversations, write_conversations
from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import IterableDataset

CACHE = ".arrow-cache"
# Pages of a mapped file that were read (and 64 KiB around them) count as memory of the process until the mapping is
# closed: 1,000 random reads are at most 63 MiB.
REOPEN_AFTER = 1_000
STREAM_SHARDS = 64


class ConversationSet(Sequence[Conversation]):
    """Conversations of one or several files, read from disk when asked for. It can be pickled to other processes."""

    def __init__(self, files: Sequence[Path], folders: Sequence[Path], indices: Sequence[int] | None = None) -> None:
        """
        Args:
            files: Arrow files (see `open_conversations`, which converts others).
            folders: folder that the image paths of each file start from.
            indices: the rows that belong to the set, counted over all files; None for all.
        """
        self.files, self.folders = tuple(files), tuple(folders)
        self._indices = indices
        self._read = 0
        self._tables = [_Mapped(path) for path in self.files]
        self._starts = [0, *accumulate(len(table) for table in self._tables)]

    def __len__(self) -> int:
        return self._starts[-1] if self._indices is None else len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> ConversationSet: ...
    def __getitem__(self, index: int | slice) -> Conversation | ConversationSet:
        if isinstance(index, slice):
            return self._subset(range(len(self))[index])
        return Conversation.from_json(from_record(self._record(index)))

    def _record(self, index: int) -> dict[str, Any]:
        file, row = self._locate(index)
        self._read += 1
        if self._read % REOPEN_AFTER == 0:
            for table in self._tables:
                table.open()
        return self._tables[file].record(row)

    def folder(self, index: int) -> Path:
        """The folder that the image paths of this conversation start from."""
        return self.folders[self._locate(index)[0]]

    def shard(self, rank: int, ranks: int) -> ConversationSet:
        """Every `ranks`-th conversation from `rank` on: the part of one process; together the parts are the whole."""
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} of {ranks}")
        return self[rank::ranks]

    def keep(self, indices: Sequence[int]) -> ConversationSet:
        """The conversations with these numbers, in this order."""
        return self._subset(indices)

    @property
    def characters(self) -> np.ndarray:
        """`[N]` int32: characters of all turns of each conversation, known without reading it."""
        return self._column("characters")

    @property
    def pictures(self) -> np.ndarray:
        """`[N]` int16: pictures of each conversation."""
        return self._column("pictures")

    def labels(self, column: str) -> Iterator[str]:
        """One text column (`id`, `patient`, `split`, `task`) of every conversation."""
        whole = (value for table in self._tables for value in table.column(column).to_pylist())
        if self._indices is None:
            yield from whole
        else:
            values = list(whole)
            yield from (values[index] for index in self._indices)

    def records(self, shards: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
        """The Arrow records of some stretches (first, one after the last)."""
        for start, stop in shards:
            for index in range(start, stop):
                yield self._record(index)

    def stream(
        self, seed: int | None = None, epoch: int = 0, rank: int = 0, ranks: int = 1, buffer: int = 10_000
    ) -> Iterator[Conversation]:
        """The conversations of one process in the order they lie on disk, or shuffled within a buffer.

        Args:
            seed: of the order; None keeps the order of the files.
            epoch: another epoch is another order.
            rank: number of this process.
            ranks: processes that share the set; their streams are disjoint and together complete.
            buffer: conversations that are shuffled at a time; memory is bounded by them.
        """
        for record in self.iterable(seed, epoch, rank, ranks, buffer):
            yield Conversation.from_json(from_record(record))

    def iterable(
        self, seed: int | None = None, epoch: int = 0, rank: int = 0, ranks: int = 1, buffer: int = 10_000
    ) -> IterableDataset:
        """The same as a Hugging Face `IterableDataset` of records, with its `state_dict` for resuming."""
        from datasets import IterableDataset
        from datasets.distributed import split_dataset_by_node

        # As many shards for each process, so that none has to read what belongs to another.
        count = ranks * max(1, min(STREAM_SHARDS, len(self)) // ranks)
        edges = [len(self) * number // count for number in range(count + 1)]
        stream = IterableDataset.from_generator(self.records, gen_kwargs={"shards": list(pairwise(edges))})
        if seed is not None:
            stream = stream.shuffle(seed=seed, buffer_size=buffer)
        if ranks > 1:
            stream = split_dataset_by_node(stream, rank, ranks)
        stream.set_epoch(epoch)
        return stream

    def _subset(self, chosen: Sequence[int]) -> ConversationSet:
        known = self._indices
        return ConversationSet(self.files, self.folders, chosen if known is None else [known[n] for n in chosen])

    def _locate(self, index: int) -> tuple[int, int]:
        """Number of the file, and of the row in it."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"conversation {index} of {size}")
        index = index + size if index < 0 else index
        index = index if self._indices is None else self._indices[index]
        file = bisect_right(self._starts, index) - 1
        return file, index - self._starts[file]

    def _column(self, name: str) -> np.ndarray:
        import numpy as np

        parts = [table.column(name).to_numpy() for table in self._tables]
        whole = np.concatenate(parts)
        return whole if self._indices is None else whole[np.asarray(self._indices, int)]

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "folders": self.folders, "indices": self._indices}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def open_conversations(paths: Path | Sequence[Path]) -> ConversationSet:
    """Open one or several conversation files without reading them into memory.

    Args:
        paths: `.arrow`, `.jsonl` or `.parquet` files.

    Raises:
        MedVLMError: a file is missing or broken.
    """
    files = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    mapped = [path if _indexed(path) else _converted(path) for path in files]
    return ConversationSet(mapped, [path.parent for path in files])


def _indexed(path: Path) -> bool:
    """Whether this is an Arrow file that can be read at any place as it is."""
    if not path.is_file():
        raise MedVLMError(f"{path}: no such file.")
    with path.open("rb") as file:
        return file.read(len(INDEXED)) == INDEXED


def _converted(path: Path) -> Path:
    """The indexed Arrow file of another file: made once, whichever process comes first."""
    from filelock import FileLock

    status = path.stat()
    key = hashlib.sha256(f"1 {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]
    target = path.parent / CACHE / f"{path.name}-{key}.arrow"
    try:
        target.parent.mkdir(exist_ok=True)
        with FileLock(target.parent / f"{path.name}.lock"):
            if not target.is_file():
                write_conversations(target, iterate_conversations(path))
                for stale in target.parent.glob(f"{path.name}-*.arrow"):
                    if stale != target:
                        stale.unlink(missing_ok=True)
    except OSError as error:
        raise MedVLMError(
            f"{target.parent}: cannot be written ({error.strerror}); convert {path.name} elsewhere with "
            "'medvlm data export --format arrow' and train on the result."
        ) from None
    return target


class _Mapped:
    """One Arrow file with an index, memory-mapped: batches are found without reading what lies before them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()
        counts = (self.reader.get_batch(number).num_rows for number in range(self.reader.num_record_batches))
        self.starts = [0, *accumulate(counts)]

    def open(self) -> None:
        import pyarrow as pa

        try:
            self.reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        except FileNotFoundError:
            raise MedVLMError(f"{self.path}: no such file.") from None
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise MedVLMError(f"{self.path}: not an Arrow file of conversations ({reason}).") from None

    def __len__(self) -> int:
        return self.starts[-1]

    def record(self, row: int) -> dict[str, Any]:
        number = bisect_right(self.starts, row) - 1
        batch = self.reader.get_batch(number).slice(row - self.starts[number], 1)
        found: dict[str, Any] = batch.to_pylist()[0]
        return found

    def column(self, name: str) -> pa.ChunkedArray:
        import pyarrow as pa

        numbers = range(self.reader.num_record_batches)
        return pa.chunked_array([self.reader.get_batch(number).column(name) for number in numbers])
