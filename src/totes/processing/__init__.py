"""The second stage: captured changes into rows of the star schema, by models that are each one SQL file."""
