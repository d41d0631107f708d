"""Many things at once, bounded: fan-out, polling, shared reads and the cache. Nothing here knows an endpoint."""
