"""The export: a resumable copy of all data on a server."""
