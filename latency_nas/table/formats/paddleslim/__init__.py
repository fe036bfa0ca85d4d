"""PaddleSlim's latency tables: their keys, their import and their export."""
