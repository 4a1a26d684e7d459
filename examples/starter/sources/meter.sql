SELECT m.meter_id, m.building, m.tariff, m.updated_at, m.source_line
FROM raw.meters m
