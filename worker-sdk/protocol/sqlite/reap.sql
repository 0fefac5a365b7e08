-- Takes tasks from workers that stopped renewing: back to their queue, or to the dead after :attempts_max.
INSERT INTO qscaler_interrupted (queue, worker, why, tasks)
SELECT queue, worker, 'lost', COUNT(*) FROM qscaler_tasks
WHERE lease IS NOT NULL AND lease_until_ms < CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
GROUP BY queue, worker;

INSERT INTO qscaler_dead (id, queue, payload, attempts, error, died_ms)
SELECT id, queue, payload, attempts, 'its worker stopped renewing the lease on each attempt',
    CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
FROM qscaler_tasks
WHERE lease IS NOT NULL AND attempts >= :attempts_max
    AND lease_until_ms < CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER);

DELETE FROM qscaler_tasks
WHERE lease IS NOT NULL AND attempts >= :attempts_max
    AND lease_until_ms < CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER);

UPDATE qscaler_tasks SET lease = NULL, worker = NULL, lease_until_ms = NULL
WHERE lease IS NOT NULL AND lease_until_ms < CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
RETURNING id;
