-- Forgets the offers of :workload at or under :floor, under :epoch. A floor never falls.
DELETE FROM qscaler_offers
WHERE workload = :workload AND id <= :floor
    AND EXISTS (SELECT 1 FROM qscaler_path WHERE workload = :workload AND epoch = :epoch AND floor < :floor);

UPDATE qscaler_path SET floor = MAX(floor, :floor) WHERE workload = :workload AND epoch = :epoch RETURNING floor;
