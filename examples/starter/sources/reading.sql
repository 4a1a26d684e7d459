SELECT r.meter_id, r.read_at, r.counter_kwh
FROM raw.readings r
