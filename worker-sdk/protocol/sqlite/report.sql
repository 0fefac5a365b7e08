-- Stores the :report of :worker of :workload with the path's epoch, and answers: epoch, whether an open
-- offer names the worker, whether one is open to anybody, the worker's claim, whether it is released or
-- drained: then it takes nothing, and only another drained report takes the place of that one.
INSERT INTO qscaler_reports (workload, worker, report, epoch, at_ms)
VALUES (:workload, :worker, :report, (SELECT epoch FROM qscaler_path WHERE workload = :workload),
    CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER))
ON CONFLICT (workload, worker) DO UPDATE SET report = excluded.report, epoch = excluded.epoch, at_ms = excluded.at_ms
    WHERE json_extract(qscaler_reports.report, '$.state') <> 'drained' OR json_extract(excluded.report, '$.state') = 'drained';

SELECT (SELECT epoch FROM qscaler_path WHERE workload = :workload),
    EXISTS (SELECT 1 FROM qscaler_offers WHERE workload = :workload AND state = 'open' AND worker = :worker),
    EXISTS (SELECT 1 FROM qscaler_offers WHERE workload = :workload AND state = 'open' AND worker IS NULL),
    (SELECT id FROM qscaler_offers WHERE workload = :workload AND state = 'claimed' AND worker = :worker),
    (SELECT released OR json_extract(report, '$.state') = 'drained' FROM qscaler_reports WHERE workload = :workload AND worker = :worker);
