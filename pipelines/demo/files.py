"""The demo's files as bytes, as a shop's systems would leave them: conf/demo.yaml says how to read them."""

import csv
import datetime as dt
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import DemoOptions
from pipelines.demo.log import Log, make_log
from pipelines.demo.names import CATEGORIES, COUNTRIES, FILLERS, NOUNS, STYLES
from pipelines.demo.pictures import archive, draw, png
from pipelines.demo.world import (
    MS_PER_DAY,
    TAGS,
    Floats,
    Items,
    Strings,
    Users,
    generator,
    make_items,
    make_users,
    start_ms,
)  # fmt: skip
from pipelines.errors import ConfigError

GZIP_EVERY_DAYS = 5
NO_PICTURE = 0.04
"""Share of items without a picture."""
CUT_OFF_EVERY = 500
"""Of so many items, the picture of one cannot be read."""
_NAMES = tuple(CATEGORIES)
_STYLES = tuple(STYLES)


@dataclass(frozen=True)
class File:
    """One file: its path below the data folder, content, and rows."""

    table: str
    path: str
    content: bytes
    rows: int


def make_demo(options: DemoOptions, seed: int) -> tuple[list[File], dict[str, int]]:
    """All files, and the numbers planted in them. The same seed gives the same bytes."""
    users, items = make_users(options, seed), make_items(options, seed)
    log, bias = make_log(users, items, options, seed)
    biased = items.vector + bias * (np.arange(items.vector.shape[1]) == items.vector.shape[1] - 1)
    pictures, unreadable = _images(items, seed)
    files = [
        *_interactions(log, users, items, options, seed),
        _items(items, seed),
        _users(users, seed),
        _truth("truth_users", "truth/users.parquet", users.id, users.vector),
        _truth("truth_items", "truth/items.parquet", items.id, biased),
        *pictures,
    ]
    clicks = int(log.click.sum())
    planted = {
        "rows": sum(file.rows for file in files if file.table == "interactions"),
        "impressions": len(log) - clicks,
        "clicks": clicks,
        "duplicates": options.duplicates,
        "malformed": options.malformed,
        "late": options.late,
        "unreadable_images": unreadable,
    }
    return files, planted


def _interactions(log: Log, users: Users, items: Items, options: DemoOptions, seed: int) -> Iterator[File]:
    """A file of JSON lines for each day on which rows arrived, in order of arrival."""
    if options.duplicates > len(log):
        raise ConfigError(
            f"demo.duplicates must be at most the number of events, {len(log)}, got {options.duplicates}; lower it"
        )
    rng = generator(seed, "duplicates")
    copied = rng.choice(len(log), options.duplicates, replace=False)
    index = np.concatenate([np.arange(len(log)), copied])
    seen = log.seen[index]
    seen[len(log) :] += (1000 * 20_000 ** rng.random(options.duplicates)).astype(np.int64)
    rows = zip(
        users.id[log.user[index]].tolist(), items.id[log.item[index]].tolist(),
        log.time[index].tolist(), seen.tolist(), log.click[index].tolist(), strict=True,
    )  # fmt: skip
    lines = [line(user, item, time, at, "click" if click else "impression") for user, item, time, at, click in rows]
    bad_times, bad_lines = _malformed(log, users, items, options, seed)
    lines += bad_lines
    arrived = np.concatenate([seen, bad_times])
    order = np.argsort(arrived, kind="stable")
    day = (arrived[order] - start_ms(options)) // MS_PER_DAY
    for number in range(int(day.min()), int(day.max()) + 1):
        first, last = np.searchsorted(day, [number, number + 1])
        content = "".join(lines[index] for index in order[first:last]).encode()
        name = f"interactions/{options.start + dt.timedelta(days=number)}.jsonl"
        if number % GZIP_EVERY_DAYS == GZIP_EVERY_DAYS - 1:
            name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        if last > first:
            yield File("interactions", name, content, int(last - first))


def line(user: str, item: str, time: object, seen: object, action: str) -> str:
    """One event as JSON; `time` and `seen` in epoch milliseconds."""
    return f'{{"user": "{user}", "item": "{item}", "time": {time}, "seen": {seen}, "action": "{action}"}}\n'


def _malformed(
    log: Log, users: Users, items: Items, options: DemoOptions, seed: int
) -> tuple[np.typing.NDArray[np.int64], list[str]]:
    """Arrival times and lines, each broken in one way. Their times are no good event's, so that none is a copy."""
    rng, n = generator(seed, "malformed"), options.malformed
    lowest, highest = int(log.time.min()), int(log.time.max())
    spare = np.setdiff1d(rng.integers(lowest, highest, 4 * n + len(log) // 1000), log.time)
    times = rng.permutation(spare)[:n]
    lines = []
    for index, (time, user, item) in enumerate(
        zip(times.tolist(), rng.choice(users.id, n), rng.choice(items.id, n), strict=True)
    ):
        good = line(user, item, time, time + 2000, "impression")
        broken = (
            good[: good.index('"time"') + 9] + "\n",
            good.replace(f'"user": "{user}", ', ""),
            good.replace(f'"{item}"', "null"),
            line(user, item, time // 1000, time // 1000 + 2, "impression"),
            line(user, item, time, time - 60_000, "impression"),
            line(user, item, "NaN", time + 2000, "impression"),
            line(user, item, '"yesterday"', time + 2000, "click"),
            line(user, item, time, time + 2000, "hover"),
        )
        lines.append(broken[index % len(broken)])
    return times + 2000, lines


def _items(items: Items, seed: int) -> File:
    """The catalogue; some prices and texts are missing."""
    rng = generator(seed, "catalogue")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    writer.writerow(["item", "listed", "title", "category", "tags", "text", "price"])
    for index, (no_price, no_text) in enumerate(rng.random((len(items.id), 2)) < (0.03, 0.02)):
        category, tags, style = _NAMES[items.category[index]], items.tags[index], _STYLES[items.style[index]]
        topical = [*category.split(), *(TAGS[tag] for tag in tags), *rng.choice(STYLES[style], 2), style]
        text = rng.permutation([*topical, *rng.choice(FILLERS, 4)]).tolist()
        title = f"{rng.choice(STYLES[style])} {TAGS[tags[0]]} {rng.choice(NOUNS)}".capitalize()
        listed = dt.datetime.fromtimestamp(int(items.listed_ms[index]) // 1000, dt.UTC).replace(tzinfo=None)
        writer.writerow(
            [
                items.id[index], listed.isoformat(), title, category, "|".join(TAGS[tag] for tag in tags),
                "" if no_text else " ".join(text), "" if no_price else f"{items.price[index]:.2f}",
            ]
        )  # fmt: skip
    return File("items", "items.csv", out.getvalue().encode(), len(items.id))


def _users(users: Users, seed: int) -> File:
    """Profiles; some are incomplete."""
    untold = generator(seed, "profiles").random((len(users.id), 3)) < (0.05, 0.08, 0.05)
    table = pa.table(
        {
            "user": pa.array(users.id.tolist(), pa.string()),
            "joined": pa.array(users.joined_ms * 1000, pa.timestamp("us", "UTC")),
            "country": pa.array([COUNTRIES[index] for index in users.country], pa.string(), mask=untold[:, 0]),
            "interests": pa.array(
                [None if hidden else [_NAMES[index] for index in own]
                 for own, hidden in zip(users.interests, untold[:, 1], strict=True)],
                pa.list_(pa.string()),
            ),
            "age": pa.array(users.age, pa.int64(), mask=untold[:, 2]),
        }
    )  # fmt: skip
    return File("users", "users.parquet", _parquet(table), len(users.id))


def _truth(table: str, path: str, ids: Strings, vectors: Floats) -> File:
    """What only the generator knows: the inner product of a user's and an item's vector is the logit of a click."""
    columns = {
        "id": pa.array(ids.tolist(), pa.string()),
        "vector": pa.array(vectors.astype(np.float32).tolist(), pa.list_(pa.float32())),
    }
    return File(table, path, _parquet(pa.table(columns)), len(ids))


def _images(items: Items, seed: int) -> tuple[list[File], int]:
    """A table of pictures and the archive that holds them, and how many are cut off; some items have none."""
    pictures, rng = draw(items, seed), generator(seed, "picture files")
    there = np.flatnonzero(rng.random(len(items.id)) >= NO_PICTURE)
    cut = set(rng.choice(there, len(items.id) // CUT_OFF_EVERY, replace=False).tolist())
    out, held = io.StringIO(), {}
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["picture", "item", "category", "listed"])
    for index in there.tolist():
        name, content = f"{items.id[index]}.png", png(pictures[index])
        held[name] = content[: len(content) // 2] if index in cut else content
        writer.writerow([name, items.id[index], _NAMES[items.category[index]], int(items.listed_ms[index])])
    files = [
        File("images", "images.csv", out.getvalue().encode(), len(held)),
        File("pictures", "images.tar", archive(held), len(held)),
    ]
    return files, len(cut)


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()
