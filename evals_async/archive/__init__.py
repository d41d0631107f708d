"""The archive: a copy of everything that a server of the Evals API holds, in one SQLite file.

It is made resumably, proved complete, and of use afterwards.
"""

from evals_async._store.gaps import Gaps
from evals_async.archive.archive import Archive, gaps_of, is_archive
from evals_async.archive.convert.report import ConversionReport, Remark
from evals_async.archive.export.estimate import Estimate
from evals_async.archive.push import Push
from evals_async.archive.reading import ArchiveSummary, EvalSummary
from evals_async.archive.regrade import RegradeEstimate, RegradeOptions, RegradeReport
from evals_async.archive.regrade_agreement import Agreement, ScoreAgreement, SimilarityVariant
from evals_async.archive.regrade_batches import grade_batches
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
