"""Grading: one row by one criterion of an eval, without a server, a client or an archive.

from evals_async.grading import grade

criterion = {"type": "string_check", "name": "same", "operation": "eq",
             "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}
given = await grade(criterion, item={"answer": "4"}, sample={"output_text": "4"})
given.passed
"""

from evals_async.grading.grade import Grade
from evals_async.grading.grading import grade
from evals_async.grading.python import GraderFault, PythonGraders, PythonMode, check_source
from evals_async.grading.samples import sample_namespace
from evals_async.grading.similarity import Unavailable
from evals_async.grading.templates import TemplateError, render, render_messages


__all__ = [
    "Grade",
    "GraderFault",
    "PythonGraders",
    "PythonMode",
    "TemplateError",
    "Unavailable",
    "check_source",
    "grade",
    "render",
    "render_messages",
    "sample_namespace",
]
