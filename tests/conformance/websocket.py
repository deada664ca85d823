"""Runs the WebSocket cases of the Autobahn suite against an echo on the edge's own frames and connections.

Usage: websocket.py ECHO [CASE...], where ECHO is the built example `eio-echo` and a CASE is an id or a pattern such as
`9.*`. Every verdict must be the strict one.
"""

import asyncio
import json
import subprocess
import sys

from kosoku import FailureError, run_fuzzingclient

# No extension is offered: these are about compression.
EXCLUDED = ["12.*", "13.*"]

# The largest message of the suite has 16 MiB.
FLAGS = [
    "--log-format=json",
    "--edge-listen=127.0.0.1:0",
    "--edge-ops-listen=127.0.0.1:0",
    "--edge-payload-bytes-max=16777216",
    "--edge-outbox-bytes-max=67108864",
]

AT_ONCE = 4
DEADLINE_S = 300


def address_of(echo):
    """The address for clients, once the log tells it."""
    for line in echo.stderr:
        entry = json.loads(line)
        if entry.get("message") == "listening" and entry.get("listener") == "clients":
            return entry["address"]
    raise SystemExit("the echo ended before it listened")


async def verdicts(address, cases):
    url = f"ws://{address}/echo"
    running = run_fuzzingclient(url, cases or None, EXCLUDED, concurrency=AT_ONCE)
    try:
        return await asyncio.wait_for(running, DEADLINE_S)
    except FailureError as failure:
        return failure.results


def is_strict(result):
    # Where the standard leaves it open, the suite only tells what it saw.
    return {result.behavior.value, result.behavior_close.value} <= {"OK", "INFORMATIONAL"}


def main(binary, cases):
    with subprocess.Popen([binary, *FLAGS], stderr=subprocess.PIPE, text=True) as echo:
        try:
            results = asyncio.run(verdicts(address_of(echo), cases))
        finally:
            echo.terminate()
    lax = [result for result in results if not is_strict(result)]
    for result in lax:
        print(f"{result.case_id}: {result.behavior.value}, {result.behavior_close.value}: {result.result}")
    print(f"# pass {len(results) - len(lax)}")
    print(f"# fail {len(lax)}")
    return 1 if lax or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
