"""What looks at results: tables, charts, pictures, comparisons, verification."""
