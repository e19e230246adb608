"""The tests mirror `src`; contracts/ hold one suite for every backend, acceptance/ runs the command as a subprocess."""
