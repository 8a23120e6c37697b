"""Where the processes of one training meet, and how each notices that another is lost. [sockets]

Process 0 listens, the others connect and say who they are; all stay connected until process 0 says that all is done.
A connection that ends before that is a lost process: the system closes those of a process that is killed, and keepalive
those of a host that is gone, within LOST_AFTER_S. Whoever waits for a lost process's numbers waits in the backend's own
code, which Python cannot interrupt, so a watching thread says what happened and ends the process.
Messages are lines of JSON, of a trusted network, as are the backends' own.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipelines.errors import ConfigError, LostError, ThawError

LOST_AFTER_S = 30
"""Until a host that says nothing any more counts as gone."""
GRACE_S = 10
"""For a process that fails by itself, to say why with its own message."""
LOSS_S = 2
"""For the loss of another process to be noticed where the backend has failed because of it."""
ANSWER_S = 5
"""For one that has connected, to say who it is."""
MOST_BYTES = 1 << 20
POLL_S = 0.5


@dataclass(frozen=True)
class Place:
    """One process of several."""

    host: str
    """Where process 0 listens."""
    port: int
    processes: int
    index: int
    wait_s: float
    """How long the processes have to come together."""


class Meeting:
    """The connections of a process: process 0's to all others, another's to process 0."""

    def __init__(
        self, place: Place, peers: dict[int, "Peer"], told: Mapping[str, Any], last_words: Callable[[int], str]
    ) -> None:
        self.place, self.peers, self.last_words = place, peers, last_words
        self.told = told
        """What process 0 told all: `addresses`, of each process HOST:PORT for the backend, and the training's `key`."""
        self._over = threading.Event()
        for index, peer in peers.items():
            threading.Thread(target=self._watch, args=(index, peer), daemon=True, name=f"watch-{index}").start()

    def end(self) -> None:
        """All is done. Process 0 says so, the others wait until it does."""
        if self.place.index:
            self._over.wait()
        else:
            self._over.set()
            for peer in self.peers.values():
                peer.say({"done": True})

    def fail(self, error: BaseException) -> None:
        """Tell the others why this process ends; process 0 ends with the same message then."""
        if isinstance(error, Exception) and not isinstance(error, ThawError):
            # A backend's error may say no more than that another process is gone: who, the watch tells, and ends this.
            self._over.wait(LOSS_S)
        self._over.set()
        known = isinstance(error, ThawError)
        text = str(error) if known else f"process {self.place.index} failed: {error or type(error).__name__}"
        for peer in self.peers.values():
            peer.say({"failed": text, "code": error.exit_code if isinstance(error, ThawError) else 1})

    def _watch(self, index: int, peer: "Peer") -> None:
        message = peer.hear(None)
        if self._over.is_set() or message.get("done"):
            self._over.set()
            return
        if "failed" in message:
            # What went wrong there goes wrong in process 0 too, as a rule, and is told better there.
            if not self.place.index and self._over.wait(GRACE_S):
                return
            _leave(str(message["failed"]), int(message.get("code", 1)))
        time.sleep(0.2)  # until the system knows its exit code
        said = self.last_words(index)
        _leave(
            f"process {index} of {self.place.processes} ({peer.name}) is lost; nothing half-done was published, the "
            f"same command resumes{'; ' + said if said else ''}",
            1,
        )


class Peer:
    """A connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = b""
        self.name = str(connection.getpeername()[0])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in (("TCP_KEEPIDLE", LOST_AFTER_S // 3), ("TCP_KEEPINTVL", LOST_AFTER_S // 6)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
        if hasattr(socket, "TCP_KEEPCNT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    def say(self, message: Mapping[str, Any]) -> None:
        """Send, if there is somebody."""
        with suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, wait_s: float | None) -> dict[str, Any]:
        """The next message; empty where the connection ends, or `wait_s` seconds pass, or it is none of ours."""
        with suppress(OSError, ValueError):
            self.connection.settimeout(wait_s)
            while b"\n" not in self.buffer:
                more = self.connection.recv(1 << 16)
                if not more or len(self.buffer) > MOST_BYTES:
                    return {}
                self.buffer += more
            line, self.buffer = self.buffer.split(b"\n", 1)
            message = json.loads(line)
            return message if isinstance(message, dict) else {}
        return {}


def listen(place: Place) -> socket.socket:
    """Process 0's ear. Raises ConfigError where the address is not this machine's, or taken; LostError where its name
    stays unknown.
    """
    until = time.monotonic() + place.wait_s
    while True:
        try:
            return socket.create_server((place.host, place.port), backlog=place.processes + 8)
        except OSError as error:
            # A pod may run before its name is known.
            if isinstance(error, socket.gaierror) and time.monotonic() < until:
                time.sleep(POLL_S)
                continue
            unknown = isinstance(error, socket.gaierror)
            raise (LostError if unknown else ConfigError)(
                f"process 0 must be able to listen at --coordinator, {place.host}:{place.port} says: "
                f"{error.strerror or error}; name an address of the host of process 0, and a free port"
            ) from error


def gather(
    place: Place,
    ear: socket.socket,
    same: Mapping[str, str],
    last_words: Callable[[int], str] = lambda index: "",
    key: str = "",
) -> Meeting:
    """Process 0: wait for all others. `same`: what must be equal everywhere, name -> value.

    `last_words`: of a process that has ended, what is known of why; else empty. Raises LostError where some do not come
    in time, ConfigError where one is not of this training.
    """
    peers: dict[int, Peer] = {}
    addresses = {0: f"{place.host}:{free_port(place.host)}"}
    until = time.monotonic() + place.wait_s
    try:
        while len(peers) < place.processes - 1:
            found = _next(ear, POLL_S)
            if found is None:
                lacking = sorted(set(range(1, place.processes)) - set(peers))
                if ended := [words for index in lacking if (words := last_words(index))]:
                    raise _refused(peers.values(), ConfigError, ended[0])
                if time.monotonic() < until:
                    continue
                raise _refused(
                    peers.values(),
                    LostError,
                    f"all {place.processes} processes must come together within {place.wait_s:g} s, process "
                    f"{', '.join(map(str, lacking))} did not; start one with each --process-index, or set --processes",
                )
            peer, said = found
            if wrong := _wrong(place, said, same, peers):
                raise _refused([*peers.values(), peer], ConfigError, wrong)
            peers[int(said["index"])] = peer
            addresses[int(said["index"])] = f"{said['host']}:{said['port']}"
    except BaseException:
        # Whoever has come waits for an answer as long as the connection is there.
        for peer in peers.values():
            peer.connection.close()
        raise
    told = {"addresses": [addresses[index] for index in range(place.processes)], "key": key}
    for peer in peers.values():
        peer.say(told)
    ear.close()
    return Meeting(place, peers, told, last_words)


def dismiss(place: Place, ear: socket.socket) -> None:
    """Process 0, where there is nothing to do: let all others know as they come, for as long as they may take."""
    until, left = time.monotonic() + place.wait_s, place.processes - 1
    while left and time.monotonic() < until:
        if found := _next(ear, max(until - time.monotonic(), 0.01)):
            found[0].say({"nothing": True})
            left -= 1
    ear.close()


def _next(ear: socket.socket, wait_s: float) -> tuple[Peer, dict[str, Any]] | None:
    """The next process that comes, and what it says; None where none does in time, or somebody else."""
    ear.settimeout(wait_s)
    with suppress(OSError):  # also where one that only knocks is gone before it is looked at
        connection, _ = ear.accept()
        try:
            peer = Peer(connection)
            said = peer.hear(ANSWER_S)
        except BaseException:
            connection.close()
            raise
        if said.get("thaw") == "process":
            return peer, said
        connection.close()
    return None


def join(place: Place, same: Mapping[str, str]) -> Meeting | None:
    """Another process: find process 0 and say who this is; None where there is nothing to do.

    Raises LostError where nobody answers in time, or process 0 ends before all have come; ConfigError where it refuses.
    """
    peer = _found(place)
    host = peer.connection.getsockname()[0]
    peer.say(
        {"thaw": "process", "index": place.index, "processes": place.processes, "same": dict(same)}
        | {
            "host": host,
            "port": free_port(host),
        }
    )
    # As long as process 0 lives: it may have to wait for another run, and for processes that come later.
    answer = peer.hear(None)
    if answer.get("nothing"):
        return None
    if "addresses" not in answer:
        if answer.get("code") == ConfigError.exit_code:
            raise ConfigError(str(answer["refused"]))
        ended = f"process 0 at {place.host}:{place.port} ended before it began; its own message says why"
        raise LostError(str(answer.get("refused", ended)))
    return Meeting(place, {0: peer}, answer, lambda index: "")


def free_port(host: str) -> int:
    """A port that nobody has now."""
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _found(place: Place) -> Peer:
    """Process 0."""
    until, said = time.monotonic() + place.wait_s, ""
    while True:
        try:
            wait_s = max(until - time.monotonic(), 0.1)
            return Peer(socket.create_connection((place.host, place.port), timeout=wait_s))
        except OSError as error:
            said = error.strerror or str(error)
        if time.monotonic() > until:
            raise LostError(
                f"the coordinator must answer, {place.host}:{place.port} did not within {place.wait_s:g} s: {said}; "
                "start process 0 there, or correct --coordinator"
            )
        time.sleep(0.2)


def _wrong(place: Place, said: Mapping[str, Any], same: Mapping[str, str], peers: Mapping[int, Peer]) -> str:
    """What is wrong with a process that came; empty where nothing is."""
    index, others = said.get("index"), said.get("same", {})
    if said.get("processes") != place.processes:
        return (
            f"--processes must be equal everywhere, process 0 has {place.processes}, process {index} "
            f"{said.get('processes')}; start them with one number"
        )
    if not isinstance(index, int) or not 0 < index < place.processes or index in peers:
        return f"each process must have an index of its own from 1 to {place.processes - 1}, got {index} twice or more"
    for name, value in same.items():
        if others.get(name) != value:
            return (
                f"all processes must have one {name}, process 0 has {value}, process {index} "
                f"{others.get(name, 'none')}; start the same command everywhere, from one installation and one --out"
            )
    return ""


def _refused(peers: Iterable[Peer], error: type[ThawError], text: str) -> ThawError:
    for peer in peers:
        peer.say({"refused": text, "code": error.exit_code})
    return error(text)


def _leave(text: str, code: int) -> None:
    """End this process from a thread, whatever the others are waiting for."""
    stream = sys.__stderr__
    if stream is not None:
        stream.write(f"thaw: {text}\n")
        stream.flush()
    os._exit(code)
