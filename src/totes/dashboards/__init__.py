"""What a BI tool needs to start from a star: its tables joined, with metrics and descriptions, and a project's dashboards."""
