-- Two categories have no translation in the public file. A category that no
-- one translates keeps its name.
WITH english AS (
  SELECT product_category_name AS name, min(product_category_name_english) AS category
  FROM raw.category_translation
  GROUP BY product_category_name
)
SELECT p.product_id,
  CASE
    WHEN e.category IS NOT NULL THEN e.category
    WHEN p.product_category_name = 'pc_gamer' THEN 'gaming_pc'
    WHEN p.product_category_name = 'portateis_cozinha_e_preparadores_de_alimentos' THEN 'portable_kitchen_and_food_preparators'
    ELSE p.product_category_name
  END AS category,
  p.product_weight_g AS weight_g, p.product_length_cm AS length_cm, p.product_height_cm AS height_cm, p.product_width_cm AS width_cm,
  l.ingest_time, p.source_line
FROM chain l
JOIN raw.products p ON p.product_id = l.id
LEFT JOIN english e ON e.name = p.product_category_name
WHERE l.link = 2
