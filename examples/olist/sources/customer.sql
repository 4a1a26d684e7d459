SELECT c.customer_id, c.zip_code, l.ingest_time, c.source_line
FROM chain l JOIN customer c ON c.customer_id = l.id
WHERE l.link = 5
