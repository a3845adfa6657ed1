"""One wire format per file: read a history, read an answer, write reasoning back. No I/O, no clock."""
