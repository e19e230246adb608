"""The first stage: new and changed rows of a PostgreSQL database, and its deletes, into the ingestion lake."""
