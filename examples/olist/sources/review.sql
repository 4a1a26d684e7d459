SELECT review_id, order_id, review_score, review_comment_title, review_comment_message, review_creation_date, review_answer_timestamp,
  review_creation_date + delay('review', concat_ws('/', review_id, order_id)) AS ingest_time, source_line
FROM raw.order_reviews
