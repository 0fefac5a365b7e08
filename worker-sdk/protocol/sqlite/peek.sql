-- Whether :queue has a task to take. Reads only, so that idle workers do not queue for the write lock.
SELECT 1 FROM qscaler_tasks
WHERE queue = :queue AND lease IS NULL
    AND available_ms <= CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
LIMIT 1;
