"""TerrificTotes, the built-in project: its models, its reference data, and a source to try them on."""
