"""Starts a real Superset on loopback with a project's dashboards: what `make superset` runs, in an environment of Superset's own.

`python dashboards/serve.py ASSETS` imports the folder that `totes dashboards` wrote, and serves until it is stopped. What
Superset keeps is in the folder of --home. Whoever starts it gets a new password each time, which is stored nowhere in clear.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import signal
import sys
import time
import warnings
import webbrowser
from pathlib import Path
from typing import Any

USER = "admin"
_CONFIGURATION = '''\
"""Superset's settings, written by dashboards/serve.py: all that it keeps is in this folder."""

SECRET_KEY = {key!r}
SQLALCHEMY_DATABASE_URI = {database!r}
FAB_ADD_SECURITY_API = True
ENABLE_PROXY_FIX = False
RATELIMIT_ENABLED = False
RATELIMIT_STORAGE_URI = "memory://"
TALISMAN_ENABLED = False  # its policy asks for https, which loopback does not need
SESSION_COOKIE_NAME = "superset-totes"
SESSION_COOKIE_SAMESITE = "Lax"
SQLLAB_CTAS_NO_LIMIT = False
FEATURE_FLAGS = {{"DASHBOARD_RBAC": False}}
'''


def main() -> None:
    """Imports, serves, and ends when it is asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("assets", type=Path, help="the folder that totes dashboards wrote")
    arguments.add_argument(
        "--home", type=Path, default=Path("build/superset"), help="where Superset keeps its own data"
    )
    arguments.add_argument("--port", type=int, default=8088, help="the port; 0 takes one that is free")
    arguments.add_argument("--no-open", action="store_true", help="do not open a browser")
    arguments.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    wished = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    begun = time.monotonic()
    app = prepared(wished.home)
    password = secrets.token_urlsafe(12)
    set_up(app, wished.assets, password)
    serve(app, wished, password, time.monotonic() - begun)


def prepared(home: Path) -> Any:
    """Superset's application, with its settings in a folder for its user alone."""
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    key = home / "secret_key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(secrets.token_urlsafe(42), encoding="utf-8")
    settings = home / "superset_config.py"
    settings.touch(mode=0o600)
    settings.write_text(
        _CONFIGURATION.format(key=key.read_text("utf-8"), database=f"sqlite:///{home}/superset.db"),
        encoding="utf-8",
    )
    os.environ |= {"SUPERSET_HOME": str(home), "SUPERSET_CONFIG_PATH": str(settings), "FLASK_APP": "superset"}
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    from superset.app import create_app

    return create_app()


def set_up(app: Any, assets: Path, password: str) -> None:
    """Makes Superset's own tables, a person who may do everything, and what is imported."""
    person = ["--username", USER, "--password", password]
    named = ["--firstname", "Demo", "--lastname", "Admin", "--email", "admin@localhost"]
    if not (Path(os.environ["SUPERSET_HOME"]) / "ready").exists():
        run(app, "making its tables", "db", "upgrade")
        run(app, "making its roles", "init")
        run(app, "making a person", "fab", "create-admin", *person, *named)
        (Path(os.environ["SUPERSET_HOME"]) / "ready").touch()
    else:
        run(app, "choosing a password", "fab", "reset-password", *person)
    run(app, "importing the dashboards", "import-directory", "--overwrite", str(assets.absolute()))


def run(app: Any, doing: str, *arguments: str) -> None:
    """Runs one of Superset's commands in this process: each of its own would take ten seconds to start."""
    print(f"Superset: {doing} …", file=sys.stderr, flush=True)
    from flask.cli import ScriptInfo
    from superset.cli.main import superset

    done = app.test_cli_runner().invoke(superset, list(arguments), obj=ScriptInfo(create_app=lambda: app))
    if done.exit_code:
        sys.exit(f"error: Superset failed while {doing}: {done.output[-3000:]}\n{done.exception!r}")


def serve(app: Any, wished: argparse.Namespace, password: str, seconds: float) -> None:
    """Serves on loopback, and prints the address."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", wished.port, app, threaded=True)
    url = f"http://127.0.0.1:{server.server_port}/dashboard/list/"
    if wished.json:
        print(
            json.dumps({"url": url, "user": USER, "password": password, "seconds": round(seconds, 1)}),
            flush=True,
        )
    else:
        print(
            f"Superset is at {url}\nLog in as {USER} with the password {password}\nCtrl-C stops it.",
            flush=True,
        )
        if not wished.no_open and sys.stdout.isatty():
            webbrowser.open(url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
