"""Files: reading, atomic writing, names, digests, pictures and errors; one module an idea."""
