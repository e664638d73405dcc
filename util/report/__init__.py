"""What a person sees: tables, pictures, logs, results."""
