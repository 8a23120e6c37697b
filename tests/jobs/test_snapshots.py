"""Daily snapshots as a user makes them: a range in one command, a day again, and what follows from it."""

import re
import shutil
from pathlib import Path

import pytest

from jobs import check_quality, compute_preferences, snapshots
from jobs.launch import main
from pipelines.config import parse_duration
from pipelines.storage import Workspace

pytestmark = pytest.mark.usefixtures("one_task")

CONFIG = """
name: small
seed: 1
source:
  interactions:
    - path: log.csv
      user_id: user
      item_id: item
      event_time: {column: at, unit: s}
      available_time: {column: seen, unit: s}
      action: action
labels: {rule: sampled, positive_actions: [click], negatives: 1}
preferences:
  windows: [2d, lifetime]
  entities: [user, item]
  statistics: [{name: click, kind: count, actions: [click]}, {name: click, kind: rate, actions: [click]}]
  recent: [item_id]
storage: {parquet_files: 1}
"""
DAY_S = 86_400
FIRST_S = 19_675 * DAY_S  # 2023-11-14
DAYS = [f"2023-11-{day}" for day in range(15, 20)]


def log_rows():
    """Five days of events, some of which arrive a day and a half late."""
    rows = []
    for n in range(60):
        at = FIRST_S + n * 2 * 3600 + 60
        late = int(1.5 * DAY_S) if n % 9 == 4 else 30
        rows.append(f"u{n % 5},i{n % 7},{at},{at + late},{('click', 'view')[n % 3 == 0]}")
    return rows


def write_log(folder, rows):
    (folder / "log.csv").write_text("\n".join(["user,item,at,seen,action", *rows]))


class Shop:
    """A folder with a log, and the commands that its keeper runs."""

    def __init__(self, folder):
        self.folder, self.out = folder, str(folder / "out")
        self.arguments = ["--config", str(folder / "small.yaml"), "--data", str(folder), "--out", self.out]

    @classmethod
    def opened(cls, folder, rows):
        """A new one, without days."""
        folder.mkdir()
        write_log(folder, rows)
        (folder / "small.yaml").write_text(CONFIG)
        made = cls(folder)
        made.refresh()
        return made

    def copy(self, folder, days):
        """The same shop elsewhere, with some of its days."""
        shutil.copytree(self.folder, folder)
        for made in folder.glob("out/partials/*"), folder.glob("out/snapshots/*"):
            for day in made:
                if day.name not in days:
                    shutil.rmtree(day)
        return Shop(folder)

    def refresh(self):
        assert main(check_quality.JOB, self.arguments) == 0
        assert main(compute_preferences.JOB, self.arguments) == 0

    def days(self, first, last=None, *more):
        given = ["--from", first, *(("--to", last) if last else ()), *more]
        return main(compute_preferences.JOB, [*self.arguments, *given])

    def digests(self, kind="snapshots"):
        workspace, found = Workspace.open(self.out), {}
        for day in DAYS:
            if dataset := workspace.current(f"{kind}/{day}"):
                found[day] = {n: [s.sha256 for s in entry.shards] for n, entry in dataset.manifest.tables.items()}
        return found

    def table(self, day, name):
        return Workspace.open(self.out).current(f"snapshots/{day}").read_table(name).to_pylist()


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory):
    """A shop with all its days."""
    made = Shop.opened(tmp_path_factory.mktemp("made") / "shop", log_rows())
    assert made.days(DAYS[0], DAYS[-1]) == 0
    return made


def test_the_last_day_is_what_serving_has(shop) -> None:
    served = Workspace.open(shop.out).current("preferences")
    for name in ("user", "item"):
        of_log = {row["entity_id"]: row for row in served.read_table(name).to_pylist()}
        of_day = {row["entity_id"]: row for row in shop.table(DAYS[-1], f"{name}_snapshots")}
        assert of_day == of_log and len(of_day) > 4


def test_a_late_event_is_in_the_day_that_could_see_it_and_in_none_before(shop) -> None:
    # The fifth event: on the 14th at 08:01, seen on the 15th at 20:01.
    rows = [next(row for row in shop.table(day, "item_snapshots") if row["entity_id"] == "i4") for day in DAYS[:2]]
    assert [row["item_click_count_lifetime"] for row in rows] == [1, 2]


def test_a_day_run_again_changes_nothing(shop, capsys) -> None:
    before = shop.digests(), shop.digests("partials")
    capsys.readouterr()
    assert shop.days(DAYS[2]) == 0
    said = capsys.readouterr().err
    assert said.count("unchanged") == 2 and "other snapshots that were stale: none" in said
    assert shop.days(DAYS[2], None, "--force") == 0
    assert (shop.digests(), shop.digests("partials")) == before


def test_day_after_day_makes_what_a_range_makes_and_needs_no_days_before_its_windows(shop, tmp_path) -> None:
    other = shop.copy(tmp_path / "other", [])
    for day in DAYS[:-1]:
        assert other.days(day) == 0
    for day in DAYS[:-3]:
        for folder in (tmp_path / "other" / "out" / "partials" / day, tmp_path / "other" / "out" / "snapshots" / day):
            for version in folder.iterdir():
                if version.is_dir():
                    for table in version.iterdir():
                        shutil.rmtree(table) if table.is_dir() else None
    assert other.days(DAYS[-1]) == 0
    assert list(shop.digests()) == DAYS
    assert other.digests() == shop.digests()
    assert other.digests("partials") == shop.digests("partials")


def test_a_corrected_day_names_the_days_it_makes_stale_and_makes_them_again(
    shop, tmp_path, capsys, monkeypatch
) -> None:
    missing = f"u1,i3,{FIRST_S + DAY_S + 7},{FIRST_S + DAY_S + 8},click"
    before = shop.digests()
    shop = shop.copy(tmp_path / "shop", DAYS)
    write_log(tmp_path / "shop", [*log_rows(), missing])
    shop.refresh()
    capsys.readouterr()

    def interrupted(state, counts, boundary, config, priors, work=snapshots.snapshots):
        if snapshots.name_of(boundary) == DAYS[3]:
            raise KeyboardInterrupt
        return work(state, counts, boundary, config, priors)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "snapshots", interrupted)
        assert shop.days(DAYS[1]) == 130
    assert stale(capsys) == DAYS[2:4]
    # Any other day makes up for what is left.
    assert shop.days(DAYS[0]) == 0
    assert stale(capsys) == DAYS[3:]
    after = shop.digests()
    assert all(after[day] != before[day] for day in DAYS[1:])
    assert shop.days(DAYS[0], DAYS[-1], "--force") == 0
    assert shop.digests() == after


def stale(capsys):
    return re.findall(r"^(\S+) is stale", capsys.readouterr().err, re.MULTILINE)


def test_days_before_the_first_may_be_added_but_no_gap_be_left(shop, tmp_path, capsys) -> None:
    other = shop.copy(tmp_path / "other", [])
    assert other.days(DAYS[3], DAYS[-1]) == 0
    assert other.table(DAYS[4], "user_snapshots") == shop.table(DAYS[4], "user_snapshots")
    assert other.days(DAYS[0]) == 2
    assert re.search(f"must follow each other, .* set --to {DAYS[2]}", capsys.readouterr().err)
    assert other.days(DAYS[0], DAYS[2]) == 0
    assert other.digests() == shop.digests()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--from", "2023-11-20"],
            "snapshots must be of the log, whose first is 2023-11-15 and whose last is 2023-11-19, got 2023-11-20",
        ),
        (["--from", "2023-11-15T06:00"], "--from must be a boundary, .* got 2023-11-15T06:00; the one before it is"),
        (["--from", "2023-11-17", "--to", "2023-11-16"], "--from must not lie after --to, got 2023-11-17 and"),
        (["--to", "2023-11-16"], "--to must come with --from, got --to 2023-11-16 alone"),
        (["--from", "yesterday"], "--from must be a date, got 'yesterday'"),
        (["--from", "1970-01-01"], "snapshots must be of the log, .* got 1970-01-01 to 1970-01-01; stay within"),
        (
            ["--from", "2023-11-16", "--set", "preferences.accuracy=exact"],
            "`preferences` section|must be of `preferences.accuracy: snapshot`",
        ),
    ],
    ids=["future", "no-boundary", "backwards", "no-beginning", "no-time", "past", "exact"],
)
def test_a_range_that_cannot_be_is_one_message_and_code_2(shop, capsys, given, message) -> None:
    before = shop.digests()
    capsys.readouterr()
    assert main(compute_preferences.JOB, [*shop.arguments, *given]) == 2
    said = capsys.readouterr().err
    assert re.search(f"^thaw: .*{message}", said, re.MULTILINE | re.DOTALL), said
    assert "Traceback" not in said and shop.digests() == before


def test_a_day_made_before_its_events_had_arrived_is_made_again_when_they_have(shop, tmp_path, capsys) -> None:
    other = Shop.opened(tmp_path / "other", log_rows()[:40])  # ends on the 17th at 06:01, before snapshot 18
    assert other.days(DAYS[0], DAYS[3]) == 0
    write_log(tmp_path / "other", log_rows())
    other.refresh()
    capsys.readouterr()
    assert other.days(DAYS[4]) == 0
    assert stale(capsys) == [DAYS[3]]
    assert other.table(DAYS[4], "item_snapshots") == shop.table(DAYS[4], "item_snapshots")
    assert other.table(DAYS[3], "counts") == shop.table(DAYS[3], "counts")


def test_damaged_and_missing_days_are_one_message_and_code_2(shop, tmp_path, capsys) -> None:
    shop = shop.copy(tmp_path / "shop", DAYS[:3])
    (file,) = map(Path, Workspace.open(shop.out).current(f"partials/{DAYS[2]}").table_paths("counts"))
    file.write_bytes(file.read_bytes()[:-1])
    assert shop.days(DAYS[3]) == 2
    assert re.search(r"^thaw: .*counts/part-0.*must have \d+ bytes", capsys.readouterr().err, re.MULTILINE)
    shutil.rmtree(tmp_path / "shop" / "out" / "partials" / DAYS[2])
    assert shop.days(DAYS[3]) == 2
    assert (
        f"thaw: partials/{DAYS[2]} must be there, it is not; make it with --from {DAYS[2]}" in capsys.readouterr().err
    )
    assert shop.days(DAYS[2], DAYS[3]) == 0


def test_days_of_another_configuration_are_refused(shop, capsys) -> None:
    settings = [*shop.arguments, "--set", "preferences.windows=[1d, lifetime]"]
    assert main(compute_preferences.JOB, settings) == 0
    assert main(compute_preferences.JOB, [*settings, "--from", DAYS[2]]) == 2
    assert "snapshots must be of one configuration" in capsys.readouterr().err
    assert main(compute_preferences.JOB, shop.arguments) == 0


def test_a_boundary_s_name_sorts_like_its_time_and_tells_it_to_the_hour() -> None:
    period = parse_duration("6h")
    names = [snapshots.name_of(n * period) for n in range(-3, 9)]
    assert names == sorted(names) and names[3:5] == ["1970-01-01", "1970-01-01T060000Z"]
