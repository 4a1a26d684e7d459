SELECT p.zip_code, p.lat, p.lng, p.city, p.state, l.ingest_time, l.link AS source_line
FROM chain l JOIN place p ON p.zip_code = l.id
WHERE l.link IN (4, 6)
