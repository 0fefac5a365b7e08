-- Forgets all offers of :workload: part of beginning an epoch, in the same transaction.
DELETE FROM qscaler_offers WHERE workload = :workload;
