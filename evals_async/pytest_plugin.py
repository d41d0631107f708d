"""The pytest fixtures that ship with the package."""
