-- Cities with their share of customers and of sellers (percent), their middle,
-- and the first two digits of their postal codes.
CREATE TABLE city AS
SELECT *,
  sum(buyers) OVER by_number - buyers AS buyers_from, sum(buyers) OVER () AS buyers_all,
  sum(sellers) OVER by_number - sellers AS sellers_from, sum(sellers) OVER () AS sellers_all
FROM (VALUES
  (1, 'sao paulo', 'são paulo', 'SP', -23.55, -46.63, 20, 32, '01'), (2, 'campinas', 'campinas', 'SP', -22.91, -47.06, 8, 10, '13'),
  (3, 'ribeirao preto', 'ribeirão preto', 'SP', -21.18, -47.81, 5, 9, '14'), (4, 'santos', 'santos', 'SP', -23.96, -46.33, 5, 4, '11'),
  (5, 'sao jose dos campos', 'são josé dos campos', 'SP', -23.18, -45.88, 4, 4, '12'), (6, 'rio de janeiro', 'rio de janeiro', 'RJ', -22.91, -43.17, 10, 5, '20'),
  (7, 'niteroi', 'niterói', 'RJ', -22.88, -43.10, 3, 1, '24'), (8, 'belo horizonte', 'belo horizonte', 'MG', -19.92, -43.94, 7, 5, '30'),
  (9, 'uberlandia', 'uberlândia', 'MG', -18.92, -48.28, 3, 2, '38'), (10, 'juiz de fora', 'juiz de fora', 'MG', -21.76, -43.35, 2, 1, '36'),
  (11, 'vitoria', 'vitória', 'ES', -20.32, -40.34, 2, 1, '29'), (12, 'salvador', 'salvador', 'BA', -12.97, -38.50, 3, 1, '40'),
  (13, 'recife', 'recife', 'PE', -8.05, -34.88, 2, 1, '50'), (14, 'fortaleza', 'fortaleza', 'CE', -3.73, -38.52, 2, 0.5, '60'),
  (15, 'belem', 'belém', 'PA', -1.46, -48.49, 1, 0.1, '66'), (16, 'manaus', 'manaus', 'AM', -3.12, -60.02, 0.4, 0.1, '69'),
  (17, 'brasilia', 'brasília', 'DF', -15.79, -47.88, 2.5, 1, '70'), (18, 'goiania', 'goiânia', 'GO', -16.69, -49.26, 2, 1, '74'),
  (19, 'cuiaba', 'cuiabá', 'MT', -15.60, -56.10, 1, 0.2, '78'), (20, 'campo grande', 'campo grande', 'MS', -20.47, -54.62, 0.8, 0.3, '79'),
  (21, 'curitiba', 'curitiba', 'PR', -25.43, -49.27, 4, 7, '80'), (22, 'londrina', 'londrina', 'PR', -23.31, -51.16, 2, 3, '86'),
  (23, 'florianopolis', 'florianópolis', 'SC', -27.59, -48.55, 2, 2, '88'), (24, 'joinville', 'joinville', 'SC', -26.30, -48.85, 2, 4, '89'),
  (25, 'porto alegre', 'porto alegre', 'RS', -30.03, -51.23, 3.5, 3, '90'), (26, 'caxias do sul', 'caxias do sul', 'RS', -29.17, -51.18, 2, 2, '95'),
  (27, 'natal', 'natal', 'RN', -5.79, -35.21, 0.5, 0.2, '59'), (28, 'maceio', 'maceió', 'AL', -9.67, -35.74, 0.4, 0.1, '57'),
  (29, 'sao luis', 'são luís', 'MA', -2.53, -44.30, 0.7, 0.1, '65'), (30, 'teresina', 'teresina', 'PI', -5.09, -42.80, 0.5, 0.1, '64'),
  (31, 'boa vista', 'boa vista', 'RR', 2.82, -60.67, 0.1, 0, '69')
) c(number, name, accented, state, lat, lng, buyers, sellers, prefix)
WINDOW by_number AS (ORDER BY number);

-- Postal codes of a city; the largest cities have further first digits. The
-- state of Roraima shares its own with the state of Amazonas.
CREATE MACRO city_zips(buyers, prefix) AS greatest(3, least(
  CASE prefix WHEN '01' THEN 4990 WHEN '20' THEN 3990 WHEN '30' THEN 4990 ELSE 990 END,
  CAST(floor(getvariable('zips') * buyers / 100) AS BIGINT)));
CREATE MACRO zip_of(prefix, state, code) AS
  lpad(CAST(CAST(prefix AS BIGINT) * 1000 + CASE WHEN state = 'RR' THEN 300 ELSE 0 END + code AS VARCHAR), 5, '0');
