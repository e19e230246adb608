"""A first project for a database, from what its catalog says: settings, a role's statements, and a model a table."""
