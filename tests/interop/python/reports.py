"""What the clients here report, and bytes in it: {"$bytes": "<base64>"}, at any depth."""

import base64
import json
import threading

_one_at_a_time = threading.Lock()


def report(socket, saw, **record):
    with _one_at_a_time:
        print(json.dumps({"socket": socket, "saw": saw, **write(record)}), flush=True)


def read(value):
    """What came as JSON, with bytes where they are written."""
    if isinstance(value, list):
        return [read(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["$bytes"]) if "$bytes" in value else {key: read(item) for key, item in value.items()}
    return value


def write(value):
    """What can become JSON."""
    if isinstance(value, (list, tuple)):
        return [write(item) for item in value]
    if isinstance(value, dict):
        return {key: write(item) for key, item in value.items()}
    return {"$bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def report_event(socket, event, args):
    """Reports what a client saw in its namespace. Returns what the server gets where it asks for an answer."""
    match event:
        case "connect":
            report(socket, "connected")
        case "disconnect":
            report(socket, "disconnected")
        case "connect_error":
            # The others are of the network, and say so in a text.
            if args and isinstance(args[0], dict):
                report(socket, "refused", **args[0])
        case "__disconnect_final":
            pass  # The client tells itself.
        case _:
            report(socket, "event", event=event, args=args)
            return "answer", *args
