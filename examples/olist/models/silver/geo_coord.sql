/*
description: >
  Where a postal code area lies. The latest point sent for the area counts; an
  area whose latest point lies outside Brazil has no row.
materialized: incremental
unique_key: [zip_code]
columns:
  - {name: zip_code, type: string, description: "First five digits of the postal code, as text with leading zeros.", data_tests: [not_null, unique]}
  - {name: lat, type: double, description: "Latitude of the middle of the area in degrees, north positive.", data_tests: [not_null]}
  - {name: lng, type: double, description: "Longitude of the middle of the area in degrees, east positive.", data_tests: [not_null]}
  - {name: city, type: string, description: "City of the area."}
  - {name: state, type: string, description: "State of the area, two letters."}
*/
WITH latest AS (
  SELECT zip_code, lat, lng, city, state, _deleted,
    row_number() OVER (
      PARTITION BY zip_code
      ORDER BY ingest_time DESC NULLS LAST, lat DESC NULLS LAST, lng DESC NULLS LAST, city DESC NULLS LAST, state DESC NULLS LAST,
        _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.geolocation
)
SELECT zip_code, lat, lng, city, state
FROM latest
WHERE rn = 1 AND NOT _deleted AND zip_code IS NOT NULL
  AND lat >= -33.76 AND lat <= 5.28 AND lng >= -74.00 AND lng <= -28.83
