"""The export: a resumable copy of everything that a server holds."""
