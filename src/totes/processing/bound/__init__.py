"""A model bound to the relations of one moment: every name resolved, every row error found, as SQL for the engine. Pure."""
