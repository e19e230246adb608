"""The command `totes`, also as `python -m totes` if the console script is not on the path."""

from __future__ import annotations

import signal


def main() -> None:
    """The console script. An interrupt during the imports ends the process without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from totes.cli import app

    signal.signal(signal.SIGINT, signal.default_int_handler)
    app.main()


if __name__ == "__main__":
    main()
