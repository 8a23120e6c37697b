"""Jobs on request, each in a process of its own that begins with every library loaded: runs to be killed, cheaply.

usage: job_server.py. A line of standard input is a JSON list: a log file, variables of the environment, arguments of
`thaw`. The answer is the process's id, which is its group's too. The log ends with the exit code. The end of the input
ends the program.
"""

import json
import os
import signal
import sys
import time

from jobs import cli
from jobs.launch import JOBS, job_named

LIMIT_S = 900
"""After which a run is ended by the system: what hangs is a fault."""


def main() -> None:
    for name in JOBS:
        job_named(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    print("ready", flush=True)
    for line in sys.stdin:
        log, environment, *command = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ |= environment
            time.tzset()
            run(log, command)
        print(child, flush=True)


def run(log: str, command: list[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    signal.alarm(LIMIT_S)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    code = 1
    try:
        code = cli.main(command)
    finally:
        os.write(2, f"exit {code}\n".encode())
        os._exit(code)


if __name__ == "__main__":
    main()
