"""How fast `totes` is, beside what the same machine can do at all and beside its peers: `make bench`."""
