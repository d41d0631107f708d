"""Verification of an archive: against itself, and against the server."""
