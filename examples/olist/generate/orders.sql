SELECT order_id, customer_id, status AS order_status, date_trunc('second', purchased) AS order_purchase_timestamp,
  date_trunc('second', approved) AS order_approved_at, date_trunc('second', carried) AS order_delivered_carrier_date,
  date_trunc('second', delivered) AS order_delivered_customer_date, estimated AS order_estimated_delivery_date, n AS source_line
FROM staged
WHERE n >= getvariable('first_unit')
