"""The command line: one function a command, which says what it does and nothing of how."""
