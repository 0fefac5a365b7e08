-- Epoch and floor of :workload. One row, or none before the first epoch.
SELECT epoch, floor FROM qscaler_path WHERE workload = :workload;
