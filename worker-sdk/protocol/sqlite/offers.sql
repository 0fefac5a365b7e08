-- The offers of :workload: id, state, worker.
SELECT id, state, worker FROM qscaler_offers WHERE workload = :workload ORDER BY id;
