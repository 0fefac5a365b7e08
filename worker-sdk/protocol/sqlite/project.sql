-- Shows the offer :id of :workload as :state (of or for :worker) under :epoch, if it is absent and above the floor.
INSERT INTO qscaler_offers (workload, id, state, worker)
SELECT :workload, :id, :state, :worker
WHERE EXISTS (SELECT 1 FROM qscaler_path WHERE workload = :workload AND epoch = :epoch AND floor < :id)
ON CONFLICT (workload, id) DO NOTHING;
