"""Grading an archive again, and comparing the grades with those of the service."""
