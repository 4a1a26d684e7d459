SELECT s.seller_id, s.zip_code, l.ingest_time, s.source_line
FROM chain l JOIN seller s ON s.seller_id = l.id
WHERE l.link = 3
