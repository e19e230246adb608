"""Settings: where they come from, what is refused, and that a message names the key and never the secret."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from totes.config import Settings, load_settings
from totes.errors import ConfigurationError
from totes.redaction import redact
from totes.setting_types import duration

URL = "postgresql://reader:geheim-42@db.example:5432/totesys"


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Settings]:
    """Reads settings from a file with this text."""

    def load(text: str) -> Settings:
        file = tmp_path / "folder" / "totes.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return load_settings(file)

    return load


def complete(more: str = "") -> str:
    return f'[source]\nurl = "{URL}"\n{more}'


def test_what_is_not_set_has_the_value_that_the_contract_names(load: Callable[[str], Settings]) -> None:
    settings = load(complete())
    assert (settings.project.name, settings.source.schema_, settings.source.capture) == (
        "terrifictotes",
        "public",
        "query",
    )
    assert (settings.lake.ingestion, settings.lake.processed) == ("lake/ingestion", "lake/processed")
    assert settings.warehouse_url() == "duckdb:///warehouse.duckdb"
    assert (settings.schedule.every, settings.alerts.freshness) == (
        timedelta(minutes=15),
        timedelta(minutes=30),
    )


def test_the_file_in_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "totes.toml").write_text(complete('schema = "shop"\n'))
    monkeypatch.chdir(tmp_path)
    assert load_settings(None).source.schema_ == "shop"


def test_relative_paths_start_from_the_files_folder(load: Callable[[str], Settings], tmp_path: Path) -> None:
    settings = load(complete('[project]\npath = "star"\n[lake]\ncache = "cache"\n'))
    assert settings.path("lake") == tmp_path / "folder" / "lake"
    assert settings.path(settings.project.path or "") == tmp_path / "folder" / "star"
    assert settings.cache_folder == tmp_path / "folder" / "cache"
    assert settings.path("/elsewhere") == Path("/elsewhere")
    assert settings.path("~/there") == Path.home() / "there"


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("TOTES_SOURCE__URL", "postgresql://other", lambda s: s.source_url() == "postgresql://other"),
        ("TOTES_SOURCE__SCHEMA", "shop", lambda s: s.source.schema_ == "shop"),
        ("TOTES_SOURCE__TABLES", '["a", "b_*"]', lambda s: s.source.tables == ("a", "b_*")),
        ("TOTES_SOURCE__KEYS", '{"v": ["a", "b"]}', lambda s: s.source.keys == {"v": ("a", "b")}),
        ("TOTES_LAKE__COMPRESSION", "gzip", lambda s: s.lake.compression == "gzip"),
        ("TOTES_WAREHOUSE__SCHEMA", "star", lambda s: s.warehouse.schema_ == "star"),
        ("TOTES_ALERTS__URLS", '["json://here"]', lambda s: [u.get_secret_value() for u in s.alerts.urls] == ["json://here"]),
        ("TOTES_ALERTS__FRESHNESS", "1h30m", lambda s: s.alerts.freshness == timedelta(minutes=90)),
        ("TOTES_SCHEDULE__EVERY", "2d", lambda s: s.schedule.every == timedelta(days=2)),
        ("totes_source__schema", "shop", lambda s: s.source.schema_ == "shop"),
    ],
)  # fmt: skip
def test_the_environment_overrides_the_file(
    load: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, variable: str, value: str,
    found: Callable[[Settings], bool],
) -> None:  # fmt: skip
    file = complete(
        'schema = "public"\ntables = ["z"]\n[alerts]\nurls = ["json://there"]\nfreshness = "5m"\n'
    )
    assert not found(load(file))
    monkeypatch.setenv(variable, value)
    assert found(load(file))


def test_the_environment_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOTES_SOURCE__URL", URL)
    assert load_settings(None).source_url() == URL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "source is missing"),
        ("[source]", "source.url is missing"),
        (complete('shema = "x"'), "source.shema is not a setting"),
        (complete("[sorce]"), "sorce is not a setting"),
        ('base = "/"\n' + complete(), "base is not a setting"),
        (complete('capture = "wal"'), "source.capture: Input should be 'query'"),
        (complete('tables = "sales"'), "source.tables: write a list"),
        (complete('[lake]\ncompression = "brotli"'), "lake.compression: Input should be 'zstd', 'gzip' or 'none'"),
        (complete('[lake]\nmemory = "lots"'), "lake.memory: write a size such as 512MB or 4GB"),
        (complete('[schedule]\nevery = "often"'), "schedule.every: write a duration such as 90s, 15m or 1h30m"),
        (complete('[alerts]\nfreshness = "0s"'), "alerts.freshness: a duration must be longer than zero"),
        (complete("[alerts]\nurls = [1]"), "alerts.urls.0: write a text, in quotes"),
        ("source = 3", "source: "),
        ('[source]\nurl = "mysql://u:geheim-42@h/d"', "source.url: it must begin with postgresql://"),
        ('[source]\nurl = ""', "source.url: it must begin with postgresql://"),
        (complete('[warehouse]\nurl = "sqlite:///geheim-42"'), "warehouse.url: it must begin with duckdb:///"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_file_and_without_its_value(
    load: Callable[[str], Settings], tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path}/folder/totes.toml: {said}")
    assert caught.value.exit_code == 2
    assert "geheim-42" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TOTES_SOURCE__BOGUS", "x", "TOTES_SOURCE__BOGUS: source.bogus is not a setting"),
        ("TOTES_SCHEDULE__EVERY", "often", "TOTES_SCHEDULE__EVERY: schedule.every: write a duration"),
        (
            "TOTES_ALERTS__URLS",
            "mailto://geheim-42",
            "TOTES_ALERTS__URLS cannot be read: in the environment, lists",
        ),
    ],
)
def test_a_wrong_variable_is_named(
    load: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load(complete())
    assert str(caught.value).startswith(said)
    assert "geheim-42" not in str(caught.value)


def test_text_that_is_no_toml_is_named_with_its_line(load: Callable[[str], Settings]) -> None:
    with pytest.raises(ConfigurationError, match=r"totes\.toml is not valid TOML: .*line 2"):
        load("[source]\nurl = unquoted\n")


def test_no_file_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"there is no totes\.toml\. Make one with totes init"):
        load_settings(None)
    monkeypatch.setenv("TOTES_SOURCE__URL", URL)
    with pytest.raises(ConfigurationError, match=r"there is no other\.toml"):
        load_settings(Path("other.toml"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("1h 30m", 5400), (" 5 m ", 300)],
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "15", "m", "-5m", "1.5h", "15 minutes", "1h-30m", "0s", "PT15M"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(text)


def test_settings_cannot_be_changed(load: Callable[[str], Settings]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(complete()).source.schema_ = "other"


def test_a_secret_is_not_shown_by_printing_the_settings(load: Callable[[str], Settings]) -> None:
    settings = load(complete('[alerts]\nurls = ["mailto://robot:post-77@mail.example"]\n'))
    assert "geheim-42" not in repr(settings) + str(settings.model_dump())
    assert (
        redact("password authentication failed: geheim-42, post-77")
        == "password authentication failed: ***, ***"
    )


def test_a_variable_with_a_misspelt_section_is_an_error_with_the_nearest_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "totes.toml"
    file.write_text('[source]\nurl = "postgresql://localhost/x"\n')
    monkeypatch.setenv("TOTES_SORUCE__URL", "postgresql://localhost/y")
    with pytest.raises(
        ConfigurationError, match=r"TOTES_SORUCE__URL is not a setting\. Did you mean TOTES_SOURCE__URL\?"
    ):
        load_settings(file)


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("TOTES_SOURCE_URL", "TOTES_SOURCE__URL"), ("TOTES_WAREHOUSE_URL", "TOTES_WAREHOUSE__URL"), ("TOTES_SOURCES_URL", "TOTES_SOURCE__URL"),
        ("TOTES_SOUCE__URL", "TOTES_SOURCE__URL"), ("totes_lake_memory", "TOTES_LAKE__MEMORY"), ("TOTES_SOURCE_SCHEMA", "TOTES_SOURCE__SCHEMA"),
    ],
)  # fmt: skip
def test_a_variable_that_is_nearly_a_setting_is_not_passed_over(
    variable: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOTES_SOURCE__URL", "postgresql://u@h/d")
    monkeypatch.setenv(variable, "postgresql://u@h/d")
    with pytest.raises(ConfigurationError, match=rf"{variable} is not a setting. Did you mean {near}\?"):
        load_settings(None)


def test_variables_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TOTES_VERSION", "TOTES_HOME", "TOTES_STATE_BUCKET", "TOTES_FAILPOINT_TRACE"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("TOTES_SOURCE__URL", "postgresql://u@h/d")
    load_settings(None)


def test_a_settings_key_that_is_nearly_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "totes.toml").write_text('[source]\nurl = "postgresql://u@h/d"\ntabels = ["a"]\n')
    with pytest.raises(
        ConfigurationError, match=r"source\.tabels is not a setting\. Did you mean source\.tables\?"
    ):
        load_settings(tmp_path / "totes.toml")
    with pytest.raises(ConfigurationError, match=r"is not a file. Name a settings file with --config"):
        load_settings(tmp_path)
    with pytest.raises(ConfigurationError, match=r"there is no .*none\.toml. Check the path of --config"):
        load_settings(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["99999999999999999d", "3651d", "99999999h"])
def test_a_duration_has_an_end(text: str) -> None:
    with pytest.raises(ValueError, match="a duration must be at most 3650 days"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sources]\nurl = "postgresql://u@h/d"', "sources is not a setting. Did you mean source?"),
        ("source = 3", "source: write a section, with its keys below it"),
        (
            '[source]\nurl = "postgresql://u@h/d"\ntables = "t"',
            'source.tables: write a list, such as ["a", "b"]',
        ),
        ('[source]\nurl = "postgresql://u@h/d"\nschema = 3', "source.schema: write a text, in quotes"),
        (
            '[source]\nurl = "postgresql://u@h/d"\n[lake]\ncheckpoints = "maybe"',
            "lake.checkpoints: write true or false",
        ),
    ],
)
def test_a_wrong_shape_is_said_in_the_words_of_the_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "totes.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "totes.toml")
    assert str(caught.value) == f"{tmp_path}/totes.toml: {said}"


def test_a_settings_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "totes.toml").write_text('[source]\nurl = "postgresql://u@h/d"', encoding="utf-8-sig")
    assert load_settings(tmp_path / "totes.toml").source.schema_ == "public"
