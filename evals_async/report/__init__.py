"""HTML pages of runs: as one offline file, or on the local server. Needs the extra `report`."""

from evals_async.report.facts import Bin, CriterionFacts, RunFacts
from evals_async.report.files import write_report


__all__ = ["Bin", "CriterionFacts", "RunFacts", "write_report"]
