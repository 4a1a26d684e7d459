/*
description: >
  What a meter counted from one reading to the next. A reading that comes late
  or again changes only the rows of its meter and day.
unique_key: [meter_id, usage_date, read_at]
scope: [meter_id, usage_date]
columns:
  - {name: meter_id, type: string, description: "Meter.", data_tests: [not_null]}
  - {name: usage_date, type: date, description: "Day of the reading, UTC.", data_tests: [not_null]}
  - {name: read_at, type: timestamp, description: "When it was read, UTC.", data_tests: [not_null]}
  - {name: used_kwh, type: "decimal(12,3)", description: "Used since the reading before on the same day; null for the first of a day."}
*/
WITH one AS (
  SELECT r.meter_id, cast(r.read_at AS date) AS usage_date, r.read_at, max(r.counter_kwh) AS counter_kwh
  FROM bronze.reading r
  WHERE r.read_at IS NOT NULL AND r.counter_kwh IS NOT NULL
  GROUP BY r.meter_id, cast(r.read_at AS date), r.read_at
)
SELECT o.meter_id, o.usage_date, o.read_at,
  o.counter_kwh - lag(o.counter_kwh) OVER (PARTITION BY o.meter_id, o.usage_date ORDER BY o.read_at) AS used_kwh
FROM one o
