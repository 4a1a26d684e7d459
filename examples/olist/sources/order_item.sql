SELECT i.order_id, i.order_item_id, i.product_id, i.seller_id, i.shipping_limit_date, i.price, i.freight_value, l.ingest_time, i.source_line
FROM chain l JOIN item i ON i.order_id = l.order_id AND i.source_line = l.line
WHERE l.link = 1
