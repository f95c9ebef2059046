"""Runs commands in forks of one process that has torch already: importing it takes seconds.

``python fork_server.py SOCKET`` serves; ``python fork_server.py SOCKET TOOL WORD…`` has a tool run
there, with the caller's folder, environment, input and outputs, and ends as it does.
"""

import json
import os
import socket
import sys
import traceback
from typing import Any


def serve(address: str) -> None:
    """Answer one call after the other, until the process is ended."""
    import documented
    import matplotlib.figure
    import pandas
    import torch

    import svdbench.running.start
    import svdbench.training.loop

    del matplotlib, pandas, torch, svdbench  # imported for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            call, _ = server.accept()
            with call:
                message, files, _, _ = socket.recv_fds(call, 1 << 20, 3)
                if (child := os.fork()) == 0:
                    server.close()
                    os._exit(run(documented.call, json.loads(message), files))
                for file in files:
                    os.close(file)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                call.send(str(status).encode())


def run(tool: Any, asked: dict[str, Any], files: list[int]) -> int:
    """In a fork: become the caller, and run the tool; its exit code."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    try:
        tool(*asked["words"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def ask(address: str, words: list[str]) -> int:
    """Have the server run a tool; its exit code."""
    asked = {"folder": os.getcwd(), "environment": dict(os.environ), "words": words}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        socket.send_fds(client, [json.dumps(asked).encode()], [0, 1, 2])
        return abs(int(client.recv(16) or b"1"))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    sys.exit(ask(sys.argv[1], sys.argv[2:]))
