"""One quota for many processes through Redis: `RedisLimiter`, and `RedisCache` for runs that have ended. Needs `redis`.

from evals_async.redis import RedisLimiter

async with RedisLimiter("redis://localhost", name="openai-key-1") as limiter:
    client = EvalsClient(limiter=limiter)
"""

from evals_async.redis._cache import RedisCache
from evals_async.redis._limiter import RedisLimiter


__all__ = ["RedisCache", "RedisLimiter"]
