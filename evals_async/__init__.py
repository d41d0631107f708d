"""The asyncio client SDK for the Evals API."""
