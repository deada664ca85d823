"""socketio.Client in a process of its own: does what it is told, and reports what it sees."""

import json
import sys
import threading

import socketio

from reports import read, report, report_event

sockets = {}


class Reporter(socketio.ClientNamespace):
    def __init__(self, namespace, socket):
        super().__init__(namespace)
        self.socket = socket

    def trigger_event(self, event, *args):
        return report_event(self.socket, event, args)


def connect(socket, url, namespace, token, transports):
    client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.5, randomization_factor=0)
    client.register_namespace(Reporter(namespace, socket))
    sockets[socket] = client, namespace

    def enter():
        try:
            # As some do: on long-polling only the first request brings them.
            headers = {"Authorization": "Bearer " + token, "Origin": url}
            client.connect(url, auth={"token": token}, headers=headers, transports=transports, wait_timeout=30)
        except socketio.exceptions.ConnectionError:
            pass  # It was reported.

    threading.Thread(target=enter, daemon=True).start()


def emit(socket, event, args):
    client, namespace = sockets[socket]
    client.emit(event, tuple(read(args)), namespace=namespace)


def ask(socket, event, args, id):
    client, namespace = sockets[socket]
    client.emit(event, tuple(read(args)), namespace=namespace, callback=lambda *answer: report(socket, "answer", id=id, args=answer))


def close(socket):
    # It waits for a poll under way.
    threading.Thread(target=sockets[socket][0].disconnect, daemon=True).start()


COMMANDS = {"connect": connect, "emit": emit, "ask": ask, "close": close}

for line in sys.stdin:
    command = json.loads(line)
    COMMANDS[command.pop("do")](**command)
