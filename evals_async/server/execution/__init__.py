"""The execution of runs with models: rows, samples, grades and counts."""
