-- What the workers of :workload last reported: report, epoch, age in milliseconds, released.
SELECT report, epoch, MAX(0, CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) - at_ms), released
FROM qscaler_reports WHERE workload = :workload ORDER BY worker;
