-- Deletes the report of :worker of :workload, which is gone.
DELETE FROM qscaler_reports WHERE workload = :workload AND worker = :worker;
