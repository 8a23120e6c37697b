"""Configuration: what is refused, and what the message says."""

import pytest

from jobs.launch import DEFAULT_CONFIG
from pipelines.config import load_config, parse_config, parse_duration, utc_microseconds
from pipelines.errors import ConfigError
from pipelines.features import feature_set

SMALL = {"name": "x", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}}


def with_section(**sections):
    return {**SMALL, **sections}


@pytest.mark.parametrize(("text", "expected"), [("1d", 86_400_000_000), ("90m", 5_400_000_000), ("0s", 0), ("5us", 5)])
def test_durations_are_microseconds(text, expected) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1.5h", "7 days", ""])
def test_a_duration_without_whole_number_and_unit_is_refused(text) -> None:
    with pytest.raises(ValueError, match="such as 7d"):
        parse_duration(text)


def test_an_unknown_key_names_the_nearest_valid_key() -> None:
    with pytest.raises(ConfigError, match=r"`preferences.window`; did you mean `windows`\?"):
        parse_config(with_section(preferences={"window": ["1d"]}))


def test_an_unknown_key_inside_a_list_names_the_nearest_valid_key() -> None:
    source = {"interactions": [{"path": "a", "user_idd": "u", "item_id": "i", "event_time": {"column": "t"}}]}
    with pytest.raises(ConfigError, match=r"did you mean `user_id`\?"):
        parse_config(with_section(source=source))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"preferences": {"windows": ["0d"]}}, r"windows.0`: a window .* longer than zero, such as 7d, .*; got '0d'$"),
        (
            {"preferences": {"windows": ["-1d"]}},
            r"windows.0`: a window .* longer than zero, such as 7d, .*; got '-1d'$",
        ),
        ({"preferences": {"period": "-1d"}}, r"period`: a duration must be a whole number and a unit .*; got '-1d'$"),
        ({"labels": {**SMALL["labels"], "label_window": "-1s"}}, r"label_window`: a duration must be a whole number"),
        ({"features": {"max_missing_share": {"user_age": 1.5}}}, r"features.max_missing_share.user_age`: .* 1"),
        ({"features": {"drift_periods": 1}}, r"features.drift_periods`: .* 2"),
        ({"preferences": {"landing_delay": "3h", "publish_delay": "2h"}}, "publish_delay must not be shorter"),
        ({"preferences": {"entities": ["item.genre"]}}, "preferences.entities must be among"),
        ({"preferences": {"recent": ["tags"]}}, "preferences.recent must be among"),
        ({"split": {"validation_share": 0.6, "test_share": 0.5}}, "leave something to train on"),
        ({"split": {"validation_start": "2020-01-01"}}, "given together"),
        *(
            (section, rf"`{key}`: must be models:/NAME/VERSION or models:/NAME@ALIAS, such as \S+ \(got 'pics'\)$")
            for key, section in {
                "classify.model": {"classify": {"model": "pics"}},
                "evaluation.against": {"evaluation": {"against": "pics"}},
                "training.start_from": {"training": {"start_from": "pics"}},
            }.items()
        ),
        ({"classifier": {"augment": {"rand_augment": 9}}}, r"augment.rand_augment`: .* 8 \(got 9\)"),
        ({"records": {"num_shards": 0}}, "records.num_shards"),
        ({"training": {"learning_rate": float("inf")}}, r"training.learning_rate`: .* finite number \(got inf\)"),
        ({"quality": {"weight_range": [0, float("nan")]}}, r"quality.weight_range.1`: .* finite number \(got nan\)"),
        ({"source": {"items": [{"path": "i", "id": "i", "separator": ""}]}}, r"separator`: .* at least 1 character"),
    ],
)
def test_a_broken_rule_is_named_with_its_key(sections, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(with_section(**sections))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"losses": {"softmax": 0, "catalogue_negatives": 5}},
            "neither softmax nor support_vector has a weight.*got 5",
        ),
        ({"losses": {"softmax": 1, "catalogue_negatives": 5}, "model": {"factors": True}}, "which carry no factors"),
        ({"losses": {"support_vector": 1}, "model": {"similarity": "dot"}}, "its margin is one of cosines"),
        ({"start_from": "champion"}, r"`training\.start_from`.*\(got 'champion'\)"),
        ({"factors": {"until": "yesterday"}}, r"factors\.until must be a date, got 'yesterday'"),
    ],
)
def test_options_of_training_that_cannot_be_meant_are_refused_before_any_job(sections, message) -> None:
    training = {name: sections[name] for name in ("losses", "start_from") if name in sections}
    raw = with_section(training=training, model=sections.get("model", {}), catalogue={"rows": 10})
    with pytest.raises(ConfigError, match=message):
        parse_config({**raw, "factors": sections.get("factors", {"rank": 4})})


@pytest.mark.parametrize("file", sorted(DEFAULT_CONFIG.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_configuration_that_was_written_out_in_full_means_the_same(file) -> None:
    config = load_config([file])
    assert parse_config(config.model_dump(mode="json")) == config


def test_several_mistakes_are_all_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"name": "x", "sed": 1, "training": {"epoch": 1}})
    assert all(key in str(caught.value) for key in ("`sed`", "`training.epoch`", "`seed` must be set", "`labels`"))


def test_later_files_and_overrides_win(tmp_path) -> None:
    base, over = tmp_path / "a.yaml", tmp_path / "b.yaml"
    base.write_text("name: x\nseed: 1\nlabels: {rule: sampled, positive_actions: [click]}\ntraining: {epochs: 3}\n")
    over.write_text("training: {batch_size: 64}\nseed: 2\n")
    config = load_config([base, over], ["training.epochs=7", "labels.negatives=2"])
    assert (config.seed, config.training.epochs, config.training.batch_size, config.labels.negatives) == (2, 7, 64, 2)


def test_a_date_may_be_written_without_quotes() -> None:
    config = load_config([DEFAULT_CONFIG], ["split.validation_start=2025-02-10", "split.test_start=2025-02-11 12:00"])
    assert (config.split.validation_start, config.split.test_start) == ("2025-02-10", "2025-02-11 12:00")


@pytest.mark.parametrize("text", [b"- a\n- b\n", b"a: [1\n", b"", b"name: caf\xe9\n"])
def test_a_file_that_is_no_yaml_mapping_is_refused(tmp_path, text) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="YAML"):
        load_config([path])


def test_an_override_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set quality\.actions must be YAML, got '\[click'"):
        load_config([DEFAULT_CONFIG], ["quality.actions=[click"])


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(["nowhere.yaml"])


def test_feature_names_derive_from_entity_statistic_kind_and_window() -> None:
    raw = with_section(
        source={
            "items": [
                {"path": "i", "id": "i", "columns": {"genres": {"kind": "categories"}, "price": {"kind": "number"}}}
            ]
        },
        preferences={
            "windows": ["7d", "lifetime"],
            "entities": ["user", "item.genres"],
            "statistics": [{"name": "click", "kind": "rate"}, {"name": "click", "kind": "days_since"}],
            "recent": ["genres", "item_id"],
        },
    )
    assert [column.name for column in feature_set(parse_config(raw)).columns] == [
        "user_click_rate_7d",
        "user_click_rate_lifetime",
        "user_click_days_since_lifetime",
        "user_recent_genres",
        "user_recent_item_id",
        "item_genres",
        "item_price",
        "item_genres_click_rate_7d",
        "item_genres_click_rate_lifetime",
        "item_genres_click_days_since_lifetime",
    ]


DAY = {
    "name": "x",
    "seed": 1,
    "labels": {"rule": "impressions", "positive_actions": ["click"]},
    "source": {"as_of": "2025-03-01"},
    "split": {"test_length": "2d", "validation_length": "36h"},
}


def test_splits_by_length_are_counted_back_from_the_day_that_the_log_is_read_as_of() -> None:
    config = parse_config(DAY)
    assert (config.split.validation_start, config.split.test_start) == ("2025-02-25T12:00:00", "2025-02-27T00:00:00")
    midnight = utc_microseconds("2025-03-01", "x")
    assert config.horizon == (midnight, midnight + 3_600_000_000)  # preferences.landing_delay
    # Written out in full and read again, it means the same.
    assert parse_config(config.model_dump(mode="json")) == config
    assert parse_config({**DAY, "source": {}, "split": {}}).horizon is None


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"source": {}}, "split.test_length must have a source.as_of to be counted back from, got 2d"),
        ({"source": {"as_of": "tomorrow"}}, "source.as_of must be a date, got 'tomorrow'"),
        ({"source": {"as_of": "2025-03-01T06:00"}}, "the one before it is 2025-03-01T00:00:00"),
        ({"split": {"test_length": "2d"}}, "validation_length and test_length must be given together"),
        ({"split": {"test_length": "two", "validation_length": "2d"}}, "a duration must be a whole number and a unit"),
        (
            {"split": {**DAY["split"], "test_start": "2025-02-01", "validation_start": "2025-01-01"}},
            "splits must be given by dates or by lengths, got both",
        ),
        (
            {"split": {**DAY["split"], "validation_start": "2025-01-01"}},
            "validation_start and test_start must be given together",
        ),
    ],
)
def test_a_day_or_lengths_that_cannot_be_meant_are_refused(sections, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**DAY, **sections})
