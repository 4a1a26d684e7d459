-- Synthetic raw files in the shape of the public ones. Scale 1 has as many
-- orders as those. All that is drawn comes from the seed, the name of the draw
-- and the number of the thing, so the same scale and seed give the same files,
-- and an order does not depend on the chunk it is made in.
-- Places' names and positions are facts; all else is invented.

SET VARIABLE orders = greatest(1, CAST(round(99441 * getvariable('scale')) AS BIGINT));
SET VARIABLE units = getvariable('orders');

-- Up to scale 1 the catalogue grows with the orders, then slower: a larger
-- marketplace sells more of the same. The country does not grow.
SET VARIABLE breadth = least(getvariable('scale'), sqrt(getvariable('scale')));
SET VARIABLE products = greatest(40, CAST(round(32951 * getvariable('breadth')) AS BIGINT));
SET VARIABLE sellers = greatest(12, CAST(round(3095 * getvariable('breadth')) AS BIGINT));
SET VARIABLE zips = greatest(300, CAST(round(19000 * least(1, sqrt(getvariable('scale')))) AS BIGINT));
SET VARIABLE points_per_zip = greatest(3.0, 58.0 * least(1, sqrt(getvariable('scale'))));

-- A draw from [0, 1): the number, mixed well with what is drawn and the seed.
-- The mixing is that of a 32-bit hash, in arithmetic that does not overflow.
CREATE MACRO mix1(x) AS (xor(x, x >> 16) * CAST(2146121005 AS UBIGINT)) & CAST(4294967295 AS UBIGINT);
CREATE MACRO mix2(x) AS (xor(x, x >> 15) * CAST(2221713035 AS UBIGINT)) & CAST(4294967295 AS UBIGINT);
CREATE MACRO mix3(x) AS xor(x, x >> 16);
CREATE MACRO salt(what) AS md5_number_lower(concat_ws('/', getvariable('seed'), what)) >> 32;
CREATE MACRO draw(what, number) AS
  CAST(mix3(mix2(mix1((CAST(number AS UBIGINT) + salt(what)) & CAST(4294967295 AS UBIGINT)))) AS DOUBLE) / 4294967296;
-- Roughly normal, from -3 to 3: the sum of draws is bell-shaped.
CREATE MACRO bell(what, number) AS
  (draw(what || 1, number) + draw(what || 2, number) + draw(what || 3, number) + draw(what || 4, number) - 2) * 1.5;
-- Waiting times: many short, few long; the mean is 1.
CREATE MACRO waiting(what, number) AS -ln(1 - draw(what, number));
CREATE MACRO row_id(what, number) AS md5(concat_ws('/', getvariable('seed'), 'id', what, number));
-- An element of a list.
CREATE MACRO pick(list, share) AS list[1 + CAST(floor(share * len(list)) AS INTEGER)];
