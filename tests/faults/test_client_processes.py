"""What a whole client shows only in a process of its own: an exit in the middle, a second loop, a signal, memory."""

import re
import signal

import pytest
from children import Scripts
from waiting import LONGEST, SLOWER


LONGEST_STALL = 100  # milliseconds
TRIES = 8  # a busy machine may hold any one of them up
COMMON = """
    import asyncio, gc, json, os, sys, time, warnings
    from doubles import caller_of
    from large_server import Watchdog
    from evals_async import EvalsClient
    from fetch_all import peak
    from transport.faultserver import FaultServer, answer, raw
    from transport.harness import KEY

    RUN = json.dumps({"object": "eval.run", "id": "evalrun_1", "eval_id": "eval_1", "status": "queued"}).encode()

    def get(client):
        return client.evals.runs.retrieve("evalrun_1", eval_id="eval_1")
"""

SCRIPTS = Scripts(COMMON)
child, output = SCRIPTS.child, SCRIPTS.output


def test_a_client_that_nobody_closed() -> None:
    """L07: one ResourceWarning that names the client and says what to do, none of aiohttp's, and no key."""
    _, err = output(
        """
        async def main():
            async with FaultServer(answer(200, RUN)) as server:
                client = EvalsClient(base_url=server.url, api_key=KEY)
                await get(client)
                del client
                gc.collect()
                await asyncio.sleep(0.01)
        asyncio.run(main())
        """,
        "-W",
        "always",
    )
    assert 1 == err.count("ResourceWarning: unclosed EvalsClient(base_url='http://")
    assert 1 == err.count("nclosed")
    assert "use `async with`, or await close()" in err
    assert "aiohttp" not in err
    assert re.search(r"\bsk-", err) is None  # but a task may be called Task-1


def test_a_client_that_was_never_used_needs_no_closing() -> None:
    """L07: it has nothing open."""
    _, err = output("client = EvalsClient(base_url='http://localhost:9', api_key=KEY)\ndel client\n", "-W", "always")
    assert "" == err


def test_two_runs_of_one_client() -> None:
    """L08: the second asyncio.run has connections of its own, and the first one's leave no warning behind."""
    out, err = output("""
        client = EvalsClient(base_url="http://localhost:9", api_key=KEY)
        async def call(close):
            async with FaultServer(answer(200, RUN)) as server:
                caller_of(client).pipeline.transport.base_url = server.url
                print((await get(client)).id)
                if close:
                    await client.close()
        asyncio.run(call(False))
        asyncio.run(call(True))
    """)
    assert ["evalrun_1", "evalrun_1"] == out.splitlines()
    assert "ResourceWarning" not in err


def test_a_forked_child_is_told_and_its_parent_goes_on() -> None:
    """L09: the child of a used client is refused at once; every later answer of the parent is its own."""
    out, err = output("""
        async def echo(peer):
            from transport.faultserver import message
            name = peer.seen.target.rsplit("/", 1)[1]
            await peer.send(message(200, json.dumps({"id": name, "eval_id": "eval_1", "status": "queued"}).encode()))
            return True

        def in_the_child(client):
            asyncio.events._set_running_loop(None)
            try:
                asyncio.run(get(client))
            except Exception as error:
                return type(error).__name__

        async def main():
            async with FaultServer(echo) as server, EvalsClient(base_url=server.url, api_key=KEY) as client:
                await get(client)
                reader, writer = os.pipe()
                process = os.fork()
                if process == 0:
                    os.write(writer, str(in_the_child(client)).encode())
                    os._exit(0)
                os.waitpid(process, 0)
                print(os.read(reader, 99).decode())
                names = [f"evalrun_{number}" for number in range(15)]
                runs = [await client.evals.runs.retrieve(name, eval_id="eval_1") for name in names]
                print(names == [run.id for run in runs], server.accepted)
        asyncio.run(main())
    """)
    assert ["ForkedClient", "True 1"] == out.splitlines(), err


BUSY = """
    async def main():
        stall = raw(b"", then="stall")
        async with FaultServer(stall) as server, EvalsClient(base_url=server.url, api_key=KEY) as client:
            ids = [f"evalrun_{number}" for number in range(100)]
            everything = asyncio.gather(
                client.evals.runs.retrieve_many(ids, eval_id="eval_1"),
                client.evals.runs.list("eval_1").collect(),
                client.evals.runs.wait("evalrun_1", eval_id="eval_1"),
            )
            while len(server.seen) < 33:  # 32 workers, one of which shares with wait(), and the listing
                await asyncio.sleep(0.001)
            print("under way", flush=True)
            await everything
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_fan_out(how: signal.Signals) -> None:
    """L11: the process ends, and says nothing but KeyboardInterrupt."""
    process = child(BUSY, "-W", "always")
    assert process.stdout is not None
    assert "under way" == process.stdout.readline().strip()
    process.send_signal(how)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode != 0
    for noise in ("Exception ignored", "never retrieved", "destroyed", "nclosed", "Warning", " sk-"):
        assert noise not in err, err
    assert err.strip().endswith("KeyboardInterrupt") if how == signal.SIGINT else "" == err


def test_an_exit_in_the_middle() -> None:
    """L11: a main coroutine that returns early takes its tasks along, without noise."""
    _, err = output(
        """
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 3600  # a slow machine is no complaint
            async with FaultServer(raw(b"", then="stall")) as server:
                client = EvalsClient(base_url=server.url, api_key=KEY)
                tasks = [asyncio.create_task(get(client)) for _ in range(5)]
                while not server.seen:
                    await asyncio.sleep(0.001)
                await client.close()
                await asyncio.wait(tasks)
                print({type(task.exception()).__name__ for task in tasks})
        asyncio.run(main())
        """,
        "-X",
        "dev",
    )
    assert "" == err


DEEP = """
    deep = OPENING * 100_000
    whole = b'{"object": "eval.run", "id": "evalrun_1", "eval_id": "eval_1", "status": "queued", "metadata": ' + deep
    async def main():
        async with FaultServer(answer(200, RUN), answer(200, whole)) as server:
            async with EvalsClient(base_url=server.url, api_key=KEY, max_retries=0) as client:
                await get(client)
                async with Watchdog() as watchdog:
                    try:
                        await get(client)
                    except Exception as error:
                        name = type(error).__name__
                    await asyncio.sleep(0.01)
                print(name, int(watchdog.longest * 1000))
    asyncio.run(main())
"""


@pytest.mark.measures_time
@pytest.mark.parametrize("opening", [b'{"a":', b"["])
def test_deep_nesting(opening: bytes) -> None:
    """B13: a document nested 100,000 deep is a DecodeError: no crash, and no 50 ms of silence of the loop."""
    stalls: list[int] = []
    while not stalls or (min(stalls) >= LONGEST_STALL / 2 and len(stalls) < TRIES):
        name, milliseconds = output(DEEP.replace("OPENING", repr(opening)))[0].split()
        assert "DecodeError" == name
        stalls.append(int(milliseconds))
    assert min(stalls) < SLOWER * LONGEST_STALL / 2


def test_deep_nesting_that_is_closed() -> None:
    """B13: the same with all its brackets closed, in an error's body too."""
    out, err = output("""
        deep = b"[" * 100_000 + b"]" * 100_000
        async def main():
            scenes = answer(200, b'{"id": "evalrun_1", "status": "queued", "metadata": %s}' % deep), answer(404, deep)
            async with FaultServer(*scenes) as server:
                async with EvalsClient(base_url=server.url, api_key=KEY, max_retries=0) as client:
                    for _ in range(2):
                        try:
                            await get(client)
                        except Exception as error:
                            print(type(error).__name__)
        asyncio.run(main())
    """)
    assert ["DecodeError", "NotFound"] == out.splitlines(), err


BOMBS = {"object": "evals.runs.retrieve('evalrun_1', eval_id='eval_1')", "page": "evals.runs.list('eval_1', limit=2)"}
BOMB = """
    import zlib
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = bytes.fromhex("1f8b08000000000000ff") + block * 1024
    async def main():
        async with FaultServer(answer(200, RUN), answer(200, bomb, ("Content-Encoding", "gzip"))) as server:
            async with EvalsClient(base_url=server.url, api_key=KEY) as client:
                await get(client)
                before = peak()
                async with Watchdog() as watchdog:
                    try:
                        await client.CALL
                    except Exception as error:
                        name = type(error).__name__
                    await asyncio.sleep(0.01)
                print(name, int(peak() - before), int(watchdog.longest * 1000), len(server.seen))
    asyncio.run(main())
"""


@pytest.mark.measures_time
@pytest.mark.parametrize("call", BOMBS.values(), ids=BOMBS)
def test_a_gzip_bomb(call: str) -> None:
    """B15: 1 GB in 1 MB: BodyTooLarge, under 64 MB more memory, and a loop that stays awake; a listing halves its page
    and then gives up.
    """
    stalls: list[int] = []
    while not stalls or (min(stalls) >= LONGEST_STALL / 2 and len(stalls) < TRIES):
        name, megabytes, milliseconds, requests = output(BOMB.replace("CALL", call))[0].split()
        assert "BodyTooLarge" == name
        assert int(megabytes) < 64
        assert int(requests) == (2 if "retrieve" in call else 3)
        stalls.append(int(milliseconds))
    assert min(stalls) < SLOWER * LONGEST_STALL / 2


def test_the_developers_mode() -> None:
    """I10: asyncio's debug mode, every logger at DEBUG, -X dev: no key, no id, no body; only route templates."""
    _, err = output(
        """
        import logging
        logging.basicConfig(level=logging.DEBUG)
        async def main():
            scenes = (answer(503), raw(b"", then="rst"), answer(200, RUN), answer(401, KEY.encode()))
            async with FaultServer(*scenes) as server, EvalsClient(base_url=server.url, api_key=KEY) as client:
                await get(client)
                try:
                    await get(client)
                except Exception as error:
                    logging.exception("caught", extra={"error": error})
        asyncio.run(main(), debug=True)
        """,
        "-X",
        "dev",
    )
    lines = [line for line in err.splitlines() if line.startswith(("DEBUG:evals_async:", "INFO:evals_async:"))]
    assert len(lines) >= 5
    assert re.search(r"\bsk-", err) is None  # but a task may be called Task-1
    assert not [line for line in lines if "evalrun_1" in line or "eval_1" in line]
