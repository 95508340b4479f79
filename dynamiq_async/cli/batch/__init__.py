"""`batch` and `journal`: one call for each line of a file."""
