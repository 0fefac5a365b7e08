-- Whoever counts the interruptions of :queue for :workload says so first, so that none is counted twice. :known
-- is the last that was counted as far as is known, :last the one up to which to count. Without a known one
-- (NULL) it only begins: the one up to which somebody has counted, else :last.
-- One row: the number after which to count.
INSERT INTO qscaler_counted (workload, queue, number, before) VALUES (:workload, :queue, :last, IFNULL(:known, :last))
ON CONFLICT (workload, queue) DO UPDATE SET
    before = MIN(number, :last),
    number = CASE WHEN :known IS NULL THEN number ELSE MAX(number, :last) END
RETURNING CASE WHEN :known IS NULL THEN number ELSE before END;
