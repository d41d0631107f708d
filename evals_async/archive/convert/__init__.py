"""Convert an archive: tables, promptfoo files, and logs of Inspect AI."""
