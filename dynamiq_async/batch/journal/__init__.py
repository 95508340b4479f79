"""The journal of a batch: the outcome of each input, kept where it outlasts the process.

A batch writes a `Journal` while it runs, with one record for each key. A `JournalStore` keeps the
records: `SQLiteJournal`, `MemoryJournal` or a class of your own with five methods. A record is
committed when the journal's method returns, so a killed process loses no record. The rules for
a key's state are the same for every store.

A path stands for `SQLiteJournal`. `Journal.read` reads such a file, even while a batch writes it,
and exports it as JSON lines.
"""

from dynamiq_async.batch.journal.entry import Entry
from dynamiq_async.batch.journal.error_codec import describe
from dynamiq_async.batch.journal.memory import MemoryJournal
from dynamiq_async.batch.journal.reader import JournalReader, JournalReaders, json_line
from dynamiq_async.batch.journal.sqlite import SQLiteJournal
from dynamiq_async.batch.journal.state import Claim
from dynamiq_async.batch.journal.store import Header, JournalStore, Record, RecordState
from dynamiq_async.batch.journal.writer import Journal

__all__ = [
    "Claim",
    "Entry",
    "Header",
    "Journal",
    "JournalReader",
    "JournalReaders",
    "JournalStore",
    "MemoryJournal",
    "Record",
    "RecordState",
    "SQLiteJournal",
    "describe",
    "json_line",
]
