"""socketio.AsyncClient in a process of its own: does what it is told, and reports what it sees."""

import asyncio
import json
import sys

import socketio

from reports import read, report, report_event

sockets = {}


class Reporter(socketio.AsyncClientNamespace):
    def __init__(self, namespace, socket):
        super().__init__(namespace)
        self.socket = socket

    async def trigger_event(self, event, *args):
        return report_event(self.socket, event, args)


async def connect(socket, url, namespace, token, transports):
    client = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.5, randomization_factor=0)
    client.register_namespace(Reporter(namespace, socket))
    sockets[socket] = client, namespace
    try:
        # As some do: on long-polling only the first request brings them.
        headers = {"Authorization": "Bearer " + token, "Origin": url}
        await client.connect(url, auth={"token": token}, headers=headers, transports=transports, wait_timeout=30)
    except socketio.exceptions.ConnectionError:
        pass  # It was reported.


async def emit(socket, event, args):
    client, namespace = sockets[socket]
    await client.emit(event, tuple(read(args)), namespace=namespace)


async def ask(socket, event, args, id):
    client, namespace = sockets[socket]
    answered = lambda *answer: report(socket, "answer", id=id, args=answer)
    await client.emit(event, tuple(read(args)), namespace=namespace, callback=answered)


async def close(socket):
    await sockets[socket][0].disconnect()


COMMANDS = {"connect": connect, "emit": emit, "ask": ask, "close": close}


async def main():
    lines = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tasks = set()
    while line := await lines.readline():
        command = json.loads(line)
        task = asyncio.create_task(COMMANDS[command.pop("do")](**command))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
