SELECT r.meter_id, r.read_at, r.counter_kwh, r.source_line
FROM raw.readings r
