/*
description: The lead days of delivered orders for each of their products, to compare groups of products.
materialized: view
unique_key: [order_id, product_id]
columns:
  - {name: order_id, type: string, description: "Order with its customer.", data_tests: [not_null]}
  - {name: product_id, type: string, description: "Product in the order.", data_tests: [not_null]}
  - {name: category, type: string, description: "Category of the product in English; uncategorized where none is known.", data_tests: [not_null]}
  - {name: sales_period, type: string, description: "Month of the delivery to the customer, yyyy-MM.", data_tests: [not_null]}
  - {name: portfolio_group, type: string, description: "Portfolio group of the product in that month; null where no price is known of it.", data_tests: [{accepted_values: [Star Products, Volume Drivers, Niche Gems, Question Marks]}]}
  - {name: purchase_to_approval_days, type: int, description: "Days from purchase to approval."}
  - {name: approval_to_carrier_days, type: int, description: "Days from approval to the carrier; negative where the carrier had it first."}
  - {name: carrier_to_customer_days, type: int, description: "Days from the carrier to the customer."}
  - {name: carrier_delivery_delay_days, type: int, description: "Days by which the carrier got it after the shipping limit; negative: before."}
  - {name: customer_delivery_delay_days, type: int, description: "Days by which the customer got it after the estimate; positive: late, negative: early."}
*/
WITH held AS (
  SELECT DISTINCT d.order_id, d.product_id, d.category
  FROM gold.fact_order_detail d
),
delivered AS (
  SELECT h.order_id, h.product_id, h.category,
    substring(cast(l.delivered_customer AS string), 1, 7) AS sales_period,
    l.purchase_to_approval_days, l.approval_to_carrier_days, l.carrier_to_customer_days, l.carrier_delivery_delay_days, l.customer_delivery_delay_days
  FROM held h
  JOIN gold.fact_order_lead_days l ON h.order_id = l.order_id
  WHERE l.delivered_customer IS NOT NULL
)
SELECT d.order_id, d.product_id, d.category, d.sales_period, s.portfolio_group,
  d.purchase_to_approval_days, d.approval_to_carrier_days, d.carrier_to_customer_days, d.carrier_delivery_delay_days, d.customer_delivery_delay_days
FROM delivered d
LEFT JOIN gold.fact_monthly_sales_by_product s ON d.product_id = s.product_id AND d.category = s.category AND d.sales_period = s.sales_period
