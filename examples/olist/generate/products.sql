-- A few products have no category, two in a hundred thousand no measures.
SELECT product_id,
  CASE WHEN draw('uncategorized', number) >= 0.0185 THEN category END AS product_category_name,
  CASE WHEN draw('unmeasured', number) >= 0.0001 THEN weight_g END AS product_weight_g,
  CASE WHEN draw('unmeasured', number) >= 0.0001 THEN 16 + floor(15 * waiting('length', number)) END AS product_length_cm,
  CASE WHEN draw('unmeasured', number) >= 0.0001 THEN 2 + floor(14 * waiting('height', number)) END AS product_height_cm,
  CASE WHEN draw('unmeasured', number) >= 0.0001 THEN 11 + floor(12 * waiting('width', number)) END AS product_width_cm,
  number AS source_line
FROM product
