"""Processes that meet: each learns where all are, one that does not belong is refused, and one that is lost is seen."""

import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from pipelines.errors import ConfigError, InputError, LostError
from pipelines.training import rendezvous
from pipelines.training.rendezvous import Meeting, Place, dismiss, free_port, gather, join, listen

SAME = {"code version": "1"}


@pytest.fixture(autouse=True)
def left(monkeypatch):
    """(text, code) of each end of this process that was asked for. No meeting outlives its test: its watch would."""
    ends, meetings, begin = [], [], Meeting.__init__

    def begun(meeting, *given) -> None:
        begin(meeting, *given)
        meetings.append(meeting)

    monkeypatch.setattr(Meeting, "__init__", begun)
    monkeypatch.setattr(rendezvous, "_leave", lambda text, code: ends.append((text, code)))
    yield ends
    for meeting in meetings:
        meeting._over.set()
        for peer in meeting.peers.values():
            with suppress(OSError):
                peer.connection.shutdown(socket.SHUT_RDWR)
    for thread in threading.enumerate():
        if thread.name.startswith("watch-"):
            thread.join(10)
            assert not thread.is_alive()


class Others:
    """Processes 1, 2, … as threads."""

    def __init__(self, place: Place, *called, same=SAME) -> None:
        self.found: dict[int, object] = {}

        def come(index) -> None:
            try:
                self.found[index] = join(at(place, index), same)
            except (ConfigError, LostError) as error:
                self.found[index] = str(error)

        self.threads = [threading.Thread(target=come, args=(index,)) for index in called]
        for thread in self.threads:
            thread.start()

    def all(self) -> dict:
        for thread in self.threads:
            thread.join(20)
        return self.found


def at(place: Place, index: int) -> Place:
    return Place(place.host, place.port, place.processes, index, place.wait_s)


@pytest.fixture
def meeting_place():
    """(processes, wait) -> place of process 0, and its ear."""
    ears = []

    def made(processes: int, wait_s: float = 10):
        ears.append(listen(Place("127.0.0.1", 0, processes, 0, wait_s)))
        return Place("127.0.0.1", ears[-1].getsockname()[1], processes, 0, wait_s), ears[-1]

    yield made
    for ear in ears:
        ear.close()


def test_all_learn_the_same_addresses_and_the_others_wait_until_process_0_is_done(meeting_place) -> None:
    place, ear = meeting_place(3)
    others = Others(place, 2, 1)
    first = gather(place, ear, SAME)
    meetings = others.all()
    assert [meetings[index].told for index in (1, 2)] == [first.told] * 2
    assert len(set(first.told["addresses"])) == 3
    ended = []
    waiting = threading.Thread(target=lambda: ended.append(meetings[1].end()))
    waiting.start()
    time.sleep(0.1)
    assert not ended
    first.end()
    waiting.join(10)
    assert ended == [None]


def test_a_process_of_other_code_is_refused_and_both_sides_say_why(meeting_place) -> None:
    place, ear = meeting_place(2)
    others = Others(place, 1, same={"code version": "2"})
    with pytest.raises(ConfigError, match="one code version, process 0 has 1, process 1 2; start the same command"):
        gather(place, ear, SAME)
    assert "process 0 has 1, process 1 2" in others.all()[1]


def test_one_index_twice_and_another_number_of_processes_are_refused(meeting_place) -> None:
    place, ear = meeting_place(3)
    Others(place, 1, 1)
    with pytest.raises(ConfigError, match="an index of its own from 1 to 2, got 1 twice"):
        gather(place, ear, SAME)
    place, ear = meeting_place(2)
    Others(Place(place.host, place.port, 4, 0, 10), 1)
    with pytest.raises(ConfigError, match="equal everywhere, process 0 has 2, process 1 4"):
        gather(place, ear, SAME)


def test_waiting_is_bounded_and_says_who_is_lacking(meeting_place) -> None:
    place, ear = meeting_place(3, wait_s=0.6)
    others = Others(place, 2)
    with pytest.raises(LostError, match=r"3 processes must come together within 0\.6 s, process 1 did not"):
        gather(place, ear, SAME)
    assert "process 1 did not" in others.all()[2]
    nobody = Place("127.0.0.1", free_port("127.0.0.1"), 2, 1, 0.3)
    with pytest.raises(LostError, match=r"coordinator must answer, .* did not within 0\.3 s: .*start process 0"):
        join(nobody, SAME)


def test_a_process_that_ends_before_it_comes_is_not_waited_for(meeting_place) -> None:
    place, ear = meeting_place(2, wait_s=60)
    started = time.monotonic()
    with pytest.raises(ConfigError, match="process 1 ended with exit code 2: no such file"):
        gather(place, ear, SAME, lambda index: f"process {index} ended with exit code 2: no such file")
    assert time.monotonic() - started < 10


def test_what_is_no_process_of_ours_is_ignored(meeting_place) -> None:
    place, ear = meeting_place(2)
    with socket.create_connection((place.host, place.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        others = Others(place, 1)
        assert gather(place, ear, SAME).peers.keys() == {1}
    assert others.all()[1].told


def test_one_that_knocks_and_is_gone_or_says_nothing_costs_seconds_and_no_process(meeting_place, monkeypatch) -> None:
    monkeypatch.setattr(rendezvous, "ANSWER_S", 0.2)
    place, ear = meeting_place(2)
    knock = socket.create_connection((place.host, place.port))
    knock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    knock.close()  # by a reset: its name cannot be asked for
    with socket.create_connection((place.host, place.port)):
        others = Others(place, 1)
        assert gather(place, ear, SAME).peers.keys() == {1}
    assert others.all()[1].told


def test_what_ends_process_0_while_it_waits_ends_those_that_have_come(meeting_place) -> None:
    place, ear = meeting_place(3)
    others = Others(place, 1)

    def interrupt(index) -> str:
        raise KeyboardInterrupt

    # Process 1 has come, process 2 is waited for.
    with pytest.raises(KeyboardInterrupt):
        gather(place, ear, SAME, interrupt)
    assert "ended before it began" in others.all()[1]


def test_where_there_is_nothing_to_do_the_others_are_told(meeting_place) -> None:
    place, ear = meeting_place(3)
    others = Others(place, 1, 2)
    dismiss(place, ear)
    assert others.all() == {1: None, 2: None}


def test_a_lost_process_ends_the_others_and_an_error_travels_with_its_words(meeting_place, left, monkeypatch) -> None:
    monkeypatch.setattr(rendezvous, "GRACE_S", 0.1)

    def met():
        place, ear = meeting_place(2)
        others = Others(place, 1)
        return gather(place, ear, SAME), others.all()[1]

    _first, second = met()
    second.peers[0].connection.shutdown(socket.SHUT_RDWR)
    until = time.monotonic() + 10
    while len(left) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert any("process 1 of 2 (127.0.0.1) is lost" in text and code == 1 for text, code in left)
    left.clear()
    _first, second = met()
    second.fail(InputError("the loss must stay finite"))
    while not left and time.monotonic() < until:
        time.sleep(0.01)
    assert left == [("the loss must stay finite", 2)]
    left.clear()
    # The backend fails because the other one is gone: the loss is told, and first.
    first, second = met()
    second.peers[0].connection.shutdown(socket.SHUT_RDWR)
    first.fail(RuntimeError("connection reset by peer"))
    assert any("process 1 of 2 (127.0.0.1) is lost" in text for text, _ in left)


def test_an_address_that_is_not_here_is_a_message() -> None:
    with pytest.raises(ConfigError, match=r"must be able to listen at --coordinator, 192\.0\.2\.1:80"):
        listen(Place("192.0.2.1", 80, 2, 0, 1))
