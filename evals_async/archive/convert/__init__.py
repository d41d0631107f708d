"""Conversions of an archive: tables, and what promptfoo reads."""
