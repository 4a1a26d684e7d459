-- What the raw files of one chunk of orders share: [first_unit, last_unit).
-- Orders are numbered by the time of their purchase.

CREATE OR REPLACE TABLE placed AS
WITH drawn AS (
  SELECT n, (n + draw('moment', n)) / getvariable('orders') AS moment, draw('hour', n) AS hour_at,
    draw('city', n) * (SELECT any_value(buyers_all) FROM city) AS city_at,
    draw('end', n) AS fate,
    -- 3 % of the orders have several items.
    CASE WHEN draw('several', n) < 0.03 THEN 2 + CAST(floor(1.2 * waiting('more', n)) AS INTEGER) ELSE 1 END AS wanted
  FROM range(getvariable('first_unit'), getvariable('last_unit')) t(n)
)
SELECT d.n, row_id('order', d.n) AS order_id, row_id('customer', d.n) AS customer_id,
  CAST(y.day AS TIMESTAMP) + to_seconds(CAST(floor(3600 * (h.hour + least(0.9999, (d.hour_at - h.from_share) / h.share))) AS BIGINT)) AS purchased,
  CASE
    WHEN fate < 0.006 THEN 'canceled' WHEN fate < 0.012 THEN 'unavailable' WHEN fate < 0.023 THEN 'shipped'
    WHEN fate < 0.026 THEN 'invoiced' WHEN fate < 0.029 THEN 'processing' WHEN fate < 0.0291 THEN 'created'
    ELSE 'delivered'
  END AS status,
  least(wanted, 20) AS wanted, c.lat, c.lng,
  zip_of(c.prefix, c.state, CAST(floor(city_zips(c.buyers, c.prefix) * power(draw('zip', d.n), 1.7)) AS BIGINT)) AS zip_code
FROM drawn d
ASOF JOIN day y ON d.moment >= y.from_share
ASOF JOIN hour h ON d.hour_at >= h.from_share
ASOF JOIN city c ON d.city_at >= c.buyers_from;

-- Unavailable orders have no items, nor have some of the canceled ones.
CREATE OR REPLACE TABLE bought AS
WITH line AS (
  SELECT p.*, k AS item,
    -- The further items of an order are, as often as not, more of the first.
    CASE WHEN draw('again', p.n) < 0.5 THEN 1 ELSE k END AS choice
  FROM placed p, range(1, p.wanted + 1) t(k)
  WHERE p.status <> 'unavailable' AND NOT (p.status = 'canceled' AND draw('no items', p.n) < 0.27)
),
chosen AS (
  SELECT *, CAST(floor(getvariable('products') * power(draw('product', n * 32 + choice), 2)) AS BIGINT) AS product,
    draw('other seller', n * 32 + choice) AS other
  FROM line
)
SELECT c.n, c.order_id, c.item, c.purchased, c.lat, c.lng, p.product_id, p.weight_g, p.price AS list_price,
  -- Some products have a second seller.
  CASE WHEN other < 0.04 THEN (p.seller + 1) % getvariable('sellers') ELSE p.seller END AS seller,
  CAST(round(p.price * CASE WHEN other < 0.04 THEN 0.95 ELSE 1 END * CASE WHEN purchased >= TIMESTAMP '2018-01-01' THEN 1.04 ELSE 1 END, 2) AS DECIMAL(12,2)) AS price
FROM chosen c JOIN product p ON p.number = c.product;

-- The stages of each order. The way from seller to customer makes a delivery
-- slow and its estimate late.
CREATE OR REPLACE TABLE staged AS
WITH way AS (
  SELECT b.n, arg_min(b.seller, b.item) AS seller,
    arg_min(6371 * 2 * asin(sqrt(least(1, power(sin(radians(b.lat - m.lat) / 2), 2)
      + cos(radians(b.lat)) * cos(radians(m.lat)) * power(sin(radians(b.lng - m.lng) / 2), 2)))), b.item) AS km
  FROM bought b JOIN merchant m ON m.number = b.seller
  GROUP BY b.n
),
timed AS (
  SELECT p.*, coalesce(w.km, 500) AS km,
    -- minutes for a card, a day or two for a bank slip
    purchased + to_seconds(CAST(CASE WHEN draw('slip', n) < 0.19 THEN 3600 * (8 + 22 * waiting('slip paid', n)) ELSE 60 * (5 + 15 * waiting('card paid', n)) END AS BIGINT)) AS approved,
    -- slow weeks of the post, and slow sellers
    (1 + 0.55 * power(draw('slow week', CAST(floor(epoch(purchased) / 604800) AS BIGINT)), 3)) AS slow,
    0.7 + 0.6 * draw('slow seller', coalesce(w.seller, 0)) AS seller_slow
  FROM placed p LEFT JOIN way w USING (n)
),
carried AS (
  SELECT *, approved + to_seconds(CAST(86400 * (0.3 + 2.3 * seller_slow * waiting('handed over', n)) AS BIGINT)) AS carried FROM timed
),
delivered AS (
  SELECT *, carried + to_seconds(CAST(86400 * slow * (1.2 + km / 260 + (3.3 + km / 450) * waiting('on the way', n)) AS BIGINT)) AS delivered,
    date_trunc('day', purchased) + to_days(CAST(floor(13.4 + km / 110 + 5 * draw('promise', n)) AS INTEGER)) AS estimated
  FROM carried
)
SELECT n, order_id, customer_id, zip_code, purchased, status, estimated,
  -- a few are delivered without an approval, some canceled ones were never approved
  CASE WHEN status = 'created' OR (status = 'canceled' AND draw('approved', n) < 0.2) OR draw('no approval', n) < 0.00015 THEN NULL ELSE approved END AS approved,
  -- some carriers hand in their papers before the approval
  CASE
    WHEN status IN ('delivered', 'shipped') OR (status = 'canceled' AND draw('handed', n) < 0.12)
    THEN CASE WHEN draw('early', n) < 0.014 THEN purchased + (approved - purchased) / 2 ELSE carried END
  END AS carried,
  CASE WHEN status = 'delivered' OR (status = 'canceled' AND draw('handed', n) < 0.01) THEN delivered END AS delivered
FROM delivered;
