-- Several points for each postal code, under both spellings of the city; some
-- codes have none, and a few points lie in another country.
WITH code AS (
  SELECT prefix, state, accented, name, k, id, lat + 0.12 * bell('lat', id) AS lat, lng + 0.12 * bell('lng', id) AS lng
  FROM (SELECT c.*, k, c.number * 10000 + k AS id FROM city c, range(city_zips(c.buyers, c.prefix)) t(k))
),
point AS (
  SELECT code.*, q, id * 1000 + q AS point
  FROM code, range(1, 2 + CAST(least(990, floor(getvariable('points_per_zip') * waiting('points', id))) AS BIGINT)) t(q)
  WHERE draw('unknown place', id) >= 0.012
)
SELECT zip_of(prefix, state, k) AS geolocation_zip_code_prefix,
  CASE WHEN draw('abroad', point) < 0.00003 THEN 38.7 + draw('north', point) ELSE round(lat + 0.008 * (draw('north', point) - 0.5), 8) END AS geolocation_lat,
  CASE WHEN draw('abroad', point) < 0.00003 THEN -9.1 + draw('east', point) ELSE round(lng + 0.008 * (draw('east', point) - 0.5), 8) END AS geolocation_lng,
  CASE WHEN draw('spelling', point) < 0.2 THEN accented ELSE name END AS geolocation_city,
  state AS geolocation_state,
  point AS source_line
FROM point
