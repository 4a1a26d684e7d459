/*
description: What each meter used and cost per day, with its building.
unique_key: [meter_id, usage_date]
columns:
  - {name: meter_id, type: string, description: "Meter.", data_tests: [not_null]}
  - {name: usage_date, type: date, description: "Day, UTC.", data_tests: [not_null]}
  - {name: building, type: string, description: "Building of the meter; unknown where the meter was never described."}
  - {name: used_kwh, type: "decimal(18,3)", description: "Used on that day; null while there is one reading only."}
  - {name: cost_cents, type: "decimal(18,2)", description: "What that costs; null without usage or tariff."}
*/
WITH daily AS (
  SELECT u.meter_id, u.usage_date, cast(sum(u.used_kwh) AS decimal(18,3)) AS used_kwh
  FROM silver.usage u
  GROUP BY u.meter_id, u.usage_date
)
SELECT d.meter_id, d.usage_date, coalesce(m.building, 'unknown') AS building, d.used_kwh,
  round(d.used_kwh * cast(t.cents_per_kwh AS decimal(8,2)), 2) AS cost_cents
FROM daily d
LEFT JOIN silver.meter m ON m.meter_id = d.meter_id
LEFT JOIN seed.tariff t ON t.tariff = m.tariff
