-- Gives the task :id of :lease back, to be taken after :delay_ms. :uncount is 1 when the attempt does
-- not count against the task, because nobody failed it: its worker had to end. One row, or none when the lease
-- was lost.
INSERT INTO qscaler_interrupted (queue, worker, why, tasks)
SELECT queue, worker, 'grace', 1 FROM qscaler_tasks WHERE id = :id AND lease = :lease AND :uncount = 1;

UPDATE qscaler_tasks
SET lease = NULL, worker = NULL, lease_until_ms = NULL, attempts = attempts - :uncount,
    available_ms = CASE WHEN :delay_ms > 0
        THEN CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) + :delay_ms
        ELSE available_ms END
WHERE id = :id AND lease = :lease
RETURNING id;
