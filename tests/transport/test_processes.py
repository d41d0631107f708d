"""What only a process of its own can show: imports, memory, fork, signals, and a client that nobody closed."""

import re
import signal
import subprocess
import sys

import pytest
from children import Scripts
from waiting import LONGEST, SLOWER


COMMON = """
    import asyncio, gc, os, sys, warnings
    from evals_async._transport import Pipeline, Request, RetryPolicy, StaticKey, Timeouts, Transport
    from transport.faultserver import FaultServer, answer, endless, message, raw
    from transport.harness import KEY, body_of

    def get(pipeline, name="r"):
        wanted = Request(method="GET", route="/runs/{id}", path=f"/runs/{name}", kind="read")
        return pipeline.send(wanted, body_of, timeouts=Timeouts(), policy=RetryPolicy())
"""

SCRIPTS = Scripts(COMMON)
child, output = SCRIPTS.child, SCRIPTS.output


def test_importing_the_wire_imports_nothing_heavy() -> None:
    """aiohttp comes with the first request, tenacity with the first retry."""
    script = "import sys, evals_async._transport; print({'aiohttp', 'tenacity', 'cattrs', 'yarl'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "set()" == done.stdout.strip()


def test_a_failure_that_is_final_does_not_import_tenacity() -> None:
    """A 404 is no retry."""
    out, _ = output("""
        sys.modules.pop("tenacity", None)
        async def main():
            async with FaultServer(answer(404)) as server:
                pipeline = Pipeline(Transport(server.url), StaticKey(KEY))
                try:
                    await get(pipeline)
                except Exception as error:
                    print(type(error).__name__, "tenacity" in sys.modules)
                await pipeline.close()
        asyncio.run(main())
    """)
    assert "NotFound False" == out


@pytest.mark.measures_time
@pytest.mark.parametrize("kind", ["bomb", "endless", "error bomb"])
def test_no_answer_fills_the_memory_or_stops_the_loop(kind: str) -> None:
    """B15: a gzip bomb of 1 GB, an endless body, a bomb in an error: under 64 MB more, no stall of 100 ms."""
    out, _ = output(f"""
        import resource, zlib
        from large_server import Watchdog
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        bomb = bytes.fromhex("1f8b08000000000000ff") + block * 1024
        kind = {kind!r}
        scene = (
            endless(b"HTTP/1.1 200 OK\\r\\n\\r\\n", b"x" * 65536)
            if kind == "endless"
            else answer(500 if kind == "error bomb" else 200, bomb, ("Content-Encoding", "gzip"))
        )
        async def main():
            async with FaultServer(answer(), scene) as server:
                pipeline = Pipeline(Transport(server.url), StaticKey(KEY))
                await get(pipeline)
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                async with Watchdog() as watchdog:
                    try:
                        await pipeline.send(
                            Request(method="GET", route="/", path="/", kind="read"), body_of,
                            timeouts=Timeouts(), policy=RetryPolicy(attempts=1),
                        )
                    except Exception as error:
                        name = type(error).__name__
                    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
                    await asyncio.sleep(0.01)
                print(name, int(grown), int(watchdog.longest * 1000))
                await pipeline.close()
        asyncio.run(main())
    """)
    name, megabytes, milliseconds = out.split()
    assert ("ServerError" if kind == "error bomb" else "BodyTooLarge") == name
    assert int(megabytes) < 64
    assert int(milliseconds) < SLOWER * 100


def test_a_client_that_nobody_closed_says_so_once() -> None:
    """L07: one ResourceWarning that names our class, and nothing in aiohttp's name."""
    _, err = output(
        """
        async def main():
            async with FaultServer(answer()) as server:
                pipeline = Pipeline(Transport(server.url), StaticKey(KEY))
                await get(pipeline)
                del pipeline
                gc.collect()
                await asyncio.sleep(0.01)
        asyncio.run(main())
        """,
        "-W",
        "always",
    )
    assert 1 == err.count("ResourceWarning: unclosed Transport(base_url='")
    assert 0 == err.lower().count("unclosed client session") + err.lower().count("unclosed connector")


def test_a_second_run_of_a_loop_opens_connections_of_its_own() -> None:
    """L08: two asyncio.run with one client: the second one's call goes out, and nothing complains of the first's."""
    out, err = output("""
        pipeline = Pipeline(Transport("http://localhost:1"), StaticKey(KEY))
        async def start():
            async with FaultServer(answer()) as server:
                pipeline.transport.base_url = server.url
                print((await get(pipeline)).decode())
        async def end():
            await start()
            await pipeline.close()
        asyncio.run(start())
        asyncio.run(start())
        asyncio.run(end())
    """)
    assert ["{}", "{}", "{}"] == out.splitlines()
    assert "unclosed" not in err


def test_a_fork_refuses_the_child_and_leaves_the_parent_alone() -> None:
    """L09: the child is told at once, whatever it then collects; the parent's next 15 answers are its own."""
    out, err = output("""
        async def echo(peer):
            await peer.send(message(200, peer.seen.target.rsplit("/", 1)[1].encode()))
            return True

        def in_the_child(pipeline):
            async def call():
                try:
                    await get(pipeline, "child")
                except Exception as error:
                    return type(error).__name__
            asyncio.events._set_running_loop(None)
            told = asyncio.run(call())
            asyncio.run(pipeline.close())
            return told

        async def main():
            async with FaultServer(echo) as server:
                pipeline = Pipeline(Transport(server.url), StaticKey(KEY))
                await get(pipeline, "before")
                reader, writer = os.pipe()
                child = os.fork()
                if child == 0:
                    told = in_the_child(pipeline)
                    del pipeline
                    gc.collect()
                    os.write(writer, told.encode())
                    os._exit(0)
                os.waitpid(child, 0)
                print(os.read(reader, 99).decode())
                right = [await get(pipeline, f"r{n}") == f"r{n}".encode() for n in range(15)]
                print(right.count(True), server.accepted)
                await pipeline.close()
        asyncio.run(main())
    """)
    assert ["ForkedClient", "15 1"] == out.splitlines(), err


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_call_ends_the_process(how: signal.Signals) -> None:
    """L11: no hang, and no complaint of ours or aiohttp's."""
    process = child("""
        async def main():
            async with FaultServer(raw(b"", then="stall")) as server:
                pipeline = Pipeline(Transport(server.url), StaticKey(KEY))
                calls = [asyncio.create_task(get(pipeline)) for _ in range(5)]
                while len(server.seen) < 5:
                    await asyncio.sleep(0.001)
                print("under way", flush=True)
                try:
                    await asyncio.gather(*calls)
                finally:
                    await pipeline.close()
        asyncio.run(main())
    """)
    assert process.stdout is not None
    assert "under way" == process.stdout.readline().strip()
    process.send_signal(how)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode != 0
    for noise in ("Exception ignored", "never retrieved", "destroyed", "nclosed", " sk-"):
        assert noise not in err, err


def test_the_developers_mode_shows_no_key() -> None:
    """I10: asyncio's debug mode and every logger at DEBUG; the lines name the route, not the path."""
    _, err = output(
        """
        import logging
        logging.basicConfig(level=logging.DEBUG)
        async def main():
            scenes = (answer(503), raw(b"", then="rst"), answer(), answer(401, KEY.encode(), ("X-Request-Id", KEY)))
            async with FaultServer(*scenes) as server:
                pipeline = Pipeline(Transport(server.url), StaticKey(KEY))
                await get(pipeline, "run_of_mine")
                for _ in range(2):
                    try:
                        await get(pipeline, "run_of_mine")
                    except Exception as error:
                        logging.exception("caught", extra={"error": error})
                await pipeline.close()
        asyncio.run(main(), debug=True)
        """,
        "-X",
        "dev",
    )
    lines = [line for line in err.splitlines() if line.startswith(("DEBUG:evals_async:", "INFO:evals_async:"))]
    assert re.search(r"\bsk-", err) is None  # but a task may be called Task-1
    assert 5 + 2 == len(lines)
    assert all("/runs/{id}" in line and "run_of_mine" not in line for line in lines)
    assert "DEBUG:evals_async:GET /runs/{id} answered status=401" in "\n".join(lines)
    assert "request_id=[redacted]" in "\n".join(lines)
