"""Which database is this? Tests of the source's identity over servers that fail, are copied and are upgraded."""
