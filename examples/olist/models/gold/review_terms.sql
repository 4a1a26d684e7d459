/*
description: >
  The words of low and of high reviews, and how much more often they stand in
  reviews of orders that came late. A review is one review of one order; late
  is a delivery after the day of the estimate.
materialized: view
unique_key: [term, side]
columns:
  - {name: term, type: string, description: "Word of at least three letters in lower case, stop words left out.", data_tests: [not_null]}
  - {name: side, type: string, description: "low: score 1 or 2. high: score 4 or 5.", data_tests: [not_null, {accepted_values: [low, high]}]}
  - {name: review_count, type: bigint, description: "Reviews of the side that hold the word in title or message.", data_tests: [not_null]}
  - {name: late_ratio, type: double, description: "Part of the side's reviews of late orders that hold the word, divided by the part of its other reviews that hold it; null below 5 reviews, or where no other review holds it or no order was late."}
*/
WITH sided AS (
  SELECT r.review_id, r.order_id,
    CASE WHEN r.review_score <= 2 THEN 'low' ELSE 'high' END AS side,
    CASE WHEN l.customer_delivery_delay_days > 0 THEN 1 ELSE 0 END AS is_late,
    lower(coalesce(r.review_comment_title, '') || ' ' || coalesce(r.review_comment_message, '')) AS words
  FROM silver.review_metadata r
  LEFT JOIN gold.fact_order_lead_days l ON r.order_id = l.order_id
  WHERE r.review_score IN (1, 2, 4, 5)
),
side_total AS (
  SELECT s.side, count(*) AS review_count, cast(sum(s.is_late) AS bigint) AS late_count
  FROM sided s
  GROUP BY s.side
),
spoken AS (
  SELECT s.review_id, s.order_id, s.side, s.is_late, explode(regexp_extract_all(s.words, '[a-záâãàçéêíóôõúü]{3,}', 0)) AS term
  FROM sided s
),
held AS (
  SELECT DISTINCT s.review_id, s.order_id, s.side, s.is_late, s.term
  FROM spoken s
),
counted AS (
  SELECT h.term, h.side, count(*) AS review_count, cast(sum(h.is_late) AS bigint) AS late_count
  FROM held h
  LEFT JOIN seed.stop_words w ON h.term = w.word
  WHERE w.word IS NULL
  GROUP BY h.term, h.side
)
SELECT c.term, c.side, c.review_count,
  CASE WHEN c.review_count >= 5 THEN
    (cast(c.late_count AS double) / nullif(t.late_count, 0))
      / nullif(cast(c.review_count - c.late_count AS double) / nullif(t.review_count - t.late_count, 0), 0)
  END AS late_ratio
FROM counted c
JOIN side_total t ON c.side = t.side
