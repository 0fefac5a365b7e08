-- Takes the offer :id of :workload back under :epoch, also where it was not written yet. One row with its
-- state and claimer afterwards, or none under another epoch or at or under the floor.
INSERT INTO qscaler_offers (workload, id, state, worker)
SELECT :workload, :id, 'withdrawn', NULL
WHERE EXISTS (SELECT 1 FROM qscaler_path WHERE workload = :workload AND epoch = :epoch AND floor < :id)
ON CONFLICT (workload, id) DO UPDATE SET state = 'withdrawn', worker = NULL WHERE state = 'open';

SELECT state, worker FROM qscaler_offers
WHERE workload = :workload AND id = :id
    AND EXISTS (SELECT 1 FROM qscaler_path WHERE workload = :workload AND epoch = :epoch AND floor < :id);
