-- Interruptions of :queue after the one with number :known: number, why, tasks, worker.
SELECT number, why, tasks, worker FROM qscaler_interrupted WHERE queue = :queue AND number > :known ORDER BY number;
