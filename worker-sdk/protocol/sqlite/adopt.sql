-- Begins :epoch of :workload with :floor, if the path is still in the epoch :seen (NULL: none). One row, or
-- none when it is not; then nothing else of this operation is done. Claims follow by project.sql.
INSERT INTO qscaler_path (workload, epoch, floor)
SELECT :workload, :epoch, :floor
WHERE :seen IS (SELECT epoch FROM qscaler_path WHERE workload = :workload)
ON CONFLICT (workload) DO UPDATE SET epoch = excluded.epoch, floor = excluded.floor
RETURNING epoch;
