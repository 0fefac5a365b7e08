-- The task :id of :lease is done. One row, or none when the lease was lost: then it may run twice.
DELETE FROM qscaler_tasks WHERE id = :id AND lease = :lease RETURNING id;
