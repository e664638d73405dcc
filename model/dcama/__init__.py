"""DCAMA: dense cross-query-and-support attention weighted mask aggregation."""
