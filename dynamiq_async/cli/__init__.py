"""The command line, `dynamiq-async`: the extra `cli` brings what it needs.

`program` puts the commands together and turns whatever happens into an exit code. A command is
a function, in a module with others of its kind (`calls`, `runs`, `serve`). They share how a client
is made (`options`), how an input is read (`inputs`), how values and errors are printed (`output`,
`problems`), and how a stream is shown as it arrives (`live`).

Data goes to stdout, everything else to stderr. The access key is never an argument, because
arguments show in the list of processes. What is slow to import (the emulator, rich) is imported in
the functions that use it.
"""

FAILED = 1
USAGE = 2
INTERRUPTED = 130  # what a shell reports of a program that SIGINT ended
BROKEN_PIPE = 141  # the same of SIGPIPE
