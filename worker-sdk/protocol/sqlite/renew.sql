-- Keeps the task :id of :lease for another :lease_ms. One row, or none when the lease was lost.
UPDATE qscaler_tasks
SET lease_until_ms = CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) + :lease_ms
WHERE id = :id AND lease = :lease
RETURNING id;
