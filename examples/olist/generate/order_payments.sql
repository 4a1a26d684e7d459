-- Some orders are paid in parts: vouchers, and a card for the rest. One order
-- in a hundred thousand has no payment at all.
WITH due AS (
  SELECT p.n, p.order_id, coalesce(sum(i.price + i.freight_value), CAST(60 AS DECIMAL(12,2))) AS total,
    CASE WHEN draw('split', p.n) < 0.03 THEN 2 + CAST(floor(1.1 * waiting('parts', p.n)) AS INTEGER) ELSE 1 END AS parts
  FROM placed p LEFT JOIN raw.order_items i ON i.order_id = p.order_id AND i.source_line >= getvariable('first_unit') * 32
  WHERE p.n >= getvariable('first_unit') AND p.n % 99441 <> 4321
  GROUP BY p.n, p.order_id
),
part AS (
  SELECT n, order_id, total, least(parts, 25) AS parts, k, CAST(floor(CAST(total AS DOUBLE) * 100 / least(parts, 25)) / 100 AS DECIMAL(12,2)) AS share
  FROM due, range(1, least(parts, 25) + 1) t(k)
)
SELECT order_id, k AS payment_sequential,
  CASE
    WHEN k < parts THEN 'voucher' WHEN draw('means', n) < 0.76 THEN 'credit_card' WHEN draw('means', n) < 0.955 THEN 'boleto'
    WHEN draw('means', n) < 0.985 THEN 'voucher' ELSE 'debit_card'
  END AS payment_type,
  CASE WHEN k = parts AND draw('means', n) < 0.76 THEN least(12, 1 + CAST(floor(2.4 * waiting('installments', n)) AS INTEGER)) ELSE 1 END AS payment_installments,
  CASE WHEN k < parts THEN share ELSE total - share * (parts - 1) END AS payment_value,
  n * 32 + k AS source_line
FROM part
