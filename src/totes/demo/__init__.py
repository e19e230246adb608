"""`totes demo`: the pipeline with TerrificTotes' data in a minute, on a PostgreSQL of its own, used as anyone would use it."""
