"""What people see and hear of a pipeline: its health over time, alerts, status, and the history of a row."""
