"""Who may ask `totes ui`, and for what: names of the server, tokens, headers; and how it begins and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.ui.conftest import Shop
from tests.ui.site import Site

pytestmark = pytest.mark.parametrize("still_shop", ["duckdb"], indirect=True)
PAGES = ("/", "/star", "/rows/fact_order", "/static/style.css", "/nowhere", "/quarantine")


def test_pages_load_nothing_from_elsewhere(still_site: Site) -> None:
    for page in PAGES:
        answer = still_site.ask("GET", page)
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self';"
            " base-uri 'none'; frame-ancestors 'none'"
        ), page
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r'\b(?:style|on\w+)="|<style|(?:src|href)="https?:', answer.text), page
        assert not re.findall(r"<script(?![^>]*(?:src=|application/json))", answer.text), page


def test_a_name_that_is_not_this_servers_is_refused(still_site: Site) -> None:
    port = urlsplit(still_site.url).port
    assert still_site.ask("GET", "/", Host=f"localhost:{port}").status == 200
    for host in (
        "totes.example",
        f"totes.example:{port}",
        "127.0.0.1",
        f"127.0.0.1.nip.example:{port}",
        f"localhost:{port}.x",
    ):
        answer = still_site.ask("GET", "/", Host=host)
        assert (answer.status, "fact_order" in answer.text) == (421, False), host


def test_nothing_is_changed_but_by_a_form_of_this_process(still_site: Site) -> None:
    place = urlsplit(still_site.url).netloc
    token = "0" * 43
    refused = [
        still_site.ask("POST", "/quarantine/retry", f"csrf={token}"),
        still_site.ask("POST", "/quarantine/retry", ""),
        still_site.ask("POST", "/quarantine/retry", "csrf=" + "x" * 100_000),
        still_site.ask("POST", "/quarantine/retry", f"csrf={token}", Origin="http://totes.example"),
        still_site.ask("POST", "/quarantine/retry", f"csrf={token}", Origin="null"),
        still_site.ask("POST", "/quarantine/retry", f"csrf={token}", Origin=""),
        still_site.ask("POST", "/quarantine/retry", f"csrf={token}", Origin=f"https://{place}"),
    ]
    assert [answer.status for answer in refused] == [403] * len(refused)
    assert [still_site.ask(method, "/", Origin=f"http://{place}").status for method in ("POST", "PUT")] == [
        405,
        405,
    ]
    assert still_site.ask("GET", "/quarantine/retry").status == 405


def test_no_file_but_the_pages_own_is_given(still_site: Site) -> None:
    for path in (
        "/static/../pages.py",
        "/static/%2e%2e/pages.py",
        "/static//etc/passwd",
        "/static/..%2fpages.py",
    ):
        assert still_site.ask("GET", path).status == 404, path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_being_stopped_is_its_good_end(still_shop: Shop, number: int) -> None:
    site = Site(still_shop.folder)
    site.get("/")
    assert site.stop(number) == ""
    assert site.code == 0


def test_beyond_loopback_a_token_is_required_and_said_so(still_shop: Shop) -> None:
    with Site(still_shop.folder, "--host", "0.0.0.0") as site:
        token = re.fullmatch(r"http://0\.0\.0\.0:\d+/\?token=(\S{32,})", site.url)
        assert token
        for page in PAGES:
            answer = site.ask("GET", page)
            assert (answer.status, "fact_order" in answer.text) == (401, False), page
        assert site.ask("GET", f"/?token={'0' * 32}").status == 401
        admitted = site.ask("GET", f"/star?token={token[1]}&x=1")
        assert (admitted.status, admitted.headers["location"]) == (303, "/star?x=1")
        cookie = admitted.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        shown = site.ask("GET", "/star", Cookie=cookie.partition(";")[0])
        assert shown.status == 200
        assert "Open to the network" in shown.text
        assert token[1] not in shown.text
        assert "warning: This page can be reached from other machines" in site.stop()


def test_the_command_itself_prints_where_it_is(still_shop: Shop) -> None:
    command = [Path(sys.executable).with_name("totes"), "ui", "--port", "0", "--no-open"]
    with subprocess.Popen(
        command, cwd=still_shop.folder, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert re.fullmatch(r"The pipeline is at http://127\.0\.0\.1:\d+/\n", line)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_port_that_is_taken_is_one_line(still_shop: Shop, totes: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = totes("ui", "--no-open", "--port", str(taken.getsockname()[1]), cwd=still_shop.folder)
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(
        r"error: 127\.0\.0\.1 port \d+ cannot be listened on: .*--port; 0 takes one that is free\n", done.err
    )


def test_the_site_is_exported_without_values(still_shop: Shop, tmp_path: Path, totes: Any) -> None:
    folder = tmp_path / "site"
    done = totes("ui", "--export", str(folder), "--json", cwd=still_shop.folder)
    assert done.code == 0, done.err
    files = json.loads(done.out)["files"]
    assert {
        "index.html",
        "star.html",
        "star/fact_order.html",
        "quarantine.html",
        "verify.html",
        "plan.html",
    } <= set(files)
    for page in folder.rglob("*.html"):
        content = page.read_text("utf-8")
        assert [part for part in ("Ada", "csrf", "<form") if part in content] == [], page
        for link in re.findall(r'(?:href|src)="([^"#]+)"', content):
            assert (page.parent / link).resolve().is_file(), (page, link)
            assert (page.parent / link).resolve().is_relative_to(folder.resolve())
    tables = {
        table["name"]: table
        for table in json.loads((folder / "dictionary.json").read_text("utf-8"))["tables"]
    }
    columns = {column["name"]: column for column in tables["fact_order"]["columns"]}
    assert columns["customer_id"]["sources"] == ["order.customer_id"]
    assert columns["customer_id"]["references"] == "dim_customer"
    assert columns["valid_to"]["description"] == "Until when it was so; empty in the current version."
    assert "is not empty" in totes("ui", "--export", str(folder), cwd=still_shop.folder).err
