"""`totes demo`: TerrificTotes' story told in a minute, on a PostgreSQL of its own. It uses the pipeline as anyone would."""
