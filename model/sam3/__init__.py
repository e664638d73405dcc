"""FSS-SAM3 (arXiv 2604.05433): supports and query on one canvas, which SAM 3 searches for the supports' object."""
