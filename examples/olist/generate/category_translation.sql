SELECT name AS product_category_name, english AS product_category_name_english, number AS source_line FROM category WHERE english IS NOT NULL
