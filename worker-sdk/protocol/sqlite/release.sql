-- Turns the drained report of :worker under :boot into released. One row, or none when it says something else.
UPDATE qscaler_reports SET released = 1
WHERE workload = :workload AND worker = :worker
    AND json_extract(report, '$.state') = 'drained' AND json_extract(report, '$.boot') = :boot
RETURNING worker;
