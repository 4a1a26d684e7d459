SELECT customer_id, zip_code AS customer_zip_code_prefix, n AS source_line FROM placed WHERE n >= getvariable('first_unit')
