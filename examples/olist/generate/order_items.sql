SELECT b.order_id, b.item AS order_item_id, b.product_id, m.seller_id,
  date_trunc('second', b.purchased) + to_hours(CAST(72 + 96 * draw('limit', b.n) AS INTEGER)) AS shipping_limit_date,
  b.price,
  CAST(round(7 + b.weight_g / 1000 * 2.2 + abs(b.lat - m.lat) * 0.55 + 4 * draw('freight', b.n), 2) AS DECIMAL(12,2)) AS freight_value,
  b.n * 32 + b.item AS source_line
FROM bought b JOIN merchant m ON m.number = b.seller
WHERE b.n >= getvariable('first_unit')
