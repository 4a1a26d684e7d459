/*
description: How reviews score and how many calendar days their answer took.
materialized: incremental
unique_key: [review_id, order_id]
columns:
  - {name: review_id, type: string, description: "Review.", data_tests: [not_null]}
  - {name: order_id, type: string, description: "Order that is reviewed.", data_tests: [not_null]}
  - {name: review_score, type: int, description: "Score from 1, bad, to 5, good."}
  - {name: review_creation_date, type: timestamp, description: "When the customer was asked for the review, UTC."}
  - {name: review_answer_timestamp, type: timestamp, description: "When the review was answered, UTC."}
  - {name: until_answer_lead_days, type: int, description: "Calendar days from creation to answer; null where one is not known."}
*/
SELECT r.review_id, r.order_id, r.review_score, r.review_creation_date, r.review_answer_timestamp,
  datediff(cast(r.review_answer_timestamp AS date), cast(r.review_creation_date AS date)) AS until_answer_lead_days
FROM silver.review_metadata r
