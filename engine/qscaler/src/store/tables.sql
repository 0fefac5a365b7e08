-- The engine's own memory on one machine.

CREATE TABLE IF NOT EXISTS workloads (
    workload TEXT PRIMARY KEY,          -- namespace/name
    uid TEXT NOT NULL UNIQUE
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS ledgers (
    uid TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    ledger TEXT NOT NULL                -- JSON
) WITHOUT ROWID;

-- One row per worker that is not gone. The key makes a start by two engines one worker.
CREATE TABLE IF NOT EXISTS workers (
    uid TEXT NOT NULL,                  -- of the workload
    name TEXT NOT NULL,
    worker TEXT NOT NULL UNIQUE,        -- the incarnation, made before the process
    state TEXT NOT NULL CHECK (state IN ('waiting', 'spawning', 'running', 'ending', 'backOff')),
    target TEXT NOT NULL,               -- JSON: what to run, so that any engine can run it
    created_ms INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,     -- of a waiting or backing-off worker
    failures INTEGER NOT NULL DEFAULT 0, -- starts in a row that ended soon
    ended TEXT,                         -- how the last process ended
    engine TEXT,                        -- who started the process: its process id and birth
    pid INTEGER,
    born TEXT,                          -- start time of the process and boot of the machine: with pid, its identity
    started_ms INTEGER,
    kill_at_ms INTEGER,                 -- of an ending worker
    PRIMARY KEY (uid, name)
) WITHOUT ROWID;

-- How the last process under each worker's name ended: by then a row may be of the next one.
CREATE TABLE IF NOT EXISTS endings (
    uid TEXT NOT NULL,                  -- of the workload
    name TEXT NOT NULL,
    fate TEXT NOT NULL,                 -- JSON
    PRIMARY KEY (uid, name)
) WITHOUT ROWID;

-- Memories: windows, history. Losing one costs smoothness, never a worker.
CREATE TABLE IF NOT EXISTS checkpoints (
    uid TEXT PRIMARY KEY,
    checkpoint TEXT NOT NULL
) WITHOUT ROWID;

-- Checkpoints that a later version wrote, untouched.
CREATE TABLE IF NOT EXISTS checkpoints_aside (
    uid TEXT NOT NULL,
    checkpoint TEXT NOT NULL
);

-- The decision record: JSON lines, and the rules that they name.
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL,
    wall_ms INTEGER NOT NULL,
    line TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS records_by_time ON records (uid, wall_ms);
CREATE TABLE IF NOT EXISTS rules (
    hash TEXT PRIMARY KEY,
    document TEXT NOT NULL,             -- JSON
    used_ms INTEGER NOT NULL
) WITHOUT ROWID;
