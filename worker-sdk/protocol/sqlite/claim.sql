-- Takes an open offer of :workload for :worker under :epoch: one that names it, else the lowest that
-- names nobody; a claim that it already has is returned again. One row with the id, or none.
UPDATE qscaler_offers SET state = 'claimed', worker = :worker
WHERE workload = :workload
    AND EXISTS (SELECT 1 FROM qscaler_path WHERE workload = :workload AND epoch = :epoch)
    AND NOT EXISTS (SELECT 1 FROM qscaler_offers WHERE workload = :workload AND state = 'claimed' AND worker = :worker)
    AND id = (
        SELECT id FROM qscaler_offers
        WHERE workload = :workload AND state = 'open' AND (worker IS NULL OR worker = :worker)
        ORDER BY worker IS NULL, id LIMIT 1
    );

SELECT id FROM qscaler_offers
WHERE workload = :workload AND state = 'claimed' AND worker = :worker
    AND EXISTS (SELECT 1 FROM qscaler_path WHERE workload = :workload AND epoch = :epoch);
