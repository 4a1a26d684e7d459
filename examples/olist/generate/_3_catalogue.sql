-- Categories with their share of products, a usual price and weight (g).
CREATE TABLE category AS
SELECT *, sum(share) OVER (ORDER BY number) - share AS share_from, sum(share) OVER () AS share_all
FROM (VALUES
  (1, 'beleza_saude', 'health_beauty', 90, 80, 700), (2, 'cama_mesa_banho', 'bed_bath_table', 95, 75, 2000),
  (3, 'esporte_lazer', 'sports_leisure', 85, 85, 1500), (4, 'moveis_decoracao', 'furniture_decor', 75, 70, 3000),
  (5, 'informatica_acessorios', 'computers_accessories', 60, 90, 800), (6, 'utilidades_domesticas', 'housewares', 60, 75, 2200),
  (7, 'relogios_presentes', 'watches_gifts', 50, 160, 500), (8, 'telefonia', 'telephony', 45, 45, 250),
  (9, 'ferramentas_jardim', 'garden_tools', 30, 90, 2800), (10, 'brinquedos', 'toys', 40, 95, 1700),
  (11, 'automotivo', 'auto', 40, 110, 2400), (12, 'bebes', 'baby', 28, 110, 3000),
  (13, 'perfumaria', 'perfumery', 28, 110, 450), (14, 'papelaria', 'stationery', 24, 65, 1200),
  (15, 'livros', 'books', 15, 40, 600), (16, 'alimentos', 'food', 12, 45, 900),
  (17, 'instrumentos', 'instruments', 10, 210, 3800), (18, 'eletrodomesticos', 'appliances', 14, 250, 6000),
  (19, 'jogos', 'games', 10, 120, 500), (20, 'moda', 'fashion', 22, 60, 500),
  (21, 'malas', 'luggage', 9, 120, 2500), (22, 'animais', 'pets', 16, 80, 2600),
  (23, 'escritorio', 'office', 12, 180, 7000), (24, 'musica', 'music', 5, 50, 300),
  (25, 'arte', 'art', 4, 70, 900), (26, 'construcao', 'construction', 14, 130, 5000),
  (27, 'climatizacao', 'air_conditioning', 5, 180, 7000), (28, 'bebidas', 'drinks', 6, 60, 1500),
  (29, 'flores', 'flowers', 2, 40, 500), (30, 'portateis_cozinha_e_preparadores_de_alimentos', NULL, 3, 200, 4000),
  (31, 'pc_gamer', NULL, 2, 190, 4000)
) c(number, name, english, share, price, weight);

-- Numbers instead of names, so that orders can draw them. Low numbers sell
-- most.
CREATE TABLE product AS
SELECT p AS number, row_id('product', p) AS product_id, c.name AS category,
  -- x9.90 and the like
  greatest(3, floor(c.price * exp(0.75 * bell('price', p)) / 5) * 5 + pick([4.9, 9.9, 9.99, 9.0], draw('ending', p)) - 5) AS price,
  round(greatest(50, c.weight * exp(0.8 * bell('weight', p))) / 50) * 50 AS weight_g,
  CAST(floor(getvariable('sellers') * power(draw('seller', p), 2)) AS BIGINT) AS seller
FROM (SELECT p, draw('category', p) * (SELECT any_value(share_all) FROM category) AS spot FROM range(getvariable('products')) t(p)) d
ASOF JOIN category c ON d.spot >= c.share_from;

CREATE TABLE merchant AS
SELECT s AS number, row_id('seller', s) AS seller_id, c.lat, c.lng,
  zip_of(c.prefix, c.state, CAST(floor(city_zips(c.buyers, c.prefix) * power(draw('seller zip', s), 1.7)) AS BIGINT)) AS zip_code
FROM (SELECT s, draw('seller city', s) * (SELECT any_value(sellers_all) FROM city) AS spot FROM range(getvariable('sellers')) t(s)) d
ASOF JOIN (SELECT * FROM city WHERE sellers > 0) c ON d.spot >= c.sellers_from;
