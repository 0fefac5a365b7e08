-- Leases the first task of :queue to :worker under :lease for :lease_ms. One row, or none.
UPDATE qscaler_tasks
SET lease = :lease, worker = :worker, attempts = attempts + 1,
    lease_until_ms = CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) + :lease_ms
WHERE id = (
    SELECT id FROM qscaler_tasks
    WHERE queue = :queue AND lease IS NULL
        AND available_ms <= CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)
    ORDER BY available_ms, id LIMIT 1
)
RETURNING id, payload, attempts, enqueued_ms;
