"""Grading: graders, templates, similarity metrics and the formulas of `multi` graders. Pure functions of JSON."""
