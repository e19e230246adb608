"""What holds a secret does not show it: settings right and wrong, variables, wrong use, and what Python itself prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.security.conftest import Run
from tests.security.planting import PLANTED, at, encoded, found_in
from totes import log
from totes.cli.session import report
from totes.config import Settings, load_settings
from totes.errors import ConfigurationError, TotesError

SOURCE_URL, ALERT_URL = at(1, "source"), f"mailto://robot:{encoded('mail')}@mail.example"
WRONG_SETTINGS = [
    f'source = "{SOURCE_URL}"',
    f'[source]\nurl = ["{SOURCE_URL}"]',
    f'[source]\nurl = {{ password = "{encoded("source")}" }}',
    f"[source]\nurl = \"host=db password='{encoded('source')}'\"",
    f'[source]\nurl = "mysql://root:{encoded("source")}@db"',
    f'[source]\nurl = "{SOURCE_URL}"\npassword = "{encoded("source")}"',
    f'[source]\nurl = "{SOURCE_URL}',
    f'[source]\nurl = "{at(1, "source", password=PLANTED["source"])}"',
    f'[source]\nurl = "{SOURCE_URL}"\n[warehouse]\nurl = "{at(1, "warehouse", password=PLANTED["warehouse"])}"',
    f'[source]\nurl = "{SOURCE_URL}"\n[lake]\nprocessed = "gs://id:{encoded("source")}@lakes"',
    f'[source]\nurl = "{SOURCE_URL}"\n[lake]\ningestion = "S3://id:{encoded("source")}@lakes"',
    f"[source]\nurl = {SOURCE_URL}",
    f'[source]\nurl = "{SOURCE_URL}"\nurl = "{SOURCE_URL}"',
    f'[source]\nurl = "{SOURCE_URL}"\nlock_timeout = "{SOURCE_URL}"',
    f'[source]\nurl = "{SOURCE_URL}"\n[warehouse]\nurl = "{at(1, "warehouse").replace("postgresql", "mysql")}"',
    f'[source]\nurl = "{SOURCE_URL}"\n[alerts]\nurls = "{ALERT_URL}"',
    f'[source]\nurl = "{SOURCE_URL}"\n[alerts]\nurls = [["{ALERT_URL}"]]',
    f'[source]\nurl = "{SOURCE_URL}"\n[alerts]\nurls = {{ one = "{ALERT_URL}" }}',
]


@pytest.mark.parametrize("text", WRONG_SETTINGS)
def test_wrong_settings_are_told_of_without_what_they_hold(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "totes.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "totes.toml")
    _tell(caught.value, capsys)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TOTES_SOURCE__URL", f"host=db password={encoded('source')}"),
        ("TOTES_SOURCE", f'{{"url": "{SOURCE_URL}", "password": "{encoded("source")}"}}'),
        ("TOTES_SOURCE", f'{{"url": "{SOURCE_URL}"'),
        ("TOTES_ALERTS__URLS", ALERT_URL),
        ("TOTES_ALERTS__URLS", f'["{ALERT_URL}", 1'),
        ("TOTES_ALERTS", f'"{ALERT_URL}"'),
        ("TOTES_SOURCE__PASSWORD", PLANTED["source"]),
        ("TOTES_SOURCES__URL", SOURCE_URL),
    ],
)
def test_wrong_variables_are_told_of_without_what_they_hold(
    variable: str,
    value: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "totes.toml").write_text(f'[source]\nurl = "{SOURCE_URL}"', encoding="utf-8")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "totes.toml")
    _tell(caught.value, capsys)


def _tell(error: TotesError, capsys: pytest.CaptureFixture[str]) -> None:
    report(str(error), error, debug=True)
    said = capsys.readouterr()
    assert found_in(said.err) | found_in(str(error)) | found_in(repr(error)) == set()


def test_secrets_of_the_environment_are_masked(planted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://robot:proxy-4000@proxy.example")
    monkeypatch.setenv("TOTES_SOURCE__URL", SOURCE_URL)
    load_settings(None)
    for secret in ("libpq", "aws", "session", "mail", "source"):
        assert found_in(str(TotesError(f"{PLANTED[secret]} {encoded(secret)}"))) == set()
    assert str(TotesError("proxy-4000")) == "***"


def test_settings_do_not_show_their_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(
        source={"url": SOURCE_URL}, warehouse={"url": at(1, "warehouse")}, alerts={"urls": [ALERT_URL]}
    )
    log.configure(terminal=False)
    log.logger().warning(
        "settings", settings=settings, dumped=settings.model_dump(), urls=[SOURCE_URL, {"a": ALERT_URL}]
    )
    log.logger().warning("error", error=ValueError(SOURCE_URL), pair=(SOURCE_URL, 1), of={ALERT_URL: 2})
    log.configure(terminal=True)
    try:
        raise ValueError(PLANTED["source"])
    except ValueError:
        log.logger().exception(f"tell {SOURCE_URL}", url=SOURCE_URL)
    shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]
    shown += [
        repr(settings.source),
        repr(settings.source.url),
        str(settings.alerts.urls),
        f"{settings.warehouse}",
    ]
    with pytest.raises(ValidationError) as caught:
        settings.source.url = SOURCE_URL  # type: ignore[misc,assignment]
    shown.append(repr(caught.value))
    said = capsys.readouterr()
    assert said.err.count("***") >= 7
    assert found_in("".join(shown) + said.out + said.err) == set()


@pytest.mark.parametrize(
    "last_words",
    [
        "raise ValueError(secret)",
        "threading.Thread(target=int, args=(secret,)).start()",
        "warnings.warn(secret)",
        "logging.getLogger('library').warning('given %r', secret)",
        "logging.getLogger('library').error('failed', exc_info=ValueError(secret))",
        "type('Kept', (), {'__del__': lambda self: int(secret)})()",
    ],
)
def test_what_python_and_libraries_print_is_masked(last_words: str) -> None:
    program = (
        "import logging, sys, threading, warnings\nfrom totes.cli.masking import mask_process\nmask_process()\n"
        f"secret = sys.argv[1]\n{last_words}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, at(1, "source")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "***" in done.stderr
    assert found_in(done.stderr) == set()


def test_tokens_in_the_urls_of_chat_services_are_masked() -> None:
    tokens = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "webhookid4000/webhooktoken5000"
    Settings(
        source={"url": SOURCE_URL},
        alerts={
            "urls": [
                f"slack://{tokens[0]}/#general",
                f"discord://{tokens[1]}",
                "tgram://123456789:AbCdEfGhIjKlMn/1",
            ]
        },
    )
    error = TotesError(f"{tokens} AbCdEfGhIjKlMn")
    for token in ("TIiajkdnlazkcOXrIdevi7FQ", "webhooktoken5000", "AbCdEfGhIjKlMn"):
        assert token not in str(error)


def test_a_wrong_use_of_the_command_does_not_repeat_a_secret(run: Run) -> None:
    url = at(1, "warehouse")
    for arguments in (("replay", "--warehouse", url, url), (url,)):
        done = run(*arguments, TOTES_SOURCE__URL=at(1, "source"))
        assert done.code == 2
        assert "***" in done.err
