BEGIN TRANSACTION;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "facts" VALUES('version','1');
INSERT INTO "facts" VALUES('options','{"visit": {"threads": 1, "precision": "fp32", "power_mode": "normal", "n_warmup": 2, "n_runs": 2, "n_yardstick": 3, "profile": true, "n_whole": 2}, "engine": "mnn", "context": "composed", "contexts": 3, "rounds": 2, "least_rounds": 1, "stop_at": 0.02, "max_drift": 0.1, "n_pieces": 4, "chunk_size": 96, "device": "Board", "source": "", "yardstick_ms": null, "seed": 0}');
INSERT INTO "facts" VALUES('n_pieces','2');
INSERT INTO "facts" VALUES('n_planned','1');
INSERT INTO "facts" VALUES('engine','MNN');
INSERT INTO "facts" VALUES('engine_version','3.6.1');
INSERT INTO "facts" VALUES('machine','aarch64');
INSERT INTO "facts" VALUES('processor','Example chip');
INSERT INTO "facts" VALUES('emulated','False');
CREATE TABLE kernels (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
INSERT INTO "kernels" VALUES(1,'relu [1,8,4,4] -> [1,8,4,4] dtype=fp32');
INSERT INTO "kernels" VALUES(2,'gelu [1,8,4,4] -> [1,8,4,4] dtype=fp32');
CREATE TABLE networks (id INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, branches TEXT NOT NULL, kernels TEXT NOT NULL,
    problem TEXT);
INSERT INTO "networks" VALUES(1,0,'[[1], [2]]','[1, 2]',NULL);
CREATE TABLE pieces (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, label TEXT NOT NULL, text TEXT NOT NULL, problem TEXT);
INSERT INTO "pieces" VALUES(1,'kernel','relu [1,8,4,4] -> [1,8,4,4] dtype=fp32','relu [1,8,4,4] -> [1,8,4,4] dtype=fp32',NULL);
INSERT INTO "pieces" VALUES(2,'kernel','gelu [1,8,4,4] -> [1,8,4,4] dtype=fp32','gelu [1,8,4,4] -> [1,8,4,4] dtype=fp32',NULL);
CREATE TABLE visits (id INTEGER PRIMARY KEY, network INTEGER NOT NULL REFERENCES networks, ended_s REAL NOT NULL,
    yardstick_before_ms BLOB NOT NULL, yardstick_after_ms BLOB NOT NULL, whole_ms BLOB NOT NULL, ops_ms BLOB NOT NULL,
    memory_mb REAL);
INSERT INTO "visits" VALUES(1,1,1767225600.0,X'000000000000F03F000000000000F03F000000000000F03F',X'000000000000F03F000000000000F03F000000000000F03F',X'000000000000E83F000000000000E83F',X'000000000000E03F000000000000D03F000000000000E03F000000000000D03F',NULL);
INSERT INTO "visits" VALUES(2,1,1767225600.0,X'000000000000F03F000000000000F03F000000000000F03F',X'000000000000F03F000000000000F03F000000000000F03F',X'000000000000E83F000000000000E83F',X'000000000000E03F000000000000D03F000000000000E03F000000000000D03F',NULL);
CREATE INDEX networks_by_chunk ON networks (chunk);
CREATE INDEX visits_by_network ON visits (network);
COMMIT;
