"""Output for people: tables, charts, pictures, logs, and the schema of result files."""
