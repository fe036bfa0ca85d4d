"""PaddleSlim's latency tables: their keys, and both ways between them and ours."""
