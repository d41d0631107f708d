"""Kinds of Redis: with a password, with TLS, in a cluster; and some that are full, read-only, slow, or lose scripts."""

import asyncio
import logging
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from doubles import loop_time
from ports import silent_port
from shared.conftest import LimitedServer, OwnRedis, redis_server, relay
from shared.test_lost_responses import raw, stored
from waiting import LONGEST, SLOWER, until

from evals_async import EvalsClient
from evals_async.redis import RedisCache, RedisLimiter, _connection


PASSWORD = "hunter2-recognisable"


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "evals_async")
    return caplog


@pytest.fixture
def unhurried_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has time to answer, however slow the machine is."""
    monkeypatch.setattr(_connection, "REDIS_TIMEOUT", LONGEST)
    monkeypatch.setattr("evals_async._concurrency.cache.LONGEST", LONGEST)


async def shares(url: str) -> None:
    """Two limiters share what they know through this Redis, and a cache keeps what it is given."""
    name = uuid.uuid4().hex
    async with (
        RedisLimiter(url, name=name, max_in_flight=2) as one,
        RedisLimiter(url, name=name, max_in_flight=2) as two,
    ):
        end = time.monotonic() + LONGEST
        assert [1, 2] == sorted([await one.acquire(end), await two.acquire(end)])
        waiting = asyncio.create_task(one.acquire(end))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        two.release()
        assert 2 == await waiting
        one.release()
        one.release()
    async with RedisCache(url) as cache:
        await cache.put(name, b"value")
        assert b"value" == await cache.get(name)


@pytest.mark.usefixtures("unhurried_redis")
async def test_a_password(tmp_path: Path, warned: pytest.LogCaptureFixture) -> None:
    """With the right one, all is shared. With a wrong one, calls go on without Redis, and nobody is shown it."""
    with redis_server(tmp_path, "--requirepass", PASSWORD) as redis:
        await shares(redis.url.replace("//", f"//:{PASSWORD}@"))
        assert not warned.records
        async with RedisLimiter(redis.url.replace("//", f"//:{PASSWORD}-wrong@"), name="x") as limiter:
            assert 1 == await limiter.acquire(time.monotonic() + LONGEST)
            limiter.release()
    assert ["Redis does not respond (AuthenticationError); this process limits its requests by itself"] == [
        record.getMessage() for record in warned.records
    ]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl on this machine")
    own, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(own)]
    subprocess.run([openssl, *words, *names], check=True, capture_output=True)
    return own, key


@pytest.fixture
def tls_url(tmp_path: Path, certificate: tuple[Path, Path]) -> Generator[str]:
    """A Redis that encrypts."""
    own, key = certificate
    with silent_port() as port:
        options = ["--tls-port", str(port), "--tls-cert-file", str(own), "--tls-key-file", str(key)]
        with redis_server(tmp_path, *options, "--tls-ca-cert-file", str(own), "--tls-auth-clients", "no"):
            yield f"rediss://127.0.0.1:{port}"


@pytest.mark.usefixtures("unhurried_redis")
async def test_tls(tls_url: str, certificate: tuple[Path, Path], warned: pytest.LogCaptureFixture) -> None:
    """A `rediss` URL verifies the certificate. One that is not trusted is as a Redis that does not respond."""
    await shares(f"{tls_url}?ssl_ca_certs={certificate[0]}")
    assert not warned.records
    async with RedisLimiter(tls_url, name="x") as limiter:
        assert 1 == await limiter.acquire(time.monotonic() + LONGEST)
        limiter.release()
    assert 1 == len(warned.records)


@pytest.mark.usefixtures("unhurried_redis")
async def test_the_only_node_of_a_cluster(tmp_path: Path) -> None:
    """Each command names keys of one slot, so a cluster executes it."""
    with (
        silent_port() as port,
        redis_server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(port)) as redis,
    ):
        async with raw(redis.url) as client:
            await client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            async with asyncio.timeout(LONGEST):
                while "ok" != (await client.execute_command("CLUSTER INFO"))["cluster_state"]:
                    await asyncio.sleep(0.01)
        await shares(redis.url)


async def fill(redis: OwnRedis) -> None:
    """No memory is left: Redis refuses each write."""
    async with raw(redis.url) as client:
        await client.config_set("maxmemory", "1")


async def make_replica(redis: OwnRedis) -> None:
    """It is a replica of a Redis that is gone, and refuses each write. What was written before can be read."""
    async with raw(redis.url) as client:
        await client.config_set("replica-serve-stale-data", "yes")
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")


async def forbid_scripts(redis: OwnRedis) -> None:
    """The user may not execute scripts."""
    async with raw(redis.url) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-eval", "-set")


BROKEN = {"full": fill, "replica": make_replica, "forbidden": forbid_scripts}


@asynccontextmanager
async def in_use(url: str, redis_url: str, name: str) -> AsyncGenerator[EvalsClient]:
    async with (
        RedisLimiter(redis_url, name=name) as limiter,
        RedisCache(redis_url) as cache,
        EvalsClient(api_key="sk-x", base_url=url, limiter=limiter, cache=cache, timeout=10) as client,
    ):
        yield client


async def call(client: EvalsClient) -> float:
    """A call, and the seconds that it takes."""
    began = loop_time()
    await client.evals.runs.retrieve(f"evalrun_{uuid.uuid4().hex}", eval_id="eval_1")
    return loop_time() - began


@pytest.mark.virtual_time
@pytest.mark.parametrize("used_before", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("kind", BROKEN)
async def test_a_redis_that_refuses_writes_stalls_nobody(
    kind: str,
    used_before: bool,
    limited: tuple[LimitedServer, str],
    own_redis: OwnRedis,
    warned: pytest.LogCaptureFixture,
) -> None:
    """It is read, or not even that: no call fails or waits for it, and it is said once by the limiter and the cache."""
    _, url = limited
    name = uuid.uuid4().hex
    async with in_use(url, own_redis.url, name) as client:
        if used_before:
            await call(client)
        await BROKEN[kind](own_redis)
        for _ in range(20):
            assert await call(client) < 0.3
            await asyncio.sleep(0.2)
    said = [record.getMessage() for record in warned.records]
    assert 1 == sum("limits its requests by itself" in each for each in said)
    assert 1 == sum("runs are fetched" in each for each in said)


async def test_what_a_process_learns_without_writes_is_kept(own_redis: OwnRedis) -> None:
    """A state that can be read, but not written, is not taken for new each time: the process goes on alone."""
    name = uuid.uuid4().hex
    async with RedisLimiter(own_redis.url, name=name) as limiter:
        for _ in range(2):
            await limiter.acquire(time.monotonic() + LONGEST)
        await fill(own_redis)
        limiter.release()
        await until(lambda: limiter._away)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # Redis is not used
        alone = limiter._control  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its own state
        failures = limiter._failures  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # so far
        while limiter._failures < failures + 2:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # it tries again
            await limiter.acquire(time.monotonic() + LONGEST)
            await asyncio.sleep(0.1)
            limiter.release()
        assert alone is limiter._control  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
        limiter.release()


@pytest.mark.usefixtures("unhurried_redis")
async def test_scripts_are_flushed_in_the_middle(redis_url: str, warned: pytest.LogCaptureFixture) -> None:
    """`SCRIPT FLUSH` changes nothing: each command brings its script."""
    name = uuid.uuid4().hex
    async with RedisLimiter(redis_url, name=name) as limiter, raw(redis_url) as client:
        for _ in range(3):
            assert 1 == await limiter.acquire(time.monotonic() + LONGEST)
            await client.script_flush()
            limiter.release()
        await client.script_flush()
    assert 0 == sum(number for number, *_ in (await stored(redis_url, name)).members.values())
    assert not warned.records


def late_by(redis: OwnRedis, seconds: float) -> AbstractAsyncContextManager[str]:
    """The URL of a way to Redis on which each response is late."""

    async def passes(data: bytes, answer: bytes) -> bool:
        await asyncio.sleep(seconds)
        return True

    return relay(redis.port, passes)


@pytest.mark.virtual_time
async def test_a_redis_that_takes_200_ms_costs_50(
    limited: tuple[LimitedServer, str], own_redis: OwnRedis, warned: pytest.LogCaptureFixture
) -> None:
    """Each response comes, but too late: the process limits itself, and says so once a minute."""
    _, url = limited
    async with late_by(own_redis, 0.2) as redis_url, in_use(url, redis_url, uuid.uuid4().hex) as client:
        began = loop_time()
        while loop_time() - began < 30:
            assert await call(client) < 0.3
            await asyncio.sleep(0.1)
    said = [record.getMessage() for record in warned.records]
    assert 1 == sum("limits its requests by itself" in each for each in said)
    assert 1 == sum("runs are fetched" in each for each in said)


@pytest.mark.measures_time
async def test_a_redis_that_stands_still_for_a_moment(
    limited: tuple[LimitedServer, str], tmp_path: Path, warned: pytest.LogCaptureFixture
) -> None:
    """For half a second Redis does nothing: no call fails or waits for it, and then it is used again."""
    _, url = limited
    name = uuid.uuid4().hex
    with redis_server(tmp_path, "--enable-debug-command", "yes") as redis:
        async with in_use(url, redis.url, name) as client, raw(redis.url) as other:
            await call(client)
            standing = asyncio.create_task(other.execute_command("DEBUG", "SLEEP", "0.5"))
            await asyncio.sleep(0.01)
            took = [await call(client) for _ in range(10)]
            await standing
            assert max(took) < SLOWER * 0.2
            before: Any = await other.hget(f"evals-async:limit:{{{name}}}", "version")
            async with asyncio.timeout(LONGEST):
                while before == await other.hget(f"evals-async:limit:{{{name}}}", "version"):
                    await call(client)
                    await asyncio.sleep(0.1)
    assert len(warned.records) <= 2


MANIFEST = Path(__file__).parents[2] / "docs" / "examples" / "workers" / "kubernetes.yaml"


def manifest() -> list[Any]:
    return list(pytest.importorskip("yaml").safe_load_all(MANIFEST.read_text(encoding="utf-8")))


def test_the_manifest_of_the_guide_is_valid() -> None:
    """By the schemas of Kubernetes, which refuse unknown fields. It was not applied to a cluster."""
    validator: Any = pytest.importorskip("kubernetes_validate")  # its annotations leave types open
    parts = manifest()
    assert ["Deployment", "Service", "Deployment"] == [part["kind"] for part in parts]
    for part in parts:
        validator.validate(part, validator.latest_version(), strict=True)
    with pytest.raises(validator.ValidationError):
        validator.validate({**parts[1], "specs": {}}, validator.latest_version(), strict=True)


@pytest.mark.usefixtures("unhurried_redis")
async def test_the_redis_of_the_manifest(tmp_path: Path) -> None:
    """It starts with these arguments, and all is shared with the URL of the web application."""
    redis_part, service, web = manifest()
    [container] = redis_part["spec"]["template"]["spec"]["containers"]
    [application] = web["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in application["env"]}
    assert {"OPENAI_API_KEY", "REDIS_PASSWORD", "REDIS_URL", "QUOTA"} == set(variables)
    host = service["metadata"]["name"]
    with redis_server(tmp_path, *(each.replace("$(REDIS_PASSWORD)", PASSWORD) for each in container["args"])) as redis:
        url = variables["REDIS_URL"].replace("$(REDIS_PASSWORD)", PASSWORD)
        await shares(url.replace(host, f"127.0.0.1:{redis.port}"))


@pytest.mark.usefixtures("unhurried_redis")
async def test_a_full_redis_with_a_policy_is_used(own_redis: OwnRedis, warned: pytest.LogCaptureFixture) -> None:
    """It drops old runs instead of refusing new ones."""
    async with raw(own_redis.url) as client, RedisCache(own_redis.url) as cache:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.config_set("maxmemory", str(used + 8 * 1024 * 1024))
        for number in range(40):
            await cache.put(str(number), bytes(512 * 1024))
        assert bytes(512 * 1024) == await cache.get("39")
        assert 0 < await client.dbsize() < 40
    assert not warned.records
