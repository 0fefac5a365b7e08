-- The task :id of :lease has failed for good, for the reason :error. One row, or none when the lease was lost.
INSERT INTO qscaler_dead (id, queue, payload, attempts, error, died_ms)
SELECT id, queue, payload, attempts, :error, CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
FROM qscaler_tasks WHERE id = :id AND lease = :lease;

DELETE FROM qscaler_tasks WHERE id = :id AND lease = :lease RETURNING id;
