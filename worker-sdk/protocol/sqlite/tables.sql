-- Everything that QScaler keeps in a SQLite database. Run at every connect; changes nothing that is there.
-- Times are milliseconds since 1970 in UTC, by the clock of the machine that holds the file.

-- Producers only need: INSERT INTO qscaler_tasks (queue, payload) VALUES ('mail', '...');
-- with available_ms in the future for a task that is to wait.
CREATE TABLE IF NOT EXISTS qscaler_tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    payload BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    enqueued_ms INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)),
    available_ms INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)),
    lease TEXT,
    worker TEXT,
    lease_until_ms INTEGER
);
CREATE INDEX IF NOT EXISTS qscaler_tasks_waiting ON qscaler_tasks (queue, available_ms, id) WHERE lease IS NULL;
CREATE INDEX IF NOT EXISTS qscaler_tasks_leased ON qscaler_tasks (lease_until_ms) WHERE lease IS NOT NULL;

-- Tasks that failed for good, with why; kept until somebody looks.
CREATE TABLE IF NOT EXISTS qscaler_dead (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    payload BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    died_ms INTEGER NOT NULL
);

-- Times when a worker's work on tasks was cut off: `lost` when it stopped renewing, `grace` when it had to end.
CREATE TABLE IF NOT EXISTS qscaler_interrupted (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    worker TEXT NOT NULL,
    why TEXT NOT NULL CHECK (why IN ('lost', 'grace')),
    tasks INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS qscaler_interrupted_of ON qscaler_interrupted (queue, number);
-- The last thousand are kept.
CREATE TRIGGER IF NOT EXISTS qscaler_interrupted_trim AFTER INSERT ON qscaler_interrupted BEGIN
    DELETE FROM qscaler_interrupted WHERE number <= NEW.number - 1000;
END;
-- Up to which one each workload has counted them.
CREATE TABLE IF NOT EXISTS qscaler_counted (
    workload TEXT NOT NULL,
    queue TEXT NOT NULL,
    number INTEGER NOT NULL,
    before INTEGER NOT NULL,
    PRIMARY KEY (workload, queue)
) WITHOUT ROWID;

-- Counts per queue, kept by the triggers below, so that reading them costs the same at any length.
CREATE TABLE IF NOT EXISTS qscaler_queues (
    queue TEXT PRIMARY KEY,
    waiting INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0,
    arrived INTEGER NOT NULL DEFAULT 0,
    departed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS qscaler_tasks_arrive AFTER INSERT ON qscaler_tasks BEGIN
    INSERT INTO qscaler_queues (queue, waiting, leased, arrived)
        VALUES (NEW.queue, NEW.lease IS NULL, NEW.lease IS NOT NULL, 1)
        ON CONFLICT (queue) DO UPDATE SET waiting = waiting + excluded.waiting,
            leased = leased + excluded.leased, arrived = arrived + 1;
END;
CREATE TRIGGER IF NOT EXISTS qscaler_tasks_move AFTER UPDATE OF lease ON qscaler_tasks
WHEN (OLD.lease IS NULL) <> (NEW.lease IS NULL) BEGIN
    UPDATE qscaler_queues SET waiting = waiting + (NEW.lease IS NULL) - (OLD.lease IS NULL),
        leased = leased + (NEW.lease IS NOT NULL) - (OLD.lease IS NOT NULL) WHERE queue = NEW.queue;
END;
CREATE TRIGGER IF NOT EXISTS qscaler_tasks_depart AFTER DELETE ON qscaler_tasks BEGIN
    UPDATE qscaler_queues SET waiting = waiting - (OLD.lease IS NULL),
        leased = leased - (OLD.lease IS NOT NULL), departed = departed + 1 WHERE queue = OLD.queue;
END;

-- The control path: one row of qscaler_path, its offers, and the workers' reports, per workload.
CREATE TABLE IF NOT EXISTS qscaler_path (
    workload TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    floor INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS qscaler_offers (
    workload TEXT NOT NULL,
    id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'claimed', 'withdrawn')),
    worker TEXT,
    PRIMARY KEY (workload, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS qscaler_reports (
    workload TEXT NOT NULL,
    worker TEXT NOT NULL,
    report TEXT NOT NULL,
    epoch TEXT,
    at_ms INTEGER NOT NULL,
    released INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (workload, worker)
) WITHOUT ROWID;
