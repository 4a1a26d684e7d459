SELECT m.meter_id, m.building, m.tariff, m.updated_at
FROM raw.meters m
