-- When people buy: more each month until 2018, less at weekends, much on Black
-- Friday; and by the hour of the day.
CREATE TABLE day AS
WITH weighted AS (
  SELECT d AS day,
    (CASE WHEN d < DATE '2017-01-01' THEN 0.03 ELSE least(1, 0.12 + 0.88 * date_diff('day', DATE '2017-01-01', d) / 330) END)
    * pick([0.85, 1.15, 1.13, 1.10, 1.06, 1.00, 0.78], dayofweek(d) / 7.0)
    * CASE
        WHEN d IN (DATE '2016-11-25', DATE '2017-11-24') THEN 6
        WHEN d BETWEEN DATE '2017-11-25' AND DATE '2017-11-28' THEN 2
        WHEN month(d) = 12 AND day(d) > 22 THEN 0.6
        ELSE 1
      END AS weight
  FROM (SELECT CAST(unnest(range(DATE '2016-09-04', DATE '2018-09-01', INTERVAL 1 DAY)) AS DATE) AS d)
)
SELECT day, weight,
  (sum(weight) OVER (ORDER BY day) - weight) / sum(weight) OVER () AS from_share,
  weight / sum(weight) OVER () AS share
FROM weighted;

CREATE TABLE hour AS
WITH weighted AS (
  SELECT h - 1 AS hour, [25, 12, 5, 3, 2, 2, 5, 12, 30, 48, 62, 66, 60, 65, 66, 65, 67, 62, 58, 60, 62, 62, 58, 41][h] AS weight
  FROM range(1, 25) t(h)
)
SELECT hour, (sum(weight) OVER (ORDER BY hour) - weight) / sum(weight) OVER () AS from_share, weight / sum(weight) OVER () AS share
FROM weighted;
