"""The journal of a batch: what became of each input, in a file that survives `kill -9`.

`Journal` is what a batch writes while it runs, one row for each key. What it was told is committed
when it returns, so that a process that is killed loses nothing it was told of. `Journal.read` looks
into a journal, also while a batch writes it, and exports it as JSON lines.

The file is an SQLite database. Beside it, the empty file with `-lock` behind its name keeps a
second process from writing; that lock vanishes with the process. A file that is damaged, or is no
journal, is refused and never changed.
"""

from dynamiq_async.batch.journal._failures import describe
from dynamiq_async.batch.journal._reader import Entry, JournalReader, json_line
from dynamiq_async.batch.journal._store import Claim
from dynamiq_async.batch.journal._writer import Journal

__all__ = ["Claim", "Entry", "Journal", "JournalReader", "describe", "json_line"]
