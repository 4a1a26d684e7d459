/*
description: The reviews of orders as they were sent last. A review id may stand on several orders, so the pair is the key.
materialized: incremental
unique_key: [review_id, order_id]
columns:
  - {name: review_id, type: string, description: "Review.", data_tests: [not_null]}
  - {name: order_id, type: string, description: "Order that is reviewed.", data_tests: [not_null]}
  - {name: review_score, type: int, description: "Score from 1, bad, to 5, good."}
  - {name: review_creation_date, type: timestamp, description: "When the customer was asked for the review, UTC."}
  - {name: review_answer_timestamp, type: timestamp, description: "When the review was answered, UTC."}
  - {name: review_comment_title, type: string, description: "Title, in Portuguese; often null."}
  - {name: review_comment_message, type: string, description: "Text, in Portuguese; often null."}
*/
WITH latest AS (
  SELECT review_id, order_id, review_score, review_comment_title, review_comment_message,
    review_creation_date, review_answer_timestamp, _deleted,
    row_number() OVER (
      PARTITION BY review_id, order_id
      ORDER BY ingest_time DESC NULLS LAST, review_score DESC NULLS LAST, review_comment_title DESC NULLS LAST,
        review_comment_message DESC NULLS LAST, review_creation_date DESC NULLS LAST,
        review_answer_timestamp DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.review
)
SELECT review_id, order_id, review_score, review_creation_date, review_answer_timestamp,
  review_comment_title, review_comment_message
FROM latest
WHERE rn = 1 AND NOT _deleted AND review_id IS NOT NULL AND order_id IS NOT NULL
