/*
description: Every meter as it was described last; removed ones are gone.
unique_key: [meter_id]
columns:
  - {name: meter_id, type: string, description: "Meter.", data_tests: [not_null]}
  - {name: building, type: string, description: "Building that it measures; unknown where nobody said."}
  - {name: tariff, type: string, description: "Name of its price list."}
*/
WITH latest AS (
  SELECT meter_id, building, tariff, _deleted,
    row_number() OVER (
      PARTITION BY meter_id
      ORDER BY updated_at DESC NULLS LAST, building DESC NULLS LAST, tariff DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.meter
)
SELECT meter_id, coalesce(building, 'unknown') AS building, tariff
FROM latest
WHERE rn = 1 AND NOT _deleted
