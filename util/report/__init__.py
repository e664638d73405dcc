"""Views of results: tables, charts, pictures, comparisons, verification."""
