"""The journal of a batch: what became of each input, kept where it outlasts the process.

`Journal` is what a batch writes while it runs, one record for each key, and `JournalStore` is where
the records are kept: a class of your own with five methods, `SQLiteJournal` or `MemoryJournal`.
What a journal was told is committed when it returns, so that a process that is killed loses nothing
of it. What a journal says of a key is one set of rules, for every store.

A path stands for `SQLiteJournal`. `Journal.read` looks into such a file, also while a batch writes
it, and exports it as JSON lines.
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
