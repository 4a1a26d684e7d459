SELECT seller_id, zip_code AS seller_zip_code_prefix, number AS source_line FROM merchant
