"""The archive: a copy of all data on a server of the Evals API, in one SQLite file.

An export can be interrupted and resumed. `verify` proves that the copy is complete. An archive can be read, served,
graded again, converted, and pushed to another server.
"""

from evals_async._store.gaps import Gaps
from evals_async.archive.archive import Archive, gaps_of, is_archive
from evals_async.archive.convert.report import ConversionReport, Remark
from evals_async.archive.export.estimate import Estimate
from evals_async.archive.push import Push
from evals_async.archive.reading import ArchiveSummary, EvalSummary
from evals_async.archive.regrade.agreement import Agreement, ScoreAgreement, SimilarityVariant
from evals_async.archive.regrade.batches import grade_batches
from evals_async.archive.regrade.regrade import RegradeEstimate, RegradeReport
from evals_async.archive.regrade.tasks import RegradeOptions
from evals_async.archive.tables import ArchiveTable
from evals_async.archive.values import ExportProgress, ExportReport, Selection, Unfinished, Waiting, disk_is_full
from evals_async.archive.verify.offline import Finding, VerifyReport


__all__ = [
    "Agreement",
    "Archive",
    "ArchiveSummary",
    "ArchiveTable",
    "ConversionReport",
    "Estimate",
    "EvalSummary",
    "ExportProgress",
    "ExportReport",
    "Finding",
    "Gaps",
    "Push",
    "RegradeEstimate",
    "RegradeOptions",
    "RegradeReport",
    "Remark",
    "ScoreAgreement",
    "Selection",
    "SimilarityVariant",
    "Unfinished",
    "VerifyReport",
    "Waiting",
    "disk_is_full",
    "gaps_of",
    "grade_batches",
    "is_archive",
]
