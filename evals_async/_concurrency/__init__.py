"""Bounded concurrency: fan-out, polling, shared reads and the cache. This package does not depend on endpoints."""
