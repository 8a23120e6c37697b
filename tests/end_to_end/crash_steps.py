"""Run the small writer again and again, each time dying before its next change to the disk, and look at what is there.

usage: crash_steps.py OUT first|again. Prints the steps, as JSON. `again` makes anew what is published already.
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path

from small_writer import CONFIG, job

from jobs.launch import execute
from pipelines.config import parse_config
from pipelines.storage import MANIFEST, Workspace, open_dataset

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock")
DIED = 9


def write(out: Path, force: bool) -> None:
    execute(job(2, rows_each=4), parse_config(CONFIG), Workspace.open(str(out)), None, force=force)


def run(out: Path, *, force: bool = False, die_at: int | None = None) -> str:
    """One run in a process of its own. The step that it died before, empty where it came to its end."""
    read, tell = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def before(event: str, arguments: tuple) -> None:
            nonlocal count
            is_write = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if not is_write and event not in CHANGES:
                return
            name = str(arguments[0])
            # What removes a folder names what is in it relative to an open one.
            if event == "fcntl.flock" or name.startswith(str(out)) or not Path(name).is_absolute():
                if count == die_at:
                    os.write(tell, f"{event} {Path(name).name}".encode())
                    os._exit(DIED)
                count += 1

        sys.addaudithook(before)
        try:
            write(out, force)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(tell)
    with os.fdopen(read) as said:
        step = said.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED), code
    return step


def check(out: Path, again: bool, die_at: int) -> tuple[str, str]:
    """Die once, look, and make what is missing. Returns the step and the content digest."""
    shutil.rmtree(out, ignore_errors=True)
    workspace = Workspace.open(str(out))
    if again:
        run(out)
        run(out, force=True)
    step = run(out, force=again, die_at=die_at)
    for manifest in out.glob(f"records/*/{MANIFEST}"):
        open_dataset(str(manifest.parent)).verify()
    there = workspace.current("records")
    assert there or not again, step
    run(out)
    made = workspace.current("records")
    made.verify()
    run(out, force=True)
    names = {path.name for path in out.glob("records/*")}
    published = {path.parent.name for path in out.glob(f"records/*/{MANIFEST}")}
    assert names == {*published, "CURRENT"}, (step, names)
    assert not list(out.rglob("*.tmp")), step
    return step, made.manifest.content_digest


def main() -> None:
    out, again = Path(sys.argv[1]), sys.argv[2] == "again"
    write(out.with_name("warm"), force=False)  # what is imported or computed at first use, is so in no later process
    steps, digests = [], set()
    while not steps or steps[-1]:
        step, digest = check(out, again, len(steps))
        steps.append(step)
        digests.add(digest)
    assert len(digests) == 1, digests
    print(json.dumps(steps[:-1]))


main()
