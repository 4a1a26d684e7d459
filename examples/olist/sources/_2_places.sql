-- One row per postal code: the mean of its points inside Brazil, or of all
-- where none is inside; the city and state that most of them name.
CREATE TABLE place AS
WITH points AS (
  SELECT zip(geolocation_zip_code_prefix) AS zip_code,
    TRY_CAST(geolocation_lat AS DECIMAL(12,8)) AS lat, TRY_CAST(geolocation_lng AS DECIMAL(12,8)) AS lng,
    geolocation_city AS city, geolocation_state AS state, source_line
  FROM raw.geolocation
),
named AS (
  SELECT zip_code, city, state,
    coalesce(lat BETWEEN -33.76 AND 5.28 AND lng BETWEEN -74.00 AND -28.83, false) AS inside,
    count(*) AS points, count(lat) AS lats, sum(lat) AS lat, count(lng) AS lngs, sum(lng) AS lng, min(source_line) AS source_line
  FROM points
  GROUP BY zip_code, city, state, inside
),
chosen AS (
  SELECT * FROM named QUALIFY inside = bool_or(inside) OVER (PARTITION BY zip_code)
),
-- A pair counts with all its points that were chosen.
ranked AS (
  SELECT *, row_number() OVER (PARTITION BY zip_code ORDER BY points DESC, city NULLS LAST, state NULLS LAST) AS place FROM chosen
)
SELECT zip_code,
  round(CAST(sum(lat) AS DOUBLE) / nullif(sum(lats), 0), 6) AS lat,
  round(CAST(sum(lng) AS DOUBLE) / nullif(sum(lngs), 0), 6) AS lng,
  max(city) FILTER (place = 1) AS city,
  max(state) FILTER (place = 1) AS state,
  min(source_line) AS source_line
FROM ranked
WHERE zip_code IS NOT NULL
GROUP BY zip_code;
