-- The state of :queue: length, inflight, delayed, arrived and departed so far, and the milliseconds
-- that its first task has waited (NULL when none waits). One row, or none before its first task.
SELECT q.waiting - d.delayed, q.leased, d.delayed, q.arrived, q.departed,
    (SELECT MAX(0, CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) - available_ms)
     FROM qscaler_tasks
     WHERE queue = :queue AND lease IS NULL
        AND available_ms <= CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
     ORDER BY available_ms LIMIT 1)
FROM qscaler_queues q, (
    SELECT COUNT(*) AS delayed FROM qscaler_tasks
    WHERE queue = :queue AND lease IS NULL
        AND available_ms > CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
) d
WHERE q.queue = :queue;
