"""The command line, `dynamiq-async`. The extra `cli` installs its dependencies.

`program` registers the commands and turns every outcome into an exit code. A command is a function,
in a module with related commands (`calls`, `runs`, `serve`). The commands share code that makes
a client (`options`), reads an input (`inputs`), prints values and errors (`output`, `problems`),
and shows a stream as it arrives (`live`).

Data goes to stdout, everything else to stderr. The access key is never an argument, because other
users can see arguments in the list of processes. Slow modules (the emulator, rich) are imported in
the functions that use them.
"""

FAILED = 1
USAGE = 2
INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended
BROKEN_PIPE = 141  # the same for SIGPIPE
