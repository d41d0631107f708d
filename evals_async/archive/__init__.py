"""The archive: a copy of everything that a server of the Evals API holds, in one SQLite file.

It is made resumably, proved complete, and of use afterwards.
"""

from evals_async.archive.archive import Archive
from evals_async.archive.values import ExportProgress, ExportReport, Selection, Unfinished


__all__ = ["Archive", "ExportProgress", "ExportReport", "Selection", "Unfinished"]
